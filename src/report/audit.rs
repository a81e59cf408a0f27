//! The audit log: a line for each removal, on disk before the removal is made.
//!
//! This module must not say that anything was removed: it says what is about to be. An entry that stays after all gets
//! a second line. `docs/reports.md` describes the lines.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::json::{self, Pathname};
use crate::fs::append::{self, AppendFile};
use crate::protocol::{Failure, Intent, Journal};
use crate::rules::{Action, LastUse, Moment, Rule, Ttl, ZoneName};
use crate::units;

/// How the first line of a log of ours begins.
const BEGINNINGS: [&str; 3] = [
    "{\"event\":\"remove\",\"time\":\"",
    "{\"event\":\"not_removed\",\"time\":\"",
    "{\"event\":\"delete\",\"time\":\"",
];

/// How much is read of a file to see whether it is ours.
const BEGINNING_BYTES: usize = 128;

/// Why a file that is not ours is refused.
const NOT_OURS: &str = "is not an audit log of sweeper: name a new file, or one that sweeper wrote";

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is that of another program. It stays as it is.
    #[error("the audit log {path:?} {NOT_OURS}")]
    NotOurs {
        /// Its path.
        path: PathBuf,
    },
    /// The system refuses it.
    #[error("cannot open the audit log {path:?}: {}", units::error(error))]
    Io {
        /// Its path.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// An open audit log.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    /// The same in every line of a run, and different in every run.
    run: String,
    /// Tells the time of day.
    clock: fn() -> Moment,
    /// Raised when the log was rotated.
    is_rotated: Arc<AtomicBool>,
    file: Mutex<Result<Arc<AppendFile>, Lost>>,
}

/// Why nothing can be written any more.
#[derive(Debug, Clone)]
struct Lost {
    kind: io::ErrorKind,
    errno: Option<i32>,
    message: String,
}

impl From<&io::Error> for Lost {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), errno: error.raw_os_error(), message: error.to_string() }
    }
}

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        let plain = |errno| Self::from_raw_os_error(errno);
        lost.errno.map_or_else(|| Self::new(lost.kind, lost.message), plain)
    }
}

/// How each line begins: what happens to which entry.
#[derive(Serialize)]
struct Head<'a> {
    event: &'static str,
    time: &'a str,
    run: &'a str,
    zone: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
}

/// A removal that is about to be made.
#[derive(Serialize)]
struct RemoveLine<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    kind: &'static str,
    device: u64,
    inode: u64,
    links: u64,
    size: u64,
    allocated_bytes: u64,
    atime: String,
    mtime: String,
    ctime: String,
    rule: RuleObject,
}

/// The rule that the entry has outlived.
#[derive(Serialize)]
pub(super) struct RuleObject {
    last_use: &'static str,
    used: String,
    ttl_s: Option<i64>,
    /// The disk is too full, and entries older than this are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure_min_age_s: Option<i64>,
}

/// A removal that was not made after all.
#[derive(Serialize)]
struct StaysLine<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    reason: &'a str,
}

impl AuditLog {
    /// Opens the log at `path`, or creates it, for one run. It is opened anew when `is_rotated` is raised.
    ///
    /// # Errors
    /// What the system says, or that the file is not ours.
    pub fn open(
        path: &Path,
        run: u64,
        clock: fn() -> Moment,
        is_rotated: Arc<AtomicBool>,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io { path: path.to_owned(), error };
        let file = AppendFile::open(path).map_err(failed)?;
        if !is_ours(&file.beginning(BEGINNING_BYTES).map_err(failed)?) {
            return Err(OpenError::NotOurs { path: path.to_owned() });
        }
        let file = Mutex::new(Ok(Arc::new(file)));
        Ok(Self { path: path.to_owned(), run: format!("{run:016x}"), clock, is_rotated, file })
    }

    /// Whether there is a file at `path` that is not ours. Nothing is changed. What cannot be found out now is left to
    /// [`Self::open`].
    ///
    /// # Errors
    /// There is one.
    pub fn foresee(path: &Path) -> Result<(), OpenError> {
        match append::beginning_of(path, BEGINNING_BYTES) {
            Ok(beginning) if !is_ours(&beginning) => {
                Err(OpenError::NotOurs { path: path.to_owned() })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Appends lines to the file of this moment, which is returned.
    fn append(&self, lines: &[u8]) -> io::Result<Arc<AppendFile>> {
        let mut state = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut append = || {
            let mut file = state.clone()?;
            if self.is_rotated.swap(false, Ordering::Relaxed) || file.is_unlinked() {
                file = Arc::new(AppendFile::open(&self.path)?);
                if !is_ours(&file.beginning(BEGINNING_BYTES)?) {
                    return Err(io::Error::other(format!("it {NOT_OURS}")));
                }
                *state = Ok(Arc::clone(&file));
            }
            file.append(lines)?;
            Ok(file)
        };
        append().inspect_err(|error: &io::Error| *state = Err(error.into()))
    }

    /// Says that entries are about to be deleted that are on a server, or are named one by one. The lines are on
    /// disk when this returns.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_names(&self, zone: &ZoneName, names: &[&str]) -> io::Result<()> {
        let time = units::rfc3339_exact((self.clock)());
        let mut lines = Vec::with_capacity(names.len() * 256);
        for name in names {
            // What is not a file here, or is named by another program.
            let line = self.head("delete", &time, zone, Path::new(name));
            json::write_line(&mut lines, &line)?;
        }
        let file = self.append(&lines)?;
        file.sync().inspect_err(|error| self.lose(error))
    }

    /// From now on every line is refused with this error.
    fn lose(&self, error: &io::Error) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Err(error.into());
    }

    fn head<'a>(
        &'a self,
        event: &'static str,
        time: &'a str,
        zone: &'a ZoneName,
        path: &'a Path,
    ) -> Head<'a> {
        Head { event, time, run: &self.run, zone: zone.as_str(), path: Pathname::new(path) }
    }

    fn remove_line<'a>(&'a self, intent: &'a Intent<'_>, time: &'a str) -> RemoveLine<'a> {
        let metadata = intent.metadata;
        RemoveLine {
            head: self.head("remove", time, intent.zone, &intent.path),
            kind: metadata.kind.key(),
            device: json::device_number(metadata.id.dev),
            inode: metadata.id.ino,
            links: metadata.links,
            size: metadata.size.0,
            allocated_bytes: intent.size.0,
            atime: units::rfc3339_exact(metadata.atime),
            mtime: units::rfc3339_exact(metadata.mtime),
            ctime: units::rfc3339_exact(metadata.ctime),
            rule: rule_object(intent.rule, intent.rule.last_use.read(metadata, intent.now)),
        }
    }
}

impl Journal for AuditLog {
    fn write(&self, intents: &[Intent<'_>]) -> Result<(), Failure> {
        let Some(first) = intents.first() else { return Ok(()) };
        let time = units::rfc3339_exact((self.clock)());
        let mut lines = Vec::with_capacity(intents.len() * 512);
        let written = intents
            .iter()
            .try_for_each(|intent| json::write_line(&mut lines, &self.remove_line(intent, &time)))
            .and_then(|()| self.append(&lines))
            .and_then(|file| file.sync().inspect_err(|error| self.lose(error)));
        written.map_err(|error| {
            let hint = "an entry is not removed if its removal cannot be recorded: make room for the \
                        audit log, or allow this user to write to it";
            let (action, hint) = (Action::WriteAuditLog, Some(hint.to_owned()));
            Failure::new(first.zone, action, self.path.clone(), error, hint)
        })
    }

    fn withdraw(&self, zone: &ZoneName, path: &Path, reason: &str) {
        let time = units::rfc3339_exact((self.clock)());
        let line = StaysLine { head: self.head("not_removed", &time, zone, path), reason };
        let mut text = Vec::new();
        let written = json::write_line(&mut text, &line).and_then(|()| self.append(&text));
        if let Err(error) = written {
            tracing::warn!(
                "cannot write to {:?} that {path:?} was not removed: {}",
                self.path,
                units::error(&error)
            );
        }
    }
}

/// Whether a file that begins with `text` is a log of ours. A first line that a crash has cut short is one as well, if
/// nothing follows it, or a line of ours.
fn is_ours(text: &[u8]) -> bool {
    let begins = |line: &[u8]| BEGINNINGS.iter().any(|own| line.starts_with(own.as_bytes()));
    let is_cut = |line: &[u8]| BEGINNINGS.iter().any(|own| own.as_bytes().starts_with(line));
    let mut lines = text.splitn(2, |byte| *byte == b'\n');
    let (first, rest) = (lines.next().unwrap_or_default(), lines.next());
    begins(first) || (is_cut(first) && rest.is_none_or(begins))
}

/// A rule, and the last use that it has counted.
pub(super) fn rule_object(rule: Rule, used: Moment) -> RuleObject {
    RuleObject {
        last_use: match rule.last_use {
            LastUse::Mtime => "mtime",
            LastUse::Atime => "atime",
            LastUse::Tree => "tree",
            LastUse::Entry => "entry",
        },
        used: units::rfc3339_exact(used),
        ttl_s: rule.expiry.ttl().map(Ttl::as_secs),
        pressure_min_age_s: rule.early.map(|age| age.ttl().as_secs()),
    }
}

#[cfg(test)]
mod tests;
