//! What a small directory was seen to hold under its lock, for the removal that follows at once.
//!
//! It must not do I/O, nor say what may go. It only spares the removal a second reading of what was read
//! so short a time ago that another could not tell more; how short that is, the reader says. Of a
//! directory that holds much it knows nothing, so neither memory nor open directories grow with what is
//! swept.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::retention::{Bytes, Facts, Kind};

/// How many names are remembered at most: more are not removed in so short a time.
const MOST_NAMES: usize = 512;

/// How many directories, each of which stays open.
const MOST_DIRS: usize = 8;

/// A directory and all that is below it, as a walk has seen it.
#[derive(Debug)]
pub struct Inventory {
    /// Until when it holds.
    end: Instant,
    /// The top is the first.
    dirs: Vec<KnownDir>,
    /// Where the walk is: the top, a directory in it, one in that.
    here: Vec<usize>,
    count: usize,
}

/// One directory of an inventory.
#[derive(Debug)]
pub struct KnownDir {
    /// The directory itself, open.
    pub handle: Arc<OwnedFd>,
    /// What it was when it was entered.
    pub facts: Facts,
    /// What it holds beside directories.
    pub names: Names,
    /// What each of them occupies.
    pub allocated: Vec<Bytes>,
    /// The directories that it holds, each with its place in the inventory.
    pub subdirs: Vec<(CString, usize)>,
}

impl Inventory {
    /// One that knows nothing yet, and holds until then.
    pub fn until(end: Instant) -> Self {
        Self { end, dirs: Vec::with_capacity(MOST_DIRS), here: Vec::new(), count: 0 }
    }

    /// A directory called `name` was entered: the top, or one in the directory where the walk is. False
    /// if that is too much to remember.
    pub fn enter(&mut self, name: &CStr, handle: &Arc<OwnedFd>, facts: &Facts) -> bool {
        if self.dirs.len() == MOST_DIRS {
            return false;
        }
        let at = self.dirs.len();
        if let Some(above) = self.here.last().and_then(|above| self.dirs.get_mut(*above)) {
            above.subdirs.push((name.to_owned(), at));
        }
        self.dirs.push(KnownDir::empty(Arc::clone(handle), *facts));
        self.here.push(at);
        true
    }

    /// Something else was seen where the walk is. False if it cannot be remembered.
    pub fn add(&mut self, name: &CStr, facts: &Facts) -> bool {
        // Removing one name of a file changes what its other names say.
        if self.count == MOST_NAMES || facts.links > 1 {
            return false;
        }
        if let Some(dir) = self.here.last().and_then(|here| self.dirs.get_mut(*here)) {
            dir.names.push(name, facts.kind == Kind::File);
            dir.allocated.push(facts.allocated);
            self.count += 1;
        }
        true
    }

    /// The walk goes on above.
    pub fn leave(&mut self) {
        self.here.pop();
    }

    /// Whether it still holds.
    pub fn holds(&self) -> bool {
        Instant::now() < self.end
    }

    /// One of its directories; 0 is the top.
    pub fn dir(&self, at: usize) -> Option<&KnownDir> {
        self.dirs.get(at)
    }
}

impl KnownDir {
    fn empty(handle: Arc<OwnedFd>, facts: Facts) -> Self {
        let mut names = Names::default();
        names.clear();
        Self { handle, facts, names, allocated: Vec::with_capacity(ROOM), subdirs: Vec::new() }
    }
}

/// As many names as a small directory has. To grow bit by bit takes a part of 100 of a tree's time.
const ROOM: usize = 32;

/// Each name begins at a multiple of this: a NUL is looked for in words.
const WORD: usize = size_of::<usize>();

/// Names in one directory, one after the other, each with its NUL.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and whether the listing says that it is a regular file.
    starts: Vec<(usize, bool)>,
}

impl Names {
    /// Forgets them, and has room for as many as a small directory has.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.reserve(ROOM * 32);
        self.starts.clear();
        self.starts.reserve(ROOM);
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.starts.len()
    }

    /// Adds one.
    pub fn push(&mut self, name: &CStr, is_file: bool) {
        self.starts.push((self.bytes.len(), is_file));
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        let end = self.bytes.len().next_multiple_of(WORD);
        self.bytes.extend_from_slice(&[0; WORD]);
        self.bytes.truncate(end);
    }

    /// One of them.
    pub fn get(&self, at: usize) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes[self.starts[at].0..]).ok()
    }

    /// Whether it is said to be a regular file. It may be something else by now.
    pub fn is_file(&self, at: usize) -> bool {
        self.starts[at].1
    }
}
