//! A tree is removed under leases on its files.

use std::process::Command;

use rustix::process::Signal;

use super::tree;
use crate::world::{DAY, Run, World, sweeper};

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
