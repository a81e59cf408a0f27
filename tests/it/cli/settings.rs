//! Settings: sources and origins, refusals, and what the settings do.

use std::path::Path;

use super::run;
use crate::world::{DAY, HOUR, Run, World, assert_counts, export_name, sweeper};

/// `sweeper config` in an environment.
fn config(env: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = sweeper(&["config", "--format", "json"]);
    command.args(args).envs(env.iter().copied());
    Run::of(command)
}

/// The value of a setting and its origin.
fn setting(run: &Run, key: &str) -> (String, String) {
    let json = run.json();
    let text = |part: &str| {
        json[key][part].as_str().unwrap_or_else(|| panic!("{key}: {json:#}")).to_owned()
    };
    (text("value"), text("origin"))
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
        ("CVAT_DATASET_CACHE_TTL", "-five"),
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
        assert!(run.stderr.contains("line 1") && run.stderr.contains(word), "{}", run.stderr);
    }
    let run = world.run(&["run", "--config", "/no/such/file"]);
    assert!(run.exits(2).stderr.contains("/no/such/file"), "{}", run.stderr);
    assert!(path.exists(), "nothing was done");
}

#[test]
fn a_duration_without_a_unit_is_refused_and_each_reading_is_offered() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    for (setting, value) in [("retention", "14"), ("ttl", "86400"), ("deadline", "5")] {
        let flag = format!("--{setting}={value}");
        let by_flag = world.run(&["run", &flag]);
        let mut by_env = world.command(&["run"]);
        by_env.env(format!("SWEEPER_{}", setting.to_uppercase()), value);
        for run in [&by_flag, &Run::of(by_env)] {
            let offered =
                format!("write {value}h for hours, {value}d for days or {value}s for seconds");
            assert!(run.exits(2).stderr.contains(&offered), "{}", run.stderr);
            assert!(run.stdout.is_empty());
        }
    }
    assert!(world.has("tmp/old"));
    // Zero is the same in every unit.
    let none = world.run(&["run", "--retention", "0", "--format", "json"]);
    assert_counts(&none.exits(0).json(), "tmp", &[("removed", 1)]);
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_the_closest_one_named() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    for (name, closest) in
        [("SWEEPER_DRYRUN", "SWEEPER_DRY_RUN"), ("SWEEPER_RETENTON", "SWEEPER_RETENTION")]
    {
        for command in ["run", "legacy"] {
            let mut command = world.command(&[command]);
            command.env(name, "1");
            let run = Run::of(command);
            assert!(run.exits(2).stderr.contains(name), "{}", run.stderr);
            assert!(run.stderr.contains(&format!("did you mean {closest}?")), "{}", run.stderr);
            assert!(run.stdout.is_empty());
        }
    }
    assert!(world.has("tmp/old"), "nothing was removed");
    // Kubernetes sets such variables for a service called `sweeper`.
    let mut command = world.command(&["run"]);
    command.env("SWEEPER_SERVICE_HOST", "10.0.0.7").env("SWEEPER_PORT", "tcp://10.0.0.7:9108");
    Run::of(command).exits(0);
    assert!(!world.has("tmp/old"));
}

#[test]
fn every_value_knows_where_it_came_from() {
    let world = World::new();
    let file = world.file_of(
        "s.toml",
        0,
        b"ttl = '2h'\nttl_job = '30m'\nexclude = ['a*', 'b*']\ndry_run = true\n",
    );
    let file = file.to_str().unwrap();
    let defaults = config(&[], &[]);
    defaults.exits(0);
    for (key, value) in
        [("ttl", "1d"), ("retention", "14d"), ("zones", "export,tmp"), ("lock", "auto")]
    {
        assert_eq!(setting(&defaults, key), (value.to_owned(), "default".to_owned()));
    }
    assert_eq!(setting(&defaults, "ttl_task").0, "1d", "as ttl");

    let from_file = config(&[], &["--config", file]);
    assert_eq!(setting(&from_file, "ttl"), ("2h".to_owned(), format!("file {file:?}, line 1")));
    assert_eq!(setting(&from_file, "ttl_job").0, "30m");
    assert_eq!(setting(&from_file, "exclude").0, "a*,b*");
    assert_eq!(
        setting(&from_file, "dry_run"),
        ("true".to_owned(), format!("file {file:?}, line 4"))
    );

    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("TMP_FILE_OR_DIR_RETENTION_DAYS", "3")];
    let from_env = config(&env, &["--config", file]);
    assert_eq!(
        setting(&from_env, "ttl"),
        ("1h".to_owned(), "environment CVAT_EXPORT_CACHE_TTL".to_owned())
    );
    assert_eq!(setting(&from_env, "retention").0, "3d");
    // The value of a class in the weaker file does not win over a stronger common one.
    assert_eq!(setting(&from_env, "ttl_job").0, "1h");

    // The deprecated name wins over the current one, as in CVAT, with a warning.
    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("CVAT_DATASET_CACHE_TTL", "1800")];
    let deprecated = config(&env, &[]);
    assert_eq!(setting(&deprecated, "ttl").0, "30m");
    assert!(deprecated.stderr.contains("CVAT_DATASET_CACHE_TTL is deprecated"));

    // Our variable wins over CVAT's, and a flag over everything.
    let env = [("SWEEPER_TTL", "5h"), ("CVAT_DATASET_CACHE_TTL", "1800")];
    assert_eq!(setting(&config(&env, &[]), "ttl").0, "5h");
    let flag = config(&env, &["--ttl", "36h", "--ttl-job", "1h", "--config", file]);
    assert_eq!(setting(&flag, "ttl"), ("1d 12h".to_owned(), "flag --ttl".to_owned()));
    assert_eq!(setting(&flag, "ttl_job"), ("1h".to_owned(), "flag --ttl-job".to_owned()));
    assert_eq!(setting(&flag, "ttl_task"), ("1d 12h".to_owned(), "flag --ttl".to_owned()));

    // An empty variable counts as unset: compose files set those that are not given.
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
    assert_eq!(removed(&[("CVAT_DATASET_CACHE_TTL", "0")], &[]), 4);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &[]), 4);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &["--exclude", "task-1-*"]), 3);
    assert_eq!(removed(&[("SWEEPER_TTL", "0"), ("SWEEPER_EXCLUDE", "./cache/export/**")], &[]), 0);
    assert_eq!(removed(&[("SWEEPER_TTL", "0")], &["--zones", "cron_tmp_directory_cleanup"]), 0);
    assert_eq!(removed(&[], &["--zones", "cron_export_cache_directory_cleanup"]), 1);
    assert_eq!(removed(&[], &["--zones", "cleanup_instance_tmp_directories"]), 0);
    let mut command = world.command(&["run"]);
    command.env("SWEEPER_DRY_RUN", "1");
    assert!(Run::of(command).exits(0).stdout.contains("nothing was removed"));
    assert!(world.path("cache/export").join(export_name(30)).exists());
}

#[test]
fn a_glob_that_matched_nothing_is_noted_and_one_that_can_match_nothing_is_refused() {
    let world = World::new();
    world.file("tmp/x/keep", 20 * DAY);
    world.file("tmp/fresh", HOUR);
    world.age_dirs("tmp", 20 * DAY);
    // An absolute path protects nothing.
    let absolute = format!("{}/**", world.path("tmp/x").display());
    let run = world.run(&["run", "--exclude", &absolute]);
    assert!(run.exits(2).stderr.contains("a glob with a / is relative to the data root"));
    assert!(world.has("tmp/x/keep"));
    let globs =
        ["--exclude", "tmp", "--exclude", "fresh", "--exclude", "x", "--exclude", "tmp/nothing-*"];
    let notes = |extra: &[&str]| {
        let run = world.run(&[&["run", "--format", "json"], &globs[..], extra].concat());
        let zones = run.json()["zones"].clone();
        let all =
            zones.as_array().unwrap().iter().flat_map(|zone| zone["notes"].as_array().unwrap());
        all.filter(|note| note.to_string().contains("matched no entry"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let [directory, nothing] = &notes(&[])[..] else { panic!("{:?}", notes(&[])) };
    let directory = directory.as_str().unwrap();
    assert!(directory.starts_with("--exclude \"tmp\" matched no entry: "), "{directory}");
    assert!(directory.contains("write \"tmp/**\""), "{directory}");
    assert_eq!(nothing, "--exclude \"tmp/nothing-*\" matched no entry");
    assert!(world.has("tmp/x/keep"), "it is excluded");
    // What sees only a part of the entries cannot say so.
    for extra in [&["--shard", "0/2"][..], &["--max-removals", "0"], &["--from0", "/dev/null"]] {
        world.file("tmp/old", 20 * DAY);
        assert!(notes(extra).is_empty(), "{extra:?}");
    }
}

#[test]
fn an_exclusion_of_a_directory_of_entries_does_not_pass_in_silence() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    world.file("cache/000/00/a.val", 20 * DAY);
    world.age_dirs("cache/000", 20 * DAY);
    let run = |glob: &str, extra: &[&str]| {
        let args = ["run", "--dry-run", "--format", "json", "--exclude", glob];
        world.run(&[&args[..], extra].concat())
    };
    // What can match no entry is refused, with what to write.
    for (glob, all) in [
        ("cache/export", "cache/export/**"),
        ("cache/export/", "cache/export/**"),
        ("./cache//export", "cache/export/**"),
        ("cache/", "cache/**"),
        ("cache/*", "cache/*/**"),
        ("cache/e*/", "cache/e*/**"),
        ("./tmp", "tmp/**"),
    ] {
        let refused = run(glob, &[]);
        let advice = format!("and not an entry: exclude {all:?}");
        assert!(refused.exits(2).stderr.contains(&advice), "{glob}: {}", refused.stderr);
    }
    run("cache/x", &[]).exits(2);
    // In a variable, it may be meant for other zones.
    let mut command = world.command(&["run", "--dry-run"]);
    command.env("SWEEPER_EXCLUDE", "cache/*");
    assert!(Run::of(command).exits(0).stderr.contains("exclude \"cache/*/**\""));
    let mut command = world.command(&["run", "--dry-run"]);
    command.env("SWEEPER_EXCLUDE", "cache/export");
    assert!(Run::of(command).exits(2).stderr.contains("SWEEPER_EXCLUDE"));
    // What might match one of a zone that is not swept is noted, and so is what matched only the directory.
    let notes = |glob: &str, extra: &[&str]| {
        let report = run(glob, extra).exits(0).json();
        assert_eq!(report["totals"]["removed"], report["totals"]["seen"], "{report:#}");
        let zones = report["zones"].as_array().unwrap().clone();
        let notes = zones.iter().flat_map(|zone| zone["notes"].as_array().unwrap());
        notes.filter(|note| note.to_string().contains("matched no entry")).count()
    };
    let with_old = ["--zones", "export,tmp,chunk-cache"];
    for (glob, extra, count) in [
        ("tmp", &[][..], 1),
        ("cache", &[], 1),
        // It is for a zone that this run does not sweep.
        ("projects/**", &[], 0),
        ("cache/001", &[], 0),
    ] {
        assert_eq!(notes(glob, extra), count, "{glob}");
    }
    let with_warning = run("cache/e*", &with_old);
    assert!(with_warning.stderr.contains("exclude \"cache/e*/**\""), "{}", with_warning.stderr);
    let report = with_warning.exits(0).json();
    assert_counts(&report, "chunk-cache", &[("removed", 1), ("kept_by.unrecognized", 1)]);
    assert!(report.to_string().contains("matched no entry: it matches a directory of zone export"));
    let kept = run("cache/e*/**", &with_old).exits(0).json();
    assert_counts(&kept, "export", &[("removed", 0), ("kept_by.excluded", 1)]);
    assert!(!kept.to_string().contains("matched no entry"), "{kept:#}");
}

#[test]
fn a_name_that_is_a_directory_of_entries_is_warned_about_before_anything_is_removed() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    for (glob, all) in [("tmp", "tmp/**"), ("cache", "cache/**"), ("export", "cache/export/**")] {
        let run = world.run(&["run", "--quiet", "--max-removals", "0", "--exclude", glob]);
        let warning = format!(
            "exclude = {glob:?} (flag --exclude): it matches a directory of zone {}, and does not keep what is in it: \
             to keep that, exclude {all:?}",
            if glob == "tmp" { "tmp" } else { "export" }
        );
        assert!(run.exits(3).stderr.contains(&warning), "{}", run.stderr);
    }
    for glob in ["tmp/", "./tmp"] {
        let run = world.run(&["run", "--exclude", glob]);
        let why = "(flag --exclude): it is the directory of zone tmp, and not an entry: exclude \"tmp/**\"";
        assert!(run.exits(2).stderr.contains(why), "{glob}: {}", run.stderr);
    }
    // Nothing else is warned about.
    for glob in ["t*", "*", "tmp/tmp", "tmp/**", "tmp//old", "tmp/./**", "old/"] {
        let run = world.run(&["run", "--quiet", "--exclude", glob]);
        assert!(!run.exits(0).stderr.contains("exclude"), "{glob}: {}", run.stderr);
        assert_eq!(world.has("tmp/old"), !["t*", "tmp/tmp"].contains(&glob), "{glob}");
        world.file("tmp/old", 20 * DAY);
    }
}

#[test]
fn a_name_that_no_entry_of_a_pass_can_have_is_told() {
    let world = World::new();
    world.file("tasks/7/export_cache/old", 20 * DAY);
    world.file("cache/000/00/a.val", 20 * DAY);
    let why = "in sweeper legacy every entry is called export_cache, so this glob matches none: exclude a path, such as \
               \"tasks/7/**\"";
    for glob in ["7", "7*", "tmp", "old"] {
        let run = world.run(&["legacy", "--exclude", glob]);
        let said = format!("exclude = {glob:?} (flag --exclude): {why}");
        assert!(run.exits(2).stderr.contains(&said), "{glob}: {}", run.stderr);
    }
    assert!(world.has("tasks/7/export_cache/old"));
    // A variable may be meant for other commands.
    let mut command = world.command(&["legacy", "--dry-run", "--quiet"]);
    command.env("SWEEPER_EXCLUDE", "7");
    assert!(Run::of(command).exits(0).stderr.contains(why));
    for (args, is_noted) in [
        (&["legacy", "--exclude", "tasks/7/**"][..], false),
        (&["legacy", "--exclude", "export*"], false),
        (&["legacy", "--exclude", "tasks/8/**"], true),
        (&["run", "--zones", "chunk-cache", "--exclude", "7"], true),
        (&["run", "--zones", "export", "--exclude", "tmp-*", "--exclude", "old"], true),
        (&["run", "--zones", "export", "--exclude", "tmp/old"], false),
    ] {
        let run = world.run(&[args, &["--dry-run", "--format", "json"]].concat());
        let report = run.exits(0).json().to_string();
        assert_eq!(report.contains("matched no entry"), is_noted, "{args:?}: {report}");
    }
}

#[test]
fn commas_in_a_variable_separate_globs() {
    let world = World::new();
    for name in ["a.zip", "b.csv", "c.txt", "d.zip,e.csv"] {
        world.file(Path::new("tmp").join(name), 20 * DAY);
    }
    let mut command = world.command(&["run", "--format", "json"]);
    command.env("SWEEPER_EXCLUDE", "*.zip,*.csv");
    let run = Run::of(command);
    // The last name would match as one glob too, so both globs must be seen to work alone.
    assert_counts(&run.exits(0).json(), "tmp", &[("removed", 1), ("kept_by.excluded", 3)]);
    assert_eq!(run.stderr, "");
    assert!(world.has("tmp/a.zip") && world.has("tmp/b.csv") && !world.has("tmp/c.txt"));
    // A flag is one glob: it is repeated for more.
    let flag = world.run(&["run", "--exclude", "*.zip,*.csv", "--format", "json"]);
    assert_counts(&flag.exits(0).json(), "tmp", &[("removed", 2), ("kept_by.excluded", 1)]);
    assert!(flag.stderr.contains("one glob"), "{}", flag.stderr);
    assert!(world.has("tmp/d.zip,e.csv"));
}

/// `legacy` and `usage` lock no export, so they need no server.
#[test]
fn a_lock_in_redis_is_only_required_where_there_is_one() {
    let world = World::new();
    let refused = world.run(&["run", "--lock", "redis"]);
    assert!(refused.exits(2).stderr.contains("no Redis server is named"), "{}", refused.stderr);
    for args in [&["legacy", "--lock", "redis"][..], &["run", "--zones", "tmp", "--lock", "redis"]]
    {
        let swept = world.run(args);
        let warning = "lock = redis has no effect here";
        assert!(swept.exits(0).stderr.contains(warning), "{args:?}: {}", swept.stderr);
    }
    let mut usage = world.command(&["usage"]);
    usage.env("SWEEPER_LOCK", "redis");
    Run::of(usage).exits(0);
}
