//! What happens to a tree while it is being removed. `strace` slows the removals down, so that there is
//! a meanwhile.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::start::Start;
use crate::world::{
    DAY, HOUR, Run, Stat, World, assert_counts, can_be_root, export_name, fifo, set_age, sweeper,
};

/// A tree of `count` old files in `tmp/tree/sub`.
fn tree(world: &World, count: usize) -> PathBuf {
    for number in 0..count {
        world.file(format!("tmp/tree/sub/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    world.path("tmp/tree")
}

/// A pass whose removals take a millisecond each.
fn slowly(world: &World, args: &[&str]) -> Child {
    let log = world.root.parent().unwrap().join("slow.log");
    let inner = world.command(&[&["run", "--format", "json", "--jobs", "1"], args].concat());
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=unlinkat", "-e", "inject=unlinkat:delay_enter=1000", "-o"]);
    command.arg(&log).arg(inner.get_program()).args(inner.get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
}

/// The same, begun: some files are gone already.
fn begun(world: &World, args: &[&str]) -> Child {
    let all = count(world);
    let child = slowly(world, args);
    let start = Instant::now();
    // By then the answers of the survey have gone stale, too.
    while count(world) + 120 > all {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn count(world: &World) -> usize {
    std::fs::read_dir(world.path("tmp/tree/sub")).map_or(0, Iterator::count)
}

fn ended(child: Child) -> Run {
    Run::from(child.wait_with_output().unwrap())
}

#[test]
fn a_directory_that_is_moved_out_of_the_tree_is_not_followed() {
    let world = World::new();
    tree(&world, 3000);
    let outside = world.root.parent().unwrap().join("outside");
    let pass = begun(&world, &[]);
    std::fs::rename(world.path("tmp/tree/sub"), &outside).unwrap();
    let moved = std::fs::read_dir(&outside).unwrap().count();
    let run = ended(pass);
    let report = run.exits(1).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
    // What was in the buffer at that moment may still go; nothing else does.
    let left = std::fs::read_dir(&outside).unwrap().count();
    assert!(left + 700 > moved && left > 1000, "{moved} were moved out, {left} are left");
}

#[test]
fn a_deep_directory_that_is_moved_out_takes_nothing_along() {
    let world = World::new();
    let bottom = "tmp/tree/1/2/3/4/5/6/7/8/9/10/11/12/13/14";
    for number in 0..3000 {
        world.file(format!("{bottom}/file-{number}"), 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let outside = world.dir("precious", 0).join("moved");
    let count = |dir: &Path| std::fs::read_dir(dir).map_or(0, Iterator::count);
    let pass = slowly(&world, &[]);
    let start = Instant::now();
    while count(&world.path(bottom)) > 2900 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that the walk does not keep open.
    std::fs::rename(world.path("tmp/tree/1/2/3/4/5/6/7/8/9/10/11"), &outside).unwrap();
    let moved = count(&outside.join("12/13/14"));
    ended(pass).exits(1);
    let left = count(&outside.join("12/13/14"));
    assert!(left + 700 > moved && left > 1000, "{moved} were moved out, {left} are left");
}

#[test]
fn a_directory_that_takes_the_name_of_the_tree_stays() {
    let world = World::new();
    let path = tree(&world, 400);
    let pass = begun(&world, &[]);
    std::fs::rename(&path, world.path("tmp/elsewhere")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let report = ended(pass).json();
    assert!(path.exists(), "{report:#}");
    assert_eq!(report["totals"]["removed"], 0, "{report:#}");
}

#[test]
fn what_is_opened_or_locked_while_a_tree_goes_ends_its_removal() {
    for lock in [false, true] {
        let world = World::new();
        tree(&world, 800);
        let pass = begun(&world, &[]);
        let open: Vec<(PathBuf, File)> = std::fs::read_dir(world.path("tmp/tree/sub"))
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                Some((path.clone(), File::options().write(true).open(path).ok()?))
            })
            .collect();
        for (_, file) in open.iter().filter(|_| lock) {
            rustix::fs::fcntl_lock(file.as_fd(), rustix::fs::FlockOperation::LockExclusive)
                .unwrap();
        }
        let run = ended(pass);
        // Some of the tree is gone, so that is not silent.
        let report = run.exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
        let message = report["failures"][0]["message"].as_str().unwrap();
        assert!(message.contains(if lock { "busy" } else { "in_use" }), "{message}");
        // One may have been asked about just before we opened it.
        let lost = open.iter().filter(|(path, _)| !path.exists()).count();
        assert!(lost <= 1, "{lost} files were removed while they were open");
    }
}

#[test]
fn what_is_put_into_a_tree_while_it_goes_stays_under_every_rule() {
    for args in [&[][..], &["--tmp-age", "entry"]] {
        let world = World::new();
        tree(&world, 800);
        let pass = begun(&world, args);
        let new = world.path("tmp/tree/sub/new");
        std::fs::write(&new, "just now").unwrap();
        let run = ended(pass);
        let report = run.exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 1)]);
        assert!(new.exists(), "{args:?}");
    }
}

#[test]
fn a_tree_that_somebody_else_removes_is_gone_not_removed() {
    let world = World::new();
    let path = tree(&world, 800);
    let pass = begun(&world, &[]);
    // It may be recreated under our hands by nobody, so this ends.
    while path.exists() {
        let _ = std::fs::remove_dir_all(&path);
    }
    let run = ended(pass);
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 0), ("spared_by.gone", 1)]);
}

#[test]
fn access_times_that_others_move_meanwhile_are_theirs() {
    if !can_be_root("an immutable file") {
        return;
    }
    let world = World::new();
    let path = tree(&world, 400);
    let immutable = world.path("tmp/tree/sub/file-399");
    let chattr = |flag: &str| {
        let mut command = Command::new("chattr");
        command.arg(flag).arg(&immutable).ended().is_ok_and(|status| status.success())
    };
    assert!(chattr("+i"), "this file system has no immutable files");
    let before = Stat::of(&world.path("tmp/tree/sub"));
    let pass = begun(&world, &[]);
    let now = filetime::FileTime::now();
    filetime::set_file_atime(&path, now).unwrap();
    let run = ended(pass);
    assert!(chattr("-i"));
    assert_counts(&run.exits(1).json(), "tmp", &[("removed", 0), ("failed", 1)]);
    assert_eq!(Stat::of(&path).atime.0, now.unix_seconds());
    // The times that our removals moved are put back: the next pass does not take the rest for fresh.
    assert_eq!(Stat::of(&world.path("tmp/tree/sub")).mtime, before.mtime);
}

#[test]
fn a_lack_of_descriptors_never_makes_an_open_file_go() {
    let world = World::new();
    world.file("tmp/tree/a/b/c/d/e/open", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let _open = File::open(world.path("tmp/tree/a/b/c/d/e/open")).unwrap();
    for limit in 8..24 {
        let inner = world.command(&["run", "--jobs", "1"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}")).arg(inner.get_program()).args(inner.get_args());
        command.finish().unwrap();
        assert!(world.has("tmp/tree/a/b/c/d/e/open"), "with {limit} descriptors");
    }
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
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 0), ("spared_by.busy", 1)]);
}

#[test]
fn two_trees_that_share_files_do_not_spare_each_other() {
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
fn one_bad_root_or_instance_costs_nothing_else() {
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
fn a_rehearsal_says_what_a_pass_would_fail_at() {
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
fn hold_does_not_wait_for_the_other_end_of_a_fifo() {
    let world = World::new();
    let path = world.path("tmp/fifo");
    fifo(&path, 0);
    let mut hold = Command::new("timeout");
    hold.args(["10", env!("CARGO_BIN_EXE_sweeper"), "hold"]).arg(&path).args(["--", "/bin/true"]);
    Run::from(hold.finish().unwrap()).exits(0);
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
fn lost_and_found_is_the_file_systems_own() {
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written"));
    assert!(!world.has("tmp/old"), "the pass went on");
}

#[test]
fn a_home_directory_is_refused_whoever_runs_it() {
    let Ok(users) = std::fs::read_to_string("/etc/passwd") else { return };
    let home = users.lines().find_map(|line| {
        let home = line.split(':').nth(5)?;
        (home != "/" && Path::new(home).is_dir()).then(|| home.to_owned())
    });
    let run = Run::of(sweeper(&["run", "--dry-run", "--data", &home.expect("nobody has a home")]));
    assert!(run.exits(2).stderr.contains("home directory"), "{}", run.stderr);
}
