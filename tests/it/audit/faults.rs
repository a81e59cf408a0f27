//! What cannot be written down is not removed, and a pass that is killed leaves no removal out of the log.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{command, entries, export, lines, log_of, paths, traced, world};
use crate::world::{DAY, Run, World, can_be_root, fifo, tool};

/// Asserts that everything that is gone since `before` has a line. Half a line at the end is that of a process
/// that was killed before it removed anything of it.
#[track_caller]
fn assert_all_written(world: &World, before: &BTreeSet<PathBuf>, when: &str) {
    let text = fs::read_to_string(log_of(world)).unwrap_or_default();
    let mut whole: Vec<serde_json::Value> = Vec::new();
    for line in text.lines() {
        whole.extend(serde_json::from_str::<serde_json::Value>(line));
    }
    let written = paths(&whole, "remove");
    for path in before.difference(&entries(world)) {
        assert!(written.contains(path), "{when}: {path:?} is gone without a line\n{text}");
    }
}

#[test]
fn a_pass_that_is_killed_at_any_call_has_written_down_all_that_it_removed() {
    let mut killed = 0;
    for call in ["unlinkat", "renameat2", "fdatasync", "write", "flock"] {
        for when in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
            let world = world();
            let before = entries(&world);
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let pass = traced(&world, &["-e", &inject], &["--jobs", "2"]);
            let run = Run::of(pass);
            killed += usize::from(run.code != Some(0));
            let what = format!("killed at {call} {when}");
            assert_all_written(&world, &before, &what);
            // The next pass completes what was begun, and writes that down as well.
            Run::of(command(&world, &[])).exits(0);
            assert_all_written(&world, &before, &what);
            assert!(!world.has("tmp/tree-3") && !world.has(export(3)), "{what}");
            assert!(world.has("tmp/fresh-inside/sub/file") && world.has(export(100)), "{what}");
        }
    }
    assert!(killed > 20, "{killed} passes were killed");
}

/// A tree whose removal was killed between two files, without a log.
fn killed_between_two_files() -> World {
    let world = World::new();
    for file in ["a", "sub/b", "sub/c"] {
        world.file(format!("tmp/tree/{file}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let inner = world.command(&["run", "--jobs", "1"]);
    let mut pass = std::process::Command::new("strace");
    pass.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:signal=KILL:when=2"]);
    pass.arg(inner.get_program()).args(inner.get_args());
    Run::of(pass);
    world
}

#[test]
fn a_removal_that_is_completed_by_the_next_pass_is_written_down_by_it() {
    let world = killed_between_two_files();
    assert!(!world.has("tmp/tree"));
    Run::of(command(&world, &[])).exits(0);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    let lines = lines(&log_of(&world));
    assert_eq!(paths(&lines, "remove"), BTreeSet::from([world.path("tmp/tree")]));
    assert_eq!(lines[0]["rule"]["ttl_s"], 14 * DAY);
}

#[test]
fn a_removal_that_was_begun_is_not_completed_without_its_line() {
    let world = killed_between_two_files();
    let files = || {
        let all = world.snapshot().into_keys();
        let names = all.filter_map(|path| path.file_name().map(ToOwned::to_owned));
        names.filter(|name| ["a", "b", "c"].map(Into::into).contains(name)).count()
    };
    let left = files();
    assert!(left > 0, "something is left to be completed");
    let pass = traced(&world, &["-e", "inject=fdatasync:error=ENOSPC"], &["--jobs", "1"]);
    let report = Run::of(pass).exits(3).json();
    assert_eq!(report["stopped"], "audit_log", "{report:#}");
    assert_eq!(report["failures"][0]["action"], "write_audit_log", "{report:#}");
    assert_eq!(files(), left);
    Run::of(command(&world, &[])).exits(0);
    assert_eq!(files(), 0);
}

#[test]
fn a_log_that_refuses_the_first_line_keeps_everything() {
    for (call, error) in [("fdatasync", "ENOSPC"), ("fdatasync", "EIO"), ("write", "ENOSPC")] {
        let world = world();
        let before = world.snapshot();
        // A report is written too, but only at the end, and the first write is that of the log.
        let inject = format!("inject={call}:error={error}:when=1");
        let pass = traced(&world, &["-e", &inject], &["--jobs", "1"]);
        let run = Run::of(pass);
        let report = run.exits(3).json();
        assert_eq!(report["stopped"], "audit_log", "{report:#}");
        assert_eq!(report["totals"]["removed"], 0);
        assert_eq!(report["totals"]["failed"], 1, "{report:#}");
        let failure = &report["failures"][0];
        assert_eq!(
            (&failure["action"], &failure["errno"]),
            (&"write_audit_log".into(), &error.into())
        );
        assert_eq!(failure["path"], log_of(&world).to_str().unwrap());
        assert!(failure["message"].as_str().unwrap().contains("is not removed"), "{failure}");
        assert_eq!(world.snapshot(), before, "{call} {error}");
        if call == "write" {
            assert_eq!(fs::read(log_of(&world)).unwrap(), b"", "no line of what stays");
        }
    }
}

#[test]
fn a_full_disk_ends_the_pass_and_nothing_goes_without_a_line() {
    if !can_be_root("a full disk for the audit log") {
        return;
    }
    let world = World::new();
    for number in 0..3000 {
        world.file(export(number), 2 * DAY);
    }
    let before = entries(&world);
    let small = world.root.parent().unwrap().join("small");
    fs::create_dir(&small).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", small.to_str().unwrap()];
    tool("mount", &mount.map(AsRef::as_ref));
    let log = small.join("audit.log");
    // With two, one may have written down what the other's failure keeps it from removing.
    let one = ["run", "--jobs", "1", "--format", "json", "--audit-log", log.to_str().unwrap()];
    let run = world.run(&one);
    let gone: BTreeSet<PathBuf> = before.difference(&entries(&world)).cloned().collect();
    let written = paths(&lines(&log), "remove");
    // A program that another test starts at this moment may have a copy of our descriptor for an instant.
    tool("umount", &["-l".as_ref(), small.as_ref()]);
    let report = run.exits(3).json();
    assert_eq!(report["stopped"], "audit_log", "{report:#}");
    assert_eq!(report["failures"][0]["errno"], "ENOSPC", "{report:#}");
    assert!(!gone.is_empty() && gone.len() < 3000, "{} are gone", gone.len());
    assert_eq!(written, gone, "neither more nor less");
    assert_eq!(report["totals"]["removed"], gone.len());
}

/// As if the disk was full, and not the end of the process by a signal.
#[test]
fn a_log_that_reaches_the_limit_on_the_size_of_files_ends_the_pass_with_its_report() {
    let world = World::new();
    for number in 0..100 {
        world.file(export(number), 2 * DAY);
    }
    let before = entries(&world);
    let inner = command(&world, &[]);
    let mut limited = std::process::Command::new("/bin/sh");
    limited.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""]);
    limited.arg(inner.get_program()).args(inner.get_args());
    let report = Run::of(limited).exits(3).json();
    assert_eq!(report["failures"][0]["errno"], "EFBIG", "{report:#}");
    assert_all_written(&world, &before, "a limit on the size of files");
}

#[test]
fn an_entry_that_stays_after_all_gets_a_second_line() {
    for (call, error, name) in [("unlinkat", "EBUSY", "file"), ("renameat2", "ENOENT", "tree")] {
        let world = World::new();
        if name == "file" {
            world.file("tmp/file", 20 * DAY);
        } else {
            world.file("tmp/tree/file", 20 * DAY);
            world.age_dirs("tmp", 20 * DAY);
        }
        let inject = format!("inject={call}:error={error}");
        Run::of(traced(&world, &["-e", &inject], &["--jobs", "1"]));
        let lines = lines(&log_of(&world));
        let path = BTreeSet::from([world.path("tmp").join(name)]);
        assert_eq!((lines.len(), paths(&lines, "remove")), (2, path.clone()), "{lines:?}");
        assert_eq!(paths(&lines, "not_removed"), path);
        assert!(!lines[1]["reason"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_log_that_is_no_plain_file_or_lies_in_a_zone_is_refused_before_anything_is_done() {
    let world = world();
    let beside = |name: &str| world.root.parent().unwrap().join(name);
    fs::write(beside("file"), "").unwrap();
    std::os::unix::fs::symlink(beside("file"), beside("link")).unwrap();
    fs::create_dir(beside("dir")).unwrap();
    fifo(&beside("fifo"), 0);
    let before = world.snapshot();
    for (path, words) in [
        (beside("link"), "not a regular file"),
        (beside("dir"), "it is a directory: name a file"),
        (beside("fifo"), "not a regular file"),
        ("/dev/full".into(), "not a regular file"),
        (beside("none/log"), "No such file"),
        (world.path("tmp/audit.log"), "in a directory of zone \"tmp\""),
        (world.path("cache/export/../export/log"), "in a directory of zone \"export\""),
    ] {
        for dry in [&[][..], &["--dry-run"]] {
            let args = [&["run", "--audit-log", path.to_str().unwrap()], dry].concat();
            let run = world.run(&args);
            if dry.is_empty() || words.contains("zone") {
                assert!(run.exits(2).stderr.contains(words), "{path:?}: {}", run.stderr);
            }
            assert_eq!(world.snapshot(), before, "{path:?}");
        }
    }
    assert_eq!(fs::read(Path::new(&beside("file"))).unwrap(), b"");
}
