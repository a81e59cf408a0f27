//! Zones on several file systems, on several subvolumes of one, and in thousands of directories.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::disk::{Disk, size};
use crate::company::has_tool;
use crate::world::{DAY, HOUR, Run, can_be_root, export_name, set_age, tool};

const MIB: u64 = 1 << 20;
const ZONES: [&str; 4] = ["--zones", "export,tmp,instance-tmp", "--pressure-zones", "tmp"];

/// Runs a tool on two paths.
fn on(program: &str, args: &[&str], paths: &[&Path]) {
    let args = args.iter().map(OsStr::new);
    tool(program, &args.chain(paths.iter().map(|path| path.as_os_str())).collect::<Vec<_>>());
}

/// Two zones are on two subvolumes, which have one and the same space: exports go before all else, and the relief
/// of one is that of the other.
#[test]
fn subvolumes_of_one_file_system_are_relieved_together_and_in_order() {
    if !can_be_root("a loop-mounted btrfs with subvolumes") {
        return;
    }
    let disk = Disk::new("mkfs.btrfs", &["-q"], 320);
    for name in ["cache/export", "tmp"] {
        let _ = std::fs::remove_dir(disk.world.path(name));
        on("btrfs", &["subvolume", "create"], &[&disk.world.path(name)]);
    }
    for number in 0..10 {
        let name = Path::new("cache/export").join(export_name(number));
        disk.file(name, 2 * HOUR + i64::from(number), 6 * MIB);
        disk.file(format!("tmp/{number}"), 3 * DAY, 6 * MIB);
    }
    disk.sync();
    let (used, all) = disk.bytes();
    let keep = |bytes: u64| format!("{}B", all - used + bytes);
    let run = |free: &str| {
        let args = [&["run", "--format", "json", "--keep-free", free], &ZONES[..]].concat();
        disk.relieved(&args)
    };
    let left = |dir| std::fs::read_dir(disk.world.path(dir)).unwrap().count();
    let report = run(&keep(20 * MIB));
    let reliefs = report["pressure"].as_array().unwrap();
    assert_eq!((reliefs.len(), left("tmp")), (1, 10), "exports alone: {report:#}");
    assert!((5..=7).contains(&left("cache/export")), "{report:#}");
    // More than the exports have: then it is the turn of the other zone, and the disk is relieved.
    let report = run(&keep(75 * MIB));
    assert_eq!((report["pressure"].as_array().unwrap().len(), left("cache/export")), (1, 0));
    assert!((6..=8).contains(&left("tmp")), "{report:#}");
}

/// Directories of one zone on another disk: what is removed there frees nothing here, and that disk is relieved by
/// what is on it.
#[test]
fn a_zone_on_two_disks_counts_on_each_for_what_is_there() {
    if !can_be_root("two loop-mounted ext4") {
        return;
    }
    let (disk, other) = (Disk::new("mkfs.ext4", &["-q"], 128), Disk::new("mkfs.ext4", &["-q"], 64));
    let tasks = disk.world.path("tasks");
    disk.file("projects/1/tmp/x", 2 * DAY, 4 * MIB);
    std::fs::create_dir_all(&tasks).unwrap();
    on("mount", &["--bind"], &[&other.mount(), &tasks]);
    for number in 0..20 {
        disk.file(Path::new("cache/export").join(export_name(number)), 2 * HOUR, MIB);
    }
    // It has expired, and its 16 MiB are free on the other disk.
    disk.file("tasks/3/tmp/old", 30 * DAY, 16 * MIB);
    for number in [4, 5] {
        disk.file(format!("tasks/{number}/tmp/young"), 2 * DAY, 8 * MIB);
    }
    let (used, all) = disk.bytes();
    // As much more as eight exports have, of which an expired entry elsewhere frees nothing.
    let free = format!("{}B", all - used + 8 * MIB);
    let zones = ["--zones", "export,instance-tmp", "--pressure-zones", "instance-tmp"];
    let args = [&["run", "--format", "json", "--keep-free", &free], &zones[..]].concat();
    let dry = disk.world.run(&[&args[..], &["--dry-run"]].concat()).json();
    let run = disk.world.run(&args);
    let report = run.json();
    let exports = std::fs::read_dir(disk.world.path("cache/export")).unwrap().count();
    let there = ["tasks/4/tmp/young", "tasks/5/tmp/young"].map(|path| disk.world.has(path));
    on("umount", &[], &[&tasks]);
    assert_eq!(dry["totals"], report["totals"], "{dry:#}\n{report:#}");
    assert_eq!(exports, 12, "{report:#}");
    assert_eq!(report["pressure"][0]["removed"], 8, "{report:#}");
    // 64 MiB never have as much: nothing goes in vain there.
    assert_eq!((report["pressure"][1]["state"].as_str(), there), (Some("too_much"), [true; 2]));
    assert_eq!(run.code, Some(1));
}

const MANY: u32 = 3000;

/// The directories are read a few times, and not once for every 64 of them.
#[test]
fn entries_in_thousands_of_directories_are_looked_for_once() {
    if !can_be_root("a loop-mounted ext4") || !has_tool("strace", "what the system says of a disk")
    {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q", "-N", "10000"], 64);
    for number in 0..MANY {
        let path = disk.file(format!("tasks/{number}/tmp/file"), 2 * DAY, 4096);
        set_age(&path, 2 * DAY + i64::from(number * 7 % MANY));
    }
    let zones = ["--zones", "export,instance-tmp", "--pressure-zones", "instance-tmp"];
    let free = disk.nearly_all();
    let args =
        ["run", "--format", "json", "--keep-free", &free, "--jobs", "1", "--in-use", "ignore"];
    let inner = disk.world.command(&[&args[..], &zones[..]].concat());
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=getdents64", "-o"]).arg(log.path());
    strace.arg(inner.get_program()).args(inner.get_args());
    let report = Run::of(strace).exits(1).json();
    assert_eq!(report["pressure"][0]["removed"], MANY, "{report:#}");
    let calls = std::fs::read_to_string(log.path()).unwrap().lines().count();
    assert!(calls < 10 * MANY as usize, "{calls} listings of {MANY} directories");
}

/// Nothing would be free: the files of these trees have names elsewhere.
#[test]
fn a_tree_of_hard_links_stays_and_the_next_one_goes() {
    if !can_be_root("a loop-mounted ext4") {
        return;
    }
    let disk = Disk::new("mkfs.ext4", &["-q"], 128);
    let mut names = Vec::new();
    for number in 0..4 {
        let file = disk.file(format!("other/{number}"), 5 * DAY, 4 * MIB);
        let tree = disk.world.path(format!("tmp/linked-{number}"));
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::hard_link(&file, tree.join("file")).unwrap();
        names.push(tree);
    }
    // All names of this one are in the tree: its space is free when it goes, and counts once.
    let alone = disk.file("tmp/alone/0", 4 * DAY, 8 * MIB);
    for number in 1..10 {
        std::fs::hard_link(&alone, disk.world.path(format!("tmp/alone/{number}"))).unwrap();
    }
    disk.world.age_dirs("tmp", 6 * DAY);
    let (used, all) = disk.bytes();
    let free = format!("{}B", all - used + 2 * MIB);
    let log = disk.mount().join("audit");
    let common = ["--format", "json", "--keep-free", &free, "--audit-log", log.to_str().unwrap()];
    let args = [&["run"], &common[..], &ZONES[..2], &["--pressure-zones", "tmp"]].concat();
    let dry = disk.world.run(&[&args[..], &["--dry-run"]].concat()).exits(0).json();
    let whole = size(&alone);
    let report = disk.world.run(&args).exits(0).json();
    assert_eq!(dry["totals"], report["totals"], "{report:#}");
    assert_eq!(report["pressure"][0]["removed"], 1, "{report:#}");
    assert!(names.iter().all(|tree| tree.exists()) && !disk.world.has("tmp/alone"), "{report:#}");
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&log).unwrap().lines().next().unwrap())
            .unwrap();
    let allocated = line["allocated_bytes"].as_u64().unwrap();
    assert!((whole..2 * whole).contains(&allocated), "{line}");
    // And if that is not enough, what stays is named.
    let all = disk.nearly_all();
    let args = [&args[..3], &["--keep-free", &all], &args[5..]].concat();
    let report = disk.world.run(&args).exits(1).json();
    assert_eq!(report["pressure"][0]["in_the_way"]["linked"], 4, "{report:#}");
}
