//! Files that another process has open or locked are skipped, alone or in a tree.

use std::process::Command;

use super::{Other, export, outcome_of};
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, can_be_root};

#[test]
fn a_file_that_another_process_uses_in_any_way_is_skipped() {
    let world = World::new();
    let path = export(&world, 1, 2 * DAY);
    for (what, script, reason) in [
        ("flock", "f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", "locked"),
        ("shared flock", "f = open(path); fcntl.flock(f, fcntl.LOCK_SH)", "locked"),
        ("fcntl lock", "f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)", "locked"),
        ("reading", "f = open(path)", "in_use"),
        ("writing", "f = os.open(path, os.O_WRONLY)", "in_use"),
        (
            "mapped only",
            "f = open(path); m = mmap.mmap(f.fileno(), 4, prot=mmap.PROT_READ); f.close()",
            "in_use",
        ),
    ] {
        let other = Other::python(script, &path);
        assert_eq!(outcome_of(&world, &path, &[]), reason, "{what}");
        assert_eq!(outcome_of(&world, &path, &["--dry-run"]), reason, "{what}, dry run");
        drop(other);
    }
    assert_eq!(outcome_of(&world, &path, &["--dry-run"]), "removed", "no process uses it");
    assert_eq!(outcome_of(&world, &path, &[]), "removed", "no process uses it");
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
        assert_eq!(outcome_of(&world, &path, args), "removed", "{args:?}");
        drop(other);
    }
}

#[test]
fn one_file_in_use_protects_the_whole_tree() {
    let world = World::new();
    for number in 0..100 {
        world.file(format!("tmp/tree/a/b/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let tree = world.path("tmp/tree");
    let file = world.path("tmp/tree/a/b/file-77");
    for (script, reason) in [
        ("f = open(path)", "in_use"),
        ("f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)", "locked"),
        ("f = open(path); fcntl.flock(f, fcntl.LOCK_EX)", "in_use"),
    ] {
        let other = Other::python(script, &file);
        let before = world.snapshot();
        assert_eq!(outcome_of(&world, &tree, &[]), reason, "{script}");
        assert_eq!(world.snapshot(), before, "{script}");
        drop(other);
    }
    // A lock on the top directory itself.
    let other =
        Other::python("f = os.open(path, os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX)", &tree);
    assert_eq!(outcome_of(&world, &tree, &[]), "locked");
    drop(other);
    assert_eq!(outcome_of(&world, &tree, &[]), "removed");
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
    command.arg("exec 3< \"$0\"; echo ready; exec sleep 600").arg(&path);
    let other = Other::ready(command);
    assert_eq!(outcome_of(&world, &path, &[]), "in_use");
    drop(other);
    // What runs in the namespace ends a moment after its parent.
    wait_until("the file is closed", || outcome_of(&world, &path, &["--dry-run"]) == "removed");
}

#[test]
fn a_growing_events_table_is_skipped_even_when_its_mtime_is_old() {
    let world = World::new();
    let path = world.file("cache/export/events-abc.csv", 2 * DAY);
    let other = Other::python("f = open(path, 'a')", &path);
    assert_eq!(outcome_of(&world, &path, &[]), "in_use");
    drop(other);
}

/// A pass over exports under strace, with these options of it.
fn traced(world: &World, options: &[&str]) -> Run {
    let inner = world.command(&["run", "--zones", "export", "--jobs", "1", "--lock", "flock"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(world.root.with_file_name("calls")).args(options);
    command.arg(inner.get_program()).args(inner.get_args());
    Run::of(command)
}

/// The number of the call that asks for a lease first, among those of its thread.
fn first_question() -> usize {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    traced(&world, &["-e", "trace=fcntl"]).exits(0);
    let log = std::fs::read_to_string(world.root.with_file_name("calls")).unwrap();
    let asks = log.lines().position(|line| line.contains("F_SETLEASE, F_WRLCK")).unwrap();
    let thread = |line: &str| line.split(' ').next().unwrap().to_owned();
    let asking = thread(log.lines().nth(asks).unwrap());
    log.lines().take(asks + 1).filter(|line| thread(line) == asking).count()
}

/// The kernel may be short of memory when it is asked. That is not the answer of a file system without leases.
#[test]
fn a_file_of_which_the_kernel_cannot_say_for_the_moment_whether_it_is_in_use_is_not_removed() {
    if !crate::interrupted::has_strace() {
        return;
    }
    let first = first_question();
    let errors = [("ENOMEM", false), ("EIO", false), ("EINTR", false), ("EINVAL", true)];
    for (error, is_removed) in errors {
        let world = World::new();
        let path = export(&world, 1, 2 * DAY);
        let _reader = std::fs::File::open(&path).unwrap();
        let run = traced(&world, &["-e", &format!("inject=fcntl:error={error}:when={first}+")]);
        run.exits(0);
        assert_eq!(!path.exists(), is_removed, "{error}: {}{}", run.stdout, run.stderr);
    }
}
