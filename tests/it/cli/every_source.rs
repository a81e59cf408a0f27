//! Settings of the environment and of the settings file: each is checked whatever the command, and one that protects
//! something is honored or warned about.

use std::fs;
use std::path::Path;

use crate::world::{DAY, NOW, Run, World, export_name, sweeper};

/// A world with an expired export, and the export.
fn world() -> (World, std::path::PathBuf) {
    let world = World::new();
    let export = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    (world, export)
}

/// A command with one variable.
fn with(world: &World, args: &[&str], name: &str, value: &str) -> Run {
    let mut command = world.command(args);
    command.env(name, value);
    Run::of(command)
}

#[test]
fn a_wrong_value_is_refused_whatever_the_command() {
    let (world, export) = world();
    let path = export.to_str().unwrap();
    let commands = [
        &["run"][..],
        &["legacy"],
        &["usage"],
        &["why", path],
        &["plan", "-o", "/nonexistent/plan"],
        &["apply", "/nonexistent/plan"],
        &["hold", path, "--", "true"],
        &["clearml", "run"],
        &["merge", path],
        &["health", "http://127.0.0.1:1/"],
    ];
    for (name, value) in [
        ("SWEEPER_LISTEN", "99999"),
        ("SWEEPER_EVERY", "x"),
        ("SWEEPER_SCHEDULE", "x"),
        ("SWEEPER_SCHEDULE", "exprot=@daily"),
        ("SWEEPER_JITTER", "x"),
        ("SWEEPER_AT_START", "x"),
        ("SWEEPER_PRESSURE", "5"),
        ("SWEEPER_KEEP_FREE", "5"),
        ("SWEEPER_MIN_AGE", "5"),
        ("SWEEPER_PRESSURE_ZONES", "tpm"),
        ("SWEEPER_CLEARML_GRACE", "5"),
        ("SWEEPER_CLEARML_STATUS", "done"),
    ] {
        for args in commands {
            let mut command = sweeper(args);
            command.env(name, value);
            let run = Run::of(command);
            let said = &run.exits(2).stderr;
            assert!(said.contains(&format!("environment {name}")), "{args:?}: {said}");
        }
    }
    let file = world.root.with_file_name("s.toml");
    fs::write(&file, "\n[clearml]\nconnections = 0\n").unwrap();
    let run = world.run(&["run", "--config", file.to_str().unwrap()]);
    assert!(run.exits(2).stderr.contains("line 3"), "{}", run.stderr);
    assert!(export.exists());
}

#[test]
fn a_wrong_value_is_refused_also_where_another_source_wins() {
    let (world, export) = world();
    let file = world.root.with_file_name("s.toml");
    let flag = with(&world, &["run", "--ttl", "1d"], "SWEEPER_TTL", "bad");
    assert!(flag.exits(2).stderr.contains("environment SWEEPER_TTL"), "{}", flag.stderr);
    for line in ["ttl = 'bad'", "zones = ['exprot']", "exclude = ['a[b']", "lock = 'paper'"] {
        fs::write(&file, line).unwrap();
        let args = ["run", "--config", file.to_str().unwrap(), "--zones", "export", "--ttl", "1d"];
        let args = [&args[..], &["--exclude", "x", "--lock", "none"]].concat();
        let said = world.run(&args).exits(2).stderr.clone();
        assert!(said.contains("line 1"), "{line}: {said}");
    }
    fs::write(&file, "ttl = 'bad'").unwrap();
    let args = ["run", "--config", file.to_str().unwrap()];
    let variable = with(&world, &args, "SWEEPER_TTL", "1d");
    assert!(variable.exits(2).stderr.contains("line 1"), "{}", variable.stderr);
    assert!(export.exists());
    // What is wrong only together with another setting is no error where that one is not used.
    fs::write(&file, "relieve = '90%'\npressure = '95%'\nschedule = ['tmp=@daily']\n").unwrap();
    let args = ["legacy", "--config", file.to_str().unwrap()];
    with(&world, &args, "SWEEPER_ZONES", "export").exits(0);
}

#[test]
fn legacy_takes_every_guard_as_a_flag() {
    let world = World::new();
    let cache = world.dir("tasks/1/export_cache", 0);
    for guard in [&["--max-share", "50%"][..], &["--max-removals", "0"], &["--max-bytes", "0"]] {
        world.file("tasks/1/export_cache/x", 20 * DAY);
        let run = world.run(&[&["legacy"], guard].concat());
        assert!(run.exits(3).stdout.contains(guard[0]), "{}", run.stdout);
        assert!(cache.exists());
    }
    world.run(&["legacy", "--max-share", "100%"]).exits(0);
    assert!(!cache.exists());
}

#[test]
fn a_plan_and_its_application_take_as_flags_what_they_honor_as_variables() {
    let (world, listed) = world();
    let other = world.file(Path::new("cache/export").join(export_name(2)), 2 * DAY);
    let beside = |name: &str| world.root.with_file_name(name).to_str().unwrap().to_owned();
    let (list, plan, metrics) = (beside("list"), beside("plan"), beside("sweeper.prom"));
    fs::write(&list, format!("cache/export/{}\0", export_name(1))).unwrap();
    world.run(&["plan", "-o", &plan, "--from0", &list]).exits(0);
    let text = fs::read_to_string(&plan).unwrap();
    assert!(text.contains(&export_name(1)) && !text.contains(&export_name(2)), "{text}");
    let args = ["apply", &plan, "--metrics-file", &metrics];
    let said = with(&world, &args, "SWEEPER_FROM0", "/nonexistent/list");
    let words = "from0 = /nonexistent/list (environment SWEEPER_FROM0) does not apply here";
    assert!(said.exits(0).stderr.contains(words), "{}", said.stderr);
    assert!(!listed.exists() && other.exists());
    assert!(fs::read_to_string(&metrics).unwrap().contains("sweeper_removed_total"));
}

#[test]
fn a_service_says_that_it_writes_no_metrics_file() {
    let mut command = sweeper(&["serve", "--data", "/"]);
    command.env("SWEEPER_METRICS_FILE", "/nonexistent/m").env("SWEEPER_FROM0", "/nonexistent/list");
    let run = Run::of(command);
    let said = &run.exits(2).stderr;
    for (name, why) in
        [("METRICS_FILE", "a service shows its metrics"), ("FROM0", "a list of paths is")]
    {
        let words = format!("(environment SWEEPER_{name}) does not apply here: {why}");
        assert!(said.contains(&words), "{said}");
    }
}

#[test]
fn a_metrics_file_that_cannot_be_written_or_would_be_removed_is_refused_before_the_pass() {
    let (world, export) = world();
    let path = |path: &str| world.path(path).to_str().unwrap().to_owned();
    for (file, words) in [
        (path("nodir/x"), "No such file or directory; make its directory first"),
        (path(&format!("cache/export/{}/x", export_name(1))), "not a directory"),
        (path("tmp/x"), "in a directory of zone \"tmp\""),
        (path("cache/export/x"), "in a directory of zone \"export\""),
    ] {
        for args in [&["run"][..], &["run", "--dry-run"], &["legacy"]] {
            let run = world.run(&[args, &["--metrics-file", &file]].concat());
            assert!(run.exits(2).stderr.contains(words), "{file}: {}", run.stderr);
            assert!(export.exists());
        }
    }
}

#[test]
fn a_negative_or_bare_number_is_refused_by_the_name_of_its_flag() {
    let (world, export) = world();
    for (args, words) in [
        (&["--ttl", "-1d"][..], "(flag --ttl): it is not a duration"),
        (&["--retention", "-5"], "(flag --retention): it is not a duration"),
        (&["--max-removals", "-1"], "(flag --max-removals): it is not a whole number"),
        (&["--ttl", "14.5"], "(flag --ttl): a duration needs a unit: write 14.5h for hours, 14.5d"),
    ] {
        let run = world.run(&[&["run"], args].concat());
        assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    }
    // What follows `--` belongs to another program, and a switch has no value.
    let hold = ["hold", export.to_str().unwrap(), "--", "echo", "--ttl", "-1d"];
    assert_eq!(Run::of(sweeper(&hold)).exits(0).stdout, "--ttl -1d\n");
    assert!(world.run(&["run", "--dry-run", "-1"]).exits(2).stderr.contains("'-1'"));
    let legacy = world.run(&["legacy", "--nice", "--older-than", "-1"]);
    assert!(legacy.exits(2).stderr.contains("flag --older-than"), "{}", legacy.stderr);
}

#[test]
fn a_negative_number_in_a_variable_of_cvat_is_refused_and_removes_nothing() {
    let (world, export) = world();
    let fresh = world.file("tmp/fresh", 1);
    for (name, value, words) in [
        ("TMP_FILE_OR_DIR_RETENTION_DAYS", "-3", "write a number of days like 14"),
        ("CVAT_EXPORT_CACHE_TTL", "-5", "write a number of seconds like 86400"),
        ("CVAT_DATASET_CACHE_TTL", "-5", "write a number of seconds"),
        ("CVAT_EXPORT_CACHE_LOCK_TTL", "-5", "write a number of seconds"),
        ("CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT", "-5", "write a number of seconds"),
    ] {
        let mut command = sweeper(&["run", "--now", NOW, "--data"]);
        command.arg(&world.root).env(name, value);
        let run = Run::of(command);
        assert!(run.exits(2).stderr.contains(name), "{}", run.stderr);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(export.exists() && fresh.exists(), "{name}");
    }
}

#[test]
fn settings_are_shown_as_they_take_effect() {
    let args = ["config", "--format", "json", "--max-rate", "100", "--max-bytes", "1.5 GiB"];
    let more = ["--data", "rel//b/", "--cvat-data", "/a//b/", "--pressure", "85.0%"];
    let lists = ["--exclude", "a,b", "--exclude", "c", "--listen", "9108", "--audit-log", "./a//b"];
    let mut command = sweeper(&[&args[..], &more, &lists].concat());
    command.env("SWEEPER_KEEP_FREE", "50000MB").current_dir("/var");
    let json = Run::of(command).exits(0).json();
    for (key, value) in [
        ("max_rate", "100/s"),
        ("max_bytes", "1536MiB"),
        ("keep_free", "50GB"),
        ("data", "/var/rel/b"),
        ("cvat_data", "/a/b"),
        ("relieve", "85%"),
        ("listen", "127.0.0.1:9108"),
        ("audit_log", "/var/a/b"),
        ("if_running", "exit (serve: wait)"),
        ("schedule", "export=30 0,12 * * *; tmp=30 18 * * *"),
        ("exclude", "[\"a,b\", \"c\"]"),
        ("zones", "export,tmp"),
    ] {
        assert_eq!(json[key]["value"], value, "{key}");
    }
    assert_eq!(json["exclude"]["items"], serde_json::json!(["a,b", "c"]));
    assert_eq!(json["pressure_zones"]["items"], serde_json::json!([]));
    assert_eq!(json["relieve"]["origin"], "default");
    assert!(json["ttl"]["items"].is_null());
    let mut command = sweeper(&["config", "--exclude", "a,b", "--exclude", "c", "--data", "/data"]);
    command.env("SWEEPER_REDIS", "redis://r");
    let text = Run::of(command).exits(0).stdout.clone();
    assert!(text.contains("\"a,b\", \"c\""), "{text}");
    let is_own = |line: &str| line.starts_with("cvat_data ") && line.contains("\"/data\"");
    assert!(text.lines().any(is_own), "{text}");
}

#[test]
fn what_is_never_swept_is_refused_before_a_lock_is_held_and_by_config() {
    let (world, export) = world();
    let run = sweeper(&["config", "--data", "/"]);
    assert!(Run::of(run).exits(2).stderr.contains("it is the root of the file system"));
    let file = world.root.with_file_name("s.toml");
    let zone = "[[zone]]\nname = 'e'\npath = '/etc'\nentry = 'tree'\nttl = '1d'\n";
    fs::write(&file, zone).unwrap();
    let run = Run::of(sweeper(&["config", "--config", file.to_str().unwrap()]));
    let said = &run.exits(2).stderr;
    assert!(said.contains("it is a system directory") && said.contains("line 3"), "{said}");
    fs::write(&file, "[zones.tmp]\npath = '/var'\n").unwrap();
    let run = Run::of(sweeper(&["config", "--config", file.to_str().unwrap()]));
    assert!(run.exits(2).stderr.contains("it is a system directory"), "{}", run.stderr);
    let mut hold = sweeper(&["hold", export.to_str().unwrap(), "--", "echo", "ran"]);
    hold.env("SWEEPER_DATA", "/");
    let run = Run::of(hold);
    assert!(run.exits(2).stdout.is_empty() && run.stderr.contains("is refused"), "{}", run.stderr);
    // What is not there may be on another machine.
    Run::of(sweeper(&["config", "--data", "/nonexistent"])).exits(0);
}
