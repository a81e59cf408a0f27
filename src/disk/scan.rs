//! A zone as a stream of handfuls of names, read by several workers at once.
//!
//! It must not judge or change anything. A directory is read one `getdents` buffer at a time; each
//! worker takes a whole buffer and looks at its names by itself, so at most one buffer a worker is
//! in memory however many entries there are.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, RawDir};

use super::instances::{self, Layout};
use super::{Note, Notes, Onlooker};
use crate::condemn::{Failure, More, Place, Seen, Sighting, Step};
use crate::look::{self, Across};
use crate::retention::Zone;
use crate::volume::Volume;

/// Big enough that a call a buffer does not show, small enough to stay in the processor's cache.
pub(super) const BUFFER: usize = 64 * 1024;

/// What each of several workers begins with: some fifty names. Where a look takes a millisecond, as on a
/// network file system, a large helping would leave all other workers without any (eight of them took two thirds of
/// the time of one over a thousand names; so they take an eighth).
const FIRST_HELPING: usize = 4 * 1024;

/// A helping is doubled when it took less, halved when it took more.
const QUICK: Duration = Duration::from_millis(5);
const SLOW: Duration = Duration::from_millis(20);

/// The directories of a zone, being read.
#[derive(Debug)]
pub(super) struct Dirs {
    layout: Layout,
    shared: Vec<SharedDir>,
    /// The data root, and the directories in it that could not be entered, still to be told of.
    root: Place,
    unopened: Mutex<Vec<(CString, Failure)>>,
}

/// A directory whose buffers are dealt to workers.
#[derive(Debug)]
struct SharedDir {
    place: Arc<Place>,
    /// Held while one worker fetches a buffer: the position in a directory is shared.
    turn: Mutex<()>,
    done: AtomicBool,
}

impl Dirs {
    pub(super) fn open(
        volume: &Volume,
        zone: Zone,
        notes: &Notes,
    ) -> Result<Option<Self>, Failure> {
        let root = volume_place(volume, zone)?;
        let (mut shared, mut unopened) = (Vec::new(), Vec::new());
        for path in volume.roots(zone) {
            match enter(volume, zone, path.iter().map(OsStr::new), notes) {
                Ok(place) => shared.push(SharedDir {
                    place: Arc::new(place),
                    turn: Mutex::new(()),
                    done: AtomicBool::new(false),
                }),
                Err(failure) if failure.error.kind() == io::ErrorKind::NotFound => {}
                Err(failure) => {
                    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
                    unopened.push((name, failure));
                }
            }
        }
        if shared.is_empty() && unopened.is_empty() {
            return Ok(None);
        }
        let (layout, unopened) = (Layout::of(zone), Mutex::new(unopened));
        Ok(Some(Self { layout, shared, root, unopened }))
    }

    /// The directories that this zone is listed from.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.shared.iter().map(|dir| &*dir.place)
    }

    /// Looks at the next buffer of names.
    pub(super) fn next<'s>(
        &'s self,
        buffer: &mut Vec<u8>,
        onlooker: Onlooker<'_>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s> {
        let unopened =
            std::mem::take(&mut *self.unopened.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, failure) in unopened {
            onlooker.tell_failure(&self.root, Some(&name), failure, each);
        }
        let Some(dir) = self.shared.iter().find(|dir| !dir.done.load(Ordering::Relaxed)) else {
            return Step { more: More::No, root: None, names: 0 };
        };
        let start = Instant::now();
        let mut names = 0;
        let mut seer = instances::Seer::new(onlooker);
        let least = if onlooker.shares { FIRST_HELPING } else { BUFFER };
        dir.take(buffer, least, |name| {
            if onlooker.stop.is_raised() {
                return;
            }
            names += 1;
            match name {
                Ok((name, kind)) => match self.layout {
                    Layout::Flat => sight(&dir.place, name, onlooker, each),
                    Layout::InstanceTmp => seer.tmp_of(&dir.place, name, kind, each),
                    Layout::OldCaches => seer.old_caches_of(&dir.place, name, kind, each),
                },
                Err(error) => {
                    let place = &dir.place;
                    let failure = look::failure(place, &place.handle, "list", None, error);
                    onlooker.tell_failure(place, None, failure, each);
                }
            }
        });
        let (took, size) = (start.elapsed(), buffer.capacity());
        if took < QUICK && size < BUFFER {
            buffer.clear();
            buffer.reserve_exact(2 * size);
        } else if took > SLOW {
            buffer.shrink_to(least.max(size / 2));
        }
        Step { more: More::Yes, root: Some(&dir.place), names }
    }
}

impl SharedDir {
    /// Fetches one buffer of `least` bytes or more and hands out its names and their kinds, all but `.`
    /// and `..`.
    fn take(
        &self,
        buffer: &mut Vec<u8>,
        least: usize,
        mut each: impl FnMut(io::Result<(&CStr, FileType)>),
    ) {
        buffer.clear();
        if buffer.capacity() < least {
            buffer.reserve_exact(least);
        }
        let mut names = RawDir::new(&self.place.handle, buffer.spare_capacity_mut());
        let mut first = true;
        while first || !names.is_buffer_empty() {
            let turn = first.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            first = false;
            let entry = names.next();
            drop(turn);
            match entry {
                Some(Ok(entry)) => {
                    if !is_dot(entry.file_name()) {
                        each(Ok((entry.file_name(), entry.file_type())));
                    }
                }
                Some(Err(error)) => {
                    self.done.store(true, Ordering::Relaxed);
                    return each(Err(error.into()));
                }
                None => return self.done.store(true, Ordering::Relaxed),
            }
        }
    }
}

/// `.` and `..`, which every listing has.
pub(super) fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Lists all of an open directory, for one worker.
pub(super) fn list(
    place: &Arc<Place>,
    onlooker: Onlooker<'_>,
    each: &mut (impl FnMut(Seen<'_>) + ?Sized),
) {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut names = RawDir::new(&place.handle, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        if onlooker.stop.is_raised() {
            return;
        }
        match entry {
            Ok(entry) if is_dot(entry.file_name()) => {}
            Ok(entry) => sight(place, entry.file_name(), onlooker, each),
            Err(error) => {
                let failure = look::failure(place, &place.handle, "list", None, error);
                return onlooker.tell_failure(place, None, failure, each);
            }
        }
    }
}

/// Looks at one name, if it is ours to look at.
pub(super) fn sight(
    place: &Arc<Place>,
    name: &CStr,
    onlooker: Onlooker<'_>,
    each: &mut (impl FnMut(Seen<'_>) + ?Sized),
) {
    if !onlooker.owns(&place.dir, name) {
        return;
    }
    each(match look::at(&place.handle, name, place.mount, look::Freshness::Cached) {
        Ok(facts) => {
            Seen::Entry(Sighting { zone: place.zone, place, dir: &place.dir, name, facts })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Gone(place, name),
        Err(error) => Seen::Failed(
            place,
            Some(name),
            look::failure(place, &place.handle, "look at", Some(name), error),
        ),
    });
}

/// Steps down from the volume's root, one component at a time, through no link.
///
/// These few steps are named by the layout and not found by listing, so a volume that keeps its
/// cache on a disk of its own (a mount at `cache/export`) is swept; below, no mount is entered.
pub(super) fn enter<'a>(
    volume: &Volume,
    zone: Zone,
    steps: impl Iterator<Item = &'a OsStr>,
    notes: &Notes,
) -> Result<Place, Failure> {
    let mut place = volume_place(volume, zone)?;
    for step in steps {
        let name = CString::new(step.as_bytes()).map_err(|error| {
            look::failure(&place, &place.handle, "open", None, io::Error::from(error))
        })?;
        place = step_into(&place, &name, Across::AnyMount, notes)?;
    }
    if place.mount != volume.mount() {
        notes.say(zone, Note::MountedZone);
    }
    Ok(place)
}

pub(super) fn volume_place(volume: &Volume, zone: Zone) -> Result<Place, Failure> {
    let path = volume.path().to_owned();
    volume.place(zone).map_err(|error| Failure { zone, doing: "open", path, error, hint: None })
}

/// Opens the directory called `name` in `place`.
pub(super) fn step_into(
    place: &Place,
    name: &CStr,
    across: Across,
    notes: &Notes,
) -> Result<Place, Failure> {
    let fail = |error: io::Error| {
        let mut failure = look::failure(place, &place.handle, "open", Some(name), error);
        if matches!(failure.error.raw_os_error(), Some(20 | 40)) {
            let what = "it is a link or not a directory; links are not followed: mount or move \
                        the real directory here";
            failure.hint = Some(what.to_owned());
        }
        failure
    };
    let opened = look::open_dir(&place.handle, name, across).map_err(fail)?;
    if opened.leaves_trace {
        notes.say(place.zone, Note::AtimeMoved);
    }
    let (id, mount) = look::id_and_mount(&opened.handle).map_err(fail)?;
    if across == Across::SameMount && mount != place.mount {
        return Err(fail(rustix::io::Errno::XDEV.into()));
    }
    let step = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    Ok(Place {
        zone: place.zone,
        path: place.path.join(&step),
        dir: place.dir.join(&step),
        handle: opened.handle,
        id,
        mount,
    })
}
