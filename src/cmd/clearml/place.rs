//! Removes files and folders from a mounted directory, by the same steps as a pass removes an entry.
//!
//! This module must not decide which: it is handed paths below the directory. It does not know whether the removal is
//! real.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clearml::files::Removal;
use crate::clearml::rows::Id;
use crate::cmd::data_root::{absolute, forbidden};
use crate::cmd::{Refusal, without_data_root};
use crate::config::Config;
use crate::control::Control;
use crate::engine::PassControl;
use crate::fs::DataRoot;
use crate::inspect::FileInspector;
use crate::lock::Backend;
use crate::protocol::{
    Disposer, Entry, Expired, Inspector, Locks, Notes, OutcomeKind, Recovered, Recovery, Rejection,
    Skipped,
};
use crate::rules::verdict::evaluate;
use crate::rules::{
    EntryKind, Exclude, Expiry, KeptReason, LastUse, Location, LockKind, Moment, Names, Zone,
    ZoneName,
};
use crate::source::{entry_at, has_tree_below, open_directory};
use crate::units;

/// What people call the directory of the file server.
pub(super) const FILESERVER: &str = "the directory of the file server (--fileserver-root)";

/// What every removal needs.
pub(super) struct Seams<'a> {
    pub(super) control: &'a PassControl<'a>,
    pub(super) notes: &'a Notes,
    pub(super) disposer: &'a dyn Disposer,
    pub(super) inspector: &'a FileInspector<'a, PassControl<'a>>,
    pub(super) locks: &'a Backend,
    pub(super) now: Moment,
}

/// A directory that files are removed from.
pub(super) struct Place {
    pub(super) root: DataRoot,
    files: Arc<Zone>,
    folders: Arc<Zone>,
}

impl Place {
    /// Opens the directory, which people know as `called`.
    pub(super) fn open(
        config: &Config,
        path: &Path,
        called: &str,
        zone: &str,
    ) -> Result<Self, Refusal> {
        // Reports and logs are read elsewhere.
        let path = absolute(path);
        let root = DataRoot::open(&path, &[], &forbidden(config)).map_err(|why| {
            let why = without_data_root(&why);
            Refusal::Start(format!("{called}: {why}"))
        })?;
        let of = |entry| Arc::new(at_once(zone, entry, Expiry::AtOnce));
        Ok(Self { root, files: of(EntryKind::File), folders: of(EntryKind::Tree) })
    }

    /// The zone of its folders.
    pub(super) const fn folders(&self) -> &Arc<Zone> {
        &self.folders
    }
}

/// A zone of entries that are named one by one.
pub(super) fn at_once(name: &str, entry: EntryKind, expiry: Expiry) -> Zone {
    Zone {
        name: ZoneName::new(name),
        location: Location { roots: Vec::new(), shape: crate::rules::Shape::Flat },
        entry,
        names: Names::Any,
        last_use: LastUse::Mtime,
        ttls: vec![expiry],
        lock: LockKind::Flock,
        describe_name: |_| None,
    }
}

impl Seams<'_> {
    /// Removes a file, and the directories that are empty then.
    pub(super) fn remove_file(&self, place: &Place, path: &[u8]) -> Removal {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let removal = self.remove(&place.root, &place.files, &path);
        if matches!(removal, Removal::Removed(_) | Removal::Gone) {
            self.prune(&place.root, &place.files, path.parent());
        }
        removal
    }

    /// Removes the folder of a task, unless the folder of another one is in it. It may be the folder of a project: its
    /// name is cut and ends with an id, like that of a task, if the path of the project is long.
    pub(super) fn remove_folder(&self, root: &DataRoot, zone: &Arc<Zone>, path: &Path) -> Removal {
        // What is not a folder is not searched.
        let expired = match self.judge(root, zone, path) {
            Ok(expired) => expired,
            Err(stays) => return stays,
        };
        let is_folder = |name: &CStr| Id::of_folder(name.to_bytes()).is_some();
        match has_tree_below(root, zone, self.control, self.notes, path, &is_folder) {
            Ok(_) if self.control.is_stopped() => of_rejection(Rejection::Unreached),
            Ok(true) => Removal::Kept(KeptReason::Referenced),
            Ok(false) => self.dispose(expired),
            Err(failure) => failed(&failure),
        }
    }

    /// Removes the entry at `path` below `root`, if the rule of `zone` lets it go.
    fn remove(&self, root: &DataRoot, zone: &Arc<Zone>, path: &Path) -> Removal {
        self.judge(root, zone, path).map_or_else(|stays| stays, |expired| self.dispose(expired))
    }

    /// Looks at the entry at `path` below `root`. If it stays, says why.
    fn judge(&self, root: &DataRoot, zone: &Arc<Zone>, path: &Path) -> Result<Expired, Removal> {
        let no_path = || Removal::Left("it is not the path of a file".to_owned());
        let (name, dir) = path.file_name().zip(path.parent()).ok_or_else(no_path)?;
        let name = CString::new(name.as_bytes()).map_err(|_| no_path())?;
        let directory = open_directory(root, zone, dir, self.notes).map_err(|why| failed(&why))?;
        let entry = entry_at(&directory, &name).map_err(|why| failed(&why))?;
        evaluate(&entry, &Exclude::default(), self.now).map_err(|kept| Removal::Kept(kept.why))
    }

    /// Removes an entry that the rule of its zone lets go.
    fn dispose(&self, expired: Expired) -> Removal {
        let mut removal = Removal::Skipped(Skipped::Locked);
        self.locks.claim(vec![expired], &|| false, &mut |claimed| {
            let removed = claimed
                .and_then(|claimed| self.inspector.inspect(claimed, self.now))
                .and_then(|verified| self.disposer.dispose(verified, self.now));
            removal = match removed {
                Ok(removed) => Removal::Removed(removed.freed),
                Err(rejected) => of_rejection(rejected.why),
            };
        });
        removal
    }

    /// Completes or returns what an interrupted removal has left in the private directory `name`.
    pub(super) fn recover(&self, directory: &Arc<crate::protocol::Directory>, name: &CStr) {
        let judge = |entry: &Entry<'_>| evaluate(entry, &Exclude::default(), self.now);
        let mut each = |recovered: Recovered<'_>| {
            let zone = &directory.zone.name;
            let failure = match &recovered {
                Recovered::ReturnedInPart(_, _, failure) => failure,
                Recovered::Settled(_, _, OutcomeKind::Failed(failure), _) => failure,
                Recovered::LeftAlone(why) => return self.notes.add(zone, why.clone()),
                Recovered::Returned(..) | Recovered::Settled(..) | Recovered::Unreached => return,
            };
            self.notes.add(zone, units::without_numbers(&failure.to_string()));
        };
        let mut recovery = Recovery::alone(&judge, &mut each);
        self.disposer.recover(directory, name, self.now, &mut recovery);
    }

    /// Removes directories that are empty, from `dir` up to the root, which stays.
    pub(super) fn prune(&self, root: &DataRoot, zone: &Arc<Zone>, dir: Option<&Path>) {
        let mut dir = dir;
        while let Some(path) = dir.filter(|path| !path.as_os_str().is_empty()) {
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return };
            let Ok(name) = CString::new(name.as_bytes()) else { return };
            // One that is gone may have left an empty one above.
            if let Ok(directory) = open_directory(root, zone, parent, self.notes)
                && !self.disposer.prune(&directory, &name)
                && is_there(&directory, &name)
            {
                return;
            }
            dir = Some(parent);
        }
    }
}

fn is_there(directory: &Arc<crate::protocol::Directory>, name: &CStr) -> bool {
    entry_at(directory, name).is_ok()
}

fn failed(failure: &crate::protocol::Failure) -> Removal {
    if failure.error.kind() == std::io::ErrorKind::NotFound {
        Removal::Gone
    } else {
        Removal::Failed(units::without_numbers(&failure.to_string()))
    }
}

fn of_rejection(why: Rejection) -> Removal {
    match why {
        Rejection::Skipped(Skipped::Gone) => Removal::Gone,
        Rejection::Skipped(why) => Removal::Skipped(why),
        Rejection::Failed(failure) | Rejection::NotWritten(failure) => {
            Removal::Failed(units::without_numbers(&failure.to_string()))
        }
        Rejection::Unreached => Removal::Failed("the run was stopped first".to_owned()),
        Rejection::NoLock(why) => Removal::Failed(why),
    }
}
