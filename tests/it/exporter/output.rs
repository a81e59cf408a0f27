//! No lock is held while something is printed: a reader that has stopped reading holds up the sweeper, and
//! nothing else.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::export;
use super::server::Redis;
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{NOW, World, export_name, sweeper};

/// A program whose output is not read, and that waits for that.
struct Stalled(Child);

impl Stalled {
    fn start(mut command: Command) -> Self {
        Self::waiting(command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap())
    }

    fn waiting(child: Child) -> Self {
        let id = child.id();
        // One of its threads is in write(2), number 1 on x86-64 and 64 on others, and stays there.
        let is_writing = || {
            let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
            let mut calls = tasks.flatten().map(|task| {
                let call = std::fs::read_to_string(task.path().join("syscall"));
                let call = call.unwrap_or_default();
                let number = if cfg!(target_arch = "x86_64") { "1 " } else { "64 " };
                call.starts_with(&format!("{number}0x1 "))
                    || call.starts_with(&format!("{number}0x2 "))
            });
            calls.any(|is_write| is_write)
        };
        let mut times = 0;
        wait_until("it waits for its reader", || {
            times = if is_writing() { times + 1 } else { 0 };
            times > 100
        });
        Self(child)
    }

    /// The locks and leases that it holds on files in a directory, as the kernel says: `/proc/locks`.
    fn holds(&self, dir: &Path) -> Vec<String> {
        let files = std::fs::read_dir(dir).unwrap();
        let inodes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().ino()).collect();
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let ours = format!(" {} ", self.0.id());
        let is_here = |line: &&str| {
            line.contains(&ours) && inodes.iter().any(|ino| line.contains(&format!(":{ino} ")))
        };
        locks.lines().filter(is_here).map(str::to_owned).collect()
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn world() -> World {
    let world = World::in_dir(Path::new("/dev/shm"));
    for number in 0..3000 {
        export(&world, number);
    }
    world
}

/// Asserts that nothing is locked while the program waits for its reader.
#[track_caller]
fn assert_nothing_is_held(command: Command, redis: &Redis, world: &World, what: &str) {
    let stalled = Stalled::start(command);
    // The server handles a release at its own time.
    wait_until("every lock is released", || redis.keys().is_empty());
    assert_eq!(stalled.holds(&world.path("cache/export")), Vec::<String>::new(), "{what}");
    let left = world.path("cache/export").join(export_name(2999));
    let file = std::fs::File::open(&left);
    assert!(file.is_err() || fs2::FileExt::try_lock_exclusive(&file.unwrap()).is_ok(), "{what}");
}

#[test]
fn a_pass_whose_report_is_not_read_holds_no_lock_of_an_entry() {
    let Some(redis) = Redis::start(&[]) else { return };
    for args in [
        &["--format", "jsonl"][..],
        &["--format", "jsonl", "--dry-run"],
        &["--format", "json", "-v", "--jobs", "1"],
        &["--format", "json", "-v", "--jobs", "4"],
        // With a count before the pass, and an audit log.
        &["--format", "jsonl", "--max-removals", "3000"],
    ] {
        let world = world();
        let mut command = world.command(&[&["run", "--zones", "export"], args].concat());
        command
            .args(["--lock-ttl", "12h", "--redis", &redis.url(), "--cvat-data"])
            .arg(&world.root);
        if args.contains(&"--max-removals") {
            command.arg("--audit-log").arg(world.root.parent().unwrap().join("audit.log"));
        }
        assert_nothing_is_held(command, &redis, &world, &args.join(" "));
    }
}

#[test]
fn why_that_is_not_read_holds_no_lock() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = world();
    let mut why = sweeper(&["why", "--redis", &redis.url(), "--now", NOW, "--lock-ttl", "12h"]);
    why.arg("--cvat-data");
    why.arg(&world.root).arg("--data").arg(&world.root);
    why.args((0..3000).map(|number| world.path("cache/export").join(export_name(number))));
    assert_nothing_is_held(why, &redis, &world, "why");
}

#[test]
fn a_pass_whose_last_report_is_not_read_keeps_no_other_sweeper_out() {
    let world = World::new();
    export(&world, 1);
    // A pipe that takes nothing more.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    // With a guard that stops it, it removes nothing.
    for (guard, is_there) in [(&["--max-removals", "0"][..], true), (&[], false)] {
        let mut command = world.command(&[&["run", "--zones", "export"], guard].concat());
        command.stdout(writer.try_clone().unwrap()).stderr(Stdio::null());
        let stalled = Stalled::waiting(command.start().unwrap());
        let is_left = world.has(Path::new("cache/export").join(export_name(1)));
        assert_eq!(is_left, is_there, "it is done but for its report");
        // It would exit with 4 and leave the zone alone.
        world.run(&["run", "--zones", "export", "--exclude", "*.zip"]).exits(0);
        drop(stalled);
    }
}
