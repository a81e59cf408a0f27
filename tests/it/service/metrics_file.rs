//! `--metrics-file`: what several runs write to one file, what is not replaced, and what a killed run leaves.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::export;
use super::metrics::{assert_counts_equal, assert_valid, samples};
use crate::company::has_tool;
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, can_be_root, export_name, fifo, tool};

/// A directory for metrics files beside the zones.
fn collector(world: &World) -> PathBuf {
    world.dir("collector", 0)
}

fn run(world: &World, path: &Path, args: &[&str]) -> Run {
    let file = ["--metrics-file", path.to_str().unwrap(), "--format", "json"];
    world.run(&[&["run"], args, &file].concat())
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn the_times_of_the_last_pass_advance_with_every_run() {
    let world = World::new();
    let path = collector(&world).join("sweeper.prom");
    let mut last = 0.0;
    for _ in 0..3 {
        run(&world, &path, &[]).exits(0);
        let all = samples(&fs::read_to_string(&path).unwrap());
        for zone in ["export", "tmp"] {
            let end = all[&format!("sweeper_last_end_timestamp_seconds{{zone=\"{zone}\"}}")];
            let success =
                all[&format!("sweeper_last_success_timestamp_seconds{{zone=\"{zone}\"}}")];
            assert!(end > last && success > last, "{zone}: {end} and {success} after {last}");
        }
        last = all["sweeper_last_end_timestamp_seconds{zone=\"tmp\"}"];
    }
}

#[test]
fn shards_that_run_at_the_same_time_lose_no_counts() {
    let world = World::new();
    let path = collector(&world).join("sweeper.prom");
    for number in 0..64 {
        export(&world, number, 2 * DAY);
        world.file(format!("tmp/{number}"), 20 * DAY);
    }
    let shards: Vec<_> = (0..8)
        .map(|number| {
            let shard = format!("{number}/8");
            let file = path.to_str().unwrap();
            let args = ["run", "--shard", &shard, "--metrics-file", file, "--format", "json"];
            let mut command = world.command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
        })
        .collect();
    let reports: Vec<_> = shards
        .into_iter()
        .map(|shard| Run::from(shard.wait_with_output().unwrap()).exits(0).json())
        .collect();
    let text = fs::read_to_string(&path).unwrap();
    assert_valid(&text);
    for zone in ["export", "tmp"] {
        assert_counts_equal(&samples(&text), &reports, zone);
        assert!(text.contains(&format!("sweeper_removed_total{{zone=\"{zone}\"}} 64\n")), "{text}");
    }
    assert_eq!(names(path.parent().unwrap()), ["sweeper.prom"]);
}

#[test]
fn what_is_no_file_of_ours_is_refused_before_the_pass_and_stays() {
    let world = World::new();
    let dir = collector(&world);
    fs::write(dir.join("other.prom"), "# HELP node_load1 1m load average.\n").unwrap();
    fs::create_dir(dir.join("dir")).unwrap();
    symlink("other.prom", dir.join("link")).unwrap();
    symlink("nowhere", dir.join("broken")).unwrap();
    fifo(&dir.join("pipe"), 0);
    let mut refused = vec![
        ("other.prom", "was not written by `sweeper`"),
        ("dir", "is a directory"),
        ("link", "is a link"),
        ("broken", "is a link"),
        ("pipe", "is a named pipe"),
    ];
    if can_be_root("a device as metrics file") {
        // Like /dev/null, which must not be tried: a program that is wrong would replace it.
        let null = dir.join("null");
        tool("mknod", &[null.as_os_str(), OsStr::new("c"), OsStr::new("1"), OsStr::new("3")]);
        assert!(fs::symlink_metadata(dir.join("null")).unwrap().file_type().is_char_device());
        refused.push(("null", "is a device"));
    }
    export(&world, 1, 2 * DAY);
    // A file that was read before keeps its atime when it is read again.
    fs::read(dir.join("other.prom")).unwrap();
    let snapshot = world.snapshot();
    for (name, word) in refused {
        for args in [&[][..], &["--dry-run"]] {
            let run = run(&world, &dir.join(name), args);
            let text = &run.exits(2).stderr;
            assert!(text.contains(word) && text.contains(name), "{name}: {text}");
        }
    }
    assert_eq!(world.snapshot(), snapshot, "nothing was swept, and nothing was replaced");
}

#[test]
fn a_file_that_cannot_be_read_is_not_started_anew() {
    if !can_be_root("a metrics file of another user") {
        return;
    }
    let world = World::new();
    let dir = collector(&world);
    let path = dir.join("sweeper.prom");
    run(&world, &path, &[]).exits(0);
    export(&world, 1, 2 * DAY);
    world.chown(1000);
    let root = || std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    root();
    let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let before = fs::read(&path).unwrap();
    let args = ["run", "--metrics-file", path.to_str().unwrap()];
    set_mode(0o600);
    let refused = world.run_as(1000, &args);
    assert!(refused.exits(1).stderr.contains("cannot open the metrics file"), "{}", refused.stderr);
    assert!(!world.path("cache/export").join(export_name(1)).exists(), "the pass was made");
    assert_eq!((fs::read(&path).unwrap(), path.metadata().unwrap().uid()), (before, 0));
    // A file that can be read may belong to another user.
    set_mode(0o644);
    export(&world, 2, 2 * DAY);
    world.chown(1000);
    root();
    world.run_as(1000, &args).exits(0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("sweeper_removed_total{zone=\"export\"} 1\n"), "{text}");
}

#[test]
fn a_run_that_is_killed_while_it_writes_leaves_nothing_after_the_next() {
    if !has_tool("strace", "a run that is killed while it writes metrics") {
        return;
    }
    let world = World::new();
    let path = collector(&world).join("sweeper.prom");
    export(&world, 1, 2 * DAY);
    run(&world, &path, &[]).exits(0);
    for number in 2..4 {
        let before = fs::read(&path).unwrap();
        export(&world, number, 2 * DAY);
        let mut killed = Command::new("strace");
        // An export is not renamed, so the first file that is renamed is the one with the metrics.
        killed.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=/^rename:signal=KILL"]);
        killed.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--now", NOW, "--zones", "export"]);
        killed.arg("--metrics-file").arg(&path).arg("--data").arg(&world.root);
        let killed = killed.stdin(Stdio::null()).finish().unwrap();
        assert!(!killed.status.success(), "{killed:?}");
        assert!(
            !world.path("cache/export").join(export_name(number)).exists(),
            "it was killed late"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(names(path.parent().unwrap()).len(), 2, "the file that was not renamed");
    }
    run(&world, &path, &[]).exits(0);
    assert_eq!(names(path.parent().unwrap()), ["sweeper.prom"]);
    let text = fs::read_to_string(&path).unwrap();
    assert_valid(&text);
    assert!(text.contains("sweeper_removed_total{zone=\"export\"} 1\n"), "{text}");
}

#[test]
fn a_directory_that_may_not_be_written_is_refused_before_the_pass() {
    if !can_be_root("a directory of another user") {
        return;
    }
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    world.chown(1000);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = dir.path().join("sweeper.prom");
    let run = world.run_as(1000, &["run", "--metrics-file", file.to_str().unwrap()]);
    let said = &run.exits(2).stderr;
    assert!(said.contains("cannot create the metrics file") && said.contains("denied"), "{said}");
    assert!(world.has("tmp/old"));
}
