//! Wrong usage, and a measurement that is stopped.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::volume;
use crate::company::{has_tool, log_beside, send};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{Run, World, sweeper};

#[test]
fn the_data_root_and_settings_are_checked_as_by_other_commands() {
    let world = World::new();
    let none = world.path("none");
    let run = |args: &[&str]| Run::of(sweeper(args));
    let none = none.to_str().unwrap();
    for (args, word) in [
        (&["usage", "--data", none][..], "cannot open the data root"),
        (&["usage", "--data", "/usr"], "is refused"),
        (&["usage", "--data", "/tmp/..", "--ttl", "5"], "needs a unit"),
        // It takes no lock and removes nothing, so these would have no effect.
        (&["usage", "--lock", "none"], "unexpected argument"),
        (&["usage", "--dry-run"], "unexpected argument"),
        (&["usage", "--format", "jsonl"], "jsonl"),
    ] {
        let run = run(args);
        assert!(run.exits(2).stderr.contains(word), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
    }
    let mut by_variable = sweeper(&["usage", "--format", "json"]);
    by_variable.env("SWEEPER_DATA", &world.root);
    let usage = Run::of(by_variable).exits(0).json();
    assert_eq!(usage["data_root"], world.root.to_str().unwrap());
}

#[test]
fn a_measurement_that_is_stopped_says_so() {
    if !has_tool("strace", "a measurement that gets a signal") {
        return;
    }
    let world = volume(40);
    let log = log_beside(&world);
    // Each listing takes a while, so the signal comes long before the end.
    let stopped = |args: &[&str]| {
        let command = world.command(args);
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-e", "trace=getdents64"]);
        strace.args(["-e", "inject=getdents64:delay_enter=100000", "-o"]).arg(&log);
        strace.arg(command.get_program()).args(command.get_args()).env_clear();
        strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let _ = std::fs::remove_file(&log);
        let child = strace.start().unwrap();
        // The program lists other directories when it starts, with larger buffers.
        let has_begun = || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.matches(", 16384)").count() > 2
        };
        wait_until("the second directory", has_begun);
        send(&child, Signal::TERM);
        Run::from(child.wait_with_output().unwrap())
    };
    let usage = stopped(&["usage", "--jobs", "1", "--format", "json"]).exits(3).json();
    assert_eq!((&usage["stopped"], &usage["exit"]), (&"signal".into(), &3.into()));
    let whole = super::measured(&world, &[]);
    assert!(usage["totals"]["inodes"].as_u64() < whole["totals"]["inodes"].as_u64());
    let run = stopped(&["usage", "--jobs", "1"]);
    let text = &run.exits(3).stdout;
    assert!(text.contains("stopped by a signal: these numbers are not complete"), "{text}");
}
