//! Gives back their names to entries that an interrupted removal had taken out of reach.
//!
//! This module must not remove anything, nor decide what returns. A tree of which a part may be gone is a failure: its
//! owner has to know.

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::check::Interrupted;
use super::super::quarantine::{Quarantine, Returned, Stage};
use super::super::tree::Trees;
use crate::control::Control;
use crate::fs::error::hint;
use crate::fs::stat::{self, Freshness};
use crate::protocol::{
    Directory, Entry, Expired, Failure, OutcomeKind, Recovered, Recovery, Skipped,
};
use crate::rules::{Action, Bytes, Kept, Metadata, Moment};

/// The private directory of a process that is gone.
pub(super) struct Found {
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) interrupted: Interrupted,
    pub(super) now: Moment,
}

/// Where a tree in `remove` comes from.
pub(super) struct Rest {
    /// Its name in `remove`.
    pub(super) inner: CString,
    /// What has its name again if it must be given back.
    pub(super) home: Arc<Directory>,
    pub(super) original: CString,
    /// The interrupted removal has taken something out of its top.
    pub(super) is_emptied: bool,
}

impl Rest {
    /// Where it comes from, by its name in `remove` and its metadata there.
    pub(super) fn of(found: &Found, inner: &CStr, metadata: &Metadata) -> io::Result<Self> {
        let (home, original) = found.quarantine.leftover(Stage::Remove, inner)?.into_home();
        let is_emptied = found.interrupted.has_emptied(metadata);
        Ok(Self { inner: inner.to_owned(), home, original, is_emptied })
    }

    /// The failure of a part that has a name again, at this path, because its removal must not be completed.
    pub(super) fn returned(&self, at: PathBuf, why: &str) -> Failure {
        let were = if self.is_emptied { "were" } else { "may have been" };
        // The removal of one name moves the ctime of the file, as a use does, and what has the other names is not known.
        let or_linked = if why == Skipped::Used.key() {
            ", not expired by these settings, or a file in it lost one of several names"
        } else {
            ""
        };
        // The system has refused nothing, so there is no number.
        let error = io::Error::other(format!("{}{or_linked}", why.replace('_', " ")));
        let hint = format!(
            "some of its entries {were} removed by an interrupted run, and the rest gets its name back"
        );
        Failure::new(&self.home.zone.name, Action::RemoveTree, at, error, Some(hint))
    }

    pub(super) fn settled<'a>(&'a self, kind: OutcomeKind<'a>, freed: Bytes) -> Recovered<'a> {
        Recovered::Settled(&self.home, &self.original, kind, freed)
    }
}

impl<C: Control> Trees<'_, C> {
    /// Returns what was taken out of reach and is whole.
    pub(super) fn put_leftover_back(
        &self,
        found: &Found,
        stage: Stage,
        inner: &CStr,
        recovery: &mut Recovery<'_>,
    ) {
        let is_entry = found.quarantine.is_entry(inner);
        let Some((directory, name, at)) = self.give_name_back(found, stage, inner, recovery) else {
            return;
        };
        let note = if !is_entry {
            format!(
                "a private directory had {at:?} in it, which is no entry of this zone: it was moved out"
            )
        } else if found.quarantine.can_be(&directory.dir, &name)
            || may_go(found, inner, &directory, &name, recovery)
        {
            return (recovery.each)(Recovered::Returned(directory, name));
        } else {
            homeless(&at, "is now")
        };
        self.notes.add(&directory.zone.name, note);
    }

    /// Returns what is left of a tree whose removal must not be completed, and says why.
    pub(super) fn put_rest_back(
        &self,
        found: &Found,
        rest: &Rest,
        why: &str,
        recovery: &mut Recovery<'_>,
    ) {
        let back = self.give_name_back(found, Stage::Remove, &rest.inner, recovery);
        let Some((home, name, at)) = back else { return };
        let failure = rest.returned(at, why);
        (recovery.each)(Recovered::ReturnedInPart(home, name, failure));
    }

    /// Gives an entry its name again, or one beside it: its directory, its name, and its path.
    fn give_name_back(
        &self,
        found: &Found,
        stage: Stage,
        name: &CStr,
        recovery: &mut Recovery<'_>,
    ) -> Option<(Arc<Directory>, CString, PathBuf)> {
        let zone = &found.quarantine.zone().name;
        let put_back = || -> io::Result<_> {
            let mut detached = found.quarantine.leftover(stage, name)?;
            detached.withdraw()?;
            let (home, original) = detached.home();
            let id = stat::at(
                found.quarantine.handle(detached.stage),
                name,
                home.mount,
                Freshness::Cached,
            )?
            .id;
            let mut announced = Vec::new();
            let returned = detached.put_back_as(|name| {
                // What has not begun to be removed is judged like any other entry if it gets another name.
                if stage == Stage::Remove || name == original {
                    (recovery.returns)(home, name, id);
                    announced.push(name.to_owned());
                }
            });
            let got = match &returned {
                Ok(Returned::Yes) => Some(original),
                Ok(Returned::Beside(beside)) => Some(&**beside),
                Err(_) => None,
            };
            for name in announced.iter().filter(|name| Some(&***name) != got) {
                (recovery.stays)(home, name, id);
            }
            Ok((returned?, detached))
        };
        match put_back() {
            Ok((returned, detached)) => {
                let (directory, mut name) = detached.into_home();
                if let Returned::Beside(beside) = returned {
                    name = beside;
                    let at = directory.path_of(&name);
                    self.notes.add(
                        zone,
                        format!("an interrupted removal left an entry, which is now {at:?}"),
                    );
                    if stage == Stage::Check {
                        return None;
                    }
                }
                let at = directory.path_of(&name);
                Some((directory, name, at))
            }
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let failure = failure(found, stage, name, Action::Rename, error);
                (recovery.each)(failed(found.quarantine.parent(), name, &failure));
                None
            }
        }
    }
}

/// Applies the rules to an entry by the path that it had, also if its directory is gone. It is in `directory` now, or belongs
/// there.
pub(super) fn judge(
    found: &Found,
    inner: &CStr,
    directory: &Arc<Directory>,
    metadata: Metadata,
    recovery: &Recovery<'_>,
) -> Result<Expired, Kept> {
    let (dir, name) = found.quarantine.original(inner);
    (recovery.judge)(&Entry { zone: &directory.zone, directory, dir: &dir, name: &name, metadata })
}

/// Whether an entry whose directory is gone may go. It has the name `name` now, which no rule knows.
fn may_go(
    found: &Found,
    inner: &CStr,
    directory: &Arc<Directory>,
    name: &CStr,
    recovery: &Recovery<'_>,
) -> bool {
    stat::at(&directory.handle, name, directory.mount, Freshness::Cached)
        .is_ok_and(|metadata| judge(found, inner, directory, metadata, recovery).is_ok())
}

/// The note about an entry whose directory is gone and that the rules keep.
pub(super) fn homeless(at: &Path, becomes: &str) -> String {
    format!(
        "an interrupted removal left an entry, which {becomes} {at:?}, because its directory is gone: the rules keep it"
    )
}

/// The failure of an operation on an entry in a stage.
pub(super) fn failure(
    found: &Found,
    stage: Stage,
    name: &CStr,
    action: Action,
    error: io::Error,
) -> Failure {
    let quarantine = &found.quarantine;
    let hint = hint(quarantine.handle(stage), Some(name), action, &error);
    Failure::new(&quarantine.zone().name, action, quarantine.path_of(stage, name), error, hint)
}

/// The outcome of an entry that failed before anything in it was removed.
pub(super) const fn failed<'a>(
    directory: &'a Directory,
    name: &'a CStr,
    failure: &'a Failure,
) -> Recovered<'a> {
    Recovered::Settled(directory, name, OutcomeKind::Failed(failure), Bytes(0))
}
