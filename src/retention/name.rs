//! Reads file names of CVAT's export cache, the current ones and those from before 2.26.
//!
//! It must not decide anything: it says what a name is, or that it is not one CVAT writes. It is
//! stricter than CVAT's own parser, which drops eight characters unread, takes any number that
//! Python's `float()` takes and never looks at the extension; what only CVAT's looseness would
//! accept was never written by CVAT, so it is not ours to remove.

use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

/// What an export belongs to, which is what its time to live depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A project's dataset, annotations or backup.
    Project,
    /// A task's dataset, annotations or backup.
    Task,
    /// A job's dataset or annotations.
    Job,
    /// A table of audit events.
    Events,
}

impl Class {
    /// The word that the name begins with.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Task => "task",
            Self::Job => "job",
            Self::Events => "events",
        }
    }

    fn from_first_byte(byte: u8) -> Self {
        match byte {
            b'p' => Self::Project,
            b't' => Self::Task,
            b'j' => Self::Job,
            _ => Self::Events,
        }
    }
}

/// The name is not one that CVAT writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name that CVAT gives to an export")]
pub struct NameError;

/// The grammar of CVAT 2.26 to 2.73 in one anchored pattern over bytes.
///
/// Identifiers are primary keys (at most 19 digits). Timestamps are the shortest form of a Python
/// float: one to six decimals. A format tag is what `make_file_name` leaves: lower-case letters,
/// digits, `_` and `-`; forks add formats, so no list of tags is kept. The extension is compared
/// without case, as CVAT does. An events id is a UUID or, on the deprecated endpoint, what the
/// client chose.
const EXPORT: &str = r"(?x-u)^(?:
    (?P<instance>project|task|job)-(?P<id>[0-9]{1,19})-(?P<kind>dataset|annotations)
        -instance(?P<stamp>[0-9]+\.[0-9]{1,6})-(?P<tag>[a-z0-9_-]+)\.(?P<ext>(?i:zip|tsv))
  | (?P<b_instance>project|task)-(?P<b_id>[0-9]{1,19})-backup
        -instance(?P<b_stamp>[0-9]+\.[0-9]{1,6})(?P<light>-lightweight)?\.(?P<b_ext>(?i:zip))
  | events-(?P<e_id>[0-9A-Za-z][0-9A-Za-z_-]*)\.(?P<e_ext>(?i:csv))
)$";

static EXPORT_NAME: LazyLock<Regex> = LazyLock::new(|| compile(EXPORT));

/// The names in `{projects,tasks,jobs}/<id>/export_cache/` of CVAT 1.0 to 2.25: the timestamped ones
/// (2.14.1 on) have exactly six decimals, extensions of datasets are upper case, and `tmp` with
/// eight characters is a directory that a killed worker left.
const LEGACY: &str = r"(?x-u)^(?:
    (?P<stamped>(?:dataset|annotations)-instance[0-9]+\.[0-9]{6}-[a-z0-9_-]+\.[A-Z]+)
  | (?P<backup>task_dump\.zip|(?:task|project)_backup\.zip)
  | (?P<plain>(?:dataset|annotations|task)_[A-Za-z0-9._-]+\.[A-Z]+)
  | (?P<leftover>tmp[a-z0-9_]{8})
)$";

static LEGACY_NAME: LazyLock<Regex> = LazyLock::new(|| compile(LEGACY));

#[expect(clippy::expect_used, reason = "a constant that every test run compiles")]
fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// What an export's name says. Text is kept as it was written, so that printing gives the name back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportName<'a> {
    /// `{project,task,job}-<id>-{dataset,annotations}-instance<stamp>-<tag>.<ext>`
    Data {
        /// Whose it is.
        class: Class,
        /// The instance's primary key.
        id: &'a str,
        /// `dataset` or `annotations`.
        kind: &'a str,
        /// The instance's `updated_date`, not the file's age.
        stamp: &'a str,
        /// The export format.
        tag: &'a str,
        /// The extension.
        ext: &'a str,
    },
    /// `{project,task}-<id>-backup-instance<stamp>[-lightweight].zip`
    Backup {
        /// Whose it is.
        class: Class,
        /// The instance's primary key.
        id: &'a str,
        /// The instance's `updated_date`, not the file's age.
        stamp: &'a str,
        /// Whether it is the kind without media (CVAT 2.44 on).
        lightweight: bool,
        /// The extension.
        ext: &'a str,
    },
    /// `events-<id>.csv`
    Events {
        /// The query that asked for it.
        id: &'a str,
        /// The extension.
        ext: &'a str,
    },
}

impl<'a> ExportName<'a> {
    /// The class of `name`, or nothing when CVAT does not write such names. Allocates nothing.
    pub fn classify(name: &[u8]) -> Option<Class> {
        EXPORT_NAME.is_match(name).then(|| Class::from_first_byte(name[0]))
    }

    /// Reads all that `name` says.
    ///
    /// # Errors
    /// [`NameError`] when CVAT does not write such names.
    pub fn parse(name: &'a [u8]) -> Result<Self, NameError> {
        let found = EXPORT_NAME.captures(name).ok_or(NameError)?;
        let class = Class::from_first_byte(name[0]);
        Ok(if found.name("id").is_some() {
            Self::Data {
                class,
                id: text(&found, "id"),
                kind: text(&found, "kind"),
                stamp: text(&found, "stamp"),
                tag: text(&found, "tag"),
                ext: text(&found, "ext"),
            }
        } else if found.name("b_id").is_some() {
            Self::Backup {
                class,
                id: text(&found, "b_id"),
                stamp: text(&found, "b_stamp"),
                lightweight: found.name("light").is_some(),
                ext: text(&found, "b_ext"),
            }
        } else {
            Self::Events { id: text(&found, "e_id"), ext: text(&found, "e_ext") }
        })
    }

    /// What its time to live depends on.
    pub const fn class(&self) -> Class {
        match self {
            Self::Data { class, .. } | Self::Backup { class, .. } => *class,
            Self::Events { .. } => Class::Events,
        }
    }
}

/// The text of a group that took part in the match; every group of the pattern is ASCII.
fn text<'a>(found: &Captures<'a>, group: &str) -> &'a str {
    found.name(group).and_then(|m| std::str::from_utf8(m.as_bytes()).ok()).unwrap_or_default()
}

impl std::fmt::Display for ExportName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data { class, id, kind, stamp, tag, ext } => {
                write!(f, "{}-{id}-{kind}-instance{stamp}-{tag}.{ext}", class.word())
            }
            Self::Backup { class, id, stamp, lightweight, ext } => {
                let light = if *lightweight { "-lightweight" } else { "" };
                write!(f, "{}-{id}-backup-instance{stamp}{light}.{ext}", class.word())
            }
            Self::Events { id, ext } => write!(f, "events-{id}.{ext}"),
        }
    }
}

/// What the name of something in an old per-instance cache says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyName {
    /// A dataset or annotations with the instance's timestamp (CVAT 2.14.1 to 2.25).
    Stamped,
    /// A dataset or annotations without one (CVAT 1.0 to 2.14.0).
    Plain,
    /// A backup.
    Backup,
    /// A directory left by a killed worker.
    Leftover,
}

impl LegacyName {
    /// Reads the name of something in an `export_cache` directory.
    ///
    /// # Errors
    /// [`NameError`] when no CVAT before 2.26 wrote such names there.
    pub fn parse(name: &[u8]) -> Result<Self, NameError> {
        let found = LEGACY_NAME.captures(name).ok_or(NameError)?;
        Ok(if found.name("stamped").is_some() {
            Self::Stamped
        } else if found.name("backup").is_some() {
            Self::Backup
        } else if found.name("plain").is_some() {
            Self::Plain
        } else {
            Self::Leftover
        })
    }
}
