//! Space that never comes back: the relief ends in time, says why, and leaves the cache.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use super::disk::{Disk, is_above};
use crate::wait::wait_until;
use crate::world::{HOUR, Run, can_be_root, export_name, tool};

const MARKS: [&str; 6] = ["run", "--format", "json", "--pressure", "70%", "--relieve"];
const FILES: u32 = 200;

/// A disk that is full of exports, and its exports, the oldest first.
fn full(mkfs: &str, megabytes: u64, percent: u64) -> (Disk, Vec<std::path::PathBuf>) {
    let disk = Disk::new(mkfs, &["-q"], megabytes);
    disk.fill(percent / 4);
    let (used, all) = disk.bytes();
    let each = (all * percent / 100 - used) / u64::from(FILES);
    let paths = (0..FILES).map(|number| {
        let age = 2 * HOUR + i64::from(FILES - number);
        disk.file(Path::new("cache/export").join(export_name(number)), age, each)
    });
    let paths = paths.collect();
    (disk, paths)
}

/// Not relieved, with the reason, after a small part of the cache.
fn ends_with_a_reason(run: &Run, paths: &[std::path::PathBuf]) {
    let report = run.exits(1).json();
    let relief = &report["pressure"][0];
    assert_eq!(relief["state"], "not_freed", "{report:#}");
    let message = relief["message"].as_str().unwrap();
    for words in [
        "not relieved to 50%",
        "still not free after 10 s",
        "a process may have",
        "a snapshot or a clone may hold",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert!(relief["missing"]["bytes"].as_u64().unwrap() > 0, "{report:#}");
    let left = paths.iter().filter(|path| path.exists()).count();
    let gone = FILES as usize - left;
    assert_eq!(relief["removed"].as_u64(), Some(gone as u64));
    assert!(gone > 0 && gone < FILES as usize / 8, "{gone} are gone: {report:#}");
    assert!(paths.iter().take(gone).all(|path| !path.exists()), "the oldest");
}

#[test]
fn files_that_a_process_holds_open_end_the_relief_and_leave_the_cache() {
    if !can_be_root("a loop-mounted ext4 whose files are held open") {
        return;
    }
    let (disk, paths) = full("mkfs.ext4", 256, 93);
    let held: Vec<File> = paths.iter().map(|path| File::open(path).unwrap()).collect();
    let usage = disk.world.run(&["usage"]);
    let data = disk.world.root.display();
    let advice = format!(
        "`sweeper run --pressure 85% --dry-run --data {data}` shows which exports would be"
    );
    assert!(usage.exits(0).stdout.contains(&advice), "{}", usage.stdout);
    // They are skipped as long as that is asked.
    let skipped = disk.world.run(&[&MARKS[..], &["50%"]].concat());
    let report = skipped.exits(1).json();
    assert_eq!(report["pressure"][0]["state"], "nothing_left", "{report:#}");
    assert_eq!(report["pressure"][0]["in_the_way"]["skipped_by"]["in_use"], FILES);
    assert_eq!(report["totals"]["removed"], 0);
    let run = disk.world.run(&[&MARKS[..], &["50%", "--in-use", "ignore"]].concat());
    ends_with_a_reason(&run, &paths);
    drop(held);
    wait_until("the disk is relieved", || {
        let run = disk.world.run(&[&MARKS[..], &["50%"]].concat());
        run.code == Some(0) && run.json()["pressure"][0]["state"] == "relieved"
    });
}

#[test]
fn files_in_a_snapshot_end_the_relief_and_leave_the_cache() {
    if !can_be_root("a loop-mounted btrfs with a snapshot") {
        return;
    }
    let (disk, paths) = full("mkfs.btrfs", 320, 78);
    let args = ["subvolume", "snapshot", "-r"].map(OsStr::new);
    let (mount, snapshot) = (disk.mount(), disk.mount().join("snapshot"));
    tool("btrfs", &[&args[..], &[mount.as_os_str(), snapshot.as_os_str()]].concat());
    let run = disk.world.run(&[&MARKS[..], &["50%"]].concat());
    ends_with_a_reason(&run, &paths);
}

#[test]
fn a_file_system_that_frees_space_when_it_commits_is_waited_for() {
    if !can_be_root("a loop-mounted btrfs") {
        return;
    }
    let (disk, paths) = full("mkfs.btrfs", 320, 78);
    disk.relieved(&[&MARKS[..], &["50%"]].concat());
    let (used, all) = disk.bytes();
    let left = paths.iter().filter(|path| path.exists()).count();
    assert!(!is_above(used, all, 50) && is_above(used, all, 45), "{used} of {all}, {left} left");
}

#[test]
fn files_with_another_name_stay_because_nothing_would_be_free() {
    if !can_be_root("a loop-mounted ext4 whose files have two names") {
        return;
    }
    let (disk, paths) = full("mkfs.ext4", 128, 93);
    let other = disk.mount().join("backup");
    std::fs::create_dir(&other).unwrap();
    for (number, path) in paths.iter().enumerate() {
        std::fs::hard_link(path, other.join(number.to_string())).unwrap();
    }
    for words in [&["50%"][..], &["50%", "--dry-run"]] {
        let report = disk.world.run(&[&MARKS[..], words].concat()).exits(1).json();
        let relief = &report["pressure"][0];
        assert_eq!(relief["state"], "nothing_left", "{report:#}");
        assert_eq!(
            (&relief["removed"], &relief["in_the_way"]["linked"]),
            (&0.into(), &FILES.into())
        );
        assert!(paths.iter().all(|path| path.exists()));
    }
}

#[test]
fn more_than_a_file_system_has_is_never_kept_free() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let (disk, paths) = full("mkfs.ext4", 128, 50);
    let report = disk.world.run(&["run", "--format", "json", "--keep-free", "50GiB"]);
    let report = report.exits(1).json();
    assert_eq!(report["pressure"][0]["state"], "too_much", "{report:#}");
    assert!(paths.iter().all(|path| path.exists()), "{report:#}");
}

#[test]
fn what_is_on_another_disk_stays() {
    if !can_be_root("two loop-mounted ext4") {
        return;
    }
    let (disk, _) = full("mkfs.ext4", 128, 93);
    let (other, _) = full("mkfs.ext4", 64, 30);
    let tasks = disk.world.path("tasks");
    std::fs::create_dir_all(&tasks).unwrap();
    tool("mount", &["--bind".as_ref(), other.mount().as_ref(), tasks.as_ref()]);
    let inside = disk.file("tasks/7/tmp/x", 30 * HOUR, 1 << 20);
    let words = ["60%", "--zones", "export,tmp,instance-tmp", "--pressure-zones", "instance-tmp"];
    let run = disk.world.run(&[&MARKS[..], &words].concat());
    let stays = inside.exists();
    tool("umount", &[tasks.as_ref()]);
    assert!(stays, "{}", run.stdout);
    assert_eq!(run.exits(0).json()["pressure"][0]["state"], "relieved", "{}", run.stdout);
}
