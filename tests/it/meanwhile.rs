//! What happens to a tree while it is being removed. `strace` stops the program in the middle of the removal,
//! so that there is time for it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, fcntl_lock};

mod held;
mod leased;
mod linked;
mod next_pass;
mod resumed;

use crate::paused::{Moment, Paused};
use crate::start::Start;
use crate::world::{
    DAY, HOUR, Run, Stat, World, assert_counts, can_be_root, export_name, set_age, sweeper,
};

/// A tree of `count` old files in `tmp/tree/sub`.
fn tree(world: &World, count: usize) -> PathBuf {
    for number in 0..count {
        world.file(format!("tmp/tree/sub/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    world.path("tmp/tree")
}

/// A pass that is stopped after so many removals.
fn paused(world: &World, args: &[&str], removals: usize) -> Paused {
    paused_within(world, args, removals, 4096)
}

/// The same, with a limit on open files.
fn paused_within(world: &World, args: &[&str], removals: usize, files: u32) -> Paused {
    let moment = Moment::of("unlinkat", removals);
    let paused = Paused::at(world, args, files, &moment);
    paused.unwrap_or_else(|run| panic!("it ended before:\n{}\n{}", run.stdout, run.stderr))
}

/// Where the tree is while it is removed: in a private directory beside its name.
fn quarantined(world: &World) -> PathBuf {
    let entries = std::fs::read_dir(world.path("tmp")).unwrap().map(|entry| entry.unwrap().path());
    let tree = entries.map(|entry| entry.join("remove/tree")).find(|tree| tree.exists());
    tree.unwrap()
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_directory_that_is_moved_out_of_the_tree_is_not_followed() {
    let world = World::new();
    tree(&world, 3000);
    let outside = world.root.parent().unwrap().join("outside");
    let pass = paused(&world, &[], 120);
    std::fs::rename(quarantined(&world).join("sub"), &outside).unwrap();
    let moved = count(&outside);
    let report = pass.finish().exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    // What was in the buffer at that moment may still be removed, and nothing else.
    let left = count(&outside);
    assert!(left + 700 > moved && left > 1000, "{moved} were moved out, {left} are left");
}

#[test]
fn a_deep_directory_that_is_moved_out_keeps_its_files() {
    let world = World::new();
    let bottom = "tmp/tree/1/2/3/4/5/6/7/8/9/10/11/12/13/14";
    for number in 0..3000 {
        world.file(format!("{bottom}/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let outside = world.dir("precious", 0).join("moved");
    let pass = paused(&world, &[], 100);
    // One that the walk does not keep open.
    std::fs::rename(quarantined(&world).join("1/2/3/4/5/6/7/8/9/10/11"), &outside).unwrap();
    let moved = count(&outside.join("12/13/14"));
    pass.finish().exits(1);
    let left = count(&outside.join("12/13/14"));
    assert!(left + 700 > moved && left > 1000, "{moved} were moved out, {left} are left");
}

#[test]
fn a_directory_that_takes_the_name_of_the_tree_stays() {
    let world = World::new();
    let path = tree(&world, 400);
    let pass = paused(&world, &[], 120);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("new"), "new").unwrap();
    assert_counts(&pass.finish().exits(0).json(), "tmp", &[("removed", 1)]);
    assert!(path.join("new").exists() && count(&world.path("tmp")) == 1);

    // In quarantine, too.
    let world = World::new();
    tree(&world, 400);
    let pass = paused(&world, &[], 120);
    let path = quarantined(&world);
    std::fs::rename(&path, world.path("tmp/elsewhere")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = pass.finish().json();
    assert!(path.exists(), "{report:#}");
    assert_eq!(report["totals"]["removed"], 0, "{report:#}");
}

#[test]
fn what_is_opened_or_locked_while_a_tree_is_removed_ends_its_removal() {
    // Without leases, a process that opens a file need not wait for the sweeper.
    for leases in [false, true] {
        for lock in [false, true] {
            let world = World::new();
            // Few enough that each has a lease where a process may open 1024 files.
            tree(&world, 400);
            let pass = paused_within(&world, &[], 120, if leases { 4096 } else { 64 });
            let left = std::fs::read_dir(quarantined(&world).join("sub")).unwrap();
            let path = left.last().unwrap().unwrap().path();
            let ino = Stat::of(&path).ino;
            let opener = std::thread::spawn({
                let path = path.clone();
                move || {
                    let file = File::options().write(true).open(path).unwrap();
                    if lock {
                        fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
                    }
                    file
                }
            });
            while !opener.is_finished() && !pass.keeps_waiting(ino) {
                std::thread::yield_now();
            }
            assert_eq!(leases, !opener.is_finished(), "whether a lease is held");
            let run = pass.finish();
            let open = opener.join().unwrap();
            // A part of the tree is gone, so that is reported. The rest has its name again.
            let path = world.path("tmp/tree/sub").join(path.file_name().unwrap());
            assert_eq!(Stat::of(&path).ino, ino, "it was removed while it was open");
            let report = run.exits(1).json();
            assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
            let message = report["failures"][0]["message"].as_str().unwrap();
            // With a lease, the file could not be locked before the removal ended.
            let reason = if lock && !leases { "locked" } else { "in use" };
            assert!(message.contains(reason), "{message}");
            drop(open);
        }
    }
}

#[test]
fn what_is_added_to_a_tree_while_it_is_removed_stays_under_every_rule() {
    for args in [&[][..], &["--tmp-age", "entry"]] {
        let world = World::new();
        tree(&world, 800);
        let pass = paused(&world, args, 120);
        std::fs::write(quarantined(&world).join("sub/new"), "just now").unwrap();
        let report = pass.finish().exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
        assert!(world.has("tmp/tree/sub/new"), "{args:?}");
    }
}

#[test]
fn an_old_file_that_is_moved_into_a_tree_with_a_hard_link_while_it_is_removed_stays() {
    let world = World::new();
    let first = tree(&world, 800).join("sub/file-0");
    std::fs::hard_link(first, world.path("tmp/tree/link")).unwrap();
    world.age_dirs("tmp", 20 * DAY);
    let old = world.file_of("elsewhere/old", 20 * DAY, b"an old file");
    let pass = paused(&world, &[], 120);
    std::fs::rename(old, quarantined(&world).join("sub/moved")).unwrap();
    let report = pass.finish().exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    assert!(world.has("tmp/tree/sub/moved"));
}

#[test]
fn a_tree_that_another_process_removes_is_gone_not_removed() {
    let world = World::new();
    tree(&world, 800);
    let pass = paused(&world, &[], 120);
    std::fs::remove_dir_all(quarantined(&world)).unwrap();
    let run = pass.finish();
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 0), ("skipped_by.gone", 1)]);
}

#[test]
fn what_could_not_be_removed_is_removed_by_the_next_pass_whatever_its_times() {
    if !can_be_root("an immutable file") {
        return;
    }
    let world = World::new();
    tree(&world, 400);
    let immutable = world.path("tmp/tree/sub/file-399");
    let chattr = |flag: &str, path: &Path| {
        let mut command = Command::new("chattr");
        command.arg(flag).arg(path).ended().is_ok_and(|status| status.success())
    };
    assert!(chattr("+i", &immutable), "this file system has no immutable files");
    let pass = paused(&world, &[], 120);
    let rest = quarantined(&world);
    filetime::set_file_atime(&rest, filetime::FileTime::now()).unwrap();
    let run = pass.finish();
    assert!(chattr("-i", &rest.join("sub/file-399")));
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    let failure = &report["failures"][0];
    assert_eq!(failure["path"], immutable.to_str().unwrap(), "by the name that it had");
    assert_eq!((failure["action"].as_str(), count(&rest.join("sub"))), (Some("unlink"), 1));
    // The removals have moved the times of its directories.
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 1), ("failed", 0)]);
    assert_eq!(count(&world.path("tmp")), 0);
}

#[test]
fn an_open_file_is_never_removed_for_lack_of_descriptors() {
    let world = World::new();
    world.file("tmp/tree/a/b/c/d/e/open", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let _open = File::open(world.path("tmp/tree/a/b/c/d/e/open")).unwrap();
    let mut last = String::new();
    for limit in 8..24 {
        let inner = world.command(&["run", "--jobs", "1"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}")).arg(inner.get_program()).args(inner.get_args());
        last = String::from_utf8(command.finish().unwrap().stdout).unwrap();
        assert!(world.has("tmp/tree/a/b/c/d/e/open"), "with {limit} descriptors");
    }
    assert!(last.contains("1 in use"), "{last}");
}

#[test]
fn many_instances_do_not_exhaust_the_descriptors() {
    let world = World::new();
    for number in 0..3000 {
        world.file(format!("tasks/{number}/export_cache/x"), 20 * DAY);
        world.file(format!("tasks/{number}/tmp/x"), 20 * DAY);
    }
    world.age_dirs("tasks", 20 * DAY);
    for (args, zone) in [
        (&["legacy", "--dry-run"][..], "legacy"),
        (&["legacy"], "legacy"),
        (&["run", "--zones", "instance-tmp"], "instance-tmp"),
    ] {
        let inner = world.command(&[args, &["--format", "json", "--jobs", "4"]].concat());
        let mut command = Command::new("prlimit");
        command.arg("--nofile=160").arg(inner.get_program()).args(inner.get_args());
        let run = Run::of(command);
        assert_counts(&run.exits(0).json(), zone, &[("removed", 3000), ("failed", 0)]);
    }
}

#[test]
fn holding_a_directory_inside_a_tree_keeps_the_tree() {
    let world = World::new();
    world.file("tmp/tree/work/file", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let mut hold = sweeper(&["hold"]);
    let inner = world.command(&["run", "--format", "json", "--lock-wait", "0"]);
    hold.arg(world.path("tmp/tree/work")).arg("--").arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(hold);
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 0), ("skipped_by.locked", 1)]);
}

#[test]
fn two_trees_that_share_files_do_not_keep_each_other() {
    let world = World::new();
    for number in 0..1500 {
        let path = world.file(format!("tmp/one/file-{number}"), 20 * DAY);
        std::fs::create_dir_all(world.path("tmp/two")).unwrap();
        std::fs::hard_link(path, world.path(format!("tmp/two/file-{number}"))).unwrap();
    }
    world.age_dirs("tmp", 20 * DAY);
    for args in [&["--dry-run"][..], &[]] {
        let run = world.run(&[&["run", "--jobs", "2", "--format", "json"], args].concat());
        assert_counts(&run.exits(0).json(), "tmp", &[("removed", 2)]);
    }
}

#[test]
fn a_bad_root_or_instance_affects_nothing_else() {
    let world = World::new();
    world.file("projects/1/export_cache/x", DAY);
    world.file("tasks/1/export_cache/x", DAY);
    world.link("jobs", "/tmp", DAY);
    world.age_dirs("", DAY);
    let run = world.run(&["legacy", "--format", "jsonl"]);
    let report = run.exits(1).json();
    assert_counts(&report, "legacy", &[("removed", 2), ("failed", 1), ("seen", 3)]);
    assert_eq!(run.outcomes().len(), 3, "{}", run.stdout);
    if !can_be_root("an instance that uid 1000 may not enter") {
        return;
    }
    world.file("projects/1/export_cache/x", DAY);
    world.file("projects/2/export_cache/x", DAY);
    world.age_dirs("", DAY);
    world.chown(1000);
    std::os::unix::fs::chown(world.path("projects/2"), Some(0), Some(0)).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(world.path("projects/2"), closed).unwrap();
    std::fs::remove_file(world.path("jobs")).unwrap();
    let run = world.run_as(1000, &["legacy", "--format", "json"]);
    assert_counts(&run.exits(1).json(), "legacy", &[("removed", 1), ("failed", 1)]);
}

#[test]
fn a_dry_run_fails_where_a_pass_would_fail() {
    if !can_be_root("a directory that uid 1000 may not change") {
        return;
    }
    let world = World::new();
    for number in 0..3 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    world.chown(1000);
    std::os::unix::fs::chown(world.path("cache/export"), Some(0), Some(0)).unwrap();
    for args in [&["--dry-run"][..], &[]] {
        let run = world.run_as(1000, &[&["run", "--format", "json"], args].concat());
        let report = run.exits(1).json();
        assert_counts(&report, "export", &[("removed", 0), ("failed", 3)]);
        let message = report["failures"][0]["message"].as_str().unwrap();
        assert!(message.contains("uid 1000") && message.contains("belongs to uid 0"), "{message}");
    }
}

#[test]
fn globs_that_would_protect_nothing_are_refused_and_the_others_protect() {
    let world = World::new();
    let keep = world.file("tmp/keep/in/file", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    for glob in ["keep", "tmp/keep", "tmp/keep/", "./tmp/keep", "tmp/keep/**", "keep/", "*/keep"] {
        let run = world.run(&["run", "--exclude", glob, "--format", "json"]);
        assert_counts(&run.exits(0).json(), "tmp", &[("kept_by.excluded", 1)]);
    }
    for glob in ["tmp/keep/in/file", "/tmp/keep", "tpm/keep", "", "cache/export/a/b"] {
        let run = world.run(&["run", "--exclude", glob]);
        assert!(run.exits(2).stderr.contains("flag --exclude"), "{glob}: {}", run.stderr);
    }
    assert!(keep.exists());
}

#[test]
fn lost_and_found_belongs_to_the_file_system() {
    let world = World::new();
    world.dir("tmp/lost+found", 900 * DAY);
    let run = world.run(&["run", "--format", "json"]);
    assert_counts(&run.exits(0).json(), "tmp", &[("kept_by.unrecognized", 1)]);
    set_age(&world.path("tmp"), HOUR);
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let mut command = world.command(&["run", "--format", "json"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).awaited().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the report"));
    assert!(!world.has("tmp/old"), "the pass did not continue");
}

#[test]
fn a_home_directory_is_refused_to_every_user() {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let homes: BTreeSet<&str> = users.lines().filter_map(|line| line.split(':').nth(5)).collect();
    let mut reasons = String::new();
    for home in homes.into_iter().filter(|home| *home != "/" && Path::new(home).is_dir()) {
        let run = Run::of(sweeper(&["run", "--dry-run", "--data", home]));
        assert!(run.exits(2).stderr.contains("is refused"), "{home}: {}", run.stderr);
        reasons += &run.stderr;
    }
    // Some are directories of the system, too.
    assert!(reasons.contains("it is a home directory"), "{reasons}");
}
