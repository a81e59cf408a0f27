//! Hostile data roots: whatever is done to one before or during a pass, nothing outside of it is touched,
//! nothing hangs, and one bad entry costs one entry.
//!
//! Every test asserts what the report says and what is left on the disk.

mod depth;
mod foreseen;
mod media;
mod mounts;
mod names;
mod no_proc;
mod plumbing;
mod races;
mod removals;
mod rights;
mod servers;
mod shown_twice;
mod special;
mod stale;
mod swapped;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat, syncfs};
use serde_json::Value;
use tempfile::TempDir;

use crate::start::Start;
use crate::world::{DAY, Run, Stat, World, as_user, tool};

/// The age of what should be removed: past every limit.
const OLD: i64 = 30 * DAY;

/// A user who is not root.
const USER: u32 = 1000;

/// Runs a command in another: `prlimit`, `timeout`.
fn within(program: &str, args: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(args).arg(command.get_program()).args(command.get_args());
    outer.env_clear().current_dir("/").stdin(Stdio::null());
    outer
}

/// The same command, killed when it hangs: exit code 137.
fn bounded(command: &Command) -> Command {
    within("/usr/bin/timeout", &["--signal=KILL", "600"], command)
}

/// `sweeper run --format json` with `args` on `world`.
fn sweeping(world: &World, args: &[&str]) -> Command {
    world.command(&[&["run", "--format", "json"], args].concat())
}

/// Runs it.
fn sweep(world: &World, args: &[&str]) -> Run {
    Run::of(bounded(&sweeping(world, args)))
}

/// Runs it as [`USER`].
fn sweep_as_user(world: &World, args: &[&str]) -> Run {
    Run::of(bounded(&as_user(USER, &sweeping(world, args))))
}

/// The failures of a report: path and error number.
#[track_caller]
fn failures(report: &Value) -> BTreeMap<PathBuf, String> {
    let listed = report["failures"].as_array().unwrap();
    let text = |failure: &Value, key: &str| failure[key].as_str().unwrap().to_owned();
    let errno = |failure: &Value| failure["errno"].as_str().unwrap_or_default().to_owned();
    listed.iter().map(|it| (text(it, "path").into(), errno(it))).collect()
}

/// What the report says about the failure at `path`, the hint included.
#[track_caller]
fn message_of(report: &Value, path: &Path) -> String {
    let listed = report["failures"].as_array().unwrap();
    let found = listed.iter().find(|it| it["path"].as_str() == path.to_str());
    found.unwrap_or_else(|| panic!("{path:?}: {report:#}"))["message"].as_str().unwrap().to_owned()
}

/// The notes of a zone.
#[track_caller]
fn notes<'a>(report: &'a Value, zone: &str) -> Vec<&'a str> {
    let notes = crate::world::zone(report, zone)["notes"].as_array().unwrap();
    notes.iter().map(|note| note.as_str().unwrap()).collect()
}

/// What `stat` says of `path` and of everything in it.
fn below(world: &World, path: &str) -> BTreeMap<PathBuf, Stat> {
    let path = world.path(path);
    let mut all = world.snapshot();
    all.retain(|at, _| at.starts_with(&path));
    assert!(!all.is_empty(), "{path:?}");
    all
}

/// The private directories of a pass that are in `tmp`.
fn quarantines(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.path("tmp")).unwrap().map(|entry| entry.unwrap());
    let private = entries.filter(|entry| entry.file_name().as_bytes().starts_with(b".sweeper-"));
    private.map(|entry| entry.path()).collect()
}

/// Where the entry `name` of `tmp` is while it is removed, and where the rest of it is afterwards.
fn try_in_removal(world: &World, name: &str) -> Option<PathBuf> {
    let all = quarantines(world).into_iter().map(|path| path.join("remove").join(name));
    all.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// The same; it must be there, and must not have its own name.
#[track_caller]
fn in_removal(world: &World, name: &str) -> PathBuf {
    assert!(!world.has(Path::new("tmp").join(name)), "{name} has its own name");
    try_in_removal(world, name).unwrap_or_else(|| panic!("{name} is not in removal"))
}

/// Asserts that the failure at `path` says how much was removed, and where the rest is.
#[track_caller]
fn assert_says_what_is_left(report: &Value, path: &Path, removed: usize, rest: &Path) {
    let message = message_of(report, path);
    let were = if removed == 1 { "was" } else { "were" };
    for part in [format!("{removed} of its entries {were} removed"), format!("{rest:?}")] {
        assert!(message.contains(&part), "{part}: {message}");
    }
}

/// Something mounted, until the end.
struct Mounted(PathBuf);

impl Mounted {
    fn with(args: &[&str], what: &Path, at: &Path) -> Self {
        let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        all.extend([what.as_os_str(), at.as_os_str()]);
        tool("mount", &all);
        Self(at.to_owned())
    }

    /// An empty file system in memory.
    fn tmpfs(at: &Path, options: &str) -> Self {
        Self::with(&["-t", "tmpfs", "-o", options], "hostile".as_ref(), at)
    }

    /// A file or directory at a second path.
    fn bind(what: &Path, at: &Path) -> Self {
        Self::with(&["--bind"], what, at)
    }

    /// The same, where the target may be gone.
    fn try_bind(what: &Path, at: &Path) -> Option<Self> {
        let output = Command::new("mount").arg("--bind").args([what, at]).finish();
        output.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }

    fn read_only(&self) {
        tool("mount", &["-o".as_ref(), "remount,ro".as_ref(), self.0.as_os_str()]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left a process in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).ended();
    }
}

/// A data root on a file system of its own. The fields are dropped in this order.
struct Island {
    world: World,
    mount: Mounted,
    _scratch: TempDir,
}

impl Island {
    fn on(mount: impl FnOnce(&Path) -> Mounted) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mount = mount(scratch.path());
        Self { world: World::in_dir(&mount.0), mount, _scratch: scratch }
    }

    /// In memory.
    fn tmpfs(options: &str) -> Self {
        Self::on(|at| Mounted::tmpfs(at, options))
    }

    /// In a file of 16 MiB.
    fn ext4() -> Self {
        Self::on(|at| {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().set_len(16 << 20).unwrap();
            let options = ["-q", "-F", "-m", "0"].map(OsStr::new);
            tool("mkfs.ext4", &[&options[..], &[image.path().as_os_str()]].concat());
            // The loop device keeps the image when its name is gone.
            Mounted::with(&["-o", "loop"], image.path(), at)
        })
    }

    /// Writes everything out, so that the blocks in use are the blocks counted.
    fn sync(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        syncfs(openat(CWD, &self.mount.0, flags, Mode::empty()).unwrap()).unwrap();
    }
}
