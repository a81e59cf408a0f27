//! Long lists, slow lists.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use super::lists::swept_from_list;
use crate::company::send;
use crate::start::Start;
use crate::wait::{AT_ONCE, wait_until};
use crate::world::{DAY, Run, World, export_name};

#[test]
fn a_long_list_is_read_in_rounds() {
    let world = World::new();
    let mut list = Vec::new();
    for number in 0..40_000 {
        list.extend_from_slice(format!("cache/export/{}\0", export_name(number)).as_bytes());
    }
    for number in [0, 20_000, 39_999] {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    assert!(list.len() > 2 << 20, "several rounds");
    let run = swept_from_list(&world, &list, &["--jobs", "2", "--lock", "flock"]);
    let report = run.exits(0).json();
    assert_eq!(report["totals"]["removed"], 3);
    assert_eq!(report["totals"]["skipped"], 40_000 - 3, "gone");
}

/// As `find` prints a single path without `-print0`.
#[test]
fn a_list_of_one_line_is_no_path_that_is_gone() {
    let world = World::new();
    let path = world.file("tmp/old", 20 * DAY);
    let run = swept_from_list(&world, b"tmp/old\n", &[]);
    let report = run.exits(1).json();
    let message = report["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains("paths must end with NUL, as with find -print0"), "{message}");
    assert!(path.exists());
    swept_from_list(&world, b"tmp/old", &[]).exits(0);
    assert!(!path.exists());
}

#[test]
fn a_writer_that_sends_nothing_does_not_keep_a_pass_from_stopping() {
    let world = World::new();
    let path = world.file("tmp/old", 20 * DAY);
    // The list does not end, and its first round is not complete.
    let mut command = world.command(&["run", "--from0", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).start().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"tmp/old\0tmp/o").unwrap();
    wait_until("it is read", || rustix::io::ioctl_fionread(&input).unwrap() == 0);
    let start = Instant::now();
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert!(path.exists(), "it is in no complete round");
    drop(input);
}

#[test]
fn a_million_listed_paths_are_not_held_in_memory() {
    let world = World::in_dir(Path::new("/dev/shm"));
    world.file("tmp/only-one", 20 * DAY);
    let inner = world.command(&["run", "--format", "json", "--from0", "-"]);
    let mut command = Command::new("/usr/bin/time");
    command.arg("-v").arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).start().unwrap();
    let mut to = std::io::BufWriter::new(child.stdin.take().unwrap());
    for number in 0..1_000_000 {
        write!(to, "tmp/not-there-{number}-{}\0", export_name(number)).unwrap();
    }
    write!(to, "tmp/only-one\0").unwrap();
    drop(to);
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(0).json();
    assert_eq!(report["totals"]["removed"], 1);
    assert_eq!(report["totals"]["skipped"], 1_000_000);
    let line = run.stderr.lines().find(|line| line.contains("Maximum resident")).unwrap();
    let peak: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(peak < 32 * 1024, "{peak} KiB");
}
