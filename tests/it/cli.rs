//! What users and scripts see: commands, settings and their origins, refusals, exit codes, the schema.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::start::{Start, written};
use crate::world::{DAY, HOUR, NOW, Run, World, assert_counts, export_name, sweeper, zone};

fn run(args: &[&str]) -> Run {
    Run::of(sweeper(args))
}

/// `sweeper config` in an environment.
fn config(env: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = sweeper(&["config", "--format", "json"]);
    command.args(args).envs(env.iter().copied());
    Run::of(command)
}

fn setting(run: &Run, key: &str) -> (String, String) {
    let json = run.json();
    let text = |part: &str| {
        json[key][part].as_str().unwrap_or_else(|| panic!("{key}: {json:#}")).to_owned()
    };
    (text("value"), text("origin"))
}

#[test]
fn help_says_what_there_is_and_wrong_usage_is_exit_2() {
    let help = run(&["--help"]);
    for command in ["run", "serve", "legacy", "why", "config", "demo", "hold", "completions", "man"]
    {
        assert!(help.exits(0).stdout.contains(command), "{command}");
    }
    let help = run(&["run", "--help"]);
    let flags = [
        "--data",
        "--config",
        "--dry-run",
        "--format",
        "--progress",
        "--jobs",
        "--lock",
        "--exclude",
        "--verbose",
        "--quiet",
        "--ttl",
        "--ttl-project",
        "--ttl-task",
        "--ttl-job",
        "--ttl-events",
        "--retention",
        "--tmp-age",
        "--zones",
        "--in-use",
        "--lock-wait",
        "--deadline",
        "--max-removals",
        "Exit codes",
    ];
    for flag in flags {
        assert!(help.exits(0).stdout.contains(flag), "{flag}");
    }
    assert!(!help.stdout.contains("--now"), "hidden");
    assert!(run(&["--version"]).exits(0).stdout.starts_with("sweeper "));
    for wrong in [&["run", "--nonsense"][..], &["nonsense"], &[], &["why"], &["run", "--lock", "x"]]
    {
        assert!(!run(wrong).exits(2).stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_origin_before_anything_is_opened() {
    let world = World::new();
    let file = world.file("settings.toml", 0);
    let path = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    for (flag, value) in [
        ("--ttl", "soon"),
        ("--retention", "1.5"),
        ("--jobs", "0"),
        ("--jobs", "many"),
        ("--max-removals", "-1"),
        ("--deadline", ""),
        ("--zones", "export,nonsense"),
        ("--zones", "legacy"),
        ("--exclude", "a[b"),
        ("--lock-wait", "x"),
    ] {
        let flag_value = format!("{flag}={value}");
        let run = world.run(&["run", &flag_value]);
        assert!(run.exits(2).stderr.contains(&format!("flag {flag}")), "{flag}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
    let mut command = sweeper(&["run", "--now", "yesterday", "--data"]);
    command.arg(&world.root);
    assert!(Run::of(command).exits(2).stderr.contains("flag --now"));
    for (name, value) in [
        ("SWEEPER_TTL", "soon"),
        ("CVAT_EXPORT_CACHE_TTL", "24 hours please"),
        ("CVAT_DATASET_CACHE_TTL", "-5"),
        ("TMP_FILE_OR_DIR_RETENTION_DAYS", "three"),
        ("SWEEPER_LOCK", "paper"),
        ("SWEEPER_DRY_RUN", "perhaps"),
    ] {
        let mut command = world.command(&["run"]);
        command.env(name, value);
        let run = Run::of(command);
        assert!(run.exits(2).stderr.contains(&format!("environment {name}")), "{}", run.stderr);
    }
    for (text, word) in [
        ("ttl = 'soon'", "ttl"),
        ("tttl = '5h'", "there is no setting"),
        ("ttl = 1.5", "ttl"),
        ("ttl = [1]", "ttl"),
        ("not toml", "TOML"),
        ("now = '2026-01-01T00:00:00Z'", "there is no setting"),
    ] {
        std::fs::write(&file, text).unwrap();
        let run = world.run(&["run", "--config", file.to_str().unwrap()]);
        assert!(run.exits(2).stderr.contains("settings.toml"), "{}", run.stderr);
        assert!(run.stderr.contains(word), "{text}: {}", run.stderr);
    }
    let run = world.run(&["run", "--config", "/no/such/file"]);
    assert!(run.exits(2).stderr.contains("/no/such/file"), "{}", run.stderr);
    assert!(path.exists(), "nothing was done");
}

#[test]
fn every_value_knows_where_it_came_from() {
    let world = World::new();
    let file = world.file_of(
        "s.toml",
        0,
        b"ttl = 7200\nttl_job = '2h'\nexclude = ['a*', 'b*']\ndry_run = true\n",
    );
    let file = file.to_str().unwrap();
    let defaults = config(&[], &[]);
    defaults.exits(0);
    for (key, value) in
        [("ttl", "24h"), ("retention", "14d"), ("zones", "export,tmp"), ("lock", "auto")]
    {
        assert_eq!(setting(&defaults, key), (value.to_owned(), "default".to_owned()));
    }
    assert_eq!(setting(&defaults, "ttl_task").0, "24h", "as ttl");

    let from_file = config(&[], &["--config", file]);
    assert_eq!(setting(&from_file, "ttl"), ("7200".to_owned(), format!("file {file:?}")));
    assert_eq!(setting(&from_file, "exclude").0, "a* b*");
    assert_eq!(setting(&from_file, "dry_run").0, "true");

    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("TMP_FILE_OR_DIR_RETENTION_DAYS", "3")];
    let from_env = config(&env, &["--config", file]);
    assert_eq!(
        setting(&from_env, "ttl"),
        ("3600".to_owned(), "environment CVAT_EXPORT_CACHE_TTL".to_owned())
    );
    assert_eq!(setting(&from_env, "retention").0, "3d");
    // A class's own value in the weaker file does not outlive a stronger common one.
    assert_eq!(setting(&from_env, "ttl_job").0, "3600");

    // The deprecated name wins over the current one, as in CVAT, and is warned about.
    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("CVAT_DATASET_CACHE_TTL", "1800")];
    let deprecated = config(&env, &[]);
    assert_eq!(setting(&deprecated, "ttl").0, "1800");
    assert!(deprecated.stderr.contains("CVAT_DATASET_CACHE_TTL is deprecated"));

    // Ours over CVAT's, a flag over everything.
    let env = [("SWEEPER_TTL", "5h"), ("CVAT_DATASET_CACHE_TTL", "1800")];
    assert_eq!(setting(&config(&env, &[]), "ttl").0, "5h");
    let flag = config(&env, &["--ttl", "36h", "--ttl-job", "1h", "--config", file]);
    assert_eq!(setting(&flag, "ttl"), ("36h".to_owned(), "flag --ttl".to_owned()));
    assert_eq!(setting(&flag, "ttl_job"), ("1h".to_owned(), "flag --ttl-job".to_owned()));
    assert_eq!(setting(&flag, "ttl_task"), ("36h".to_owned(), "flag --ttl".to_owned()));

    // An empty variable is as good as none, as compose files make them.
    assert_eq!(setting(&config(&[("SWEEPER_TTL", "")], &[]), "ttl").1, "default");
    let text = run(&["config"]);
    assert!(text.exits(0).stdout.contains("ttl_project"), "{}", text.stdout);
}

#[test]
fn the_settings_do_what_they_say() {
    let world = World::new();
    for hours in [1, 3, 5, 30] {
        world
            .file(Path::new("cache/export").join(export_name(hours)), i64::from(hours) * HOUR + 60);
    }
    let removed = |env: &[(&str, &str)], args: &[&str]| {
        let mut command =
            world.command(&[&["run", "--dry-run", "--format", "json"], args].concat());
        command.envs(env.iter().copied());
        Run::of(command).exits(0).json()["totals"]["removed"].as_u64().unwrap()
    };
    assert_eq!(removed(&[], &[]), 1);
    assert_eq!(removed(&[], &["--ttl", "4h"]), 2);
    assert_eq!(removed(&[("CVAT_EXPORT_CACHE_TTL", "7200")], &[]), 3);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &[]), 4);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &["--exclude", "task-1-*"]), 3);
    assert_eq!(removed(&[("SWEEPER_TTL", "0"), ("SWEEPER_EXCLUDE", "./cache/export/**")], &[]), 0);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &["--zones", "cron_tmp_directory_cleanup"]), 0);
    assert_eq!(removed(&[], &["--zones", "cron_export_cache_directory_cleanup"]), 1);
    let mut command = world.command(&["run"]);
    command.env("SWEEPER_DRY_RUN", "1");
    assert!(Run::of(command).exits(0).stdout.contains("nothing was removed"));
    assert!(world.path("cache/export").join(export_name(30)).exists());
}

#[test]
fn dangerous_and_wrong_data_roots_are_refused() {
    let refused = |data: &Path, home: Option<&Path>| {
        let mut command = sweeper(&["run", "--data"]);
        command.arg(data);
        if let Some(home) = home {
            command.env("HOME", home);
        }
        let run = Run::of(command);
        run.exits(2);
        assert!(run.stdout.is_empty());
        run.stderr
    };
    assert!(refused(Path::new("/"), None).contains("root of the file system"));
    assert!(refused(Path::new("/../"), None).contains("root of the file system"));
    let world = World::new();
    assert!(refused(&world.root, Some(&world.root)).contains("home directory"));
    assert!(refused(Path::new("/no/such"), None).contains("/no/such"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path(), None).contains("neither cache/export nor tmp"));
    // One level off is the usual mistake, and the right one is named.
    let inside = world.path("cache/export");
    assert!(refused(&inside, None).contains(&format!("did you mean {:?}", world.root)));
    assert!(refused(world.root.parent().unwrap(), None).contains(&format!("{:?}", world.root)));
    // A root that contains the running program.
    let copy = world.path("bin/sweeper");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    written(|| std::fs::copy(env!("CARGO_BIN_EXE_sweeper"), &copy)).unwrap();
    let run = Command::new(&copy).args(["run", "--data"]).arg(&world.root).finish();
    let run = Run::from(run.unwrap());
    assert!(run.exits(2).stderr.contains("contains this program"), "{}", run.stderr);
}

#[test]
fn the_data_root_is_looked_for_where_cvat_has_it() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let base = world.root.parent().unwrap();
    let mut by_env = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_env.env("CVAT_BASE_DIR", base);
    assert_eq!(Run::of(by_env).exits(0).json()["volume"], world.root.to_str().unwrap());
    let mut by_ours = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_ours.env("CVAT_BASE_DIR", "/nowhere").env("SWEEPER_DATA", &world.root);
    Run::of(by_ours).exits(0);
    let mut by_cwd = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_cwd.current_dir(base);
    assert_counts(&Run::of(by_cwd).exits(0).json(), "export", &[("removed", 1)]);
    // A root that was named and is none is not passed over for the next.
    let mut named = sweeper(&["run", "--data", "/nowhere"]);
    named.current_dir(base);
    Run::of(named).exits(2);
    let empty = tempfile::tempdir().unwrap();
    let mut nowhere = sweeper(&["run"]);
    nowhere.current_dir(empty.path()).env("CVAT_BASE_DIR", "/none");
    let run = Run::of(nowhere);
    for tried in ["/none/data", "./data", "/home/django/data", "--data"] {
        assert!(run.exits(2).stderr.contains(tried), "{tried}: {}", run.stderr);
    }
}

#[test]
fn a_missing_zone_is_said_once_and_is_no_error() {
    let world = World::new();
    std::fs::remove_dir(world.path("cache/export")).unwrap();
    world.file("tmp/old", 20 * DAY);
    let run = world.run(&["run", "--format", "json", "--zones", "export,tmp,instance-tmp"]);
    let report = run.exits(0).json();
    for name in ["export", "instance-tmp"] {
        let notes = zone(&report, name)["notes"].to_string();
        assert_eq!(notes.matches("not there").count(), 1, "{notes}");
        assert_counts(&report, name, &[("seen", 0)]);
    }
    assert_counts(&report, "tmp", &[("removed", 1)]);
}

#[test]
fn the_report_has_the_fields_of_schema_1() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let mut top = keys(&report);
    top.sort();
    assert_eq!(
        top,
        [
            "command",
            "elapsed_s",
            "exit",
            "failures",
            "now",
            "rehearsal",
            "schema",
            "stopped",
            "totals",
            "volume",
            "zones"
        ]
    );
    assert_eq!(report["schema"], 1);
    assert_eq!(report["command"], "run");
    assert_eq!(report["now"], NOW);
    assert_eq!(report["exit"], 0);
    assert_eq!(report["failures"], Value::Array(vec![]));
    let export = zone(&report, "export");
    for key in [
        "zone",
        "root",
        "seen",
        "removed",
        "kept",
        "spared",
        "failed",
        "kept_by",
        "spared_by",
        "freed_bytes",
        "notes",
    ] {
        assert!(!export[key].is_null(), "{key}");
    }
    for key in ["fresh", "unrecognized", "not_a_file", "excluded"] {
        assert_eq!(export["kept_by"][key], 0);
    }
    for key in ["busy", "in_use", "used", "replaced", "gone"] {
        assert_eq!(export["spared_by"][key], 0);
    }
    assert_eq!(export["root"], world.path("cache/export").to_str().unwrap());
    for key in ["seen", "removed", "kept", "spared", "failed", "freed_bytes"] {
        assert_eq!(report["totals"][key], export[key]);
    }

    world.file(Path::new("cache/export").join(export_name(2)), 2 * DAY);
    world.file(Path::new("cache/export").join(export_name(3)), HOUR);
    let jsonl = world.run(&["run", "--format", "jsonl"]);
    let lines: Vec<Value> =
        jsonl.exits(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "kept entries only with -v, and the summary last");
    let line = &lines[0];
    assert_eq!(line["zone"], "export");
    assert_eq!(line["fate"], "removed");
    assert_eq!(line["age_s"], 2 * DAY);
    assert_eq!(line["ttl_s"], DAY);
    assert!(line["bytes"].as_u64().unwrap() >= 512, "allocated blocks: {line}");
    assert!(line["path"].as_str().unwrap().ends_with(&export_name(2)));
    assert!(line.get("path_hex").is_none());
    assert_eq!(lines[1]["schema"], 1);
}

#[test]
fn freed_bytes_are_blocks_and_a_hard_link_counts_once() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let whole = world.file_of("tmp/whole", 20 * DAY, &vec![7; 100_000]);
    let sparse = world.file_of("tmp/sparse", 20 * DAY, b"");
    // As TUS makes its uploads: one byte at the end.
    let handle = std::fs::OpenOptions::new().write(true).open(&sparse).unwrap();
    std::os::unix::fs::FileExt::write_at(&handle, b"x", 25 << 30).unwrap();
    drop(handle);
    crate::world::set_age(&sparse, 20 * DAY);
    let blocks = |path: &Path| path.metadata().unwrap().blocks() * 512;
    let expected = blocks(&whole) + blocks(&sparse);
    assert!(expected < 1 << 20, "{expected}");
    // Three names of one file, one of them in a tree.
    std::fs::create_dir_all(world.path("tmp/tree")).unwrap();
    let linked = world.file_of("tmp/linked", 20 * DAY, &vec![7; 50_000]);
    let tree_blocks = blocks(&world.path("tmp/tree"));
    std::fs::hard_link(&linked, world.path("tmp/second")).unwrap();
    std::fs::hard_link(&linked, world.path("tmp/tree/third")).unwrap();
    // And a file whose other name stays.
    let shared = world.file_of("tmp/shared", 20 * DAY, &vec![7; 90_000]);
    std::fs::hard_link(&shared, world.path("stays")).unwrap();
    world.age_dirs("tmp", 20 * DAY);
    let expected = expected + blocks(&linked) + tree_blocks;
    for args in [&["--dry-run"][..], &[]] {
        let run = world.run(&[&["run", "--zones", "tmp", "--format", "json"], args].concat());
        assert_counts(&run.exits(0).json(), "tmp", &[("removed", 6), ("freed_bytes", expected)]);
    }
}

#[test]
fn the_names_of_cvats_command_are_the_migration() {
    let world = World::new();
    for name in ["exportcachecleanup", "cleanuplegacyexportcache"] {
        world.file("projects/1/export_cache/x", DAY);
        world.file("tasks/2/tmp/export_cache/x", DAY);
        let link = world.root.parent().unwrap().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sweeper"), &link).unwrap();
        let run = Run::from(
            Command::new(&link).env_clear().arg("--data").arg(&world.root).finish().unwrap(),
        );
        assert!(run.exits(0).stdout.contains("removed 2 of 2"), "{}", run.stdout);
        // No terminal: plain lines that say where it is, and no crash.
        for collection in ["projects", "tasks"] {
            assert_eq!(run.stderr.matches(&format!("{collection}: looking")).count(), 1);
            let end = format!("{collection}: 1 looked at, 1 gone");
            assert!(run.stderr.contains(&end), "{}", run.stderr);
        }
        assert!(run.stderr.ends_with('\n') && !run.stderr.contains('\r'));
        assert!(!world.has("projects/1/export_cache") && world.has("projects/1"));
    }
    world.file("projects/1/export_cache/x", DAY);
    let typed = world.run(&["exportcachecleanup", "--format", "json"]);
    assert_eq!(typed.exits(0).json()["command"], "legacy");
}

#[test]
fn why_says_rule_use_lock_and_verdict() {
    let world = World::new();
    let why = |path: &Path, args: &[&str]| {
        let mut command = world.command(&["why"]);
        command.args(args).arg(path);
        Run::of(command)
    };
    let old = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let said = why(&old, &[]);
    for word in
        ["dataset of task 1 as coco-10", "older than 1d", "2d ago", "free", "would remove it"]
    {
        assert!(said.exits(0).stdout.contains(word), "{word}: {}", said.stdout);
    }
    assert!(old.exists());
    let open = std::fs::File::open(&old).unwrap();
    assert!(why(&old, &[]).stdout.contains("somebody has it open"));
    drop(open);
    let fresh = world.file(Path::new("cache/export").join(export_name(2)), 23 * HOUR);
    let said = why(&fresh, &[]).stdout;
    assert!(said.contains("would keep it") && said.contains("in 1h"), "{said}");
    let odd = world.file("cache/export/notes.txt", 2 * DAY);
    assert!(why(&odd, &[]).stdout.contains("CVAT does not write such names"));
    let deep = world.file("tmp/tree/a/b", 20 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let said = why(&deep, &[]).stdout;
    assert!(said.contains("judged as a whole") && said.contains("would remove it"), "{said}");
    let media = world.file("data/1/a.jpg", 20 * DAY);
    assert!(why(&media, &[]).stdout.contains("in no zone"));
    assert!(why(Path::new("/etc/hostname"), &[]).stdout.contains("not under the data root"));
    let cache = world.file("projects/3/export_cache/dataset_x.ZIP", 20 * DAY);
    assert!(why(&cache, &[]).stdout.contains("goes whatever its age"));
    assert!(why(&world.path("tmp/none"), &[]).exits(1).stdout.contains("No such file"));
    let said = why(&deep, &["--retention", "30d"]).stdout;
    assert!(said.contains("would keep it"), "{said}");
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
    // Every entry that stayed is explained.
    for line in left.lines().filter(|line| line.contains('"')) {
        let path = line.split('"').nth(1).unwrap();
        let unit = path.split('/').take(2).collect::<Vec<_>>().join("/");
        assert!(why.contains(path) || why.contains(&unit), "{path}: {why}");
    }
    for reason in ["somebody holds a lock", "open", "more recently", "unknown is kept"] {
        assert!(why.contains(reason), "{reason}: {why}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn completions_and_the_manual_know_every_flag() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).exits(0).stdout.contains("max-removals"), "{shell}");
    }
    let man = run(&["man"]);
    for word in ["sweeper", "max\\-removals", "older\\-than", "hold", "legacy"] {
        assert!(man.exits(0).stdout.contains(word), "{word}");
    }
}

#[test]
fn quiet_says_nothing_when_all_is_well_and_something_when_not() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let run = world.run(&["run", "-q"]);
    assert_eq!((run.exits(0).stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert!(!world.has("tmp/old"));
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/older", 20 * DAY);
    let run = world.run(&["run", "-q", "--max-removals", "1"]);
    assert!(run.exits(3).stdout.contains("stopped"), "{}", run.stdout);
}

#[test]
fn verbose_names_every_entry_and_says_why() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/new", HOUR);
    let run = world.run(&["run", "-v"]);
    assert!(run.exits(0).stderr.contains("removed"), "{}", run.stderr);
    for words in ["tmp/old\": unused for 20d of 14d", "tmp/new\": unused for 1h of 14d, fresh"] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[test]
fn progress_is_drawn_on_a_terminal_only_and_never_on_stdout() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let plain = world.run(&["run"]);
    assert_eq!(plain.exits(0).stderr, "");
    let lines = world.run(&["run", "--progress", "always"]);
    assert!(lines.exits(0).stderr.contains("tmp"), "{}", lines.stderr);
    assert!(!lines.stderr.contains('\x1b') && !lines.stderr.contains('\r'));
    // `script` gives it a terminal.
    world.file("projects/1/export_cache/x", DAY);
    let inner = world.command(&["legacy"]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let drawn = Run::from(script.finish().unwrap());
    assert!(drawn.exits(0).stdout.contains("projects: 1 looked at"), "{:?}", drawn.stdout);
    assert!(drawn.stdout.contains('\x1b') || drawn.stdout.contains('\r'));
}
