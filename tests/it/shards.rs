//! Several sweepers on one volume: each entry is one sweeper's, and together they are one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use retention_sweeper::retention::Shard;
use serde_json::Value;

use crate::laws::random_world;
use crate::start::Start;
use crate::world::{DAY, Run, World, export_name, sweeper};

/// Every zone of a pass.
const ZONES: [&str; 2] = ["--zones", "export,tmp,instance-tmp"];

/// A random volume with instances and old caches beside the usual.
fn volume(seed: u64) -> World {
    let world = random_world(seed);
    for name in [&b"tmp/\xff not\n\x1b text"[..], b"cache/export/\xfe", b"tmp/-rf", b"tmp/ "] {
        world.file(std::ffi::OsStr::from_bytes(name), 30 * DAY);
    }
    for id in 0..12_u64 {
        let kind = ["projects", "tasks", "jobs"][usize::try_from((id + seed) % 3).unwrap()];
        for number in 0..(id + seed) % 5 {
            let age = if (id + number) % 3 == 0 { DAY } else { 30 * DAY };
            world.file(format!("{kind}/{id}/tmp/scratch-{number}/a/b"), age);
            world.file(format!("{kind}/{id}/tmp/file-{number}"), age);
        }
        if id % 2 == 0 {
            world.file(format!("{kind}/{id}/export_cache/old.zip"), 90 * DAY);
            world.file(format!("{kind}/{id}/tmp/export_cache/old.zip"), 90 * DAY);
        }
        let dir = world.path(format!("{kind}/{id}"));
        if dir.exists() {
            world.age_dirs(dir, 90 * DAY);
        }
    }
    world
}

/// Takes the second names of files out of a volume: two shards can meet at one of them, and in which
/// zone its bytes are told depends on their order.
fn unlink_second_names(world: &World) {
    for entry in std::fs::read_dir(world.path("tmp")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().as_bytes().starts_with(b"linked-") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// The units of a volume, found by plain listing: its own dumb reading of the layout.
fn units(world: &World) -> BTreeSet<PathBuf> {
    let list = |dir: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut all: BTreeSet<PathBuf> = BTreeSet::new();
    all.extend(list(world.path("cache/export")));
    all.extend(list(world.path("tmp")));
    for kind in ["projects", "tasks", "jobs"] {
        for instance in list(world.path(kind)) {
            all.extend(list(instance.join("tmp")));
        }
    }
    all
}

/// A run with the outcomes told one by one.
fn swept(world: &World, command: &str, more: &[&str]) -> Run {
    let zones: &[&str] = if command == "run" { &ZONES } else { &[] };
    let args = [&[command, "--format", "jsonl", "-v", "--jobs", "2"], zones, more].concat();
    let run = world.run(&args);
    run.exits(0);
    run
}

/// What a run removed, relative to the data root.
fn removed(world: &World, run: &Run) -> BTreeSet<PathBuf> {
    let gone = run.outcomes().into_iter().filter(|(_, (fate, _))| fate == "removed");
    gone.map(|(path, _)| path.strip_prefix(&world.root).unwrap().to_owned()).collect()
}

/// All that is left, relative to the data root.
fn left(world: &World) -> BTreeSet<PathBuf> {
    let all = world.snapshot().into_keys();
    all.map(|path| path.strip_prefix(&world.root).unwrap().to_owned()).collect()
}

/// The counts of a report, by zone and name. What a file with several names gives back is told in the
/// zone where the last of them went, so bytes are compared in all.
fn counts(report: &Value) -> BTreeMap<String, u64> {
    fn walk(path: String, value: &Value, all: &mut BTreeMap<String, u64>) {
        if let Some(number) = value.as_u64() {
            all.insert(path, number);
        } else if let Some(object) = value.as_object() {
            for (key, value) in object {
                walk(format!("{path}.{key}"), value, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    for zone in report["zones"].as_array().unwrap() {
        walk(zone["zone"].as_str().unwrap().to_owned(), zone, &mut all);
    }
    all.retain(|key, _| !key.ends_with("freed_bytes"));
    walk("totals".to_owned(), &report["totals"], &mut all);
    all
}

fn added(all: &mut BTreeMap<String, u64>, report: &Value) {
    for (key, count) in counts(report) {
        *all.entry(key).or_default() += count;
    }
}

#[test]
fn shards_remove_together_what_one_pass_removes_each_unit_once() {
    for seed in 1..=4 {
        for command in ["run", "legacy"] {
            let single = volume(seed);
            let before = units(&single);
            let whole = swept(&single, command, &[]);
            for count in [1, 3, 8] {
                let world = volume(seed);
                let mut sum = BTreeMap::new();
                let (mut looked_at, mut gone) = (BTreeSet::new(), BTreeSet::new());
                for index in 0..count {
                    let name = format!("{index}/{count}");
                    let run = swept(&world, command, &["--shard", &name]);
                    assert_eq!(run.json()["shard"], name.as_str());
                    let shard = Shard::parse(&name).unwrap();
                    for path in run.outcomes().into_keys() {
                        let path = path.strip_prefix(&world.root).unwrap();
                        let base = path.file_name().unwrap().as_bytes();
                        let base = std::ffi::CString::new(base).unwrap();
                        assert!(shard.owns(path.parent().unwrap(), &base), "{path:?}");
                        assert!(looked_at.insert(path.to_owned()), "{path:?} twice");
                    }
                    gone.extend(removed(&world, &run));
                    added(&mut sum, &run.json());
                }
                assert_eq!(gone, removed(&single, &whole), "{command}, {count} shards");
                assert_eq!(left(&world), left(&single), "{command}, {count} shards");
                assert_eq!(sum, counts(&whole.json()), "{command}, {count} shards");
                if command == "run" {
                    let relative = |path: &PathBuf| path.strip_prefix(&single.root).unwrap().into();
                    assert_eq!(looked_at, before.iter().map(relative).collect());
                }
            }
        }
    }
}

#[test]
fn shards_at_the_same_time_do_not_meet() {
    let (single, world) = (volume(5), volume(5));
    unlink_second_names(&single);
    unlink_second_names(&world);
    let whole = swept(&single, "run", &[]);
    let start = |index: u32| {
        let args = ["run", "--format", "jsonl", "-v", "--shard", &format!("{index}/8")];
        let mut command = world.command(&[&args[..], &ZONES[..]].concat());
        command.stderr(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).start().unwrap()
    };
    let shards: Vec<std::process::Child> = (0..8).map(start).collect();
    let mut sum = BTreeMap::new();
    let mut gone = 0;
    for shard in shards {
        let run = Run::from(shard.wait_with_output().unwrap());
        added(&mut sum, &run.exits(0).json());
        gone += removed(&world, &run).len();
    }
    assert_eq!(left(&world), left(&single));
    assert_eq!(gone, removed(&single, &whole).len());
    assert_eq!(sum, counts(&whole.json()));
}

#[test]
fn what_all_shards_fail_at_is_counted_by_one() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    std::fs::remove_dir(world.path("tmp")).unwrap();
    std::os::unix::fs::symlink("/etc", world.path("tmp")).unwrap();
    let whole = world.run(&["run", "--dry-run", "--format", "json"]);
    let mut sum = BTreeMap::new();
    let mut noted = 0;
    for index in 0..3 {
        let name = format!("{index}/3");
        let run = world.run(&["run", "--dry-run", "--format", "json", "--shard", &name]);
        added(&mut sum, &run.json());
        noted += usize::from(run.stdout.contains("another shard's report"));
    }
    assert_eq!(sum, counts(&whole.exits(1).json()));
    assert_eq!(noted, 2, "the others do not pass over it in silence");
}

#[test]
fn a_shard_is_named_by_flag_variable_or_the_number_of_a_pod() {
    let world = World::new();
    let at = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = world.command(&[&["run", "--format", "json"], args].concat());
        command.envs(env.iter().copied());
        Run::of(command)
    };
    assert_eq!(at(&["--shard", "2/3"], &[]).exits(0).json()["shard"], "2/3");
    assert_eq!(at(&[], &[("SWEEPER_SHARD", "0/3")]).exits(0).json()["shard"], "0/3");
    let pod = [("JOB_COMPLETION_INDEX", "5")];
    assert_eq!(at(&["--shard", "auto/8"], &pod).exits(0).json()["shard"], "5/8");
    assert!(at(&[], &pod).exits(0).json().get("shard").is_none(), "nobody asked for one");
    let text = world.run(&["run", "--shard", "1/4"]);
    assert!(text.exits(0).stdout.contains("shard 1/4"), "{}", text.stdout);
    for (args, env, why) in [
        (&["--shard", "3/3"][..], &[][..], "from 0 to 2"),
        (&["--shard", "1"], &[], "INDEX/COUNT"),
        (&["--shard", "auto/8"], &[], "JOB_COMPLETION_INDEX is not set"),
        (&["--shard", "auto/5"], &pod, "from 0 to 4"),
        (&[], &[("SWEEPER_SHARD", "$(JOB_COMPLETION_INDEX)/8")], "INDEX/COUNT"),
    ] {
        let run = at(args, env);
        assert!(run.exits(2).stderr.contains(why), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_shard_that_is_killed_and_started_again_completes_the_set() {
    use std::os::unix::process::ExitStatusExt;
    let world = World::new();
    for number in 0..12_000 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    let export = world.path("cache/export");
    let remain = || std::fs::read_dir(&export).unwrap().count();
    let mut child = world.command(&["run", "--shard", "1/3", "--jobs", "1"]);
    let mut child = child.stdout(std::process::Stdio::null()).start().unwrap();
    let start = std::time::Instant::now();
    while remain() == 12_000 && start.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was killed before its end");
    let after_kill = remain();
    assert!((1..12_000).contains(&after_kill), "in the middle: {after_kill} left");
    let mut sum = 0;
    for index in 0..3 {
        let run = swept(&world, "run", &["--shard", &format!("{index}/3")]);
        sum += run.json()["totals"]["removed"].as_u64().unwrap();
    }
    assert_eq!((remain(), sum), (0, after_kill as u64));
}

/// A run over what `find` prints of the zones' directories, piped in.
fn swept_from_find(world: &World, dirs: &[&str], args: &[&str]) -> Run {
    let mut find = std::process::Command::new("find");
    find.args(dirs.iter().map(|dir| world.path(dir)).filter(|dir| dir.exists()));
    find.args(["-mindepth", "1", "-maxdepth", "1", "-print0"]);
    let mut find = find.stdout(std::process::Stdio::piped()).start().unwrap();
    let mut command =
        world.command(&[&["run", "--format", "jsonl", "-v", "--from0", "-"], args].concat());
    command.stdin(find.stdout.take().unwrap());
    let run = Run::of(command);
    assert!(find.wait().unwrap().success());
    run
}

/// A run over a list in a file.
fn swept_from_list(world: &World, list: &[u8], args: &[&str]) -> Run {
    let path = world.root.parent().unwrap().join("list");
    std::fs::write(&path, list).unwrap();
    let mut command = world.command(&[&["run", "--format", "jsonl", "-v"], args].concat());
    Run::of({
        command.arg("--from0").arg(path);
        command
    })
}

#[test]
fn what_find_lists_is_swept_as_a_pass_would() {
    for seed in 1..=3 {
        let (single, listed, dealt) = (volume(seed), volume(seed), volume(seed));
        let instances: Vec<String> = ["projects", "tasks", "jobs"]
            .iter()
            .flat_map(|kind| (0..12).map(move |id| format!("{kind}/{id}/tmp")))
            .collect();
        let mut dirs: Vec<&str> = instances.iter().map(String::as_str).collect();
        dirs.extend(["tmp", "cache/export"]);
        let whole = swept(&single, "run", &[]);
        let before = left(&listed);
        let rehearsed = swept_from_find(&listed, &dirs, &[&ZONES[..], &["--dry-run"]].concat());
        assert_eq!(left(&listed), before);
        let run = swept_from_find(&listed, &dirs, &ZONES);
        assert_eq!(left(&listed), left(&single));
        assert_eq!(removed(&listed, &run), removed(&single, &whole));
        for run in [&rehearsed, &run] {
            assert_eq!(counts(&run.exits(0).json()), counts(&whole.json()));
        }
        let mut sum = BTreeMap::new();
        for index in 0..3 {
            let shard = format!("{index}/3");
            let run = swept_from_find(&dealt, &dirs, &[&ZONES[..], &["--shard", &shard]].concat());
            added(&mut sum, &run.exits(0).json());
        }
        assert_eq!(left(&dealt), left(&single));
        // Those of the first and second shard were not there any more when the third was listed.
        assert_eq!(sum["totals.removed"], counts(&whole.json())["totals.removed"]);
    }
}

#[test]
fn a_list_gives_no_right_to_what_a_pass_would_not_touch() {
    let world = World::new();
    let outside = world.root.parent().unwrap().join("outside/tmp/x");
    std::fs::create_dir_all(outside.parent().unwrap()).unwrap();
    std::fs::write(&outside, "old").unwrap();
    crate::world::set_age(&outside, 400 * DAY);
    let fresh = world.file("tmp/tree/deep/fresh", 0);
    world.file("tmp/tree/deep/old", 400 * DAY);
    world.file("tmp/gone/deep/old", 400 * DAY);
    world.link("tmp/link", outside.parent().unwrap(), 0);
    world.file("assets/old", 400 * DAY);
    world.file("tasks/1/tmp/old", 400 * DAY);
    world.file("tasks/1/export_cache/old.zip", 400 * DAY);
    world.file("cache/export/unknown", 400 * DAY);
    world.file("cache/events/old.csv", 400 * DAY);
    world.file("tmp/kept/old", 400 * DAY);
    world.link("jobs/1", world.path("tasks/1"), 400 * DAY);
    world.age_dirs("", 400 * DAY);
    let root = world.root.to_str().unwrap().to_owned();
    let before = world.snapshot();
    let (out, up) = (outside.to_str().unwrap().to_owned(), format!("{root}/tmp/../tmp/gone"));
    let inside = fresh.to_str().unwrap().to_owned();
    let refused = [
        out.as_str(),
        "/etc/passwd",
        "/",
        "",
        ".",
        "tmp",
        "cache/export",
        "../outside/tmp/x",
        "tmp/../../outside/tmp/x",
        &up,
        &inside,
        "tmp/tree/deep/old",
        "tmp/link/x",
        "assets/old",
        "cache/events/old.csv",
        "tasks/1/tmp/old",
        "tasks/1/export_cache",
        "tmp/gone\ntmp/tree\n",
    ];
    let run = swept_from_list(&world, refused.join("\0").as_bytes(), &[]);
    run.exits(1);
    assert_eq!(run.json()["totals"]["failed"], refused.len());
    assert_eq!(world.snapshot(), before);
    for why in [
        "not under the data root",
        "list \\\"tmp/tree\\\" instead",
        "instance-tmp is not swept",
        "-print0",
    ] {
        assert!(run.stdout.contains(why), "{why}: {}", run.stdout);
    }
    // Through a link that stands for an instance.
    let run = swept_from_list(&world, b"jobs/1/tmp/old\0", &ZONES);
    assert!(run.exits(1).stdout.contains("ENOTDIR"), "{}", run.stdout);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_unit_may_be_written_in_many_ways_and_is_met_once() {
    let world = World::new();
    world.file("tmp/tree/fresh", 0);
    world.file("tmp/gone/deep/old", 400 * DAY);
    world.file("tmp/kept/old", 400 * DAY);
    world.file("cache/export/unknown", 400 * DAY);
    world.link("tmp/link", "/etc", 0);
    world.age_dirs("", 400 * DAY);
    let root = world.root.to_str().unwrap().to_owned();
    let list = format!(
        "tmp/tree\0./tmp/gone\0{root}/tmp/gone/\0tmp//gone\0tmp/kept\0cache/export/unknown\0\
         {root}/tmp/vanished\0tmp/link"
    );
    let run = swept_from_list(&world, list.as_bytes(), &["--exclude", "kept"]);
    let outcomes = run.exits(0).outcomes();
    let fate = |path: &str| outcomes[&world.path(path)].1.as_str();
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
    assert_eq!(run.json()["totals"]["seen"], 6, "twice in a list is once");
    assert_eq!(fate("tmp/gone"), "expired");
    assert_eq!(fate("tmp/tree"), "used");
    assert_eq!(fate("tmp/kept"), "excluded");
    assert_eq!(fate("tmp/link"), "fresh");
    assert_eq!(fate("tmp/vanished"), "gone");
    assert_eq!(fate("cache/export/unknown"), "unrecognized");
    assert!(!world.has("tmp/gone") && world.has("tmp/tree/fresh"));
    let missing = world.run(&["run", "--from0", "/nowhere/list"]);
    assert!(missing.exits(2).stderr.contains("/nowhere/list"));
}

#[test]
fn a_long_list_is_read_in_rounds_and_a_silent_writer_does_not_keep_it_from_stopping() {
    let world = World::new();
    let mut list = Vec::new();
    for number in 0..40_000 {
        list.extend_from_slice(format!("cache/export/{}\0", export_name(number)).as_bytes());
    }
    for number in [0, 20_000, 39_999] {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    assert!(list.len() > 2 << 20, "several rounds");
    let run = swept_from_list(&world, &list, &["--jobs", "2", "--lock", "flock"]);
    let report = run.exits(0).json();
    assert_eq!(report["totals"]["removed"], 3);
    assert_eq!(report["totals"]["spared"], 40_000 - 3, "gone");
    // Nobody writes to this pipe, and nobody closes it.
    let mut command = world.command(&["run", "--from0", "-"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.start().unwrap();
    let input = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let start = std::time::Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(start.elapsed().as_secs_f64() < 1.0);
    drop(input);
}

#[test]
fn a_million_listed_paths_are_not_held_in_memory() {
    let world = World::in_dir(Path::new("/dev/shm"));
    world.file("tmp/only-one", 20 * DAY);
    let inner = world.command(&["run", "--format", "json", "--from0", "-"]);
    let mut command = std::process::Command::new("/usr/bin/time");
    command.arg("-v").arg(inner.get_program()).args(inner.get_args());
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).start().unwrap();
    let mut to = std::io::BufWriter::new(child.stdin.take().unwrap());
    for number in 0..1_000_000 {
        write!(to, "tmp/not-there-{number}-{}\0", export_name(number)).unwrap();
    }
    write!(to, "tmp/only-one\0").unwrap();
    drop(to);
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(0).json();
    assert_eq!(report["totals"]["removed"], 1);
    assert_eq!(report["totals"]["spared"], 1_000_000);
    let line = run.stderr.lines().find(|line| line.contains("Maximum resident")).unwrap();
    let peak: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(peak < 32 * 1024, "{peak} KiB");
}

#[test]
fn the_migration_takes_lists_too() {
    let (single, listed) = (volume(2), volume(2));
    let whole = swept(&single, "legacy", &[]);
    let mut list = Vec::new();
    for entry in walkdir::WalkDir::new(&listed.root) {
        let path = entry.unwrap().into_path();
        if path.file_name().unwrap() == "export_cache" {
            list.extend_from_slice(path.strip_prefix(&listed.root).unwrap().as_os_str().as_bytes());
            list.push(0);
        }
    }
    let path = listed.path("../list");
    std::fs::write(&path, list).unwrap();
    let run = swept(&listed, "legacy", &["--from0", path.to_str().unwrap()]);
    assert_eq!(removed(&listed, &run), removed(&single, &whole));
    assert_eq!(counts(&run.json()), counts(&whole.json()));
    assert_eq!(left(&listed), left(&single));
}

/// The reports of a pass in shards, as files, and `sweeper merge` of them.
struct Reports(tempfile::TempDir);

impl Reports {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn keep(&self, name: &str, report: &str) -> &Self {
        std::fs::write(self.0.path().join(name), report).unwrap();
        self
    }

    fn merge(&self, names: &[&str], more: &[&str]) -> Run {
        let mut command = sweeper(&[&["merge"], more].concat());
        command.args(names.iter().map(|name| self.0.path().join(name)));
        Run::of(command)
    }
}

/// A report without what may differ between a sum and the report of one: failures in any order.
fn comparable(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("elapsed_s");
    let failures = report["failures"].as_array_mut().unwrap();
    failures.sort_by_key(ToString::to_string);
    report
}

#[test]
fn the_sum_of_the_reports_is_the_report_of_one() {
    let broken = |seed| {
        let world = volume(seed);
        unlink_second_names(&world);
        world.file("jobs/900/tmp/file", 30 * DAY);
        let name = std::ffi::OsStr::from_bytes(b"jobs/900/tmp/not \xff\x1b text");
        world.file(name, 30 * DAY);
        world
    };
    for (seed, count) in [(1, 3), (2, 8), (3, 1)] {
        let single = broken(seed);
        let reports = Reports::new();
        let zones = [&["run", "--format", "json"], &ZONES[..]].concat();
        let dry = single.run(&[&zones[..], &["--dry-run"]].concat());
        let mut names = Vec::new();
        for index in 0..count {
            let (shard, name) = (format!("{index}/{count}"), format!("dry-{index}"));
            let run = single.run(&[&zones[..], &["--dry-run", "--shard", &shard]].concat());
            reports.keep(&name, &run.stdout);
            names.push(name);
        }
        names.reverse();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let merged = reports.merge(&names, &["--format", "json"]);
        assert_eq!(comparable(merged.exits(0).json()), comparable(dry.json()));
        let text = reports.merge(&names, &[]);
        let table = |text: &str| text.split(" in ").next().unwrap().to_owned();
        let plain = single.run(&[&["run", "--dry-run"], &ZONES[..]].concat());
        assert_eq!(table(&text.stdout), table(&plain.stdout));
    }
}

#[test]
fn failures_are_added_too_and_the_highest_exit_code_applies() {
    let world = World::new();
    for number in 0..20 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    let mut list = String::new();
    for number in 0..150 {
        use std::fmt::Write;
        write!(list, "nowhere/{number}\0").unwrap();
    }
    let path = world.path("../list");
    std::fs::write(&path, list).unwrap();
    let list = path.to_str().unwrap();
    let args = ["run", "--format", "jsonl", "--from0", list];
    let single = world.run(&args);
    let reports = Reports::new();
    for index in 0..3 {
        let shard = format!("{index}/3");
        reports.keep(
            &index.to_string(),
            &world.run(&[&args[..], &["--shard", &shard]].concat()).stdout,
        );
    }
    let merged = reports.merge(&["0", "1", "2"], &["--format", "json"]);
    let (merged, single) = (merged.exits(1).json(), single.exits(1).json());
    assert_eq!(counts(&merged), counts(&single));
    assert_eq!(merged["totals"]["failed"], 150);
    assert_eq!(merged["failures"].as_array().unwrap().len(), 100);
}

#[test]
fn a_shard_that_was_stopped_and_run_again_counts_each_entry_once() {
    let world = World::new();
    for number in 0..60 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
        world.file(format!("cache/export/unknown-{number}"), 2 * DAY);
    }
    let args = ["run", "--format", "json", "--shard"];
    let reports = Reports::new();
    let stopped = world.run(&[&args[..], &["0/2", "--max-removals", "7"]].concat());
    reports.keep("stopped", &stopped.exits(3).stdout);
    reports.keep("other", &world.run(&[&args[..], &["1/2"]].concat()).exits(0).stdout);
    let early = reports.merge(&["stopped", "other"], &["--format", "json"]);
    assert_eq!(early.exits(3).json()["stopped"], "max_removals");
    reports.keep("again", &world.run(&[&args[..], &["0/2"]].concat()).exits(0).stdout);
    let merged = reports.merge(&["stopped", "other", "again"], &["--format", "json"]);
    let merged = merged.exits(0).json();
    assert_eq!(merged["stopped"], Value::Null);
    assert_eq!(merged["totals"]["seen"], 120);
    assert_eq!(merged["totals"]["removed"], 60);
    assert_eq!(merged["totals"]["kept"], 60);
    let some = reports.merge(&["again"], &[]);
    assert!(some.exits(3).stdout.contains("no report of the shards 1 of 2"), "{}", some.stdout);
}

#[test]
fn reports_that_are_not_parts_of_one_pass_are_not_added() {
    let world = World::new();
    let other = World::new();
    world.file("tasks/1/export_cache/old.zip", 2 * DAY);
    let run =
        |world: &World, args: &[&str]| world.run(&[args, &["--format", "json"]].concat()).stdout;
    let reports = Reports::new();
    let report = run(&world, &["run", "--shard", "0/2"]);
    reports
        .keep("0", &report)
        .keep("same", &report)
        .keep("volume", &run(&other, &["run", "--shard", "1/2"]))
        .keep("rehearsal", &run(&world, &["run", "--dry-run", "--shard", "1/2"]))
        .keep("legacy", &run(&world, &["legacy", "--shard", "1/2"]))
        .keep("zones", &run(&world, &["run", "--zones", "tmp", "--shard", "1/2"]))
        .keep("whole", &run(&world, &["run"]))
        .keep("third", &run(&world, &["run", "--shard", "1/3"]))
        .keep("schema", &report.replace("\"schema\": 1", "\"schema\": 2"))
        .keep("sum", &report.replacen("\"seen\": 0", "\"seen\": 7", 1))
        .keep("text", &world.run(&["run"]).stdout)
        .keep("empty", "");
    for (second, why) in [
        ("same", "shard 0/2, and complete"),
        ("volume", "volume: "),
        ("rehearsal", "a rehearsal: "),
        ("legacy", "command: "),
        ("zones", "zones: "),
        ("whole", "number of shards: "),
        ("third", "number of shards: "),
        ("schema", "schema 2"),
        ("sum", "do not add up"),
        ("text", "not a report"),
        ("empty", "not a report"),
        ("absent", "No such file"),
    ] {
        let merged = reports.merge(&["0", second], &[]);
        assert!(merged.exits(2).stderr.contains(why), "{second}: {}", merged.stderr);
        assert!(merged.stdout.is_empty());
    }
}
