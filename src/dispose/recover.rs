//! Completes what a crash interrupted: the private directory of a process that is gone.
//!
//! It must not touch one whose process is still at work, which its lock says, nor one that belongs to another
//! user. A tree in `check` returns to its name and is judged like any other. A tree in `remove` was verified
//! and had begun to go, so the rest of it is removed, unless another process has something in it open.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::check::Known;
use super::quarantine::{Quarantine, Returned, Stage};
use super::tree::Trees;
use super::tree_remover::{Stays, TreeRemover};
use crate::control::Control;
use crate::fs::error::hint;
use crate::fs::list::is_dot;
use crate::fs::open::{self, Across};
use crate::fs::stat;
use crate::fs::walk::{self, WalkContext};
use crate::protocol::{Directory, Failure, MemberLeases, OutcomeKind, Recovered};
use crate::rules::{Action, Bytes, Moment};

impl<C: Control> Trees<'_, C> {
    /// Completes what an interrupted removal left in the private directory `name`.
    pub(super) fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        each: &mut dyn FnMut(Recovered<'_>),
    ) {
        let quarantine = match Quarantine::adopt(directory, name) {
            Ok(Some(quarantine)) => Arc::new(quarantine),
            // Another pass is at work, or it is not one of ours.
            Ok(None) => return,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return,
            Err(error) => {
                let hint = hint(&directory.handle, Some(name), Action::Open, &error);
                let path = directory.path_of(name);
                let failure = Failure::new(&directory.zone.name, Action::Open, path, error, hint);
                return each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        };
        self.return_unchecked(&quarantine, each);
        for name in names(quarantine.handle(Stage::Remove)) {
            self.complete(&quarantine, &name, each);
        }
    }

    /// Returns the trees whose removal had not begun.
    fn return_unchecked(&self, quarantine: &Arc<Quarantine>, each: &mut dyn FnMut(Recovered<'_>)) {
        let zone = &quarantine.zone().name;
        for name in names(quarantine.handle(Stage::Check)) {
            let detached = quarantine.leftover(&name);
            match detached.and_then(|detached| Ok((detached.put_back()?, detached))) {
                Ok((Returned::Yes, detached)) => {
                    let (directory, name) = detached.into_home();
                    each(Recovered::Returned(directory, name));
                }
                Ok((Returned::Beside(beside), _)) => self.notes.add(
                    zone,
                    format!("an interrupted removal left an entry, which is now {beside:?}"),
                ),
                Err(error) => {
                    let path = quarantine.path_of(Stage::Check, &name);
                    let failure = Failure::new(zone, Action::Rename, path, error, None);
                    each(settled(&name, OutcomeKind::Failed(&failure), Bytes(0)));
                }
            }
        }
    }

    /// Completes the removal of one tree.
    fn complete(&self, quarantine: &Quarantine, name: &CStr, each: &mut dyn FnMut(Recovered<'_>)) {
        let (zone, path) = (&quarantine.zone().name, quarantine.path(Stage::Remove));
        let fail = |action, error: io::Error| {
            let path = quarantine.path_of(Stage::Remove, name);
            let hint = hint(&quarantine.remove, Some(name), action, &error);
            Failure::new(zone, action, path, error, hint)
        };
        let mount = quarantine.mount();
        let opened = open::dir(&quarantine.remove, name, Across::SameMount)
            .and_then(|opened| Ok((stat::handle(&opened.handle, mount)?, opened.handle)));
        let (metadata, top) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let failure = fail(Action::Open, error);
                return each(settled(name, OutcomeKind::Failed(&failure), Bytes(0)));
            }
        };
        let members = MemberLeases::default();
        let mut remover = TreeRemover::new(Known {
            id: metadata.id,
            mount,
            rule: None,
            now: Moment::from_unix(0, 0),
            probe: self.probe,
            members: &members,
            newest: None,
            has_links: false,
        });
        let tree = WalkContext {
            control: self.control,
            parent: quarantine.remove.as_fd(),
            parent_id: quarantine.remove_id,
            path: &path,
            name,
            mount,
        };
        let walked = walk::walk(&tree, &top, metadata.id, &mut remover);
        let why = remover.result(walked);
        let freed = self.ledger.charge(&remover.freed);
        match why {
            None => each(settled(name, OutcomeKind::Removed, freed)),
            Some(Stays::Skipped(why)) => each(settled(name, OutcomeKind::Skipped(why), freed)),
            Some(Stays::Failed(error)) => {
                let failure = Failure::new(zone, error.action, error.path, error.error, error.hint);
                each(settled(name, OutcomeKind::Failed(&failure), freed));
            }
            Some(Stays::Unreached) => {
                let failure = fail(Action::RemoveTree, Errno::INTR.into());
                each(settled(name, OutcomeKind::Failed(&failure), freed));
            }
        }
    }
}

const fn settled<'a>(name: &'a CStr, kind: OutcomeKind<'a>, freed: Bytes) -> Recovered<'a> {
    Recovered::Settled(name, kind, freed)
}

/// The names in an open directory; those that could be read.
fn names(dir: impl AsFd) -> Vec<CString> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(Ok(entry)) = listing.next() {
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    names
}
