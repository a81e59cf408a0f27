//! Relief from other zones than the exports: what expires the soonest goes first, after all exports.

use std::fs::File;
use std::path::Path;

use super::disk::{Disk, size};
use crate::world::{DAY, HOUR, can_be_root, export_name, set_age};

const MIB: u64 = 1 << 20;

/// A tree of one file of this age, in directories of another, with so many bytes.
fn tree(disk: &Disk, name: &str, dirs: i64, file: i64, bytes: u64) {
    disk.file(format!("tmp/{name}/sub/file"), file, bytes);
    disk.world.age_dirs(format!("tmp/{name}"), dirs);
}

fn names(disk: &Disk) -> Vec<String> {
    let entries = std::fs::read_dir(disk.world.path("tmp")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What goes when so many bytes more are to be free than are.
fn relieve(disk: &Disk, bytes: u64, more: &[&str]) -> crate::world::Run {
    let (used, all) = disk.bytes();
    let free = format!("{}B", (all - used + bytes).min(all - 1));
    let args = ["run", "--format", "jsonl", "--keep-free", &free, "--pressure-zones", "tmp"];
    disk.world.run(&[&args[..], more].concat())
}

/// Entries of 4 MiB: two exports, and temporary entries that have not expired. `kept-by-content` and
/// `wrong-order` look old from outside.
fn disk() -> Disk {
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    for number in 0..2 {
        let path = Path::new("cache/export").join(export_name(number));
        disk.file(path, 2 * HOUR + i64::from(number), 4 * MIB);
    }
    tree(&disk, "wrong-order", 13 * DAY, 2 * DAY, 4 * MIB);
    tree(&disk, "kept-by-content", 20 * DAY, 3 * DAY, 4 * MIB);
    tree(&disk, "soonest", 12 * DAY, 12 * DAY, 4 * MIB);
    tree(&disk, "young-inside", 20 * DAY, HOUR / 2, 4 * MIB);
    tree(&disk, "open-inside", 20 * DAY, 13 * DAY, 4 * MIB);
    disk.file("tmp/file", 11 * DAY, 4 * MIB);
    disk
}

#[test]
fn other_zones_go_after_all_exports_and_what_expires_the_soonest_goes_first() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let held = File::open(disk.world.path("tmp/open-inside/sub/file")).unwrap();
    let all = ["file", "kept-by-content", "open-inside", "soonest", "wrong-order", "young-inside"];
    let exports = |disk: &Disk| std::fs::read_dir(disk.world.path("cache/export")).unwrap().count();
    // One after the other: what is gone is what was to go next.
    for (gone, left) in
        [("", 1), ("", 0), ("soonest", 0), ("file", 0), ("kept-by-content", 0), ("wrong-order", 0)]
    {
        let before = names(&disk);
        let dry = relieve(&disk, 2 * MIB, &["--dry-run"]);
        let run = relieve(&disk, 2 * MIB, &[]);
        let report = run.exits(0).json();
        assert_eq!(dry.exits(0).json()["totals"], report["totals"], "{gone}: {report:#}");
        let expected: Vec<String> = before.into_iter().filter(|name| name != gone).collect();
        assert_eq!(names(&disk), expected, "{gone}: {report:#}");
        assert_eq!(exports(&disk), left, "{gone}: {report:#}");
        assert_eq!(report["pressure"][0]["removed"], 1, "{report:#}");
    }
    let run = relieve(&disk, 2 * MIB, &[]);
    let report = run.exits(1).json();
    let way = &report["pressure"][0]["in_the_way"];
    assert_eq!(report["pressure"][0]["state"], "nothing_left", "{report:#}");
    assert_eq!((&way["young"], &way["skipped_by"]["in_use"]), (&1.into(), &1.into()), "{report:#}");
    assert_eq!(names(&disk), ["open-inside", "young-inside"]);
    assert!(all.len() > names(&disk).len());
    drop(held);
}

#[test]
fn without_pressure_zones_only_exports_go() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    let before = names(&disk);
    let run = disk.world.run(&["run", "--format", "json", "--keep-free", &disk.nearly_all()]);
    let report = run.exits(1).json();
    assert_eq!(report["pressure"][0]["removed"], 2, "{report:#}");
    assert_eq!(names(&disk), before);
}

#[test]
fn a_young_member_keeps_a_tree_that_is_judged_by_its_own_time() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = disk();
    for name in names(&disk) {
        set_age(&disk.world.path("tmp").join(name), 2 * DAY);
    }
    relieve(&disk, 1 << 40, &["--tmp-age", "entry"]).exits(1);
    assert_eq!(names(&disk), ["young-inside"]);
}

#[test]
fn a_file_with_several_names_stays_and_the_next_one_goes() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    let name = |number| disk.world.path("cache/export").join(export_name(number));
    disk.file(name(0), 5 * HOUR, 16 * MIB);
    for number in 1..4 {
        std::fs::hard_link(name(0), name(number)).unwrap();
    }
    disk.file(name(9), 4 * HOUR, 16 * MIB);
    let need = size(&name(0)) / 2;
    let run = relieve(&disk, need, &[]);
    let report = run.exits(0).json();
    assert_eq!(report["pressure"][0]["removed"], 1, "{report:#}");
    assert!(name(0).exists() && !name(9).exists(), "{report:#}");
}

#[test]
fn entries_in_many_directories_go_in_one_order_over_all_of_them() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    let path = |number: u32| format!("tasks/{number}/tmp/file");
    for number in 0..300_u32 {
        disk.file(path(number), 2 * DAY + i64::from(number * 7 % 300), 64 * 1024);
    }
    let (used, all) = disk.bytes();
    let free = format!("{}B", all - used + 200 * 64 * 1024);
    let zones = ["--zones", "export,instance-tmp", "--pressure-zones", "instance-tmp"];
    let args = [&["run", "--format", "json", "--keep-free", &free], &zones[..]].concat();
    let report = disk.world.run(&args).exits(0).json();
    assert_eq!(report["pressure"][0]["removed"], 200, "{report:#}");
    let left = (0..300).filter(|number| disk.world.has(path(*number)));
    assert!(left.map(|number| number * 7 % 300).all(|age| age < 100), "{report:#}");
}
