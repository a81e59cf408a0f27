//! The answer to `sweeper why` about one path, as text or JSON.
//!
//! This module must not decide anything. An answer is complete before a line of it is printed, so that no lock is held
//! while a terminal is slow.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::json::{self, Pathname};
use crate::rules::Moment;
use crate::units::{self, shown};

/// What a run would do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It would be removed.
    WouldRemove,
    /// The rules say that it stays.
    Kept,
    /// Something prevents its removal now.
    Skipped,
    /// Its removal would fail.
    Failed,
    /// Its zone would be left alone.
    LeftAlone,
    /// No run removes it.
    NeverTouched,
    /// It cannot be looked at.
    Unknown,
}

/// What is said about one path.
#[derive(Default)]
pub(super) struct Answer {
    lines: Vec<(&'static str, String)>,
    pub(super) facts: Facts,
    /// The verdict, its reason and what it means.
    verdict: Option<(Verdict, Option<String>, String)>,
}

/// What programs want to know besides the lines.
#[derive(Default, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) zone: Option<String>,
    /// The last use.
    pub(super) last_use: Option<String>,
    pub(super) age_s: Option<i64>,
    pub(super) ttl_s: Option<i64>,
    /// From when on it may be removed.
    pub(super) expires: Option<String>,
}

/// An answer for programs.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    path: Pathname<'a>,
    verdict: Verdict,
    reason: Option<&'a str>,
    text: &'a str,
    #[serde(flatten)]
    facts: &'a Facts,
    /// The lines, as in text.
    #[serde(serialize_with = "as_map")]
    details: &'a [(&'static str, String)],
}

fn as_map<S: serde::Serializer>(
    lines: &&[(&'static str, String)],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(lines.iter().map(|(word, text)| (word.replace(' ', "_"), text)))
}

/// All answers for programs.
#[derive(Serialize)]
struct All<'a> {
    schema: u32,
    command: &'static str,
    now: String,
    #[serde(rename = "data_root")]
    root: json::Lossy<'a>,
    paths: Vec<Object<'a>>,
}

impl Answer {
    pub(super) fn add(&mut self, word: &'static str, text: impl Into<String>) {
        self.lines.push((word, text.into()));
    }

    /// The end of the answer.
    pub(super) fn verdict(
        mut self,
        verdict: Verdict,
        reason: Option<String>,
        text: impl Into<String>,
    ) -> Self {
        self.verdict = Some((verdict, reason, text.into()));
        self
    }

    /// Whether the path could be looked at.
    pub(super) const fn is_complete(&self) -> bool {
        !matches!(self.verdict, Some((Verdict::Unknown, ..)) | None)
    }

    /// Writes it for people.
    pub(super) fn write(&self, path: &Path, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", shown(path))?;
        for (word, text) in &self.lines {
            writeln!(out, "  {word:<9} {text}")?;
        }
        match &self.verdict {
            Some((.., text)) => writeln!(out, "  {:<9} {text}", "verdict"),
            None => Ok(()),
        }
    }

    fn object<'a>(&'a self, path: &'a Path) -> Object<'a> {
        let (verdict, reason, text) = match &self.verdict {
            Some((verdict, reason, text)) => (*verdict, reason.as_deref(), text.as_str()),
            None => (Verdict::Unknown, None, ""),
        };
        let path = Pathname::new(path);
        Object { path, verdict, reason, text, facts: &self.facts, details: &self.lines }
    }
}

/// Writes all answers for programs.
pub(super) fn write_json(
    answers: &[(PathBuf, Answer)],
    root: &Path,
    now: Moment,
    out: &mut impl Write,
) -> io::Result<()> {
    let paths = answers.iter().map(|(path, answer)| answer.object(path)).collect();
    let (now, root) = (units::rfc3339(now), json::Lossy(root));
    json::write_whole(out, &All { schema: 1, command: "why", now, root, paths })
}
