//! The names of a directory in the order of their inodes, for looks at what is not in memory.
//!
//! This module must not look at anything itself. A file system keeps inodes in tables, many in each block, and lists
//! names in another order. Where memory is short, as in a container with a limit, a block is read again for nearly
//! every name. In the order of the inodes each is read once in a batch. So a batch is large then, but bounded.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

/// How many names are sorted together, and how many bytes they may have in all before one more buffer is read.
const MOST: usize = 16 * 1024;
const MOST_BYTES: usize = 1024 * 1024;

/// A look that takes longer than this is at a name that is not in memory.
const COLD: Duration = Duration::from_micros(2);

/// Where looks take longer than this, most of them wait for a disk.
const SLOW: Duration = Duration::from_micros(10);

/// How many looks are timed: fewer than the smallest buffer has.
const TIMED: u32 = 32;

/// Names, and how their inodes lie.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    bytes: Vec<u8>,
    names: Vec<Listed>,
}

#[derive(Debug)]
struct Listed {
    ino: u64,
    at: usize,
    kind: FileType,
}

impl Sorted {
    pub(super) const fn is_full(&self) -> bool {
        self.names.len() >= MOST || self.bytes.len() >= MOST_BYTES
    }

    pub(super) fn push(&mut self, name: &CStr, kind: FileType, ino: u64) {
        self.names.push(Listed { ino, at: self.bytes.len(), kind });
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    /// Hands out all of them.
    pub(super) fn each(mut self, mut each: impl FnMut(&CStr, FileType)) {
        self.names.sort_unstable_by_key(|listed| listed.ino);
        for &Listed { at, kind, .. } in &self.names {
            let name = self.bytes.get(at..).and_then(|rest| CStr::from_bytes_until_nul(rest).ok());
            if let Some(name) = name {
                each(name, kind);
            }
        }
    }
}

/// Times the first looks of a batch: what follows may include removals.
#[derive(Debug)]
pub(super) struct Stopwatch {
    looks: u32,
    since: Instant,
    took: Option<Duration>,
}

impl Stopwatch {
    pub(super) fn new() -> Self {
        Self { looks: 0, since: Instant::now(), took: None }
    }

    /// Called before each look.
    pub(super) fn before_look(&mut self) {
        self.looks += 1;
        if self.looks == 1 {
            self.since = Instant::now();
        } else if self.looks == TIMED + 1 {
            self.took = Some(self.since.elapsed());
        }
    }

    /// Whether the names were not in memory; `None` if there were too few.
    pub(super) fn is_cold(&self) -> Option<bool> {
        self.took.map(|took| took > COLD * TIMED)
    }

    /// Whether the looks waited for a disk; `None` if there were too few.
    pub(super) fn is_slow(&self) -> Option<bool> {
        self.took.map(|took| took > SLOW * TIMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_of_their_inodes_and_each_once() {
        let mut sorted = Sorted::default();
        for (name, ino) in [(c"b", 7), (c"", 3), (c"a", u64::MAX), (c"c", 7), (c"d", 0)] {
            sorted.push(name, FileType::RegularFile, ino);
        }
        let mut names = Vec::new();
        sorted.each(|name, kind| {
            assert_eq!(kind, FileType::RegularFile);
            names.push(name.to_owned());
        });
        names[2..4].sort();
        assert_eq!(names, [c"d", c"", c"b", c"c", c"a"].map(CStr::to_owned));
    }

    #[test]
    fn a_batch_is_bounded_by_its_names_and_by_their_length() {
        let (mut short, mut pushed) = (Sorted::default(), 0);
        while !short.is_full() {
            short.push(c"x", FileType::Unknown, 0);
            pushed += 1;
        }
        assert_eq!(pushed, MOST);
        let (mut long, longest) = (Sorted::default(), std::ffi::CString::new([b'x'; 255]).unwrap());
        while !long.is_full() {
            long.push(&longest, FileType::Unknown, 0);
        }
        assert!(long.bytes.len() <= MOST_BYTES + 256);
    }
}
