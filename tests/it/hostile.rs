//! Volumes that mean harm: whatever is done to a volume before or during a pass, nothing outside it
//! is touched, nothing hangs, and one bad entry costs one entry.
//!
//! Every test asserts what the report says and what is left on the disk.

mod depth;
mod media;
mod mounts;
mod names;
mod plumbing;
mod races;
mod rights;
mod special;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat, syncfs};
use serde_json::Value;
use tempfile::TempDir;

use crate::start::Start;
use crate::world::{DAY, Run, Stat, World, as_user, tool};

/// The age of what is to go: past every limit.
const OLD: i64 = 30 * DAY;

/// Somebody who is not root.
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
    within("/usr/bin/timeout", &["--signal=KILL", "60"], command)
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
    listed.iter().map(|it| (text(it, "path").into(), text(it, "errno"))).collect()
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

    /// A file or directory in a second place.
    fn bind(what: &Path, at: &Path) -> Self {
        Self::with(&["--bind"], what, at)
    }

    /// The same, where the place may be gone.
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
        // Lazily: a test that failed may have left somebody in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).ended();
    }
}

/// A volume on a file system of its own. The order of the fields is the order of their end.
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
