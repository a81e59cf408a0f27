//! A data root in a temporary directory, with files of any age, and the program run on it.
//!
//! Times are set, never waited for: every run is judged at [`NOW`].

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use filetime::FileTime;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::Value;

use crate::start::{Start, written};

/// The moment that every run is judged at.
pub const NOW: &str = "2026-01-02T03:04:05Z";
/// The same in Unix seconds.
pub const NOW_SECS: i64 = 1_767_323_045;

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// A name that CVAT gives to an export, different for each number.
pub fn export_name(number: u32) -> String {
    format!("task-{number}-dataset-instance1736428000.123456-coco-10.zip")
}

/// Some tests mount, change owners or become another user. `tests/run` runs as root, and there a missing
/// permission is a failure. Elsewhere one line says what was left out: root in a container may not mount.
pub fn can_be_root(what: &str) -> bool {
    let may_mount = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN);
    let root = rustix::process::geteuid().is_root() && may_mount;
    assert!(root || std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "{what}: needs root");
    if !root {
        eprintln!("left out, needs root that may mount: {what}");
    }
    root
}

/// Whether something that a test needs is present. Under `tests/run` its absence is a failure.
pub fn is_present(is: bool, what: &str) -> bool {
    assert!(is || std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "{what}: missing");
    if !is {
        eprintln!("left out, needs {what}");
    }
    is
}

/// A data root for one test.
pub struct World {
    /// Removed at the end; `None` where the caller owns the directory.
    _scratch: Option<tempfile::TempDir>,
    /// The data root.
    pub root: PathBuf,
}

impl World {
    /// An empty data root in the usual temporary directory.
    pub fn new() -> Self {
        Self::in_dir(&std::env::temp_dir())
    }

    /// An empty data root below `dir`, for tests that need a certain file system.
    pub fn in_dir(dir: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("sweeper-test-").tempdir_in(dir).unwrap();
        // Other users must reach it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(scratch.path(), open).unwrap();
        let world = Self::at(&scratch.path().join("data"));
        Self { _scratch: Some(scratch), ..world }
    }

    /// An empty data root at this path, which is not removed at the end.
    pub fn at(root: &Path) -> Self {
        for dir in ["cache/export", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        Self { _scratch: None, root: root.to_owned() }
    }

    /// A path below the data root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A file of four bytes, last used `age` seconds before [`NOW`].
    pub fn file(&self, path: impl AsRef<Path>, age: i64) -> PathBuf {
        self.file_of(path, age, b"abcd")
    }

    /// A file with content.
    pub fn file_of(&self, path: impl AsRef<Path>, age: i64, content: &[u8]) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        written(|| fs::write(&path, content)).unwrap();
        set_age(&path, age);
        path
    }

    /// A directory. Creating something in it later changes its age.
    pub fn dir(&self, path: impl AsRef<Path>, age: i64) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        set_age(&path, age);
        path
    }

    /// A symbolic link.
    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>, age: i64) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, &path).unwrap();
        set_age(&path, age);
        path
    }

    /// Sets the age of every directory below `path` and its own, the deepest first.
    pub fn age_dirs(&self, path: impl AsRef<Path>, age: i64) {
        for entry in walkdir::WalkDir::new(self.path(path)).contents_first(true) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() {
                set_age(entry.path(), age);
            }
        }
    }

    /// Gives everything in the data root to a user.
    pub fn chown(&self, uid: u32) {
        for entry in walkdir::WalkDir::new(&self.root) {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(uid), Some(uid)).unwrap();
        }
    }

    /// Whether there is something at `path`, link or not.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The program with `args`, to be run on this data root at [`NOW`].
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = sweeper(args);
        command.arg("--data").arg(&self.root).args(["--now", NOW]);
        command
    }

    /// Runs the program with `args` on this data root at [`NOW`].
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    /// The same as another user.
    pub fn run_as(&self, uid: u32, args: &[&str]) -> Run {
        Run::of(as_user(uid, &self.command(args)))
    }

    /// What `stat` says of everything in the data root, read without changing a time.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Stat> {
        let mut all = BTreeMap::new();
        let mut dirs = vec![self.root.clone()];
        while let Some(dir) = dirs.pop() {
            all.insert(dir.clone(), Stat::of(&dir));
            for name in list_quietly(&dir) {
                let path = dir.join(name);
                let stat = Stat::of(&path);
                if stat.is_dir {
                    dirs.push(path);
                } else {
                    all.insert(path, stat);
                }
            }
        }
        all
    }
}

/// What `stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    is_dir: bool,
    pub ino: u64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    blocks: u64,
    pub atime: (i64, i64),
    pub mtime: (i64, i64),
}

impl Stat {
    /// The space that it takes, in bytes.
    pub const fn allocated(&self) -> u64 {
        self.blocks * 512
    }

    pub fn of(path: &Path) -> Self {
        let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self {
            is_dir: metadata.is_dir(),
            ino: metadata.ino(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            links: metadata.nlink(),
            size: metadata.size(),
            blocks: metadata.blocks(),
            atime: (metadata.atime(), metadata.atime_nsec()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The names in a directory, read without changing its access time.
fn list_quietly(dir: &Path) -> Vec<OsString> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC;
    let handle = openat(CWD, dir, flags, Mode::empty()).unwrap();
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut names = rustix::fs::RawDir::new(&handle, buffer.spare_capacity_mut());
    let mut all = Vec::new();
    while let Some(entry) = names.next() {
        let name = entry.unwrap().file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            all.push(OsStr::from_bytes(&name).to_owned());
        }
    }
    all
}

/// Sets both times of the file or link at `path`.
pub fn set_age(path: &Path, age: i64) {
    set_times(path, age, age);
}

/// Sets the times of the file or link at `path`.
pub fn set_times(path: &Path, atime_age: i64, mtime_age: i64) {
    let at = |age: i64| FileTime::from_unix_time(NOW_SECS - age, 0);
    filetime::set_symlink_file_times(path, at(atime_age), at(mtime_age)).unwrap();
}

/// A FIFO.
pub fn fifo(path: &Path, age: i64) {
    use rustix::fs::{FileType, mknodat};
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    mknodat(CWD, &*name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    set_age(path, age);
}

/// The program with `args`, an empty environment, and `/` as its working directory.
pub fn sweeper(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sweeper"));
    command.args(args).env_clear().current_dir("/").stdin(Stdio::null());
    command
}

/// The same command as another user, without capabilities.
pub fn as_user(uid: u32, command: &Command) -> Command {
    let id = uid.to_string();
    let mut other = Command::new("/usr/bin/setpriv");
    other.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all"]);
    other.arg(command.get_program()).args(command.get_args());
    other.env_clear().current_dir("/").stdin(Stdio::null());
    other
}

/// Runs a tool that a test needs; it must succeed.
pub fn tool(program: &str, args: &[&OsStr]) {
    let output = Command::new(program).args(args).finish();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// The result of a run.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(mut command: Command) -> Self {
        Self::from(command.finish().unwrap())
    }

    /// Asserts the exit code, and shows everything that was printed if it is another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The report, of a run with `--format json`, or the summary of one with `--format jsonl`.
    #[track_caller]
    pub fn json(&self) -> Value {
        let whole = serde_json::from_str(&self.stdout);
        whole.unwrap_or_else(|_| {
            let last = self.stdout.lines().last().unwrap_or_default();
            serde_json::from_str(last).unwrap_or_else(|error| {
                panic!("{error}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
            })
        })
    }

    /// The outcomes of a run with `--format jsonl`, by path: what happened, and the reason.
    pub fn outcomes(&self) -> BTreeMap<PathBuf, (String, String)> {
        let lines = self.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line.get("outcome").is_some())
            .map(|line| {
                let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
                let bytes = line.get("path_hex").and_then(Value::as_str).map_or_else(
                    || text("path").into_bytes(),
                    |hex| {
                        let digits = hex.as_bytes().chunks(2);
                        digits
                            .map(|pair| {
                                u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
                            })
                            .collect()
                    },
                );
                let path = PathBuf::from(OsStr::from_bytes(&bytes));
                (path, (text("outcome"), text("reason")))
            })
            .collect()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Whether a report for people names this path, whose middle it leaves out where it is very long.
pub fn is_shown(shown: &str, path: &Path) -> bool {
    let path = path.to_str().unwrap();
    let (head, tail) = shown.split_once('…').unwrap_or((shown, ""));
    path == shown || !tail.is_empty() && path.starts_with(head) && path.ends_with(tail)
}

/// The counts of one zone in a report.
#[track_caller]
pub fn zone<'a>(report: &'a Value, name: &str) -> &'a Value {
    let zones = report["zones"].as_array().unwrap();
    zones.iter().find(|zone| zone["zone"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// Asserts counts of a zone: `("removed", 2)`, `("kept_by.fresh", 1)`.
#[track_caller]
pub fn assert_counts(report: &Value, name: &str, counts: &[(&str, u64)]) {
    let zone = zone(report, name);
    for (key, count) in counts {
        let found = key.split('.').fold(zone, |value, key| &value[key]);
        assert_eq!(found.as_u64(), Some(*count), "{key} of {zone:#}\n{report:#}");
    }
}
