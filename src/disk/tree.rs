//! How a whole tree is walked: for [`super::survey`], which looks, and [`super::remove`], which
//! removes.
//!
//! It must not remove or judge anything itself. The walk is a loop over a stack of frames, one per
//! level, with a bounded number of open directories: below [`KEPT_OPEN`] levels a directory is closed
//! while one of its subdirectories is walked and reached again through `..`, where it must be the
//! directory that it was. Names come one `getdents` buffer at a time, so memory grows with depth
//! alone. No link is followed and no mount entered. A walk that removes makes sure before every buffer
//! of names that none of the directories above was moved out of the tree meanwhile (in a tree of more
//! than [`CHECKED_ALWAYS`] levels: every 50 ms).

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, fcntl_getfl, seek};
use rustix::io::Errno;

use super::scan::is_dot;
use crate::condemn::{Failure, Stale};
use crate::look::{self, Across, Freshness};
use crate::retention::{Facts, FileId, Kind};
use crate::stop::Stop;

/// How many directories of one walk stay open: enough for what is usual, few enough for many workers.
const KEPT_OPEN: usize = 8;

/// The buffer for names of a directory that stays open.
const BUFFER: usize = 16 * 1024;

/// The same for those below, of which there can be any number at once. Room for the longest name.
const DEEP_BUFFER: usize = 1024;

/// How many closed directories are made sure of before every buffer of names; more of them, now and then.
const CHECKED_ALWAYS: usize = 64;
const CHECKED_EVERY: Duration = Duration::from_millis(50);

/// How long a removal may go on after the pass was stopped.
const GRACE: Duration = Duration::from_millis(300);

/// Why a walk ends before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The pass is stopped.
    Stopped,
    /// The visitor knows enough.
    Enough,
    /// The system said no.
    Failed(Failure),
}

/// What a walk does on its way. A [`Halt`] from any method ends it.
pub(super) trait Visit {
    /// A directory was opened, and nothing in it touched yet.
    fn enter(&mut self, handle: &OwnedFd, facts: &Facts, trace: Trace) -> Result<(), Halt>;

    /// Something that is not a directory.
    fn entry(&mut self, at: &Spot<'_>, facts: &Facts) -> Result<(), Halt>;

    /// A directory was read to its end, and its subdirectories were left; `at` is where it lies.
    fn leave(&mut self, at: &Spot<'_>, left: &Left<'_>) -> Result<Next, Halt>;

    /// Something is mounted here.
    fn mounted(&mut self, at: &Spot<'_>) -> Result<(), Halt>;

    /// Somebody else has removed the directory that the walk is in, deep in the tree.
    fn lost(&mut self) -> Result<(), Halt>;

    /// The system said no to something at this spot.
    fn trouble(&mut self, at: &Spot<'_>, failure: Failure) -> Result<(), Halt>;

    /// How much was done so far, by the visitor's own measure; see [`Left::before`].
    fn progress(&self) -> u64 {
        0
    }

    /// A directory that the walk will not come back to because it was halted. Only called when
    /// [`Self::REMOVES`].
    fn abandon(&mut self, _left: &Left<'_>) {}

    /// Whether the visitor changes directories: then it wants to see each of them once more, and the
    /// walk makes sure that they are still where they were found.
    const REMOVES: bool = false;
}

/// What happens after a directory was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The walk goes on above it.
    Up,
    /// It is read once more from its start.
    Again,
}

/// A directory that is about to be left.
pub(super) struct Left<'a> {
    /// The directory.
    pub(super) handle: BorrowedFd<'a>,
    /// What it was when it was entered.
    pub(super) facts: &'a Facts,
    /// The visitor's progress when it was entered.
    pub(super) entered: u64,
    /// The same when this reading of it began.
    pub(super) before: u64,
}

/// Whether reading a directory may move its access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// It does not.
    None,
    /// It may: the directory is another user's.
    Atime,
}

/// A name in an open directory of a tree.
pub(super) struct Spot<'a> {
    /// The directory.
    pub(super) dir: BorrowedFd<'a>,
    /// The name.
    pub(super) name: &'a CStr,
    /// The names from the top of the tree down to `dir`; none for the top itself.
    trail: &'a [CString],
    stale: &'a Stale,
}

impl Spot<'_> {
    /// How many directories of the tree lie above this name.
    pub(super) const fn depth(&self) -> usize {
        self.trail.len()
    }

    /// The failure of `doing` something here.
    pub(super) fn failure(&self, doing: &'static str, error: impl Into<io::Error>) -> Failure {
        let place = self.stale.place();
        let name = Some(self.name).filter(|name| !name.is_empty());
        let mut failure = look::failure(place, self.dir, doing, name, error);
        failure.path.clone_from(&place.path);
        for step in self.trail.iter().map(CString::as_c_str).chain([self.name]) {
            failure.path.push(OsStr::from_bytes(step.to_bytes()));
        }
        failure
    }
}

/// A directory on the way from the top of the tree to where the walk is.
struct Frame {
    facts: Facts,
    /// `None` while it is closed, deep in a tree.
    handle: Option<OwnedFd>,
    /// Subdirectories of the last buffer that are still to be walked.
    subdirs: Vec<CString>,
    /// Where the next buffer begins.
    cookie: u64,
    at_end: bool,
    entered: u64,
    before: u64,
}

impl Frame {
    fn left<'a>(&'a self, handle: &'a OwnedFd) -> Left<'a> {
        let Self { facts, entered, before, .. } = self;
        Left { handle: handle.as_fd(), facts, entered: *entered, before: *before }
    }
}

struct Walk<'a, V> {
    stale: &'a Stale,
    /// The directory that the tree lies in.
    parent: FileId,
    frames: Vec<Frame>,
    /// The name of each frame.
    trail: Vec<CString>,
    buffer: Vec<u8>,
    /// When the closed directories are to be made sure of again.
    check_due: Instant,
    visitor: &'a mut V,
}

/// Walks the tree that `stale` names, whose top directory is open as `top`.
pub(super) fn walk<V: Visit>(
    stale: &Stale,
    top: &File,
    stop: &Stop,
    visitor: &mut V,
) -> Result<(), Halt> {
    let place = stale.place();
    let open_top = || -> io::Result<(OwnedFd, Facts, Trace, FileId)> {
        let handle = top.as_fd().try_clone_to_owned()?;
        // Its position is shared with the guard's descriptor, which an earlier walk left at the end.
        seek(&handle, SeekFrom::Start(0))?;
        let facts = look::through(&handle, place.mount)?;
        if facts.id != stale.facts().id {
            return Err(Errno::STALE.into());
        }
        let quiet = fcntl_getfl(&handle)?.contains(OFlags::NOATIME);
        let parent = look::through(&place.handle, place.mount)?.id;
        Ok((handle, facts, if quiet { Trace::None } else { Trace::Atime }, parent))
    };
    let (handle, facts, trace, parent) = open_top().map_err(|error| {
        Halt::Failed(look::failure(place, &place.handle, "open", Some(stale.name()), error))
    })?;
    let (frames, trail, buffer) = (Vec::new(), Vec::new(), Vec::new());
    let check_due = Instant::now();
    let mut walk = Walk { stale, parent, frames, trail, buffer, check_due, visitor };
    walk.enter(stale.name().to_owned(), facts, handle, trace)?;
    let mut raised = None;
    while !walk.frames.is_empty() {
        if stop.is_urgent() {
            raised.get_or_insert_with(Instant::now);
        }
        // The tree in hand is finished, unless that takes too long for whoever waits.
        let is_over = raised.is_some_and(|at| !V::REMOVES || at.elapsed() > GRACE);
        let halt = if is_over { Err(Halt::Stopped) } else { walk.step() };
        if let Err(halt) = halt {
            walk.unwind();
            return Err(halt);
        }
    }
    Ok(())
}

impl<V: Visit> Walk<'_, V> {
    /// One subdirectory entered, one buffer read, or one directory left.
    fn step(&mut self) -> Result<(), Halt> {
        if V::REMOVES {
            self.stay_inside()?;
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if let Some(name) = frame.subdirs.pop() {
            self.descend(name)
        } else if frame.at_end {
            self.ascend()
        } else {
            self.read()
        }
    }

    fn enter(
        &mut self,
        name: CString,
        facts: Facts,
        handle: OwnedFd,
        trace: Trace,
    ) -> Result<(), Halt> {
        self.visitor.enter(&handle, &facts, trace)?;
        if self.frames.len() > KEPT_OPEN
            && let Some(above) = self.frames.last_mut()
        {
            above.handle = None;
        }
        self.frames.push(Frame {
            facts,
            handle: Some(handle),
            subdirs: Vec::new(),
            cookie: 0,
            at_end: false,
            entered: self.visitor.progress(),
            before: self.visitor.progress(),
        });
        self.trail.push(name);
        Ok(())
    }

    /// Reads one buffer of names: visits what is not a directory, remembers what is.
    fn read(&mut self) -> Result<(), Halt> {
        let size = if self.frames.len() > KEPT_OPEN { DEEP_BUFFER } else { BUFFER };
        let Self { stale, frames, trail, buffer, visitor, .. } = self;
        let Some(frame) = frames.last_mut() else { return Ok(()) };
        let Some(dir) = frame.handle.as_ref().map(AsFd::as_fd) else { return Ok(()) };
        let mount = stale.place().mount;
        buffer.clear();
        buffer.reserve_exact(size);
        let mut names = RawDir::new(dir, &mut buffer.spare_capacity_mut()[..size]);
        let mut first = true;
        while first || !names.is_buffer_empty() {
            first = false;
            let entry = match names.next() {
                Some(Ok(entry)) => entry,
                // NOENT: the directory itself was removed by somebody else.
                None | Some(Err(Errno::NOENT)) => {
                    frame.at_end = true;
                    return Ok(());
                }
                Some(Err(error)) => {
                    frame.at_end = true;
                    let spot = Spot { dir, name: c"", trail, stale };
                    return visitor.trouble(&spot, spot.failure("list", error));
                }
            };
            frame.cookie = entry.next_entry_cookie();
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                frame.subdirs.push(name.to_owned());
                continue;
            }
            let spot = Spot { dir, name, trail, stale };
            match look::at(dir, name, mount, Freshness::Synced) {
                Ok(facts) if facts.mounted => visitor.mounted(&spot)?,
                // A file system that does not tell kinds in its listings.
                Ok(facts) if facts.kind == Kind::Dir => frame.subdirs.push(name.to_owned()),
                Ok(facts) => visitor.entry(&spot, &facts)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => visitor.trouble(&spot, spot.failure("look at", error))?,
            }
        }
        Ok(())
    }

    /// Enters a subdirectory of the last frame.
    fn descend(&mut self, name: CString) -> Result<(), Halt> {
        let Self { stale, frames, trail, visitor, .. } = self;
        let Some(dir) = frames.last().and_then(|frame| frame.handle.as_ref()) else {
            return Ok(());
        };
        let spot = Spot { dir: dir.as_fd(), name: &name, trail, stale };
        let opened = look::open_dir(dir, &name, Across::SameMount).and_then(|opened| {
            let facts = look::through(&opened.handle, stale.place().mount)?;
            Ok((opened, facts))
        });
        match opened {
            Ok((_, facts)) if facts.mounted => visitor.mounted(&spot),
            Ok((opened, facts)) => {
                let trace = if opened.leaves_trace { Trace::Atime } else { Trace::None };
                self.enter(name, facts, opened.handle, trace)
            }
            Err(error) => match Errno::from_io_error(&error) {
                // Gone, or something else by now: a later look will tell what.
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Some(Errno::XDEV) => visitor.mounted(&spot),
                _ => visitor.trouble(&spot, spot.failure("open", error)),
            },
        }
    }

    /// Leaves the last frame for the one above it.
    fn ascend(&mut self) -> Result<(), Halt> {
        self.reach_above()?;
        let Self { stale, frames, trail, visitor, .. } = self;
        let Some((frame, above)) = frames.split_last_mut() else { return Ok(()) };
        let Some((name, trail_above)) = trail.split_last() else { return Ok(()) };
        let Some(handle) = frame.handle.as_ref() else { return Ok(()) };
        let dir = match above.last() {
            None => stale.place().handle.as_fd(),
            Some(Frame { handle: Some(handle), .. }) => handle.as_fd(),
            // `reach_above` has opened it.
            Some(Frame { handle: None, .. }) => return Ok(()),
        };
        let spot = Spot { dir, name, trail: trail_above, stale };
        match visitor.leave(&spot, &frame.left(handle))? {
            Next::Up => {
                frames.pop();
                trail.pop();
            }
            Next::Again => {
                seek(handle, SeekFrom::Start(0))
                    .map_err(|error| Halt::Failed(spot.failure("list", error)))?;
                frame.cookie = 0;
                frame.at_end = false;
                frame.before = visitor.progress();
            }
        }
        Ok(())
    }

    /// Opens the directory above the last one again, if it was closed, and makes sure that it is the
    /// same: a tree that is moved while we are in it must not lead us elsewhere.
    fn reach_above(&mut self) -> Result<(), Halt> {
        let Self { stale, frames, trail, .. } = self;
        let [.., above, frame] = frames.as_mut_slice() else { return Ok(()) };
        let (None, Some(child)) = (&above.handle, &frame.handle) else { return Ok(()) };
        let reopen = || -> io::Result<OwnedFd> {
            let handle = look::open_parent(child)?;
            let found = look::through(&handle, stale.place().mount)?;
            if found.id != above.facts.id {
                return Err(Errno::STALE.into());
            }
            if !above.at_end
                && let Err(error) = seek(&handle, SeekFrom::Start(above.cookie))
            {
                // A removed directory has no places to go to.
                let is_removed = look::through(&handle, stale.place().mount)?.links == 0;
                return Err(if is_removed { Errno::NOENT } else { error }.into());
            }
            Ok(handle)
        };
        match reopen() {
            Ok(handle) => above.handle = Some(handle),
            // Somebody else has removed it, and from what is removed there is no way up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.visitor.lost()?;
            }
            Err(error) => {
                let at = &trail[..trail.len().saturating_sub(1)];
                let spot = Spot { dir: child.as_fd(), name: c"", trail: at, stale };
                return Err(Halt::Failed(spot.failure("return to", error)));
            }
        }
        Ok(())
    }

    /// Makes sure that every open directory still lies in the one above it. A directory that somebody
    /// moves elsewhere takes us along, and what it holds is none of ours from then on.
    fn stay_inside(&mut self) -> Result<(), Halt> {
        // Open are the topmost ones and the last.
        let last = self.frames.len().saturating_sub(1);
        for at in (0..last.min(KEPT_OPEN + 1)).chain([last]) {
            let above = at.checked_sub(1).map_or(self.parent, |above| self.frames[above].facts.id);
            if let Some(handle) = self.frames.get(at).and_then(|frame| frame.handle.as_ref()) {
                let found = look::at(handle, c"..", self.stale.place().mount, Freshness::Synced);
                let is_inside = match found {
                    Ok(facts) => facts.id == above,
                    // It was removed by somebody else, and is empty for good.
                    Err(error) => error.kind() == io::ErrorKind::NotFound,
                };
                if !is_inside {
                    return Err(self.led_astray(at));
                }
            }
        }
        let closed = self.frames.len().saturating_sub(KEPT_OPEN + 2);
        if closed > 0 && (closed < CHECKED_ALWAYS || Instant::now() > self.check_due) {
            let start = Instant::now();
            let hold = self.closed_hold();
            // In a tree of very many levels no more than a quarter of the time goes into this.
            self.check_due = Instant::now() + CHECKED_EVERY.max(3 * start.elapsed());
            if !hold {
                return Err(self.led_astray(last));
            }
        }
        Ok(())
    }

    /// The end of a walk whose frame at `at` was moved elsewhere.
    fn led_astray(&self, at: usize) -> Halt {
        let (name, trail) = (&self.trail[at], &self.trail[..at]);
        let dir = self.stale.place().handle.as_fd();
        Halt::Failed(Spot { dir, name, trail, stale: self.stale }.failure("stay in", Errno::STALE))
    }

    /// The same for the directories that are closed: from the last one up, step by step.
    fn closed_hold(&self) -> bool {
        let Some((last, above)) = self.frames.split_last() else { return true };
        let Some(handle) = &last.handle else { return true };
        let mut below = None;
        for frame in above.iter().rev() {
            let up = look::open_parent(below.as_ref().unwrap_or(handle));
            let up = match up {
                Ok(up) => up,
                // Removed by somebody else, and empty for good.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
                Err(_) => return false,
            };
            let found = look::through(&up, self.stale.place().mount);
            if !found.is_ok_and(|facts| facts.id == frame.facts.id) {
                return false;
            }
            if frame.handle.is_some() {
                break;
            }
            below = Some(up);
        }
        true
    }

    /// Shows every directory that is still being walked once more, from the bottom up.
    fn unwind(&mut self) {
        if !V::REMOVES {
            return;
        }
        loop {
            let reached = self.reach_above().is_ok();
            self.trail.pop();
            let Some(frame) = self.frames.pop() else { return };
            if let Some(handle) = &frame.handle {
                self.visitor.abandon(&frame.left(handle));
            }
            if !reached {
                return;
            }
        }
    }
}
