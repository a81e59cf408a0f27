//! The sweeper in company: locks, open files, another sweeper, signals. Always several processes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::start::Start;
use crate::world::{
    DAY, Run, World, assert_counts, can_be_root, export_name, set_age, sweeper, tool,
};

/// A process that is ended with the test.
struct Other(Child, String);

impl Other {
    /// Starts a process and waits until it says that it is ready, with a line.
    fn ready(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).start().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line:?}");
        Self(child, line)
    }

    /// A Python process that does something with the file, says so, and stays.
    fn python(script: &str, path: &Path) -> Self {
        let script = format!(
            "import sys, fcntl, mmap, os, time\npath = sys.argv[1]\n{script}\nprint('ready', flush=True)\ntime.sleep(60)"
        );
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).arg(path);
        Self::ready(command)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn export(world: &World, number: u32, age: i64) -> PathBuf {
    world.file(Path::new("cache/export").join(export_name(number)), age)
}

/// What a run did to the one export there is: the reason it was spared for, or `removed`.
fn fate_of(world: &World, path: &Path, args: &[&str]) -> String {
    let args = [&["run", "--format", "jsonl", "--lock-wait", "0"], args].concat();
    let run = world.run(&args);
    run.exits(0);
    let (fate, reason) = run.outcomes().remove(path).unwrap();
    let gone = fate == "removed" && !args.contains(&"--dry-run");
    assert_eq!(path.exists(), !gone, "{fate} {reason}");
    if fate == "removed" { fate } else { reason }
}

#[test]
fn a_file_that_another_process_uses_in_any_way_is_spared() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    for (what, script, reason) in [
        ("flock", "f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", "busy"),
        ("shared flock", "f = open(path); fcntl.flock(f, fcntl.LOCK_SH)", "busy"),
        ("fcntl lock", "f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)", "busy"),
        ("reading", "f = open(path)", "in_use"),
        ("writing", "f = os.open(path, os.O_WRONLY)", "in_use"),
        (
            "mapped only",
            "f = open(path); m = mmap.mmap(f.fileno(), 4, prot=mmap.PROT_READ); f.close()",
            "in_use",
        ),
    ] {
        let other = Other::python(script, &path);
        assert_eq!(fate_of(&world, &path, &[]), reason, "{what}");
        assert_eq!(fate_of(&world, &path, &["--dry-run"]), reason, "{what}, rehearsal");
        drop(other);
    }
    assert_eq!(fate_of(&world, &path, &[]), "removed", "nobody uses it");
}

#[test]
fn without_the_probe_and_the_lock_age_alone_decides() {
    let world = World::new();
    for (args, script) in [
        (&["--in-use", "ignore"][..], "f = open(path)"),
        (
            &["--in-use", "ignore", "--lock", "none"],
            "f = open(path); fcntl.flock(f, fcntl.LOCK_EX)",
        ),
    ] {
        let path = export(&world, 1, 2 * DAY);
        let other = Other::python(script, &path);
        assert_eq!(fate_of(&world, &path, args), "removed", "{args:?}");
        drop(other);
    }
}

#[test]
fn one_file_in_use_spares_the_whole_tree() {
    let world = World::new();
    for number in 0..100 {
        world.file(format!("tmp/tree/a/b/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let tree = world.path("tmp/tree");
    let file = world.path("tmp/tree/a/b/file-77");
    for (script, reason) in [
        ("f = open(path)", "in_use"),
        ("f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)", "busy"),
        ("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", "in_use"),
    ] {
        let other = Other::python(script, &file);
        let before = world.snapshot();
        assert_eq!(fate_of(&world, &tree, &[]), reason, "{script}");
        assert_eq!(world.snapshot(), before, "{script}");
        drop(other);
    }
    // A lock on the top directory itself.
    let other =
        Other::python("f = os.open(path, os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX)", &tree);
    assert_eq!(fate_of(&world, &tree, &[]), "busy");
    drop(other);
    assert_eq!(fate_of(&world, &tree, &[]), "removed");
}

#[test]
fn an_open_file_is_seen_from_another_pid_and_mount_namespace() {
    if !can_be_root("in use, from another namespace") {
        return;
    }
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg("exec 3< \"$0\"; echo ready; sleep 60").arg(&path);
    let other = Other::ready(command);
    assert_eq!(fate_of(&world, &path, &[]), "in_use");
    drop(other);
    // The shell in the namespace ends a moment after its parent.
    let start = Instant::now();
    while fate_of(&world, &path, &["--dry-run"]) != "removed" {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

/// A file system in an image, mounted.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn image(mkfs: &str, args: &[&str], megabytes: u64) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        all.push(image.as_os_str());
        tool(mkfs, &all);
        let at = scratch.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        tool("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
        Self(scratch)
    }

    fn special(kind: &str, options: impl Fn(&Path) -> String) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().join("mnt");
        for dir in ["mnt", "lower", "upper", "work"] {
            std::fs::create_dir(scratch.path().join(dir)).unwrap();
        }
        let options = options(scratch.path());
        let args: [&OsStr; 6] = [
            "-t".as_ref(),
            kind.as_ref(),
            "-o".as_ref(),
            options.as_ref(),
            kind.as_ref(),
            at.as_ref(),
        ];
        tool("mount", &args);
        Self(scratch)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).ended();
    }
}

#[test]
fn a_file_in_use_is_seen_on_every_file_system_that_cvat_runs_on() {
    if !can_be_root("in use on ext4, xfs, btrfs, tmpfs, overlayfs") {
        return;
    }
    let file_systems: [(&str, Mounted); 5] = [
        ("ext4", Mounted::image("mkfs.ext4", &["-q"], 32)),
        ("xfs", Mounted::image("mkfs.xfs", &["-q"], 320)),
        ("btrfs", Mounted::image("mkfs.btrfs", &["-q"], 128)),
        ("tmpfs", Mounted::special("tmpfs", |_| "size=16m".to_owned())),
        (
            "overlay",
            Mounted::special("overlay", |dir| {
                // On a file system of its own: an overlay cannot lie on every kind.
                tool(
                    "mount",
                    &["-t", "tmpfs", "tmpfs"]
                        .map(OsStr::new)
                        .iter()
                        .copied()
                        .chain([dir.join("upper").as_os_str()])
                        .collect::<Vec<_>>(),
                );
                for sub in ["upper/up", "upper/work"] {
                    std::fs::create_dir(dir.join(sub)).unwrap();
                }
                let dir = dir.display();
                format!("lowerdir={dir}/lower,upperdir={dir}/upper/up,workdir={dir}/upper/work")
            }),
        ),
    ];
    for (name, mounted) in &file_systems {
        let world = World::in_dir(&mounted.path());
        let path = export(&world, 1, 2 * DAY);
        world.file("tmp/tree/deep/file", 20 * DAY);
        world.file("tmp/free/deep/file", 20 * DAY);
        world.age_dirs("tmp", 20 * DAY);
        let open =
            [File::open(&path).unwrap(), File::open(world.path("tmp/tree/deep/file")).unwrap()];
        assert_eq!(fate_of(&world, &path, &["--zones", "export"]), "in_use", "{name}");
        let report = world.run(&["run", "--format", "json"]);
        let counts = [("removed", 1), ("spared_by.in_use", 1), ("failed", 0)];
        assert_counts(&report.exits(0).json(), "tmp", &counts);
        drop(open);
        assert_eq!(fate_of(&world, &path, &[]), "removed", "{name}");
        let after = world.snapshot();
        assert!(!after.keys().any(|path| path.ends_with("tree")), "{name}");
    }
    // The overlay's upper tmpfs.
    let _ = Command::new("umount").arg("-l").arg(file_systems[4].1.0.path().join("upper")).ended();
}

#[test]
fn what_is_busy_is_tried_again_for_as_long_as_lock_wait_says() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    for number in 2..50 {
        export(&world, number, 2 * DAY);
    }
    // Held for a moment only: the second try finds it free.
    let mut command = Command::new("flock");
    command.arg("-x").arg(&path).args(["sh", "-c", "echo ready; sleep 0.5"]);
    let other = Other::ready(command);
    let report = world.run(&["run", "--format", "json", "--lock-wait", "20s"]);
    assert_counts(&report.exits(0).json(), "export", &[("removed", 49), ("spared", 0)]);
    drop(other);

    // Held for good: the pass waits no longer than it was told.
    let path = export(&world, 1, 2 * DAY);
    let other = Other::python("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", &path);
    let start = Instant::now();
    let report = world.run(&["run", "--format", "json", "--lock-wait", "300ms"]);
    let took = start.elapsed();
    assert_counts(&report.exits(0).json(), "export", &[("removed", 0), ("spared_by.busy", 1)]);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
    drop(other);
}

#[test]
fn two_sweepers_at_once_share_the_work_and_neither_fails() {
    let world = World::new();
    for number in 0..3000 {
        export(&world, number, 2 * DAY);
    }
    for number in 0..150 {
        for file in 0..10 {
            world.file(format!("tmp/tree-{number}/sub/file-{file}"), 20 * DAY);
        }
    }
    world.age_dirs("tmp", 20 * DAY);
    let start = || {
        let mut command = world.command(&["run", "--format", "json", "--lock-wait", "1s"]);
        command.args(["--if-running", "share"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
    };
    let both = [start(), start(), start()];
    let runs = both.map(|child| Run::from(child.wait_with_output().unwrap()));
    let mut removed = 0;
    for run in &runs {
        let report = run.exits(0).json();
        let totals = &report["totals"];
        assert_eq!(totals["failed"], 0, "{report:#}");
        removed += totals["removed"].as_u64().unwrap();
    }
    world.run(&["run"]).exits(0);
    for dir in ["cache/export", "tmp"] {
        let left: Vec<_> = std::fs::read_dir(world.path(dir)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // Each entry was removed at most once; what one of them spared because another was at it, the
    // last pass took.
    assert!(removed <= 3150, "{removed}");
}

#[test]
fn cvats_own_cleaner_beside_us_makes_no_failure() {
    let world = World::new();
    for number in 0..3000 {
        export(&world, number, 2 * DAY);
    }
    for number in 0..100 {
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    // Its loop without the lock, which flock does not see anyway: unlink and rmtree.
    let script = "import os, shutil, sys\nroot = sys.argv[1]\nprint('ready', flush=True)\n\
        for e in os.scandir(root + '/cache/export'):\n    try: os.unlink(e.path)\n    except OSError: pass\n\
        for e in os.scandir(root + '/tmp'): shutil.rmtree(e.path, ignore_errors=True)\n";
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(&world.root);
    let other = Other::ready(command);
    let report = world.run(&["run", "--format", "json"]);
    let report = report.exits(0).json();
    assert_eq!(report["totals"]["failed"], 0, "{report:#}");
    drop(other);
}

#[test]
fn hold_keeps_a_sweep_off_while_its_command_runs() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let mut command = sweeper(&["hold"]);
    command.arg(&path).args(["--", "/bin/sh", "-c", "echo ready $$; exec sleep 60"]);
    let other = Other::ready(command);
    assert_eq!(fate_of(&world, &path, &[]), "busy");
    // A second holder waits, then says who is in the way and does not run its command.
    let mut second = sweeper(&["hold", "--lock-wait", "100ms"]);
    second.arg(&path).args(["--", "/bin/touch"]).arg(world.path("ran"));
    let run = Run::of(second);
    assert!(run.exits(4).stderr.contains("somebody else holds"), "{}", run.stderr);
    assert!(!world.has("ran"));
    // Killing the holder does not bare the command that still writes: it has inherited the lock.
    let mut other = other;
    other.0.kill().unwrap();
    other.0.wait().unwrap();
    assert_eq!(fate_of(&world, &path, &[]), "busy");
    let command = other.1.trim().rsplit(' ').next().unwrap();
    tool("kill", &[command.as_ref()]);
}

#[test]
fn hold_ends_as_its_command_does() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let hold = |path: &Path, command: &[&str]| {
        let mut hold = sweeper(&["hold"]);
        hold.arg(path).arg("--").args(command);
        Run::of(hold)
    };
    hold(&path, &["/bin/sh", "-c", "exit 7"]).exits(7);
    hold(&path, &["/bin/sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    hold(&path, &["/no/such/command"]).exits(127);
    hold(&path, &["/etc/hostname"]).exits(126);
    let missing = hold(&world.path("cache/export/none.zip"), &["/bin/true"]);
    assert!(missing.exits(2).stderr.contains("has to exist"), "{}", missing.stderr);
    // A signal goes on to the command.
    let mut command = sweeper(&["hold"]);
    command.arg(&path).args(["--", "/bin/sh", "-c"]);
    command.arg("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done");
    let mut other = Other::ready(command);
    tool("kill", &["-TERM".as_ref(), other.0.id().to_string().as_ref()]);
    assert_eq!(other.0.wait().unwrap().code(), Some(42));
}

/// Starts a long pass over trees, and waits until it has removed something.
fn long_pass(world: &World, args: &[&str]) -> Child {
    let child = world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let start = Instant::now();
    let entries = || std::fs::read_dir(world.path("cache/export")).unwrap().count();
    let all = entries();
    while entries() == all {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    child
}

#[test]
fn a_signal_ends_the_pass_between_two_entries_with_the_report() {
    for signal in ["-TERM", "-INT"] {
        let world = World::in_dir(Path::new("/dev/shm"));
        for number in 0..60_000 {
            export(&world, number, 2 * DAY);
        }
        let child = long_pass(&world, &["run", "--format", "json", "--jobs", "1"]);
        let start = Instant::now();
        tool("kill", &[signal.as_ref(), child.id().to_string().as_ref()]);
        let run = Run::from(child.wait_with_output().unwrap());
        let took = start.elapsed();
        let report = run.exits(3).json();
        assert_eq!(report["stopped"], "signal");
        assert!(took < Duration::from_secs(1), "{took:?}");
        let left = std::fs::read_dir(world.path("cache/export")).unwrap().count() as u64;
        assert_eq!(report["totals"]["removed"].as_u64().unwrap() + left, 60_000, "{report:#}");
        assert!(left > 0, "it was over before the signal");
        // The next pass takes the rest.
        let rest = world.run(&["run", "--format", "json"]);
        assert_counts(&rest.exits(0).json(), "export", &[("removed", left)]);
    }
}

#[test]
fn a_stop_in_the_middle_of_a_tree_leaves_the_rest_as_old_as_it_was() {
    let world = World::in_dir(Path::new("/dev/shm"));
    for dir in 0..100 {
        for file in 0..600 {
            world.file(format!("tmp/tree/d{dir}/f{file}"), 20 * DAY);
        }
    }
    world.age_dirs("tmp", 20 * DAY);
    let child = world
        .command(&["run", "--format", "json", "--zones", "tmp", "--jobs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .start()
        .unwrap();
    let start = Instant::now();
    let dirs = || std::fs::read_dir(world.path("tmp/tree")).map_or(0, Iterator::count);
    while dirs() > 95 {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    tool("kill", &["-TERM".as_ref(), child.id().to_string().as_ref()]);
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(3).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1), ("seen", 1)]);
    assert!(report["failures"][0]["message"].as_str().unwrap().contains("next pass"), "{report:#}");
    assert!(dirs() > 0, "it was over before the signal");
    // What is left is as old as before, so the next pass goes on where this one stopped.
    let rest = world.run(&["run", "--format", "json", "--zones", "tmp"]);
    assert_counts(&rest.exits(0).json(), "tmp", &[("removed", 1)]);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    let other = Other::python("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", &path);
    let mut child = world
        .command(&["run", "--lock-wait", "60s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .start()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        tool("kill", &["-TERM".as_ref(), child.id().to_string().as_ref()]);
    }
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(15) || status.code() == Some(3), "{status:?}");
    drop(other);
}

#[test]
fn a_deadline_and_a_number_of_removals_end_the_pass() {
    let world = World::new();
    for number in 0..100 {
        export(&world, number, 2 * DAY);
    }
    for extra in [&["--dry-run"][..], &[]] {
        let args = [&["run", "--format", "json", "--max-removals", "7"], extra].concat();
        let run = world.run(&args);
        let report = run.exits(3).json();
        assert_eq!(report["stopped"], "max_removals");
        assert_counts(&report, "export", &[("removed", 7)]);
    }
    assert_eq!(std::fs::read_dir(world.path("cache/export")).unwrap().count(), 93);
    // A deadline ends the wait for what is busy, too.
    let path = world.path("cache/export").join(export_name(99));
    let other = Other::python("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", &path);
    let start = Instant::now();
    let run = world.run(&["run", "--format", "json", "--deadline", "500ms", "--lock-wait", "60s"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(run.exits(3).json()["stopped"], "deadline");
    drop(other);
}

#[test]
fn an_exporter_that_asks_again_for_an_export_keeps_it() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    // CVAT sets the times of a cached export to now when it is asked for again.
    set_age(&path, 0);
    let report = world.run(&["run", "--format", "json"]);
    assert_counts(&report.exits(0).json(), "export", &[("kept_by.fresh", 1)]);
    // By mtime alone: reading it is no use in the rule's sense.
    crate::world::set_times(&path, 0, 2 * DAY);
    assert_eq!(fate_of(&world, &path, &[]), "removed");
}

#[test]
fn a_growing_events_table_is_spared_even_when_its_mtime_is_old() {
    let world = World::new();
    let path = world.file("cache/export/events-abc.csv", 2 * DAY);
    let other = Other::python("f = open(path, 'a')", &path);
    assert_eq!(fate_of(&world, &path, &[]), "in_use");
    drop(other);
}

#[test]
fn a_reader_of_the_report_that_goes_away_does_not_stop_the_pass() {
    let world = World::new();
    for number in 0..200 {
        export(&world, number, 2 * DAY);
    }
    let mut command = world.command(&["run", "--format", "jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let mut first = [0];
    let mut out = child.stdout.take().unwrap();
    assert_eq!(out.read(&mut first).unwrap(), 1);
    drop(out);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(world.path("cache/export")).unwrap().count(), 0);
}
