//! The sums: every inode once, in one area, without a trace.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{area, counts, du, measured, number_of, volume};
use crate::company::file_systems::Mounted;
use crate::company::has_tool;
use crate::start::Start;
use crate::terminal::plain;
use crate::world::{DAY, HOUR, Run, World, can_be_root, export_name, set_times, tool};

/// Where the space is then, a measurement does not see.
#[test]
fn a_link_on_the_way_to_zones_is_noted_once_with_advice_only_if_that_works() {
    for (path, advice) in
        [("tmp", Some("tmp")), ("cache/export", Some("export")), ("cache", None), ("tasks", None)]
    {
        let world = World::new();
        let real = world.root.with_file_name("real");
        fs::rename(world.dir(path, 0), &real).unwrap();
        std::os::unix::fs::symlink(&real, world.path(path)).unwrap();
        let note = |args: &[&str]| {
            let usage = measured(&world, args);
            let notes = usage["notes"].as_array().unwrap().iter();
            let mut notes = notes.map(|note| note.as_str().unwrap().to_owned());
            (notes.next(), notes.next())
        };
        let start = format!("{:?} is a link, and links are not followed", world.path(path));
        let (first, second) = note(&[]);
        let first = first.unwrap();
        assert!(first.starts_with(&start) && second.is_none(), "{first} {second:?}");
        let Some(zone) = advice else {
            assert!(first.ends_with("not counted"), "{first}");
            continue;
        };
        assert!(first.ends_with(&format!("as the path of zone {zone}")), "{first}");
        let settings = world.root.with_file_name("settings.toml");
        fs::write(&settings, format!("[zones.{zone}]\npath = {real:?}\n")).unwrap();
        assert_eq!(note(&["--config", settings.to_str().unwrap()]), (None, None), "{path}");
    }
}

#[test]
fn totals_and_areas_agree_with_du_to_the_byte_and_the_inode() {
    for seed in 1..=6 {
        let world = volume(seed);
        for jobs in ["1", "4"] {
            let usage = measured(&world, &["--jobs", jobs]);
            assert_eq!(counts(&usage["totals"]), du(&world.root), "seed {seed}, {jobs} jobs");
            for (name, path) in [
                ("export", "cache/export"),
                ("tmp", "tmp"),
                ("media", "data"),
                ("assets", "assets"),
            ] {
                assert_eq!(
                    counts(area(&usage, name)),
                    du(&world.path(path)),
                    "{name}, seed {seed}"
                );
            }
            let sum = usage["areas"].as_array().unwrap().iter().map(counts);
            let sum = sum.fold((0, 0), |sum, area| (sum.0 + area.0, sum.1 + area.1));
            assert_eq!(sum, counts(&usage["totals"]), "seed {seed}");
            let ages = usage["ages"].as_array().unwrap().iter();
            let ages: u64 = ages.map(|range| range["allocated_bytes"].as_u64().unwrap()).sum();
            assert_eq!(ages, counts(&usage["totals"]).0, "seed {seed}");
        }
    }
}

#[test]
fn entries_are_those_that_find_finds() {
    let world = volume(7);
    let usage = measured(&world, &[]);
    for (name, dir) in [("export", "cache/export"), ("tmp", "tmp")] {
        let output = Command::new("find")
            .arg(world.path(dir))
            .args(["-mindepth", "1", "-maxdepth", "1"])
            .finish()
            .unwrap();
        let found = Run::from(output).stdout.lines().count();
        assert_eq!(area(&usage, name)["entries"], found, "{name}");
    }
    let output =
        Command::new("find").arg(world.path("data")).args(["!", "-type", "d"]).finish().unwrap();
    assert_eq!(area(&usage, "media")["entries"], Run::from(output).stdout.lines().count());
}

#[test]
fn exports_are_told_by_kind_and_owner() {
    let world = World::new();
    for (name, size) in [
        ("cache/export/task-7-dataset-instance1.5-coco-10.zip", 100_000),
        ("cache/export/task-7-backup-instance1.5.zip", 50_000),
        ("cache/export/job-7-dataset-instance1.5-coco-10.zip", 9000),
        ("cache/export/events-0b9b1f2e.csv", 5000),
        ("cache/export/unknown", 900_000),
        ("projects/3/export_cache/annotations_coco.ZIP", 20_000),
    ] {
        world.file_of(name, DAY, &vec![b'x'; size]);
    }
    let usage = measured(&world, &[]);
    let blocks = |path: &str| crate::world::Stat::of(&world.path(path)).allocated();
    let bytes = |list: &str, key: &str, of: [&str; 2]| {
        let all = usage[list].as_array().unwrap();
        let found = all
            .iter()
            .find(|one| one["owner"] == of[0] && format!("{}", one[key]).as_str() == of[1]);
        found.unwrap_or_else(|| panic!("{of:?}: {usage:#}"))["allocated_bytes"].as_u64().unwrap()
    };
    let task = "cache/export/task-7-dataset-instance1.5-coco-10.zip";
    let backup = "cache/export/task-7-backup-instance1.5.zip";
    assert_eq!(bytes("kinds", "content", ["task", "\"dataset\""]), blocks(task));
    assert_eq!(bytes("owners", "id", ["task", "7"]), blocks(task) + blocks(backup));
    // Old caches count with their exports. Their directories are no exports.
    let annotations = blocks("projects/3/export_cache/annotations_coco.ZIP");
    assert_eq!(bytes("kinds", "content", ["project", "\"annotations\""]), annotations);
    assert_eq!(bytes("owners", "id", ["project", "3"]), annotations);
    let kinds = usage["kinds"].as_array().unwrap();
    assert!(kinds.iter().all(|kind| kind["files"] != 0), "{kinds:#?}");
    assert_eq!(usage["owners"][0]["id"], 7, "the largest is the first");
    assert!(usage["kinds"].as_array().unwrap().iter().any(|kind| kind["content"] == "events"));
}

#[test]
fn measuring_moves_no_time_of_anything() {
    let world = volume(8);
    // A read would move these atimes even where atimes are kept only now and then.
    for entry in walkdir::WalkDir::new(&world.root).contents_first(true) {
        let entry = entry.unwrap();
        if !entry.path_is_symlink() {
            set_times(entry.path(), 50 * DAY, 40 * DAY);
        }
    }
    let before = world.snapshot();
    for jobs in ["1", "3"] {
        measured(&world, &["--jobs", jobs]);
    }
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_file_with_names_in_several_areas_counts_once_and_where_it_stays() {
    let world = World::new();
    let (one, two) = (format!("cache/export/{}", export_name(1)), export_name(2));
    world.file_of(&one, 2 * DAY, &vec![b'x'; 40_000]);
    fs::create_dir_all(world.path("data")).unwrap();
    let plain = measured(&world, &[]);
    let size = counts(area(&plain, "export")).0 - du_dir(&world.path("cache/export"));
    assert_eq!(area(&plain, "export")["expired_bytes"], size);
    // All names expire: a run frees it once.
    fs::hard_link(world.path(&one), world.path("cache/export").join(&two)).unwrap();
    let twice = measured(&world, &["--jobs", "2"]);
    assert_eq!(counts(area(&twice, "export")), counts(area(&plain, "export")));
    assert_eq!(area(&twice, "export")["expired_bytes"], size);
    assert_eq!(area(&twice, "export")["entries"], 2);
    // One name is media: a run frees nothing.
    fs::hard_link(world.path(&one), world.path("data/image")).unwrap();
    let kept = measured(&world, &["--jobs", "2"]);
    assert_eq!(area(&kept, "export")["expired_bytes"], 0);
    assert_eq!(counts(area(&kept, "media")), (size + du_dir(&world.path("data")), 2));
    assert_eq!(counts(&kept["totals"]), du(&world.root));
}

/// The space of a directory itself.
fn du_dir(path: &Path) -> u64 {
    crate::world::Stat::of(path).allocated()
}

#[test]
fn another_mount_is_named_and_not_counted() {
    if !can_be_root("usage stays on the mount") {
        return;
    }
    let world = volume(9);
    let mounted = world.dir("tasks/7/tmp/mounted", HOUR);
    tool(
        "mount",
        &["-t", "tmpfs", "none"]
            .map(OsStr::new)
            .into_iter()
            .chain([mounted.as_os_str()])
            .collect::<Vec<_>>(),
    );
    fs::write(mounted.join("file"), vec![b'x'; 100_000]).unwrap();
    let usage = measured(&world, &[]);
    // `du` counts the directory that the mount is on.
    let (bytes, inodes) = du(&world.root);
    tool("umount", &[mounted.as_os_str()]);
    assert_eq!(usage["mount_points"], 1);
    assert_eq!(usage["mounts"][0]["path"], mounted.to_str().unwrap());
    assert_eq!(counts(&usage["totals"]), (bytes, inodes));
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_counted_itself() {
    if !can_be_root("usage as another user") {
        return;
    }
    let world = volume(10);
    world.chown(1000);
    let secret = world.file("data/\x1b[31m\u{202e}secret/file", DAY);
    let secret = secret.parent().unwrap();
    let bytes: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"cache/\xff\xfe");
    let odd = world.dir(bytes, DAY);
    for dir in [secret, &odd] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o0)).unwrap();
        std::os::unix::fs::chown(dir, Some(0), Some(0)).unwrap();
    }
    let run = world.run_as(1000, &["usage", "--format", "json"]);
    let usage = run.exits(1).json();
    assert_eq!((&usage["failed"], &usage["exit"]), (&2.into(), &1.into()));
    let failures = usage["failures"].as_array().unwrap();
    assert!(failures.iter().any(|failed| failed["path_hex"].is_string()), "{failures:?}");
    assert!(failures.iter().all(|failed| failed["errno"] == "EACCES"), "{failures:?}");
    assert!(!run.stdout.contains('\x1b') && !run.stdout.contains('\u{202e}'));
    let as_user = |option: &str| {
        let args = ["--reuid=1000", "--regid=1000", "--clear-groups", "du", "-sx", option];
        let args: Vec<&OsStr> =
            args.iter().map(OsStr::new).chain([world.root.as_os_str()]).collect();
        number_of("setpriv", &args)
    };
    assert_eq!(counts(&usage["totals"]), (as_user("--block-size=1"), as_user("--inodes")));
    for args in [&["usage"][..], &["usage", "--color", "always"]] {
        let run = world.run_as(1000, args);
        let text = run.exits(1).stdout.clone();
        let plain = plain(&text);
        assert!(plain.contains("usage: failed: open") && plain.contains("and 1 other"), "{text}");
        assert!(!text.contains("/\x1b") && !text.contains('\u{202e}'), "{text}");
    }
}

#[test]
fn each_file_costs_one_look_and_each_directory_an_open_and_a_listing() {
    if !has_tool("strace", "system calls of usage") {
        return;
    }
    let world = volume(11);
    let (calls, usage) = traced(&world);
    let inodes = counts(&usage["totals"]).1;
    let dirs = list(&world, &["-type", "d"]);
    let names = list(&world, &[]);
    // What the program does besides is the same for every volume with the same zones.
    let nothing = World::new();
    for dir in ["projects", "tasks", "jobs"].iter().filter(|dir| world.has(dir)) {
        fs::create_dir_all(nothing.path(dir)).unwrap();
    }
    let known = list(&nothing, &[]);
    let (empty, _) = traced(&nothing);
    let extra = |call: &str| calls_of(&calls, call) - calls_of(&empty, call);
    assert!(inodes > 100);
    assert_eq!(extra("statx"), names - known, "one look at each name");
    assert_eq!(extra("openat2") + extra("openat"), dirs - known, "one open of each directory");
    assert_eq!(
        extra("getdents64"),
        2 * (dirs - known),
        "two listings of each directory, the last empty"
    );
    for call in ["unlinkat", "renameat2", "utimensat", "flock"] {
        assert_eq!(calls_of(&calls, call), 0, "{call}");
    }
}

/// How often a system call was made in a volume. The standard library opens and looks at files of the system.
fn calls_of(log: &str, call: &str) -> usize {
    let call = format!(" {call}(");
    let is_ours = |line: &&str| {
        line.contains(&call) && !line.contains("STATX_ALL") && !line.contains("openat(AT_FDCWD")
    };
    log.lines().filter(is_ours).count()
}

/// How many names `find` finds.
fn list(world: &World, args: &[&str]) -> usize {
    let output = Command::new("find").arg(&world.root).args(args).args(["-printf", "."]).finish();
    Run::from(output.unwrap()).stdout.len()
}

/// The system calls of a measurement, and its result.
fn traced(world: &World) -> (String, serde_json::Value) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let command = world.command(&["usage", "--format", "json", "--jobs", "1"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(log.path()).arg(command.get_program());
    strace.args(command.get_args()).env_clear();
    let usage = Run::of(strace).exits(0).json();
    (fs::read_to_string(log.path()).unwrap(), usage)
}

#[test]
fn the_totals_include_subvolumes_which_du_does_not_enter() {
    if !can_be_root("a loop-mounted btrfs with a subvolume") {
        return;
    }
    let mounted = Mounted::image("mkfs.btrfs", &["-q"], 128);
    let world = World::in_dir(&mounted.path());
    let subvolume = world.path("data/1");
    fs::create_dir_all(world.path("data")).unwrap();
    tool("btrfs", &["subvolume".as_ref(), "create".as_ref(), subvolume.as_ref()]);
    world.file("data/1/file", HOUR);
    let root = world.root.as_os_str();
    let inodes = counts(&measured(&world, &[])["totals"]).1;
    assert_eq!(inodes, number_of("du", &["-s".as_ref(), "--inodes".as_ref(), root]));
    assert!(inodes > du(&world.root).1, "{inodes}");
}
