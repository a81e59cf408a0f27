//! The audit log: the line of each removal is on disk before the removal is made.

mod faults;
mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::paused::{Moment, Paused};
use crate::start::Start;
use crate::world::{DAY, HOUR, NOW, Run, World, export_name};

/// Exports, files and trees that have expired, with some of each that stay.
fn world() -> World {
    let world = World::new();
    for number in 0..20 {
        world.file(export(number), 2 * DAY);
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
    }
    world.file("cache/export/unknown", 2 * DAY);
    world.file(export(100), HOUR);
    world.file_of("tmp/big", 20 * DAY, &vec![b'x'; 70_000]);
    world.link("tmp/link", "nowhere", 20 * DAY);
    world.file("tmp/fresh-inside/sub/file", HOUR);
    world.age_dirs("tmp", 20 * DAY);
    world
}

fn export(number: u32) -> PathBuf {
    Path::new("cache/export").join(export_name(number))
}

/// Beside the data root.
fn log_of(world: &World) -> PathBuf {
    world.root.parent().unwrap().join("audit.log")
}

/// The entries of the zones.
fn entries(world: &World) -> BTreeSet<PathBuf> {
    let all = ["cache/export", "tmp"].map(|dir| fs::read_dir(world.path(dir)).unwrap());
    let all = all.into_iter().flatten().map(|entry| entry.unwrap().path());
    all.filter(|path| !path.file_name().unwrap().as_encoded_bytes().starts_with(b".sweeper-"))
        .collect()
}

/// The lines of a log, each of which must be a whole object.
#[track_caller]
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// The paths of the lines with this event.
fn paths(lines: &[Value], event: &str) -> BTreeSet<PathBuf> {
    let lines = lines.iter().filter(|line| line["event"] == event);
    lines.map(|line| PathBuf::from(line["path"].as_str().unwrap())).collect()
}

/// A run with an audit log.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["run", "--format", "json"], args].concat());
    command.arg("--audit-log").arg(log_of(world));
    command
}

/// The same under strace, which writes to `calls.log` beside the data root.
fn traced(world: &World, strace: &[&str], args: &[&str]) -> Command {
    let inner = command(world, args);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(world.root.parent().unwrap().join("calls.log"));
    traced.args(strace).arg(inner.get_program()).args(inner.get_args());
    traced.stdin(Stdio::null());
    traced
}

#[test]
fn each_removal_has_one_line_that_says_what_stat_said() {
    let world = world();
    let held = fs::File::open(world.path(export(3))).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let before = entries(&world);
    let stats: BTreeMap<PathBuf, fs::Metadata> =
        before.iter().map(|path| (path.clone(), path.symlink_metadata().unwrap())).collect();
    let report = Run::of(command(&world, &["--lock-wait", "0", "--jobs", "3"])).exits(0).json();
    drop(held);
    let gone: BTreeSet<PathBuf> = before.difference(&entries(&world)).cloned().collect();
    let lines = lines(&log_of(&world));
    assert_eq!(paths(&lines, "remove"), gone);
    assert_eq!(lines.len(), gone.len(), "one line each, and none for what stays");
    assert_eq!(report["totals"]["removed"], gone.len());
    for line in &lines {
        let stat = &stats[Path::new(line["path"].as_str().unwrap())];
        let number = |key: &str| line[key].as_u64().unwrap();
        assert_eq!((number("device"), number("inode")), (stat.dev(), stat.ino()), "{line}");
        assert_eq!((number("size"), number("links")), (stat.len(), stat.nlink()), "{line}");
        let kind = match stat.file_type() {
            kind if kind.is_dir() => "directory",
            kind if kind.is_symlink() => "link",
            _ => "file",
        };
        assert_eq!(line["kind"], kind);
        if kind == "file" {
            assert_eq!(number("allocated_bytes"), stat.blocks() * 512, "{line}");
        }
        let mtime = line["mtime"].as_str().unwrap();
        assert_eq!(
            mtime.split('.').next(),
            NOW_MINUS.iter().find(|(zone, _)| line["zone"] == *zone).map(|(_, at)| *at)
        );
        assert_eq!(line["run"], lines[0]["run"]);
        let ttl = if line["zone"] == "export" { DAY } else { 14 * DAY };
        assert_eq!(line["rule"]["ttl_s"], ttl, "{line}");
        assert!(line["time"].as_str().unwrap() > NOW, "the time of day, not --now");
    }
    let mode = fs::metadata(log_of(&world)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another run has another name and appends.
    world.file(export(200), 2 * DAY);
    Run::of(command(&world, &[])).exits(0);
    let longer = self::lines(&log_of(&world));
    assert_eq!(longer[..lines.len()], lines);
    assert_ne!(longer.last().unwrap()["run"], lines[0]["run"]);
}

/// When the expired entries of each zone were written.
const NOW_MINUS: [(&str, &str); 2] =
    [("export", "2025-12-31T03:04:05"), ("tmp", "2025-12-13T03:04:05")];

#[test]
fn a_line_is_on_disk_before_its_entry_goes_and_files_share_a_sync() {
    let world = world();
    let old = entries(&world);
    let calls = "trace=write,fdatasync,unlinkat,renameat2,fsync";
    let command = traced(&world, &["-y", "-s", "1000000", "-e", calls], &["--jobs", "1"]);
    Run::of(command).exits(0);
    let gone: Vec<PathBuf> = old.difference(&entries(&world)).cloned().collect();
    assert!(gone.len() > 40);
    let log = fs::read_to_string(world.root.parent().unwrap().join("calls.log")).unwrap();
    let calls: Vec<&str> = log.lines().collect();
    let is_log = |call: &&&str| call.contains("audit.log>");
    for path in &gone {
        let name = path.file_name().unwrap().to_str().unwrap();
        let line = format!("{}\\\"", path.to_str().unwrap());
        let at = |wanted: &dyn Fn(&str) -> bool, what: &str| {
            let found = calls.iter().position(|call| wanted(call));
            found.unwrap_or_else(|| panic!("{what} of {name}:\n{log}"))
        };
        let written = at(
            &|call| call.contains("write(") && call.contains("audit.log>") && call.contains(&line),
            "the line",
        );
        let quoted = format!(", \"{name}\"");
        let removed = at(
            &|call| {
                (call.contains("unlinkat(") || call.contains("renameat2("))
                    && call.contains(&quoted)
            },
            "the removal",
        );
        let is_synced = calls[written..removed].iter().any(|call| {
            call.contains("fdatasync(") && call.contains("audit.log>") && call.contains("= 0")
        });
        assert!(written < removed && is_synced, "{name}: {written} {removed}\n{log}");
    }
    let syncs = calls.iter().filter(|call| call.contains("fdatasync(")).filter(is_log).count();
    // One for the exports, one for the other files, one for each tree.
    assert!(syncs <= 20 + 3, "{syncs} syncs");
}

#[test]
fn a_rotated_log_is_opened_anew_on_sighup() {
    let world = world();
    let before = entries(&world);
    let log = log_of(&world);
    // So slowly that the signal arrives before the last entry.
    let args = ["--audit-log", log.to_str().unwrap(), "--max-rate", "10/s"];
    let paused = Paused::at(&world, &args, 4096, &Moment::of("unlinkat", 1));
    let paused = paused.unwrap_or_else(|run| panic!("it ended: {}{}", run.stdout, run.stderr));
    let rotated = log.with_extension("1");
    fs::rename(&log, &rotated).unwrap();
    paused.send(Signal::HUP);
    paused.finish().exits(0);
    let gone: BTreeSet<PathBuf> = before.difference(&entries(&world)).cloned().collect();
    let (old, new) = (paths(&lines(&rotated), "remove"), paths(&lines(&log), "remove"));
    assert!(!old.is_empty() && !new.is_empty() && old.is_disjoint(&new), "{old:?} {new:?}");
    assert_eq!(old.union(&new).cloned().collect::<BTreeSet<_>>(), gone);
}

#[test]
fn shards_that_share_a_log_write_whole_lines() {
    let world = World::new();
    for number in 0..2000 {
        world.file(export(number), 2 * DAY);
    }
    let before = entries(&world);
    let shards: Vec<_> = (0..4)
        .map(|index| {
            let shard = format!("{index}/4");
            command(&world, &["--shard", &shard]).stdout(Stdio::piped()).start().unwrap()
        })
        .collect();
    for shard in shards {
        Run::from(shard.wait_with_output().unwrap()).exits(0);
    }
    let lines = lines(&log_of(&world));
    assert_eq!(lines.len(), 2000);
    assert_eq!(paths(&lines, "remove"), before);
    let runs: BTreeSet<&str> = lines.iter().map(|line| line["run"].as_str().unwrap()).collect();
    assert_eq!(runs.len(), 4);
}

#[test]
fn a_dry_run_and_a_pass_that_is_stopped_by_a_guard_leave_the_log_alone() {
    let world = world();
    let run = Run::of(command(&world, &["--dry-run"]));
    assert!(run.exits(0).stderr.contains("is not changed"), "{}", run.stderr);
    assert!(!log_of(&world).exists());
    Run::of(command(&world, &["--max-removals", "1"])).exits(3);
    assert_eq!(fs::read(log_of(&world)).unwrap(), b"");
}
