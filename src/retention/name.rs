//! Reads file names of CVAT's export cache, the current ones and those from before 2.26.
//!
//! It must not decide anything: it says what a name is, or that it is not one CVAT writes. It is
//! stricter than CVAT's own parser, which drops eight characters unread, takes any number that
//! Python's `float()` takes and never looks at the extension; what only CVAT's looseness would
//! accept was never written by CVAT, so it is not ours to remove.

use std::sync::LazyLock;

use regex::bytes::Regex;

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
}

/// The name is not one that CVAT writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name that CVAT gives to an export")]
pub struct NameError;

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
        id: Text<'a>,
        /// `dataset` or `annotations`.
        kind: &'static str,
        /// The instance's `updated_date`, not the file's age.
        stamp: Text<'a>,
        /// The export format.
        tag: Text<'a>,
        /// The extension.
        ext: Text<'a>,
    },
    /// `{project,task}-<id>-backup-instance<stamp>[-lightweight].zip`
    Backup {
        /// Whose it is.
        class: Class,
        /// The instance's primary key.
        id: Text<'a>,
        /// The instance's `updated_date`, not the file's age.
        stamp: Text<'a>,
        /// Whether it is the kind without media (CVAT 2.44 on).
        lightweight: bool,
        /// The extension.
        ext: Text<'a>,
    },
    /// `events-<id>.csv`
    Events {
        /// The query that asked for it.
        id: Text<'a>,
        /// The extension.
        ext: Text<'a>,
    },
}

impl<'a> ExportName<'a> {
    /// The class of `name`, or nothing when CVAT does not write such names.
    pub fn classify(name: &'a [u8]) -> Option<Class> {
        Self::parse(name).ok().map(|name| name.class())
    }

    /// Reads all that `name` says. Allocates nothing.
    ///
    /// The grammar is that of CVAT 2.26 to 2.73. Identifiers are primary keys (at most 19 digits).
    /// Timestamps are the shortest form of a Python float: one to six decimals. A format tag is what
    /// `make_file_name` leaves: lower-case letters, digits, `_` and `-`; forks add formats, so no list
    /// of tags is kept. The extension is compared without case, as CVAT does. An events id is a UUID
    /// or, on the deprecated endpoint, what the client chose.
    ///
    /// # Errors
    /// [`NameError`] when CVAT does not write such names.
    pub fn parse(name: &'a [u8]) -> Result<Self, NameError> {
        let mut rest = Rest(name);
        let class = if rest.skip(b"task-") {
            Class::Task
        } else if rest.skip(b"job-") {
            Class::Job
        } else if rest.skip(b"project-") {
            Class::Project
        } else {
            return rest.events();
        };
        let id = rest.run(|b| b.is_ascii_digit())?;
        if id.0.len() > 19 {
            return Err(NameError);
        }
        if class != Class::Job && rest.skip(b"-backup-instance") {
            let stamp = rest.stamp()?;
            let lightweight = rest.skip(b"-lightweight");
            let ext = rest.extension(&[*b"zip"])?;
            return Ok(Self::Backup { class, id, stamp, lightweight, ext });
        }
        let kind = if rest.skip(b"-dataset-instance") {
            "dataset"
        } else if rest.skip(b"-annotations-instance") {
            "annotations"
        } else {
            return Err(NameError);
        };
        let stamp = rest.stamp()?;
        if !rest.skip(b"-") {
            return Err(NameError);
        }
        let tag = rest.run(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))?;
        let ext = rest.extension(&[*b"zip", *b"tsv"])?;
        Ok(Self::Data { class, id, kind, stamp, tag, ext })
    }

    /// What its time to live depends on.
    pub const fn class(&self) -> Class {
        match self {
            Self::Data { class, .. } | Self::Backup { class, .. } => *class,
            Self::Events { .. } => Class::Events,
        }
    }
}

/// What of a name is still to be read. Read by hand: a regular expression for the same grammar (the
/// tests have it, and compare) takes 11 of 100 parts of a pass in which everything is fresh, this 4.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip<const N: usize>(&mut self, word: &[u8; N]) -> bool {
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// One or more bytes of a kind.
    fn run(&mut self, is_one: impl Fn(u8) -> bool) -> Result<Text<'a>, NameError> {
        let (run, rest) = self.0.split_at(self.0.iter().take_while(|byte| is_one(**byte)).count());
        self.0 = rest;
        if run.is_empty() { Err(NameError) } else { Ok(Text(run)) }
    }

    fn stamp(&mut self) -> Result<Text<'a>, NameError> {
        let whole = self.0;
        self.run(|b| b.is_ascii_digit())?;
        if !self.skip(b".") || self.run(|b| b.is_ascii_digit())?.0.len() > 6 {
            return Err(NameError);
        }
        Ok(Text(&whole[..whole.len() - self.0.len()]))
    }

    /// The end of the name, in any case.
    fn extension(&mut self, known: &[[u8; 3]]) -> Result<Text<'a>, NameError> {
        let [b'.', ext @ ..] = self.0 else { return Err(NameError) };
        let [a, b, c] = ext else { return Err(NameError) };
        let lower = [a, b, c].map(u8::to_ascii_lowercase);
        if known.contains(&lower) { Ok(Text(ext)) } else { Err(NameError) }
    }

    fn events(&mut self) -> Result<ExportName<'a>, NameError> {
        if !self.skip(b"events-") || !self.0.first().is_some_and(u8::is_ascii_alphanumeric) {
            return Err(NameError);
        }
        let id = self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))?;
        Ok(ExportName::Events { id, ext: self.extension(&[*b"csv"])? })
    }
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

/// A part of a name: ASCII letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.escape_ascii().fmt(f)
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
