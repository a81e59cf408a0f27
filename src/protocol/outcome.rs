//! What happened to an entry.
//!
//! This module must not count: [`super::Tally`] counts outcomes, and nothing else does.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Failure, Skipped};
use crate::rules::{Age, Bytes, Kept, Ttl, ZoneName};

/// What happened to one entry.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// Its zone.
    pub zone: &'a ZoneName,
    /// The path of the directory that holds it, as people see it; empty if it is in none.
    pub dir: &'a Path,
    /// The device number of that directory; 0 if it is in none.
    pub device: u64,
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
    /// Whether it was to be removed before it expired, because its file system is too full.
    pub is_early: bool,
}

impl Outcome<'_> {
    /// The path of the entry, as people see it.
    pub fn path(&self) -> PathBuf {
        let dir = self.dir;
        self.name
            .map_or_else(|| dir.to_owned(), |name| dir.join(OsStr::from_bytes(name.to_bytes())))
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
