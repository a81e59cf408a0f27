//! SIGTERM at every moment of the start of a program: until there is a handler it ends the program, and from then on
//! it ends the pass or the service, even if it comes before the thread is there that receives it.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::{count, export, has_tool, log_beside, send};
use crate::paused::{Moment, Paused};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{DAY, World};

/// A data root with two expired exports, of which one is locked.
fn world() -> (World, File) {
    let world = World::new();
    let held = File::open(export(&world, 1, 2 * DAY)).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    export(&world, 2, 2 * DAY);
    (world, held)
}

/// How many of these calls the first thread of a program has made when it is at work.
fn calls_of(calls: &str, command: &str, args: &[&str]) -> usize {
    let (world, _held) = world();
    let (log, said) = (log_beside(&world), world.root.with_file_name("said"));
    let inner = world.command(&[&[command], args].concat());
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-e", &format!("trace={calls}"), "-o"]).arg(&log);
    strace.arg(inner.get_program()).args(inner.get_args());
    strace.stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let mut child = strace.start().unwrap();
    wait_until("it is at work", || {
        let said = std::fs::read_to_string(&said).unwrap();
        said.contains("serving;") || count(world.path("cache/export")) == 1
    });
    send(&child, Signal::TERM);
    child.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    let first = format!("{} ", child.id());
    log.lines().filter(|line| line.starts_with(&first) && line.contains('(')).count()
}

/// Asserts that a program ends that is told to at each of its first calls, and that has no end of its own.
fn ends_at_every_moment(command: &str, args: &[&str], code: i32) {
    if !has_tool("strace", "a signal at the start") {
        return;
    }
    let mut ended = 0;
    for calls in ["rt_sigaction", "clone,clone3"] {
        for count in 1..=calls_of(calls, command, args) {
            let (world, _held) = world();
            let paused = Paused::of(command, &world, args, 4096, &Moment::of(calls, count));
            let paused = paused.unwrap_or_else(|run| panic!("{count} {calls}: {}", run.stderr));
            paused.send(Signal::TERM);
            let run = paused.ends();
            // None: the signal has ended it.
            let is_right = run.code.is_none_or(|found| found == code);
            assert!(is_right, "{count} {calls}: {:?} {}", run.code, run.stderr);
            ended += usize::from(run.code.is_some());
        }
    }
    assert!(ended > 1, "{command} was told to end {ended} times when it could");
}

#[test]
fn a_run_that_is_told_to_end_at_any_moment_of_its_start_ends() {
    ends_at_every_moment("run", &["--lock-wait", "10m"], 3);
}

#[test]
fn a_service_that_is_told_to_end_at_any_moment_of_its_start_ends() {
    let far = ["--schedule", "export=0 0 1 1 *", "--schedule", "tmp=0 0 1 1 *"];
    ends_at_every_moment("serve", &far, 0);
}
