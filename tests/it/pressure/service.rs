//! Relief by a service: it does not wait for the next scheduled pass.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::process::Signal;

use super::disk::Disk;
use crate::company::{count, send};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{HOUR, World, can_be_root, export_name};

const MIB: u64 = 1 << 20;

#[test]
fn a_service_relieves_a_full_disk_at_once_and_not_only_on_its_schedule() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    for number in 0..20 {
        let path = Path::new("cache/export").join(export_name(number));
        disk.file(path, 2 * HOUR + i64::from(number), MIB);
    }
    let (used, all) = disk.bytes();
    let free = format!("{}B", all - used + 5 * MIB);
    // Its next pass is due in a year.
    let args = ["serve", "--every", "365d", "--keep-free", &free, "--format", "jsonl"];
    let mut command = disk.world.command(&args);
    let mut service = command.stdout(Stdio::piped()).stderr(Stdio::null()).start().unwrap();
    let lines = BufReader::new(service.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut summary = lines.filter(|line| line.contains("\"pressure\":["));
    assert!(summary.next().unwrap().contains("\"relieved\""));
    assert_eq!(count(disk.world.path("cache/export")), 15);
    send(&service, Signal::TERM);
    wait_until("the service ends", || service.try_wait().unwrap().is_some());
}

/// A zone that is locked is tried again every second. Each of these passes once relieved the disk in vain.
#[test]
fn a_zone_that_is_locked_does_not_repeat_a_relief_that_was_in_vain() {
    let world = World::new();
    let young = world.file(Path::new("cache/export").join(export_name(1)), 0);
    let lock = File::open(world.path("tmp")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let disk = statvfs(&world.root).unwrap();
    let nearly_all = (disk.f_blocks - disk.f_bfree + disk.f_bavail - 1) * disk.f_frsize;
    let free = format!("{nearly_all}B");
    let args = ["serve", "--every", "365d", "--keep-free", &free, "--format", "jsonl"];
    let mut command = world.command(&[&args[..], &["--pressure-zones", "tmp"]].concat());
    let mut service = command.stdout(Stdio::piped()).stderr(Stdio::null()).start().unwrap();
    let lines = BufReader::new(service.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut summaries = lines.filter(|line| line.contains("\"zones\":["));
    let first = summaries.next().unwrap();
    assert!(first.contains("\"zone\":\"export\"") && first.contains("\"nothing_left\""), "{first}");
    // Enough for a few attempts. On a slow machine there may be none, and then the old fault is not seen.
    std::thread::sleep(Duration::from_secs(3));
    drop(lock);
    let next = summaries.next().unwrap();
    assert!(next.contains("\"zone\":\"tmp\""), "{next}");
    // The exports are not looked at, and nothing else is removed early out of turn.
    assert!(!next.contains("\"export\"") && !next.contains("\"pressure\""), "{next}");
    assert!(young.exists());
    send(&service, Signal::TERM);
    wait_until("the service ends", || service.try_wait().unwrap().is_some());
}
