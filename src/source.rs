//! Where entries come from: the directories of a zone, or a list of paths.
//!
//! This module must not judge, lock or change anything. Names come one listing buffer at a time, and several workers
//! take buffers from the same directory.

mod cold;
mod context;
mod directory;
mod enter;
mod find;
mod instances;
mod leftovers;
mod list;
mod path_list;
mod rounds;

use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{StatVfsMountFlags, fstatvfs};

use crate::control::Control;
use crate::fs::DataRoot;
use crate::protocol::{Directory, Failure, Found, Notes, ScanBatch, Source};
use crate::rules::{Shard, Ttl, Zone};
use context::ScanContext;
use directory::Directories;
pub use enter::{entry_at, open_directory, zone_root as open_root};
pub use find::{find_trees, has_tree_below};
pub use path_list::PathList;
use path_list::Round;

/// The entries of a data root.
#[derive(Debug)]
pub struct DirectorySource<'a, C> {
    /// The data root.
    pub root: &'a DataRoot,
    /// When to stop.
    pub control: &'a C,
    /// What the user should know.
    pub notes: &'a Notes,
    /// The part that is looked at, if not everything.
    pub shard: Option<Shard>,
    /// The paths that are looked at, if not all entries.
    pub paths: Option<PathList>,
}

/// A zone being read.
#[derive(Debug)]
pub struct Scan(Names);

#[derive(Debug)]
enum Names {
    /// Everything that is there.
    Directories(Directories),
    /// Only the paths in a list.
    Listed(Round),
}

impl<C: Control> DirectorySource<'_, C> {
    const fn context(&self) -> ScanContext<'_, C> {
        ScanContext { control: self.control, notes: self.notes, shard: self.shard }
    }
}

impl<C: Control> Source for DirectorySource<'_, C> {
    type Scan = Scan;

    fn open(&self, zone: &Arc<Zone>) -> Result<Option<Scan>, Failure> {
        let directories = Directories::open(self.root, zone, self.notes)?;
        match &directories {
            None => self.notes.add(&zone.name, "the directory does not exist: nothing to sweep"),
            Some(directories) => {
                if let Some(note) = directories.all().find_map(|it| unrecorded_reads(zone, it)) {
                    self.notes.add(&zone.name, note);
                }
            }
        }
        if let Some(paths) = &self.paths {
            let round = paths.open(self.root, zone)?;
            return Ok(Some(Scan(Names::Listed(round))));
        }
        Ok(directories.map(|directories| Scan(Names::Directories(directories))))
    }

    fn next_batch<'s>(
        &self,
        scan: &'s Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Found<'_>),
    ) -> ScanBatch<'s> {
        match &scan.0 {
            Names::Directories(directories) => directories.next(buffer, self.context(), each),
            Names::Listed(round) => round.next(self.root, self.context(), each),
        }
    }

    fn enter(&self, zone: &Arc<Zone>, dir: &Path) -> Result<Arc<Directory>, Failure> {
        open_directory(self.root, zone, dir, self.notes)
    }

    fn look(&self, directory: &Arc<Directory>, name: &CStr, each: &mut dyn FnMut(Found<'_>)) {
        enter::look(directory, name, self.context(), each);
    }

    fn next_round(&self) -> bool {
        self.paths.as_ref().is_some_and(|paths| paths.next_round(self.context()))
    }
}

/// What the user should know about reads that the mount of a directory does not record, if they matter.
fn unrecorded_reads(zone: &Zone, directory: &Directory) -> Option<&'static str> {
    /// How old a recorded read is at most when `relatime` records none (`relatime_need_update` in the
    /// kernel's `fs/inode.c`).
    const RECORDED_ONCE_IN: Ttl = Ttl::from_secs(86_400);
    let limits = zone.ttls.iter().filter_map(|expiry| expiry.ttl());
    let shortest = limits.min().filter(|_| zone.last_use.needs_atime())?;
    let mounted = fstatvfs(&directory.handle).ok()?.f_flag;
    if mounted.contains(StatVfsMountFlags::NOATIME) {
        return Some(
            "the file system is mounted noatime: reads are not recorded, so the last use is the last write",
        );
    }
    let is_short = shortest < RECORDED_ONCE_IN;
    (is_short && mounted.contains(StatVfsMountFlags::RELATIME)).then_some(
        "the file system is mounted relatime, which records reads once in 24 h: with a limit under 24 h, an \
         entry that was read within its limit can look unused",
    )
}
