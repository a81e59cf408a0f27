//! Removes files of deleted tasks: from mounted directories here, and the others through the file server.
//!
//! This module must not decide what is removed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::place::{FILESERVER, Place, Seams};
use crate::clearml::error::{ApiError, CycleError};
use crate::clearml::executor::Audit;
use crate::clearml::files::{At, FolderEnd, Removal, Remover, Target};
use crate::clearml::ledger::FILES;
use crate::clearml::options::FilesMode;
use crate::clearml::rows::Id;
use crate::clearml::tools::Tools;
use crate::cmd::Refusal;
use crate::cmd::data_root::absolute;
use crate::config::{ClearmlConfig, Config};
use crate::protocol::Found;
use crate::source::find_trees;

/// What people call a directory whose files are named by their paths on this machine.
const LOCAL: &str = "a directory of files of this machine (--local-root)";

/// The directories that are mounted here.
pub(super) struct Mounts {
    /// That of the file server, if files are removed from it.
    fileserver: Option<Place>,
    /// Whether nothing was in it when it was opened. A cleanup may empty it.
    was_empty: bool,
    /// Others, which the user names.
    local: Vec<(PathBuf, Place)>,
}

impl Mounts {
    /// Opens them.
    pub(super) fn open(config: &Config, clearml: &ClearmlConfig) -> Result<Self, Refusal> {
        let fileserver = match (clearml.options.files, &clearml.fileserver_root) {
            (FilesMode::Mount, Some(root)) => Some(Place::open(config, root, FILESERVER, FILES)?),
            _ => None,
        };
        let local = clearml.local_roots.iter().map(|root| {
            let place = Place::open(config, root, LOCAL, FILES)?;
            Ok((absolute(root), place))
        });
        let local: Result<Vec<(PathBuf, Place)>, Refusal> = local.collect();
        let was_empty = fileserver.as_ref().is_some_and(|place| {
            let listed = std::fs::read_dir(place.root.path());
            listed.is_ok_and(|mut entries| entries.next().is_none())
        });
        Ok(Self { fileserver, was_empty, local: local? })
    }
}

/// Removes from mounted directories what is in them, and the rest otherwise.
pub(super) struct Removers<'a> {
    pub(super) mounts: &'a Mounts,
    pub(super) seams: Seams<'a>,
    pub(super) rest: &'a mut dyn Remover,
    pub(super) audit: &'a dyn Audit,
}

impl Remover for Removers<'_> {
    fn check(&self) -> Result<(), CycleError> {
        match &self.mounts.fileserver {
            Some(place) if self.mounts.was_empty => Err(CycleError::Usage(format!(
                "{FILESERVER} {:?} is empty, so all files would be taken for gone: is it mounted? If the file \
                 server has no files, use --files http",
                place.root.path()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn remove(
        &mut self,
        tools: &Tools,
        targets: Vec<Target>,
        kept: &HashSet<String>,
    ) -> Result<Vec<(Target, Removal)>, CycleError> {
        let urls: Vec<&str> = targets.iter().map(|target| target.file.url.as_str()).collect();
        self.audit.write(FILES, &urls).map_err(CycleError::Journal)?;
        let (mut done, mut rest) = (Vec::new(), Vec::new());
        for target in targets {
            let place = match (&target.at, &self.mounts.fileserver) {
                (At::Fileserver(_, path), Some(place)) => Some((place, path.clone())),
                (At::Local(path), _) => self.local(path),
                (At::Fileserver(..), None) => None,
            };
            let Some((place, path)) = place else {
                rest.push(target);
                continue;
            };
            if tools.pool.is_stopped() {
                return Err(ApiError::Stopped.into());
            }
            let removal = self.seams.remove_file(place, &path);
            done.push((target, removal));
        }
        if !rest.is_empty() {
            done.extend(self.rest.remove(tools, rest, kept)?);
        }
        for (target, removal) in &done {
            if !matches!(removal, Removal::Removed(_)) {
                self.audit.withdraw(FILES, &target.file.url, in_words(removal));
            }
        }
        Ok(done)
    }

    fn remove_folders(&mut self, tasks: &[Id]) -> Result<Vec<FolderEnd>, CycleError> {
        let Some(place) = &self.mounts.fileserver else { return Ok(Vec::new()) };
        let wanted: HashSet<Id> = tasks.iter().copied().collect();
        let (mut ends, mut emptied) = (Vec::new(), BTreeSet::new());
        for (task, path) in self.find(place, &wanted) {
            let name = place.root.path().join(&path);
            let name = name.to_string_lossy();
            self.audit.write(FILES, &[&*name]).map_err(CycleError::Journal)?;
            let removal = self.seams.remove_folder(&place.root, place.folders(), &path);
            if matches!(removal, Removal::Removed(_)) {
                emptied.extend(path.parent().map(Path::to_owned));
            } else {
                self.audit.withdraw(FILES, &name, in_words(&removal));
            }
            ends.push(FolderEnd { task, path: place.root.path().join(path), removal });
        }
        for dir in emptied.iter().rev() {
            self.seams.prune(&place.root, place.folders(), Some(dir));
        }
        Ok(ends)
    }
}

impl Removers<'_> {
    /// The place that a path of this machine is in, and the path below it.
    fn local(&self, path: &Path) -> Option<(&Place, Vec<u8>)> {
        self.mounts.local.iter().find_map(|(root, place)| {
            let below =
                path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty())?;
            Some((place, below.as_os_str().as_bytes().to_vec()))
        })
    }

    /// The folders of these tasks, at any depth.
    fn find(&self, place: &Place, wanted: &HashSet<Id>) -> Vec<(Id, PathBuf)> {
        let mut found: HashMap<PathBuf, Id> = HashMap::new();
        let seams = &self.seams;
        let is_folder = |name: &std::ffi::CStr| Id::of_folder(name.to_bytes()).is_some();
        let mut each = |entry: Found<'_>| match entry {
            Found::Entry(entry) => {
                let id = Id::of_folder(entry.name.to_bytes());
                if let Some(id) = id.filter(|id| wanted.contains(id)) {
                    found.insert(entry.dir.join(OsStr::from_bytes(entry.name.to_bytes())), id);
                }
            }
            Found::Leftover(directory, name) => {
                seams.recover(directory, &CString::from(name));
            }
            Found::Gone(..) | Found::Failed(..) => {}
        };
        let mut failed = |failure: crate::protocol::Failure| {
            tracing::warn!("folders may be left: {failure}");
        };
        let (root, zone) = (&place.root, place.folders());
        find_trees(root, zone, seams.control, seams.notes, &is_folder, &mut each, &mut failed);
        let mut found: Vec<(Id, PathBuf)> =
            found.into_iter().map(|(path, id)| (id, path)).collect();
        found.sort();
        found
    }
}

/// Why a file stays.
pub(super) fn in_words(removal: &Removal) -> &str {
    match removal {
        Removal::Removed(_) => "it is removed",
        Removal::Gone => "gone",
        Removal::Kept(why) => why.key(),
        Removal::Skipped(why) => why.key(),
        Removal::Failed(why) | Removal::Left(why) => why,
    }
}
