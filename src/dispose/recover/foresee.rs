//! What a pass would do with what an interrupted removal has left, for a dry run.
//!
//! This module must not change anything.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::check::TreeCheck;
use super::super::failure::at_path;
use super::super::quarantine::{Adopted, Quarantine, Stage};
use super::super::recoverable::MOST;
use super::super::tree_remover::Stays;
use super::super::tree_rights;
use super::foreign::note_foreign;
use super::rest::{Found, Rest, failed, failure, homeless, judge};
use super::tree::{Tree, check_leftover, leftover, names, open_tree};
use crate::control::Control;
use crate::fs::lease::InUseProbe;
use crate::fs::rights::DirRights;
use crate::fs::stat::{self, Freshness};
use crate::protocol::{Directory, Notes, OutcomeKind, Recovered, Recovery, Skipped};
use crate::rules::{Action, Bytes, Moment};

/// Says what a pass would do with the private directory `name` in `directory`. What is in `check` is handed over as
/// if it had its name again.
pub(in super::super) fn foresee<C: Control>(
    control: &C,
    probe: InUseProbe,
    directory: &Arc<Directory>,
    name: &CStr,
    now: Moment,
    notes: Option<&Notes>,
    recovery: &mut Recovery<'_>,
) {
    let seen = || -> io::Result<_> {
        let (quarantine, interrupted, stages) = match Quarantine::look_at(directory, name)? {
            (Adopted::Yes(quarantine, interrupted), stages) => (quarantine, interrupted, stages),
            (Adopted::No, _) => return Ok(None),
            (Adopted::Foreign(why), _) => {
                notes.inspect(|notes| note_foreign(notes, directory, name, "would be", &why));
                return Ok(None);
            }
        };
        let found = Found { quarantine: Arc::new(quarantine), interrupted, now };
        let in_stage = |stage: Stage, is_there: bool| {
            if is_there { names(found.quarantine.handle(stage), MOST) } else { Ok(Vec::new()) }
        };
        let in_check = in_stage(Stage::Check, stages[0])?;
        let in_remove = in_stage(Stage::Remove, stages[1])?;
        Ok(Some((found, in_check, in_remove)))
    };
    // What cannot be looked at is a failure, or a note, of a run.
    let Ok(Some((found, in_check, in_remove))) = seen() else { return };
    let is_entry = |name: &CString| found.quarantine.is_entry(name);
    if let Ok(home) = found.quarantine.as_home().map(Arc::new) {
        for name in in_check.into_iter().filter(is_entry) {
            if !is_kept(&found, &name, notes, recovery) {
                (recovery.each)(Recovered::Returned(Arc::clone(&home), name));
            }
        }
    }
    for name in in_remove.into_iter().filter(is_entry) {
        foresee_rest(control, probe, &found, &name, recovery);
    }
}

/// Says that the rules keep an entry in `check` by the path that it gets back, or that it gets none, if so. Where that is
/// more than a name, it is judged by another name afterwards.
fn is_kept(
    found: &Found,
    inner: &CStr,
    notes: Option<&Notes>,
    recovery: &mut Recovery<'_>,
) -> bool {
    let entry = || -> io::Result<_> {
        let quarantine = &found.quarantine;
        let (home, name) = quarantine.leftover(Stage::Check, inner)?.into_home();
        let at = quarantine.handle(Stage::Check);
        let metadata = stat::at(at, inner, home.mount, Freshness::Cached)?;
        Ok((home, name, metadata))
    };
    let Ok((home, name, metadata)) = entry() else { return false };
    if *found.quarantine.original(inner).1 == *inner {
        return false;
    }
    let Err(kept) = judge(found, inner, &home, metadata, recovery) else { return false };
    if !found.quarantine.can_be(&home.dir, &name) {
        let note = homeless(&home.path_of(&name), "would then be");
        notes.inspect(|notes| notes.add(&home.zone.name, note));
        return true;
    }
    (recovery.each)(Recovered::Settled(&home, &name, OutcomeKind::Kept(kept), Bytes(0)));
    true
}

/// The same for one tree in `remove`.
fn foresee_rest<C: Control>(
    control: &C,
    probe: InUseProbe,
    found: &Found,
    name: &CStr,
    recovery: &mut Recovery<'_>,
) {
    let opened = open_tree(found, name).and_then(|tree| {
        let rest = Rest::of(found, name, &tree.metadata);
        let errno = |error| (Action::Open, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        Ok((rest.map_err(errno)?, tree))
    });
    let (rest, tree) = match opened {
        Ok(opened) => opened,
        Err((Action::Open, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => return,
        Err((Action::Lock, Errno::WOULDBLOCK)) => {
            let kind = OutcomeKind::Skipped(Skipped::Locked);
            let home = found.quarantine.parent();
            return (recovery.each)(Recovered::Settled(home, name, kind, Bytes(0)));
        }
        Err((action, error)) => {
            let failure = failure(found, Stage::Remove, name, action, error.into());
            return (recovery.each)(failed(found.quarantine.parent(), name, &failure));
        }
    };
    let path = rest.home.path_of(&rest.original);
    let zone = &rest.home.zone.name;
    let metadata = found.interrupted.unmoved(&tree.metadata);
    let (failure, freed) = match judge(found, &rest.inner, &rest.home, metadata, recovery) {
        Err(kept) => (rest.returned(path, kept.why.key()), Bytes(0)),
        Ok(expired) => {
            let mut check = TreeCheck::new(found.known(&tree, expired.rule(), probe));
            let (freed, stays) = match check_leftover(control, found, &tree, &mut check) {
                Some(why) => (Bytes(0), Some(why)),
                None => removal(control, found, &tree, check.freed.bytes, recovery),
            };
            match stays {
                None => {
                    return (recovery.each)(rest.settled(OutcomeKind::Removed, freed));
                }
                Some(Stays::Unreached) => return (recovery.each)(Recovered::Unreached),
                Some(Stays::Skipped(Skipped::Used)) => {
                    (rest.returned(path, Skipped::Used.key()), Bytes(0))
                }
                Some(Stays::Skipped(why)) => {
                    return (recovery.each)(rest.settled(OutcomeKind::Skipped(why), Bytes(0)));
                }
                Some(Stays::Failed(error)) => (at_path(zone, error), freed),
            }
        }
    };
    (recovery.each)(rest.settled(OutcomeKind::Failed(&failure), freed));
}

/// What the removal of the rest of a tree would free, of `bytes`, and why something would stay, if so.
fn removal<C: Control>(
    control: &C,
    found: &Found,
    tree: &Tree<'_>,
    bytes: Bytes,
    recovery: &Recovery<'_>,
) -> (Bytes, Option<Stays>) {
    let zone = &found.quarantine.zone().name;
    if !(recovery.allow)(zone, bytes) {
        return (Bytes(0), Some(Stays::Unreached));
    }
    let (walk, outside) = (leftover(control, found, tree), DirRights::of(&found.quarantine.remove));
    match tree_rights::foresee(&walk, tree.top.as_fd(), tree.metadata.id, outside) {
        (_, None) => (bytes, None),
        (Some(freed), why) => (freed.bytes, why),
        (None, why) => {
            (recovery.give_back)(zone, bytes);
            (Bytes(0), why)
        }
    }
}
