//! What explains a pass: `sweeper why` and `sweeper demo`.

use std::path::Path;

use crate::world::{DAY, HOUR, Run, World, export_name, sweeper};

#[test]
fn why_names_rule_times_lock_and_verdict() {
    let world = World::new();
    let why = |path: &Path, args: &[&str]| {
        let mut command = world.command(&["why"]);
        command.args(args).arg(path);
        Run::of(command)
    };
    let old = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let said = why(&old, &[]);
    for words in [
        "zone      export",
        "dataset of task 1, format coco-10",
        "expires when its mtime is older than 1d",
        "2d ago",
        "expires   2026-01-01T03:04:05Z (1d ago)",
        "lock      flock: free; CVAT's lock was not looked at",
        "would remove it",
    ] {
        assert!(said.exits(0).stdout.contains(words), "{words}: {}", said.stdout);
    }
    assert!(old.exists());
    let open = std::fs::File::open(&old).unwrap();
    assert!(why(&old, &[]).stdout.contains("another process has it, or something in it, open"));
    drop(open);
    let locked = std::fs::File::open(&old).unwrap();
    fs2::FileExt::lock_exclusive(&locked).unwrap();
    let said = why(&old, &[]).stdout;
    let own = format!("lock      held by process {} (", std::process::id());
    assert!(said.contains(&own), "{said}");
    assert!(said.contains("would skip it: another process holds a lock on it"), "{said}");
    drop(locked);
    let fresh = world.file(Path::new("cache/export").join(export_name(2)), 23 * HOUR);
    let said = why(&fresh, &[]).stdout;
    assert!(said.contains("would keep it: it has not expired yet"), "{said}");
    assert!(said.contains("expires   2026-01-02T04:04:05Z (in 1h)"), "{said}");
    let odd = world.file("cache/export/notes.txt", 2 * DAY);
    assert!(why(&odd, &[]).stdout.contains("anything unknown is kept"));
    let deep = world.file("tmp/tree/a/b", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let said = why(&deep, &[]).stdout;
    assert!(said.contains("judged as a whole") && said.contains("would remove it"), "{said}");
    let media = world.file("data/1/a.jpg", 20 * DAY);
    assert!(why(&media, &[]).stdout.contains("in no zone"));
    assert!(why(Path::new("/etc/hostname"), &[]).stdout.contains("not below the data root"));
    let cache = world.file("projects/3/export_cache/dataset_x.ZIP", 20 * DAY);
    assert!(why(&cache, &[]).stdout.contains("expires at once, whatever its age"));
    assert!(why(&world.path("tmp/none"), &[]).exits(1).stdout.contains("No such file"));
    let said = why(&deep, &["--retention", "30d"]).stdout;
    assert!(said.contains("would keep it"), "{said}");
}

#[test]
fn each_expiry_is_told_once_in_text_and_the_same_in_json() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    world.file("tmp/old/file", 20 * DAY);
    world.file("tmp/used/file", DAY);
    world.age_dirs("tmp", 20 * DAY);
    let paths =
        [format!("cache/export/{}", export_name(1)), "tmp/old".into(), "tmp/used".to_owned()];
    let why = |format: &str, path: &str| {
        let mut command = world.command(&["why", "--format", format, path]);
        // The paths are relative to it, and in the answer they are not.
        command.current_dir(&world.root);
        Run::of(command)
    };
    for path in &paths {
        let answer = why("json", path).exits(0).json()["paths"][0].clone();
        assert_eq!(answer["path"], world.path(path).to_str().unwrap());
        let expires = answer["expires"].as_str().unwrap().to_owned();
        assert!(answer["details"]["expires"].as_str().unwrap().starts_with(&expires), "{answer}");
        let said = why("text", path).stdout;
        assert_eq!(said.matches("  expires   ").count(), 1, "{said}");
        assert!(said.contains(&format!("  expires   {expires}")), "{expires}: {said}");
    }
}

#[test]
fn why_answers_for_programs() {
    let world = World::new();
    let old = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let fresh = world.file("tmp/fresh", DAY);
    let kept = world.file("tmp/kept", 20 * DAY);
    let none = world.path("tmp/none");
    let mut command = world.command(&["why", "--format", "json", "--exclude", "kept"]);
    command.args([&old, &fresh, &kept, &none, Path::new("/etc/hostname")]);
    let run = Run::of(command);
    let report = run.exits(1).json();
    assert_eq!((&report["schema"], &report["command"]), (&1.into(), &"why".into()));
    assert_eq!(report["data_root"], world.root.to_str().unwrap());
    let answers = report["paths"].as_array().unwrap();
    let wanted = [
        ("would_remove", Some("expired"), Some("export")),
        ("kept", Some("fresh"), Some("tmp")),
        ("kept", Some("excluded"), Some("tmp")),
        ("unknown", None, None),
        ("never_touched", None, None),
    ];
    assert_eq!(answers.len(), wanted.len());
    for (answer, (verdict, reason, zone)) in answers.iter().zip(wanted) {
        assert_eq!(answer["verdict"], verdict, "{answer:#}");
        assert_eq!(answer["reason"].as_str(), reason, "{answer:#}");
        assert_eq!(answer["zone"].as_str(), zone, "{answer:#}");
    }
    assert_eq!(answers[0]["path"], old.to_str().unwrap());
    assert_eq!((&answers[1]["age_s"], &answers[1]["ttl_s"]), (&DAY.into(), &(14 * DAY).into()));
    assert_eq!(answers[1]["expires"], "2026-01-15T03:04:05Z");
    let lock = answers[0]["details"]["lock"].as_str().unwrap();
    assert!(lock.starts_with("flock: free; "), "{lock}");
}

#[test]
fn why_knows_exceptions_directories_of_zones_and_moments_that_have_passed() {
    let world = World::new();
    let why = |path: &str, args: &[&str]| {
        let mut command = world.command(&["why"]);
        command.args(args).arg(world.path(path));
        Run::of(command).exits(0).stdout.clone()
    };
    // The file system's own directory is an exception, so the rule of the zone is not its rule.
    world.dir("tmp/lost+found", 400 * DAY);
    let said = why("tmp/lost+found", &[]);
    assert!(said.contains("does not recognize it"), "{said}");
    assert!(!said.contains("rule ") && !said.contains("expires"), "{said}");
    world.dir("tasks/7/tmp", 0);
    for (path, zone) in
        [("tmp", "zone tmp"), ("cache/export", "zone export"), ("tasks/7/tmp", "instance-tmp")]
    {
        let said = why(path, &[]);
        assert!(
            said.contains("never removed: it holds entries of") && said.contains(zone),
            "{said}"
        );
    }
    assert!(why("", &[]).contains("never removed: it is the data root"));
    world.file("tmp/old", 20 * DAY);
    let said = why("tmp/old", &["--exclude", "old"]);
    assert!(said.contains("expires   2025-12-27T03:04:05Z (6d ago)"), "{said}");
}

#[test]
fn the_demo_shows_sweeps_explains_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = sweeper(&["demo"]);
    command.env("TMPDIR", scratch.path());
    let run = Run::of(command);
    let (before, after) = run.exits(0).stdout.split_once("What is left").unwrap();
    let (left, why) = after.split_once("Why it stayed").unwrap();
    assert!(before.contains("project-3-backup") && !left.contains("project-3-backup"));
    // Each command that is shown has a report of its own.
    let (of_run, of_legacy) = before.split_once("\n$ sweeper legacy --data ").unwrap();
    assert!(
        of_run.contains("\n$ sweeper run --data ") && !of_run.contains("\nlegacy "),
        "{of_run}"
    );
    for report in [of_run, of_legacy] {
        assert_eq!(report.matches("zone ").count(), 1, "{report}");
        assert!(report.trim_end().ends_with(" s"), "{report}");
    }
    // Every entry that stayed is explained.
    for line in left.lines().filter(|line| line.contains('"')) {
        let path = line.split('"').nth(1).unwrap();
        let entry = path.split('/').take(2).collect::<Vec<_>>().join("/");
        assert!(why.contains(path) || why.contains(&entry), "{path}: {why}");
    }
    for reason in ["another process holds a lock", "open", "more recently", "unknown is kept"] {
        assert!(why.contains(reason), "{reason}: {why}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
