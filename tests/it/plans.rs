//! Plans: what `sweeper plan` writes down, `sweeper apply` removes, unless it has changed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::company::send;
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{DAY, HOUR, Run, World, assert_counts, export_name, set_age};

fn export(number: u32) -> PathBuf {
    Path::new("cache/export").join(export_name(number))
}

/// Files and trees that have expired, and one file that has not.
fn world() -> World {
    let world = World::new();
    for number in 0..10 {
        world.file(export(number), 2 * DAY);
        world.file(format!("tmp/tree-{number}/sub/file"), 20 * DAY);
    }
    world.file(export(100), HOUR);
    world.age_dirs("tmp", 20 * DAY);
    world
}

fn plan_of(world: &World) -> PathBuf {
    world.root.parent().unwrap().join("plan")
}

/// Makes a plan, which changes nothing.
fn plan(world: &World, args: &[&str]) -> Vec<String> {
    let before = world.snapshot();
    let path = plan_of(world);
    let args = [&["plan", "-o", path.to_str().unwrap(), "--format", "json"], args].concat();
    let report = world.run(&args).exits(0).json();
    assert_eq!(world.snapshot(), before);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(report["totals"]["removed"], lines.len() - 1, "a header, and a line for each entry");
    lines
}

fn apply(world: &World, args: &[&str]) -> Run {
    let path = plan_of(world);
    world.run(&[&["apply", path.to_str().unwrap(), "--format", "json"], args].concat())
}

fn write(world: &World, lines: &[String]) {
    fs::write(plan_of(world), lines.join("\n") + "\n").unwrap();
}

#[test]
fn a_report_says_that_a_line_of_the_plan_was_changed() {
    let world = world();
    let mut lines = plan(&world, &[]);
    lines[1] = lines[1].replace("\"size\":", "\"size\":1");
    write(&world, &lines);
    for dry_run in [&["--dry-run"][..], &[]] {
        let run = apply(&world, dry_run);
        let report = run.exits(1).json();
        assert_eq!(report["exit"], 1, "{report:#}");
        let note = "1 line of the plan was changed and not applied";
        assert!(report["zones"][0]["notes"].to_string().contains(note), "{report:#}");
        assert!(run.stderr.contains(note), "{}", run.stderr);
    }
}

#[test]
fn a_plan_removes_exactly_the_entries_that_have_not_changed() {
    for jobs in ["1", "4"] {
        let world = world();
        let lines = plan(&world, &["--jobs", jobs]);
        assert_eq!(lines.len(), 21);
        let first: Value = serde_json::from_str(&lines[1]).unwrap();
        assert!(world.has(first["path"].as_str().unwrap()), "{first}");
        // All of these have still expired, and a run would remove them.
        world.file_of(export(1), 2 * DAY, b"longer than before");
        set_age(&world.path(export(2)), 3 * DAY);
        fs::rename(world.path(export(3)), world.path(export(4))).unwrap();
        world.file("tmp/tree-1/sub/another", 20 * DAY);
        world.age_dirs("tmp/tree-1", 20 * DAY);
        world.file("tmp/tree-2/sub/file", 21 * DAY);
        world.age_dirs("tmp/tree-2", 20 * DAY);
        // New since then.
        world.file(export(50), 2 * DAY);
        let dry = apply(&world, &["--jobs", jobs, "--dry-run"]).exits(0).json();
        let report = apply(&world, &["--jobs", jobs]).exits(0).json();
        assert_eq!(dry["totals"], report["totals"]);
        assert_counts(&report, "export", &[("removed", 6), ("skipped", 4), ("skipped_by.gone", 1)]);
        assert_counts(&report, "tmp", &[("removed", 8), ("skipped_by.used", 2)]);
        for left in [1, 2, 4, 50, 100] {
            assert!(world.has(export(left)), "{left}");
        }
        assert!(world.has("tmp/tree-1/sub/another") && world.has("tmp/tree-2/sub/file"));
        let again = apply(&world, &[]).exits(0).json();
        assert_eq!(again["totals"]["removed"], 0, "{again:#}");
    }
}

/// The removal of one name moves the ctime of the file.
#[test]
fn a_plan_removes_all_names_of_a_file_and_none_that_was_written_since() {
    for is_written in [false, true] {
        let world = World::new();
        world.file_of(export(1), 2 * DAY, b"content");
        fs::hard_link(world.path(export(1)), world.path(export(2))).unwrap();
        fs::hard_link(world.path(export(1)), world.path("tmp/name")).unwrap();
        plan(&world, &[]);
        fs::remove_file(world.path("tmp/name")).unwrap();
        if is_written {
            world.file_of(export(1), 2 * DAY, b"contents");
        }
        let counts = if is_written {
            [("removed", 0), ("skipped_by.used", 2)]
        } else {
            [("removed", 2), ("skipped_by.used", 0)]
        };
        assert_counts(&apply(&world, &[]).exits(0).json(), "export", &counts);
    }
}

#[test]
fn what_a_plan_has_and_the_rules_keep_now_has_changed_and_is_skipped() {
    for jobs in ["1", "4"] {
        let world = world();
        plan(&world, &[]);
        // None of these would go in a run.
        set_age(&world.path(export(1)), HOUR);
        fs::remove_file(world.path(export(2))).unwrap();
        world.file(export(2).join("file"), 2 * DAY);
        fs::remove_file(world.path("tmp/tree-1/sub/file")).unwrap();
        set_age(&world.path("tmp/tree-1"), HOUR);
        for args in [&["--dry-run"][..], &[]] {
            let report = apply(&world, &[&["--jobs", jobs], args].concat()).exits(0).json();
            let used = [("removed", 8), ("kept", 0), ("skipped_by.used", 1)];
            assert_counts(&report, "export", &used);
            assert_counts(&report, "export", &[("skipped_by.replaced", 1)]);
            assert_counts(&report, "tmp", &[("removed", 9), ("kept", 0), ("skipped_by.used", 1)]);
        }
    }
}

#[test]
fn a_line_says_what_stat_says_and_the_header_what_was_asked_for() {
    let world = world();
    fs::hard_link(world.path(export(1)), world.root.parent().unwrap().join("link")).unwrap();
    world.age_dirs("tmp", 20 * DAY);
    let lines = plan(&world, &["--zones", "export,tmp", "--retention", "10d"]);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let root = fs::metadata(&world.root).unwrap();
    let header = &lines[0];
    assert_eq!((&header["plan"], &header["device"]), (&1.into(), &root.dev().into()), "{header}");
    assert_eq!(
        (&header["inode"], &header["data_root"]),
        (&root.ino().into(), &world.root.to_str().into())
    );
    assert_eq!(
        (&header["settings"]["zones"], &header["settings"]["retention"]),
        (&"export,tmp".into(), &"10d".into())
    );
    assert!(header["run"].is_string() && header["digest"].is_string());
    for line in &lines[1..] {
        let stat = world.path(line["path"].as_str().unwrap()).symlink_metadata().unwrap();
        let number = |key: &str| line[key].as_u64().unwrap();
        assert_eq!((number("device"), number("inode")), (stat.dev(), stat.ino()), "{line}");
        assert_eq!(number("size"), stat.len(), "{line}");
        let is_dir = line["kind"] == "directory";
        assert_eq!((is_dir, line["zone"] == "tmp"), (stat.is_dir(), stat.is_dir()), "{line}");
        assert_eq!(line["ttl_s"], if is_dir { 10 * DAY } else { DAY }, "{line}");
        let of_tmp = ("2025-12-13T03:04:05.", "2025-12-13T03:04:05.");
        let of_export = ("2025-12-31T03:04:05.", "2025-12-31T03:04:05.");
        let (mtime, used) = if is_dir { of_tmp } else { of_export };
        assert!(line["mtime"].as_str().unwrap().starts_with(mtime), "{line}");
        assert!(line["used"].as_str().unwrap().starts_with(used), "{line}");
        assert_eq!(line["ctime"].is_null(), !is_dir && stat.nlink() > 1, "{line}");
        // The rule, in the form of the audit log.
        let (rule, last_use) = (&line["rule"], if is_dir { "tree" } else { "mtime" });
        assert_eq!(rule["last_use"], last_use, "{line}");
        assert_eq!((&rule["used"], &rule["ttl_s"]), (&line["used"], &line["ttl_s"]), "{line}");
        if !is_dir {
            assert_eq!(number("allocated_bytes"), stat.blocks() * 512, "{line}");
        }
    }
}

#[test]
fn what_is_planned_is_locked_and_looked_at_again_like_anything_else() {
    let world = world();
    plan(&world, &[]);
    let held = fs::File::open(world.path(export(1))).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let open = fs::OpenOptions::new().append(true).open(world.path("tmp/tree-1/sub/file")).unwrap();
    let report = apply(&world, &["--lock-wait", "0"]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 9), ("skipped_by.locked", 1)]);
    assert_counts(&report, "tmp", &[("removed", 9), ("skipped_by.in_use", 1)]);
    drop((held, open));
    // The same plan removes the rest.
    let mut removed = 0;
    wait_until("the rest is removed", || {
        let report = apply(&world, &[]).exits(0).json();
        removed += report["totals"]["removed"].as_u64().unwrap();
        removed == 2
    });
}

#[test]
fn lines_can_be_cut_out_and_a_changed_line_is_lost_alone() {
    let world = world();
    let mut lines = plan(&world, &[]);
    lines.retain(|line| !line.contains("tree-3") && !line.contains(&export_name(3)));
    let changed = lines.iter().position(|line| line.contains("tree-4")).unwrap();
    lines[changed] = lines[changed].replace("tree-4", "tree-3");
    write(&world, &lines);
    let run = apply(&world, &[]);
    assert!(run.exits(1).stderr.contains(&format!("line {}", changed + 1)), "{}", run.stderr);
    assert_eq!(run.json()["totals"]["removed"], 17);
    for left in ["tmp/tree-3/sub/file", "tmp/tree-4/sub/file"] {
        assert!(world.has(left), "{left}");
    }
    assert!(world.has(export(3)) && !world.has(export(4)));
}

#[test]
fn a_plan_that_is_old_or_of_another_volume_or_without_its_header_is_refused() {
    let world = world();
    let lines = plan(&world, &[]);
    let before = world.snapshot();
    let refused = |args: &[&str], words: &str| {
        let run = apply(&world, args);
        assert!(run.exits(2).stderr.contains(words), "{words}: {}", run.stderr);
        assert_eq!(world.snapshot(), before, "{words}");
    };
    refused(&["--max-plan-age", "0"], "--max-plan-age");
    refused(&["--ttl", "1h"], "it was made with ttl = \"1d\", and here it is \"1h\"");
    refused(&["--zones", "tmp"], "zones");
    write(&world, &lines[1..]);
    refused(&[], "not the header of a plan");
    write(&world, &[lines[0].replace("\"1d\"", "\"2d\"")]);
    refused(&[], "not the header of a plan");
    let other = self::world();
    plan(&other, &[]);
    fs::copy(plan_of(&other), plan_of(&world)).unwrap();
    refused(&[], " is a different directory");
    // Lines of one plan are none of another.
    let mixed = [&plan(&world, &[])[..1], &lines[1..]].concat();
    write(&world, &mixed);
    let run = apply(&world, &[]);
    assert_eq!(run.exits(1).json()["totals"]["removed"], 0);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_guard_and_the_audit_log_apply_to_a_plan() {
    let world = world();
    plan(&world, &[]);
    let report = apply(&world, &["--max-removals", "19"]).exits(3).json();
    assert_eq!(
        (&report["stopped"], &report["totals"]["removed"]),
        (&"max_removals".into(), &0.into())
    );
    let log = world.root.parent().unwrap().join("audit.log");
    let args = ["--max-removals", "20", "--audit-log", log.to_str().unwrap()];
    assert_eq!(apply(&world, &args).exits(0).json()["totals"]["removed"], 20);
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 20);
}

#[test]
fn a_plan_replaces_nothing_but_an_earlier_plan() {
    let world = world();
    let beside = |name: &str| world.root.parent().unwrap().join(name);
    fs::write(beside("precious"), "precious").unwrap();
    fs::write(beside("mine"), "{\"plan\":\"mine\"}").unwrap();
    std::os::unix::fs::symlink("precious", beside("link")).unwrap();
    std::os::unix::fs::symlink("new", beside("dangling")).unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, beside("fifo"), fifo, mode, 0).unwrap();
    let refused = |path: &Path, words: &str| {
        let run = world.run(&["plan", "-o", path.to_str().unwrap()]);
        assert!(run.exits(2).stderr.contains(words), "{path:?}: {}", run.stderr);
    };
    for name in ["precious", "mine"] {
        refused(&beside(name), "it is not a plan: choose another name");
    }
    for name in ["link", "dangling", "fifo"] {
        refused(&beside(name), "it is not a regular file");
    }
    refused(&world.root, "it is not a regular file");
    refused(Path::new("-"), "stdout is used for the report; name a file");
    let log = world.run(&["run", "--audit-log", "-"]);
    assert!(log.exits(2).stderr.contains("stdout is used for the report"), "{}", log.stderr);
    assert_eq!(fs::read_to_string(beside("precious")).unwrap(), "precious");
    assert!(!beside("new").exists());
    // An earlier plan is replaced, when the new one is complete.
    let first = plan(&world, &[]);
    assert_ne!(plan(&world, &[]), first);
    fs::write(plan_of(&world), "").unwrap();
    assert_eq!(plan(&world, &[]).len(), first.len());
    let left = fs::read_dir(world.root.parent().unwrap()).unwrap();
    let is_new = |name: &str| name.starts_with(".sweeper-new");
    assert!(!left.map(|it| it.unwrap().file_name()).any(|name| is_new(name.to_str().unwrap())));
}

#[test]
fn a_plan_that_is_not_complete_does_not_replace_one_that_is() {
    let world = world();
    let first = plan(&world, &[]);
    let path = plan_of(&world);
    // Its list does not end.
    let is_left = || {
        let args = ["plan", "-o", path.to_str().unwrap(), "--from0", "-"];
        let mut command = world.command(&args);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
        let mut list = child.stdin.take().unwrap();
        list.write_all(b"tmp/tree-3\0tmp/t").unwrap();
        wait_until("it is read", || rustix::io::ioctl_fionread(&list).unwrap() == 0);
        send(&child, Signal::TERM);
        let run = Run::from(child.wait_with_output().unwrap());
        run.exits(3).stderr.contains("stopped before its end")
    };
    assert!(is_left());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), first);
    fs::remove_file(&path).unwrap();
    assert!(is_left() && !path.exists());
}

#[test]
fn a_plan_is_read_from_stdin_too() {
    let world = world();
    let mut lines = plan(&world, &[]);
    lines.retain(|line| line.contains("\"plan\":") || line.contains("tree-3"));
    write(&world, &lines);
    let mut command = world.command(&["apply", "-", "--format", "json"]);
    command.stdin(fs::File::open(plan_of(&world)).unwrap());
    let report = Run::of(command).exits(0).json();
    assert_eq!((&report["totals"]["seen"], &report["totals"]["removed"]), (&1.into(), &1.into()));
    assert!(!world.has("tmp/tree-3"));
}
