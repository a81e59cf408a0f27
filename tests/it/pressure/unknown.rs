//! What the system does not say: how full a disk is, where a zone is, how much is reserved for root.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::disk::Disk;
use crate::company::{count, has_tool};
use crate::world::{DAY, HOUR, Run, can_be_root, export_name};

const MIB: u64 = 1 << 20;

/// Runs under strace: one call in `calls` that is made after the last `unlinkat` fails, number `at`, or all that
/// follow.
fn with_fault(disk: &Disk, args: &[&str], calls: &str, at: Option<&str>) -> (Run, String) {
    let inner = disk.world.command(args);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={calls},unlinkat"), "-o"]).arg(log.path());
    if let Some(at) = at {
        strace.args(["-e", &format!("inject={calls}:error=EIO:when={at}")]);
    }
    strace.arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(strace);
    (run, std::fs::read_to_string(log.path()).unwrap())
}

/// A disk with an expired export, and another one that could go early.
fn disk() -> Disk {
    let disk = Disk::new("mkfs.ext4", &["-q"], 64);
    for (number, age) in [(0, 2 * DAY), (1, 2 * HOUR)] {
        disk.file(Path::new("cache/export").join(export_name(number)), age, MIB);
    }
    disk
}

/// What was removed is reported whatever the system says afterwards.
#[test]
fn a_disk_that_cannot_be_asked_after_the_pass_does_not_lose_the_report() {
    if !can_be_root("a loop-mounted ext4") || !has_tool("strace", "what the system says of a disk")
    {
        return;
    }
    let args = ["run", "--format", "json", "--jobs", "1", "--keep-free", "1B"];
    for calls in ["statx", "fstatfs", "openat"] {
        let (run, log) = with_fault(&disk(), &args, calls, None);
        assert_eq!(run.exits(0).json()["totals"]["removed"], 1);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.iter().rposition(|line| line.contains(" unlinkat(")).unwrap();
        // Each thread counts for itself.
        let thread = lines[last].split(' ').next().unwrap();
        let is_call =
            |line: &&&str| line.starts_with(thread) && line.contains(&format!(" {calls}("));
        let before = lines[..last].iter().filter(is_call).count();
        let after = lines[last..].iter().filter(is_call).count();
        assert!(after > 0, "no {calls} after the pass: {log}");
        for at in before + 1..=before + after {
            for suffix in ["", "+"] {
                let disk = disk();
                let (run, _) = with_fault(&disk, &args, calls, Some(&format!("{at}{suffix}")));
                assert_ne!(run.code, Some(2), "{calls} {at}: {}", run.stderr);
                let report = run.json();
                assert_eq!(report["totals"]["removed"], 1, "{calls} {at}: {report:#}");
                assert_eq!(count(disk.world.path("cache/export")), 1);
                let state = report["pressure"][0]["state"].as_str();
                let is_said = state == Some("unknown") && run.code == Some(1);
                assert!(is_said || state == Some("not_needed"), "{calls} {at}: {report:#}");
            }
        }
    }
}

/// A disk of which root has also filled what is reserved for it: a share in percent, or what `mkfs` reserves.
fn overfull(reserve: &[&str]) -> Disk {
    let disk = Disk::new("mkfs.ext4", &[&["-q"], reserve].concat(), 128);
    for number in 0..90 {
        let path = Path::new("cache/export").join(export_name(number));
        disk.file(path, 2 * HOUR + i64::from(number), MIB);
    }
    let mut full = File::create(disk.mount().join("full")).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    full.sync_all().unwrap();
    // Where nothing is reserved, a few blocks can stay that no file gets.
    let (used, all) = disk.bytes();
    assert!(all - used < 1 << 16, "others can still write: {used} of {all}");
    disk
}

const MARKS: [&str; 7] = ["run", "--format", "json", "--pressure", "85%", "--relieve", "80%"];

fn removed(report: &serde_json::Value) -> u64 {
    report["totals"]["removed"].as_u64().unwrap()
}

/// What is freed first becomes reserved again, so more goes than the share alone says: a dry run and the guards
/// must not count less, nor many more.
#[test]
fn guards_count_enough_where_root_has_filled_what_is_reserved_for_it() {
    if !can_be_root("a loop-mounted ext4 without any space") {
        return;
    }
    let disk = overfull(&[]);
    // A user who cannot read the device counts with what is usual.
    disk.world.chown(1000);
    let args = [&MARKS[..], &["--dry-run"]].concat();
    let as_user = removed(&disk.world.run_as(1000, &args).exits(0).json());
    let dry = disk.world.run(&args).exits(0).json();
    let report = disk.world.run(&MARKS).exits(0).json();
    let (foreseen, went) = (removed(&dry), removed(&report));
    for foreseen in [foreseen, as_user] {
        assert!(went > 20 && went <= foreseen && foreseen <= went + 4, "{foreseen} and {went}");
    }
    let disk = overfull(&[]);
    for guard in [
        ["--max-removals".to_owned(), (went - 1).to_string()],
        ["--max-bytes".to_owned(), format!("{}MiB", went - 1)],
        ["--max-share".to_owned(), format!("{}%", (went - 1) * 100 / 90)],
    ] {
        let args = [&MARKS[..], &[&guard[0], &guard[1]]].concat();
        let report = disk.world.run(&args).exits(3).json();
        assert_eq!(
            (count(disk.world.path("cache/export")), removed(&report)),
            (90, 0),
            "{report:#}"
        );
    }
}

/// A dry run counts with what the file system says is reserved, not with what is usual.
#[test]
fn a_dry_run_knows_how_much_is_reserved_for_root() {
    if !can_be_root("a loop-mounted ext4 without any space") {
        return;
    }
    for reserve in ["0", "1", "10"] {
        let disk = overfull(&["-m", reserve]);
        let dry = disk.world.run(&[&MARKS[..], &["--dry-run"]].concat()).exits(0).json();
        let (foreseen, went) = (removed(&dry), removed(&disk.world.run(&MARKS).exits(0).json()));
        assert!(went > 10 && went.abs_diff(foreseen) <= 1, "-m {reserve}: {foreseen} and {went}");
    }
}
