//! Counts what happens to tasks and files, and tells the report of the pass.
//!
//! This module must not decide anything. A task and a file are entries like any other: each has exactly one outcome.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::{
    Failure, Notes, Observer, Outcome, OutcomeKind, Skipped, Tally, ZoneSummary,
};
use crate::rules::{Action, Age, Bytes, Kept, KeptReason, Ttl, ZoneName};

/// The zone of tasks.
pub const TASKS: &str = "clearml-tasks";
/// The zone of files.
pub const FILES: &str = "clearml-files";
/// The zone of folders whose task is gone.
pub const ORPHANS: &str = "clearml-orphans";

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is deleted, or would be.
    Removed(Bytes),
    /// It stays.
    Kept(KeptReason),
    /// It stays for now.
    Skipped(Skipped),
    /// It could not be deleted, for this reason.
    Failed(String),
}

/// Why an entry stays, for people.
pub(super) fn in_words(end: &End) -> String {
    match end {
        End::Removed(_) => "it would go".to_owned(),
        End::Kept(KeptReason::Published) => "it is published (--delete-published)".to_owned(),
        End::Kept(KeptReason::Referenced) => "a task that is kept needs it".to_owned(),
        End::Kept(KeptReason::Newest) => {
            "it is one of the newest of its project (--keep-last)".to_owned()
        }
        End::Kept(why) => why.key().replace('_', " "),
        End::Skipped(Skipped::InUse) => "it is queued or running (--delete-running)".to_owned(),
        End::Skipped(why) => why.key().replace('_', " "),
        End::Failed(why) => why.clone(),
    }
}

/// The counts of one zone.
#[derive(Debug)]
pub struct ZoneLedger {
    zone: ZoneName,
    place: PathBuf,
    tally: Tally,
    notes: Notes,
    /// Why the zone was left alone, or not cleaned to its end.
    pub left_alone: Option<String>,
}

impl ZoneLedger {
    /// Of a zone without entries, at this place for people.
    pub fn new(zone: &str, place: &str) -> Self {
        Self {
            zone: ZoneName::new(zone),
            place: PathBuf::from(place),
            tally: Tally::default(),
            notes: Notes::default(),
            left_alone: None,
        }
    }

    /// Adds a note.
    pub fn note(&self, note: impl Into<String>) {
        self.notes.add(&self.zone, note.into());
    }

    /// Adds what a removal noted about this zone.
    pub fn add_notes(&self, notes: &Notes) {
        for note in notes.of(&self.zone) {
            self.note(note);
        }
    }

    /// Counts and tells the end of an entry.
    pub fn add(
        &mut self,
        name: &str,
        end: &End,
        age: Option<Age>,
        ttl: Option<Ttl>,
        to: &dyn Observer,
    ) {
        let name_bytes = CString::new(name.replace('\0', "")).unwrap_or_default();
        let failure;
        let mut freed = Bytes(0);
        let kind = match end {
            End::Removed(bytes) => {
                freed = *bytes;
                OutcomeKind::Removed
            }
            End::Kept(why) => OutcomeKind::Kept(Kept { why: *why, age, rule: None }),
            End::Skipped(why) => OutcomeKind::Skipped(*why),
            End::Failed(why) => {
                failure = Failure::new(
                    &self.zone,
                    Action::Delete,
                    PathBuf::from(name),
                    io::Error::other(why.clone()),
                    None,
                );
                OutcomeKind::Failed(&failure)
            }
        };
        let (zone, dir, name) = (&self.zone, Path::new(""), Some(name_bytes.as_c_str()));
        let outcome =
            Outcome { zone, dir, device: 0, name, kind, age, ttl, freed, is_early: false };
        self.tally.seen += 1;
        self.tally.count(&outcome);
        to.on_outcome(&outcome);
    }

    /// Whether nothing has happened to an entry.
    pub const fn is_empty(&self) -> bool {
        self.tally.seen == 0
    }

    /// The part of the report about this zone.
    pub fn into_summary(self) -> ZoneSummary {
        debug_assert!(self.tally.is_conserved(), "{:?}", self.tally);
        if let Some(why) = &self.left_alone {
            self.note(format!("not cleaned up to the end: {why}"));
        }
        let notes = self.notes.of(&self.zone);
        let Self { zone, place, tally, left_alone, .. } = self;
        ZoneSummary { zone, path: place, tally, notes, no_lock: left_alone }
    }
}

/// The counts of a cleanup.
#[derive(Debug)]
pub struct Ledger {
    /// Of tasks.
    pub tasks: ZoneLedger,
    /// Of files.
    pub files: ZoneLedger,
}

impl Ledger {
    /// Without entries, for these servers.
    pub fn new(api: &str, files: &str) -> Self {
        Self { tasks: ZoneLedger::new(TASKS, api), files: ZoneLedger::new(FILES, files) }
    }
}
