//! What lies in instance directories: `{projects,tasks,jobs}/<id>/tmp/*`, and the export caches that
//! CVAT before 2.26 kept there.
//!
//! It must not judge or change anything. Most instances have neither, so each is first asked with as
//! few calls as will do whether there is anything to find: a `statx` that fails costs half of an open
//! that fails.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::scan::{list, sight, step_into};
use super::{Note, Onlooker};
use crate::condemn::{Failure, Place, Seen};
use crate::look::{self, Across};
use crate::retention::Zone;

/// How the units of a zone lie under its roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Directly in it.
    Flat,
    /// In the `tmp` of each instance. Instance directories need not be numbers here, as in CVAT's
    /// own pattern.
    InstanceTmp,
    /// Two places in each instance, one since 1.0 and one as CVAT's `exportcachecleanup` has it.
    OldCaches,
}

impl Layout {
    pub(super) const fn of(zone: Zone) -> Self {
        match zone {
            Zone::Export | Zone::Tmp => Self::Flat,
            Zone::InstanceTmp => Self::InstanceTmp,
            Zone::Legacy => Self::OldCaches,
        }
    }
}

/// Whether a directory of an instance was opened.
enum Reached {
    Yes(Arc<Place>),
    No,
    Failed,
}

/// Looks into instance directories, reusing one buffer for the paths it asks about.
pub(super) struct Seer<'a> {
    onlooker: Onlooker<'a>,
    path: Vec<u8>,
}

impl<'a> Seer<'a> {
    pub(super) const fn new(onlooker: Onlooker<'a>) -> Self {
        Self { onlooker, path: Vec::new() }
    }

    /// All that lies in the `tmp` of the instance called `id`.
    pub(super) fn tmp_of(
        &mut self,
        instances: &Arc<Place>,
        id: &CStr,
        kind: FileType,
        each: &mut dyn FnMut(Seen<'_>),
    ) {
        if self.kind_of_tmp(instances, id, kind).is_some()
            && let Reached::Yes(tmp) = self.reach(instances, id, &[c"tmp"], each)
        {
            list(&tmp, self.onlooker, each);
        }
    }

    /// The old export caches of the instance called `id`. What is not called by a number is no
    /// instance of CVAT's and is not looked into.
    pub(super) fn old_caches_of(
        &mut self,
        instances: &Arc<Place>,
        id: &CStr,
        kind: FileType,
        each: &mut dyn FnMut(Seen<'_>),
    ) {
        if !id.to_bytes().iter().all(u8::is_ascii_digit) {
            return;
        }
        if self.kind_of(instances, id, kind, c"export_cache").is_some() {
            match self.reach(instances, id, &[], each) {
                Reached::Yes(place) => sight_if_there(&place, c"export_cache", self.onlooker, each),
                Reached::No => {}
                // Said once an instance.
                Reached::Failed => return,
            }
        }
        // Many have a `tmp` and no cache in it.
        if let Some(tmp) = self.kind_of_tmp(instances, id, kind)
            && self.kind_of(instances, id, tmp, c"tmp/export_cache").is_some()
            && let Reached::Yes(place) = self.reach(instances, id, &[c"tmp"], each)
        {
            sight_if_there(&place, c"export_cache", self.onlooker, each);
        }
    }

    /// What kind of thing is at `name` in the instance called `id`, which is itself of the kind that its
    /// listing says; `None` when it is certain that nothing is there that would be entered.
    fn kind_of(
        &mut self,
        instances: &Place,
        id: &CStr,
        kind: FileType,
        name: &CStr,
    ) -> Option<FileType> {
        let path = self.path_to(id, name);
        if kind == FileType::Directory {
            look::kind_at(&instances.handle, path)
        } else if kind == FileType::Unknown && look::may_reach(&instances.handle, path) {
            Some(FileType::Unknown)
        } else {
            // A link or a file: not CVAT's.
            None
        }
    }

    /// The same, of its `tmp`: `None` as well when that is no directory.
    fn kind_of_tmp(&mut self, instances: &Place, id: &CStr, kind: FileType) -> Option<FileType> {
        let enterable = [FileType::Directory, FileType::Unknown];
        self.kind_of(instances, id, kind, c"tmp").filter(|kind| enterable.contains(kind))
    }

    /// `<id>/<rest>`, in the one buffer for it.
    fn path_to(&mut self, id: &CStr, rest: &CStr) -> &CStr {
        self.path.clear();
        self.path.extend_from_slice(id.to_bytes());
        self.path.push(b'/');
        self.path.extend_from_slice(rest.to_bytes_with_nul());
        CStr::from_bytes_until_nul(&self.path).unwrap_or_default()
    }

    /// Opens `<id>/<steps>`.
    fn reach(
        &self,
        instances: &Arc<Place>,
        id: &CStr,
        steps: &[&CStr],
        each: &mut dyn FnMut(Seen<'_>),
    ) -> Reached {
        let mut place = None;
        for step in [&[id], steps].concat() {
            let from: &Place = place.as_ref().unwrap_or(instances);
            match step_into(from, step, Across::SameMount, self.onlooker.notes) {
                Ok(next) => place = Some(next),
                Err(failure) => {
                    return self.not_entered(from.zone, instances, id, failure, each);
                }
            }
        }
        place.map_or(Reached::No, |place| Reached::Yes(Arc::new(place)))
    }

    /// A step that cannot be taken: nothing there, something that is never entered, or a failure.
    fn not_entered(
        &self,
        zone: Zone,
        instances: &Place,
        id: &CStr,
        failure: Failure,
        each: &mut dyn FnMut(Seen<'_>),
    ) -> Reached {
        match Errno::from_io_error(&failure.error) {
            // Not there, or a link or a file: not CVAT's.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Reached::No,
            Some(Errno::XDEV) => {
                let what = "some instances hold a mount and were not entered".to_owned();
                self.onlooker.notes.say(zone, Note::NotEntered(what));
                Reached::No
            }
            _ => {
                self.onlooker.tell_failure(instances, Some(id), failure, each);
                Reached::Failed
            }
        }
    }
}

/// Sees what may not be there at all: a guess at its name found the place, not a listing.
fn sight_if_there(
    place: &Arc<Place>,
    name: &CStr,
    onlooker: Onlooker<'_>,
    each: &mut dyn FnMut(Seen<'_>),
) {
    if !onlooker.owns(&place.dir, name) {
        return;
    }
    match look::at(&place.handle, name, place.mount, look::Freshness::Cached) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => sight(place, name, onlooker, each),
    }
}
