//! What happened to an entry.
//!
//! It must not count: [`super::Tally`] counts outcomes, and nothing else does.

use std::ffi::CStr;
use std::path::PathBuf;

use super::{Directory, Failure, Skipped};
use crate::rules::{Age, Bytes, Kept, Ttl};

/// What happened to one entry.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The directory that holds it.
    pub directory: &'a Directory,
    /// Its name there; `None` when the directory itself could not be read.
    pub name: Option<&'a CStr>,
    /// What happened.
    pub kind: OutcomeKind<'a>,
    /// The time since its last use, where its rule asks for that.
    pub age: Option<Age>,
    /// Its time to live.
    pub ttl: Option<Ttl>,
    /// The space that was freed, even if only a part of the entry is gone.
    pub freed: Bytes,
}

impl Outcome<'_> {
    /// The path of the entry, as people see it.
    pub fn path(&self) -> PathBuf {
        self.name.map_or_else(|| self.directory.path.clone(), |name| self.directory.path_of(name))
    }
}

/// What happened to an entry.
#[derive(Debug)]
pub enum OutcomeKind<'a> {
    /// It was removed; in a dry run it would be.
    Removed,
    /// The rules say that it stays.
    Kept(Kept),
    /// It has expired, and something prevents its removal right now.
    Skipped(Skipped),
    /// Its removal failed.
    Failed(&'a Failure),
}
