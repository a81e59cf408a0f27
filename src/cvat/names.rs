//! Reads the names that CVAT gives to exports, now and before 2.26.
//!
//! This module must not decide anything: it says what a name is, or that CVAT does not write it. It is stricter
//! than CVAT's own parser, which skips eight characters without reading them, takes any number that
//! Python's `float()` takes and ignores the extension. CVAT never wrote a name that only its own parser
//! accepts, so such a name is kept.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::rules;

/// The class of an export's name, for [`rules::Names::Parsed`]; its number is the place in [`Class::ALL`].
pub fn class_of(name: &[u8]) -> Option<rules::Class> {
    ExportName::parse(name).ok().map(|name| rules::Class(name.class() as usize))
}

/// What the name of an export says, in words.
pub fn describe(name: &[u8]) -> Option<String> {
    Some(match ExportName::parse(name).ok()? {
        ExportName::Data { class, id, kind, tag, .. } => {
            format!("{kind} of {} {id}, format {tag}", class.word())
        }
        ExportName::Backup { class, id, lightweight, .. } => {
            let light = if lightweight { "lightweight " } else { "" };
            format!("{light}backup of {} {id}", class.word())
        }
        ExportName::Events { id, .. } => format!("audit events, query {id}"),
    })
}

/// What the name of an old export cache, or of something in it, says in words.
pub fn describe_legacy(name: &[u8]) -> Option<String> {
    let text = match LegacyName::parse(name) {
        Ok(LegacyName::Stamped) => "an export of CVAT 2.14.1 to 2.25",
        Ok(LegacyName::Plain) => "an export of CVAT 1.0 to 2.14.0",
        Ok(LegacyName::Backup) => "a backup of CVAT 1.5 to 2.25",
        Ok(LegacyName::Leftover) => "left behind by a killed worker",
        Err(NameError) if name == b"export_cache" => {
            "the export cache of a project, task or job, before CVAT 2.26"
        }
        Err(NameError) => return None,
    };
    Some(text.to_owned())
}

/// The class of the directory of a shard of `diskcache`, which is called by its number: `000`, `001`, ...
pub fn class_of_shard(name: &[u8]) -> Option<rules::Class> {
    (name.len() == 3 && name.iter().all(u8::is_ascii_digit)).then_some(rules::Class(0))
}

/// What the name of such a directory says, in words.
pub fn describe_shard(name: &[u8]) -> Option<String> {
    class_of_shard(name).map(|_| "chunks of images of CVAT 1.2 to 2.6.1".to_owned())
}

/// What an export belongs to. Its time to live depends on this.
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
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Project, Self::Task, Self::Job, Self::Events];

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

/// The names in `{projects,tasks,jobs}/<id>/export_cache/` of CVAT 1.0 to 2.25. Timestamps (from 2.14.1)
/// have exactly six decimals, and extensions of datasets are in upper case. A killed worker leaves a
/// directory whose name is `tmp` and eight characters.
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

/// What an export's name says. Text is kept as it was written, so that printing it gives the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportName<'a> {
    /// `{project,task,job}-<id>-{dataset,annotations}-instance<stamp>-<tag>.<ext>`
    Data {
        /// What it belongs to.
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
        /// What it belongs to.
        class: Class,
        /// The instance's primary key.
        id: Text<'a>,
        /// The instance's `updated_date`, not the file's age.
        stamp: Text<'a>,
        /// Whether it has no media (from CVAT 2.44).
        lightweight: bool,
        /// The extension.
        ext: Text<'a>,
    },
    /// `events-<id>.csv`
    Events {
        /// The id of the query.
        id: Text<'a>,
        /// The extension.
        ext: Text<'a>,
    },
}

impl<'a> ExportName<'a> {
    /// Reads all that `name` says. Allocates nothing.
    ///
    /// The grammar is that of CVAT 2.26 to 2.73. Identifiers are primary keys (at most 19 digits).
    /// Timestamps are the shortest form of a Python float: one to six decimals. A format tag is what
    /// `make_file_name` leaves: lower-case letters, digits, `_` and `-`. Forks add formats, so there is no
    /// list of tags. Case does not matter in the extension, as in CVAT. The id of events is a UUID or, on
    /// the deprecated endpoint, what the client chose.
    ///
    /// # Errors
    /// [`NameError`] when CVAT does not write such names.
    pub fn parse(name: &'a [u8]) -> Result<Self, NameError> {
        let mut rest = Rest(name);
        let class = match name {
            [b't', ..] if rest.skip(b"task-") => Class::Task,
            [b'j', ..] if rest.skip(b"job-") => Class::Job,
            [b'p', ..] if rest.skip(b"project-") => Class::Project,
            _ => return rest.events(),
        };
        let id = rest.digits()?;
        if id.0.len() > 19 {
            return Err(NameError);
        }
        if class != Class::Job && rest.skip(b"-backup-instance") {
            let stamp = rest.stamp()?;
            let lightweight = rest.skip(b"-lightweight");
            let ext = extension(rest.0.try_into().map_err(|_| NameError)?, &[*b"zip"])?;
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
        let (tag, ext) = rest.all_but_extension(TAG, &[*b"zip", *b"tsv"])?;
        Ok(Self::Data { class, id, kind, stamp, tag, ext })
    }

    /// What it belongs to.
    pub const fn class(&self) -> Class {
        match self {
            Self::Data { class, .. } | Self::Backup { class, .. } => *class,
            Self::Events { .. } => Class::Events,
        }
    }
}

/// The part of a name that is still to be read. By hand and eight bytes at a time, because each file of a pass is
/// read: a regular expression for the same grammar is slower. The tests have one and compare.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip<const N: usize>(&mut self, word: &[u8; N]) -> bool {
        let Some((first, rest)) = self.0.split_first_chunk() else { return false };
        let is_next = first == word;
        self.0 = if is_next { rest } else { self.0 };
        is_next
    }

    /// One or more digits.
    fn digits(&mut self) -> Result<Text<'a>, NameError> {
        let (run, rest) = self.0.split_at(count_digits(self.0));
        self.0 = rest;
        if run.is_empty() { Err(NameError) } else { Ok(Text(run)) }
    }

    fn stamp(&mut self) -> Result<Text<'a>, NameError> {
        let whole = self.0;
        self.digits()?;
        if !self.skip(b".") || self.digits()?.0.len() > 6 {
            return Err(NameError);
        }
        Ok(Text(&whole[..whole.len() - self.0.len()]))
    }

    /// One or more bytes of a kind, and the extension of the name.
    fn all_but_extension<const N: usize>(
        &self,
        kind: Kind<N>,
        known: &[[u8; 3]],
    ) -> Result<(Text<'a>, Text<'a>), NameError> {
        let (run, end) = self.0.split_last_chunk().ok_or(NameError)?;
        if run.is_empty() || !are_all(run, kind) {
            return Err(NameError);
        }
        Ok((Text(run), extension(end, known)?))
    }

    fn events(&mut self) -> Result<ExportName<'a>, NameError> {
        if !self.skip(b"events-") || !self.0.first().is_some_and(u8::is_ascii_alphanumeric) {
            return Err(NameError);
        }
        let (id, ext) = self.all_but_extension(EVENTS_ID, &[*b"csv"])?;
        Ok(ExportName::Events { id, ext })
    }
}

/// A kind of bytes: ranges of ASCII characters, without NUL.
type Kind<const N: usize> = [(u8, u8); N];

/// What a format tag is made of.
const TAG: Kind<4> = [(b'a', b'z'), (b'0', b'9'), (b'_', b'_'), (b'-', b'-')];
/// What the id of events is made of.
const EVENTS_ID: Kind<5> = [(b'a', b'z'), (b'A', b'Z'), (b'0', b'9'), (b'_', b'_'), (b'-', b'-')];

/// The highest bit of each of eight bytes that is not of a kind, and no other bits.
#[inline]
fn others<const N: usize>(eight: [u8; 8], kind: Kind<N>) -> u64 {
    let all = |byte: u8| u64::from_le_bytes([byte; 8]);
    let bytes = u64::from_le_bytes(eight);
    let ascii = bytes & all(0x7f);
    // No sum is greater than 0xfe, so none reaches the next byte.
    let above = |limit: u8| ascii + all(0x7f - limit);
    let within = |(first, last): (u8, u8)| above(first - 1) & !above(last);
    let known = kind.into_iter().fold(0, |known, range| known | within(range));
    (bytes | !known) & all(0x80)
}

/// How many digits there are before the first other byte.
#[inline]
fn count_digits(bytes: &[u8]) -> usize {
    let all = |byte: u8| u64::from_le_bytes([byte; 8]);
    let (mut count, mut rest) = (0, bytes);
    while let Some((eight, more)) = rest.split_first_chunk() {
        let digits = u64::from_le_bytes(*eight) ^ all(b'0');
        // What is carried changes only bytes after the first that is no digit.
        let others = (digits.wrapping_add(all(0x7f - 9)) | digits) & all(0x80);
        if others != 0 {
            return count + others.trailing_zeros() as usize / 8;
        }
        (count, rest) = (count + 8, more);
    }
    count + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether all bytes are of a kind.
fn are_all<const N: usize>(bytes: &[u8], kind: Kind<N>) -> bool {
    let (eights, rest) = bytes.as_chunks();
    let are = |eight: &[u8; 8]| others(*eight, kind) == 0;
    eights.iter().all(are)
        && match bytes.last_chunk() {
            // With some that were checked already.
            Some(last) => rest.is_empty() || are(last),
            None => rest.iter().all(|byte| are(&[*byte; 8])),
        }
}

/// The end of a name, in any case.
fn extension<'a>(end: &'a [u8; 4], known: &[[u8; 3]]) -> Result<Text<'a>, NameError> {
    let [b'.', ext @ ..] = end else { return Err(NameError) };
    let lower = ext.map(|byte| byte.to_ascii_lowercase());
    if known.contains(&lower) { Ok(Text(ext)) } else { Err(NameError) }
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

impl<'a> Text<'a> {
    /// As it was written.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// What the name of something in an old export cache says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyName {
    /// A dataset or annotations with the instance's timestamp (CVAT 2.14.1 to 2.25).
    Stamped,
    /// A dataset or annotations without one (CVAT 1.0 to 2.14.0).
    Plain,
    /// A backup.
    Backup,
    /// A directory that a killed worker left behind.
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

#[cfg(test)]
mod tests;
