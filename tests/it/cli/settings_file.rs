//! Settings and lists from pipes: read once, honored, and no obstacle for a signal.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::start::Start;
use crate::wait::LIMIT;
use crate::world::{DAY, Run, World, assert_counts, fifo};

const SETTINGS: &[u8] = b"dry_run = true\nformat = 'json'\n";

/// Waits for the end of a program that may hang if it opens its settings a second time.
fn end_of(mut child: Child) -> Run {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("the settings file was opened a second time");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Run::from(child.wait_with_output().unwrap())
}

fn started(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
}

/// A data root with one expired entry of each zone.
fn world() -> World {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    world.file("projects/1/export_cache/old.zip", 20 * DAY);
    world.age_dirs("", 20 * DAY);
    world
}

#[track_caller]
fn assert_dry(run: &Run, world: &World, zone: &str) {
    let report = run.exits(0).json();
    assert_eq!(report["dry_run"], true);
    assert_counts(&report, zone, &[("removed", 1)]);
    assert!(world.has("tmp/old") && world.has("projects/1/export_cache/old.zip"));
}

#[test]
fn settings_from_stdin_are_read_once_and_honored() {
    let world = world();
    for (name, zone) in [("run", "tmp"), ("legacy", "legacy")] {
        let mut command = world.command(&[name, "--config", "/dev/stdin"]);
        command.stdin(Stdio::piped());
        let mut child = started(command);
        child.stdin.take().unwrap().write_all(SETTINGS).unwrap();
        assert_dry(&end_of(child), &world, zone);
    }
}

#[test]
fn settings_from_a_fifo_are_read_once_and_honored() {
    let world = world();
    let path = world.root.parent().unwrap().join("settings");
    fifo(&path, 0);
    for (name, zone) in [("run", "tmp"), ("legacy", "legacy")] {
        let mut command = world.command(&[name]);
        command.env("SWEEPER_CONFIG", &path);
        let mut child = started(command);
        write_once(&path, &mut child);
        assert_dry(&end_of(child), &world, zone);
    }
}

/// Waits until a program has installed its handler of SIGTERM.
fn wait_for_handler(child: &mut Child) {
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught & (1 << (Signal::TERM.as_raw() - 1)) != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_list_from_a_fifo_without_a_writer_does_not_keep_a_signal_waiting() {
    let world = world();
    let list = world.root.parent().unwrap().join("list");
    fifo(&list, 0);
    for (name, zone) in [("run", "tmp"), ("legacy", "legacy")] {
        let mut child =
            started(world.command(&[name, "--format", "json", "--from0", list.to_str().unwrap()]));
        wait_for_handler(&mut child);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let report = end_of(child).exits(3).json();
        assert_eq!(report["stopped"], "signal");
        assert_counts(&report, zone, &[("seen", 0)]);
    }
    // With a writer it is read.
    let child =
        started(world.command(&["run", "--format", "json", "--from0", list.to_str().unwrap()]));
    std::fs::write(&list, b"tmp/old\0").unwrap();
    assert_counts(&end_of(child).exits(0).json(), "tmp", &[("removed", 1)]);
}

#[test]
fn settings_from_a_fifo_without_a_writer_do_not_keep_a_signal_waiting() {
    let world = world();
    let path = world.root.parent().unwrap().join("settings");
    fifo(&path, 0);
    for name in ["run", "serve", "config", "why"] {
        let mut command = world.command(&[name, "--config", path.to_str().unwrap()]);
        if name == "why" {
            command.arg("/data/tmp/x");
        }
        if name == "config" {
            command = crate::world::sweeper(&["config", "--config", path.to_str().unwrap()]);
        }
        let child = started(command);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(end_of(child).code, None, "{name} was ended by the signal");
    }
}

/// Opens a FIFO when its reader has, and writes the settings into it.
fn write_once(path: &Path, reader: &mut Child) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let writer = loop {
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(writer) => break writer,
            Err(error) => assert_eq!(error, Errno::NXIO, "only because it has no reader yet"),
        }
        assert!(reader.try_wait().unwrap().is_none(), "it ended without its settings");
        std::thread::sleep(Duration::from_millis(1));
    };
    std::fs::File::from(writer).write_all(SETTINGS).unwrap();
}
