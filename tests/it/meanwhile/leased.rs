//! A tree is removed under leases on its files.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{count, quarantined, tree};
use crate::paused::{Moment, Paused};
use crate::start::Start;
use crate::world::{DAY, Run, World, assert_counts, can_be_root, set_age, sweeper};

/// How many leases are taken in a pass over an expired tree that `launcher` starts, and how often one is asked about.
fn asked(launcher: &[&str]) -> (usize, usize) {
    let world = World::new();
    tree(&world, 100);
    let log = world.root.parent().unwrap().join("calls.log");
    let inner = world.command(&["run", "--jobs", "2"]);
    let mut command = Command::new("/usr/bin/strace");
    command.args(["-f", "-e", "trace=fcntl", "-o"]).arg(&log).args(launcher);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    Run::of(command).exits(0);
    assert!(!world.has("tmp/tree"));
    let log = std::fs::read_to_string(log).unwrap();
    (log.matches("F_SETLEASE").count(), log.matches("F_GETLEASE").count())
}

/// One signal tells of all breaks, whatever the parent has done with it.
#[test]
fn leases_are_not_asked_about_one_by_one_while_none_is_broken() {
    let env = "/usr/bin/env";
    for launcher in [&[][..], &[env, "--ignore-signal=IO"], &[env, "--block-signal=IO"]] {
        let (set, got) = asked(launcher);
        assert!(set >= 100 && got == 0, "{launcher:?}: {set} set, {got} asked about");
    }
}

/// It would inherit that.
#[test]
fn a_program_that_runs_under_a_lock_has_the_signal_of_leases_not_blocked() {
    let world = World::new();
    world.file("tmp/tree/file", 20 * DAY);
    let mut hold = sweeper(&["hold"]);
    hold.arg(world.path("tmp/tree")).args(["--", "/bin/cat", "/proc/self/status"]);
    let run = Run::of(hold);
    let blocked =
        run.exits(0).stdout.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    assert_eq!(blocked >> (Signal::IO.as_raw() - 1) & 1, 0, "{blocked:x}");
}

/// Opens a file for writing and waits in the kernel before it can break a lease, as while a virus scanner has not
/// answered, or while `/proc/locks` is read. It goes on when a line comes.
const WAITING_OPENER: &str = "
import ctypes, os, subprocess, sys, time
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
CLASS_CONTENT, CLOEXEC, ADD, OPEN_PERM, AT_FDCWD = 4, 1, 1, 0x10000, -100
scanner = libc.fanotify_init(CLASS_CONTENT | CLOEXEC, os.O_RDONLY)
assert scanner >= 0, os.strerror(ctypes.get_errno())
marked = libc.fanotify_mark(scanner, ADD, ctypes.c_uint64(OPEN_PERM), AT_FDCWD, os.fsencode(path))
assert marked == 0, os.strerror(ctypes.get_errno())
script = 'import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), b\"written\")'
writer = subprocess.Popen([sys.executable, '-c', script, path])
while 'fanotify' not in open(f'/proc/{writer.pid}/wchan').read():
    assert writer.poll() is None
    time.sleep(0.005)
print('ready', flush=True)
sys.stdin.readline()
os.close(scanner)
sys.exit(writer.wait())
";

/// A process that waits in `open`.
struct WaitingOpener(Child);

impl WaitingOpener {
    fn of(path: &Path) -> Self {
        let mut opener = Command::new("python3");
        opener.args(["-c", WAITING_OPENER]).arg(path).stdin(Stdio::piped());
        let mut opener = opener.stdout(Stdio::piped()).start().unwrap();
        let mut said = String::new();
        std::io::BufReader::new(opener.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Self(opener)
    }

    /// It opens the file now, and writes to it.
    fn finish(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn a_write_of_a_process_that_waits_in_open_is_not_lost() {
    if !can_be_root("a scanner of opened files") {
        return;
    }
    for name in ["tmp/tree/sub/file-1", "tmp/file"] {
        let world = World::new();
        tree(&world, 3);
        world.file("tmp/file", 20 * DAY);
        let path = world.path(name);
        // The entries are leased, and not out of reach yet.
        let top = if name.ends_with("/file") { "tmp/file" } else { "tmp/tree" };
        std::fs::write(world.path("../list"), format!("{top}\0")).unwrap();
        let list = world.path("../list");
        let moment = Moment::of("mkdirat", 1);
        let paused = Paused::at(&world, &["--from0", list.to_str().unwrap()], 4096, &moment);
        let paused = paused.unwrap_or_else(|run| panic!("{}", run.stdout));
        let opener = WaitingOpener::of(&path);
        let report = paused.finish().exits(0).json();
        opener.finish();
        assert_counts(&report, "tmp", &[("seen", 1), ("skipped_by.in_use", 1)]);
        assert_eq!(std::fs::read(&path).unwrap(), b"written", "{name}");
    }
}

/// The times of a file can be set by its name, which opens no file and breaks no lease.
#[test]
fn a_tree_that_is_used_immediately_before_its_removal_stays_whole() {
    for failure in [None, Some(("mkdirat", "EACCES"))] {
        for files in [256, 4096] {
            let world = World::new();
            let top = tree(&world, 100);
            let moment = Moment { failure, ..Moment::of("mkdirat", 1) };
            let paused = Paused::at(&world, &[], files, &moment);
            let paused = paused.unwrap_or_else(|run| panic!("{}", run.stdout));
            let last = std::fs::read_dir(top.join("sub")).unwrap().last().unwrap().unwrap();
            set_age(&last.path(), 0);
            let report = paused.finish().exits(0).json();
            assert_counts(&report, "tmp", &[("seen", 1), ("skipped_by.used", 1)]);
            assert_eq!(count(&top.join("sub")), 100, "{failure:?}, {files} descriptors");
        }
    }
}

/// Through a directory that it has open, or by the path of a tree that cannot be renamed.
#[test]
fn nor_is_it_lost_when_the_removal_of_the_tree_has_begun() {
    if !can_be_root("a scanner of opened files") {
        return;
    }
    for failure in [None, Some(("mkdirat", "EACCES"))] {
        let world = World::new();
        tree(&world, 20);
        let moment = Moment { failure, ..Moment::of("unlinkat", 1) };
        let paused = Paused::at(&world, &[], 4096, &moment);
        let paused = paused.unwrap_or_else(|run| panic!("{}", run.stdout));
        let top = if failure.is_some() { world.path("tmp/tree") } else { quarantined(&world) };
        let last = std::fs::read_dir(top.join("sub")).unwrap().last().unwrap().unwrap();
        let opener = WaitingOpener::of(&last.path());
        let report = paused.finish().exits(1).json();
        opener.finish();
        assert_counts(&report, "tmp", &[("seen", 1), ("failed", 1)]);
        let message = report["failures"][0]["message"].as_str().unwrap();
        assert!(message.contains("in use"), "{message}");
        let path = world.path("tmp/tree/sub").join(last.file_name());
        assert_eq!(std::fs::read(&path).unwrap(), b"written", "{failure:?}");
    }
}

/// Before anything in it is removed.
#[test]
fn a_tree_that_cannot_be_renamed_stays_whole_if_a_process_has_begun_to_open_a_file_in_it() {
    if !can_be_root("a scanner of opened files") {
        return;
    }
    let world = World::new();
    let top = tree(&world, 3);
    let moment = Moment { failure: Some(("mkdirat", "EACCES")), ..Moment::of("mkdirat", 1) };
    let paused = Paused::at(&world, &[], 4096, &moment);
    let paused = paused.unwrap_or_else(|run| panic!("{}", run.stdout));
    let opener = WaitingOpener::of(&top.join("sub/file-1"));
    let report = paused.finish().exits(0).json();
    opener.finish();
    assert_counts(&report, "tmp", &[("seen", 1), ("skipped_by.in_use", 1)]);
    assert_eq!(count(&top.join("sub")), 3);
}
