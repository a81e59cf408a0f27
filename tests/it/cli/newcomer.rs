//! What those meet who use the program for the first time: a mistake gets an answer that helps, and nothing that was
//! typed is ignored in silence.

use std::path::Path;
use std::process::Command;

use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{DAY, HOUR, Run, World, can_be_root, export_name, set_age, sweeper};

#[test]
fn why_names_what_in_a_tree_keeps_it_and_until_when() {
    let world = World::new();
    world.file("tmp/tree/a/old", 20 * DAY);
    // Not the first fresh one that is found: the newest.
    for number in 0..20 {
        world.file(format!("tmp/tree/b/{number}"), 3 * DAY);
    }
    let newest = world.file("tmp/tree/b/c/newest", 5 * HOUR);
    world.file("tmp/tree/d/other", 2 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    let tree = world.path("tmp/tree");
    let why = |args: &[&str]| {
        let run = world.run(&[&["why"], args, &[tree.to_str().unwrap()]].concat());
        run.exits(0);
        run
    };
    let said = why(&[]).stdout;
    let line = format!("in it     {newest:?}: last used 2026-01-01T22:04:05Z (5h ago)");
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("expires   2026-01-15T22:04:05Z, if nothing in it is used before"));
    let json = why(&["--format", "json"]).json();
    let answer = &json["paths"][0];
    assert_eq!(answer["last_use"], "2026-01-01T22:04:05Z", "{answer:#}");
    assert_eq!((&answer["age_s"], &answer["verdict"]), (&(5 * HOUR).into(), &"skipped".into()));
    // A directory whose list of names was changed is as good a reason as a file.
    let changed = world.path("tmp/tree/b/c");
    set_age(&newest, 20 * DAY);
    set_age(&changed, HOUR);
    assert!(why(&[]).stdout.contains(&format!("in it     {changed:?}: last used")));
    set_age(&changed, 20 * DAY);

    // What is in use or locked is named, too.
    for path in [3, 7].map(|number| world.path(format!("tmp/tree/b/{number}"))) {
        set_age(&path, 20 * DAY);
    }
    let retention = ["--retention", "1d"];
    set_age(&world.path("tmp/tree/d/other"), 20 * DAY);
    let open = std::fs::File::open(world.path("tmp/tree/b/7")).unwrap();
    let said = why(&retention).stdout;
    let line = format!("in it     {:?}: another process has it open", world.path("tmp/tree/b/7"));
    assert!(said.contains(&line), "{said}");
    drop(open);
    let locked = std::fs::File::open(world.path("tmp/tree/d")).unwrap();
    fs2::FileExt::lock_exclusive(&locked).unwrap();
    let line =
        format!("in it     {:?}: another process holds a lock on it", world.path("tmp/tree/d"));
    wait_until(&line, || why(&retention).stdout.contains(&line));
}

#[test]
fn config_says_which_of_several_places_is_the_data_root() {
    let world = World::new();
    let base = world.root.parent().unwrap();
    let line = |dir: &Path| {
        let mut command = sweeper(&["config"]);
        command.current_dir(dir).env("CVAT_BASE_DIR", "/none");
        let said = Run::of(command).exits(0).stdout.clone();
        said.lines().find(|line| line.starts_with("data ")).unwrap().to_owned()
    };
    let here = line(base);
    assert!(here.ends_with(&format!("; a run here uses {:?}", world.root)), "{here}");
    let empty = tempfile::tempdir().unwrap();
    let none = line(empty.path());
    assert!(none.ends_with("; no data root is there"), "{none}");
    let named = Run::of(sweeper(&["config", "--data", "/x"])).stdout;
    assert!(named.lines().next().unwrap().ends_with("flag --data"), "{named}");
}

#[test]
fn health_without_an_address_says_what_to_pass() {
    let run = Run::of(sweeper(&["health"]));
    let said = &run.exits(2).stderr;
    assert!(!said.contains("cannot start"), "{said}");
    for words in ["sweeper health http://127.0.0.1:9108/healthz", "--listen 9108", "--metrics-file"]
    {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_exclusion_for_a_zone_that_is_not_swept_does_not_pass_in_silence() {
    let world = World::new();
    for (args, glob, zone) in [
        (&["run", "--zones", "export"][..], "tmp/old", "tmp"),
        (&["run"], "tasks/7/**", "legacy"),
        (&["legacy"], "cache/export/*.zip", "export"),
    ] {
        let words = format!("it only matches entries of zone {zone}, which is not swept now");
        let run = world.run(&[args, &["--dry-run", "--exclude", glob]].concat());
        assert!(run.exits(0).stderr.contains(&words), "{glob}: {}", run.stderr);
        // Settings are often for several commands.
        let mut command = world.command(&[args, &["--dry-run"]].concat());
        command.env("SWEEPER_EXCLUDE", glob);
        assert!(!Run::of(command).exits(0).stderr.contains(&words), "{glob}");
    }
}

#[test]
fn a_month_is_not_taken_for_a_minute() {
    let world = World::new();
    let run = world.run(&["run", "--ttl", "1M"]);
    assert!(run.exits(2).stderr.contains("write 1m or 30d"), "{}", run.stderr);
    world.file("tmp/old", 20 * DAY);
    let path = world.path("tmp/old");
    let why = ["why", "--retention", "1d2h3m4s", path.to_str().unwrap()];
    let said = world.run(&why).exits(0).stdout.clone();
    assert!(said.contains("expires when it has not been used for 1d 2h 3m 4s"), "{said}");
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_warned_about_and_not_refused() {
    let world = World::new();
    for (name, meant) in [
        ("SWEEPR_TTL", "SWEEPER_TTL"),
        ("SWEEPER-TTL", "SWEEPER_TTL"),
        ("CVAT_REDIS_INMEN_HOST", "CVAT_REDIS_INMEM_HOST"),
    ] {
        let mut command = world.command(&["run", "--dry-run"]);
        command.env(name, "1h").env("CVAT_REDIS_ONDISK_HOST", "kvrocks");
        let run = Run::of(command);
        let said = &run.exits(0).stderr;
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(&format!("{name:?}: it is not read; did you mean {meant}?")),
            "{said}"
        );
    }
}

#[test]
fn a_file_to_write_is_refused_where_it_cannot_stay_also_in_a_dry_run() {
    let world = World::new();
    let (inside, missing) = (world.path("tmp/file"), world.path("none/file"));
    let refused = |args: &[&str], words: &str| {
        let run = world.run(args);
        assert!(run.exits(2).stderr.contains(words), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("cannot start"), "{}", run.stderr);
    };
    let [inside, missing] = [&inside, &missing].map(|path| path.to_str().unwrap());
    for dry in [&[][..], &["--dry-run"]] {
        let log = |path| [&["run", "--audit-log", path], dry].concat();
        refused(&log(inside), "it is in a directory of zone \"tmp\"");
        refused(&log(missing), "No such file or directory; make its directory first");
        refused(&log(world.root.to_str().unwrap()), "it is a directory: name a file");
    }
    refused(&["run", "--metrics-file", "-"], "stdout is used for the report; name a file");
    refused(&["plan", "-o", inside], "it would be in a directory of zone \"tmp\"");
    assert!(!world.has("tmp/file"));
}

#[test]
fn a_directory_that_is_missing_is_called_what_the_user_calls_it() {
    let run = Run::of(sweeper(&["run", "--data", "/no/such"]));
    assert!(run.exits(2).stderr.contains("and whether its volume is mounted"), "{}", run.stderr);
    let mut orphans = sweeper(&["clearml", "orphans", "--fileserver-root", "/no/such"]);
    orphans.env("CLEARML_API_HOST", "http://127.0.0.1:1");
    orphans.env("CLEARML_API_ACCESS_KEY", "key").env("CLEARML_API_SECRET_KEY", "secret");
    let run = Run::of(orphans);
    let words = "the directory of the file server (--fileserver-root): cannot open \"/no/such\"";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    let run = Run::of(sweeper(&["run", "--data", ""]));
    let words = "it is empty; is a shell variable not set?";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
}

#[test]
fn a_list_that_an_unset_variable_of_the_shell_leaves_empty_is_refused() {
    let world = World::new();
    for (command, flag) in [
        ("run", "--zones"),
        ("run", "--exclude"),
        ("run", "--pressure-zones"),
        ("serve", "--schedule"),
    ] {
        let run = world.run(&[command, "--pressure", "85%", flag, ""]);
        let words = format!("(flag {flag}): it is empty; is a shell variable not set?");
        assert!(run.exits(2).stderr.contains(&words), "{}", run.stderr);
    }
    for flag in ["--zones", "--pressure-zones"] {
        let run = world.run(&["run", "--pressure", "85%", flag, "export,"]);
        let words = format!("(flag {flag}): a name is missing in the list. There are: export, tmp");
        assert!(run.exits(2).stderr.contains(&words), "{}", run.stderr);
    }
}

#[test]
fn an_option_that_would_have_no_effect_is_refused() {
    for args in [
        // A dry run waits for no lock.
        &["plan", "-o", "plan", "--lock-wait", "1s"][..],
        // Each task is explained by itself.
        &["clearml", "why", "x", "--max-tasks", "1"],
        &["clearml", "why", "x", "--max-share", "1"],
    ] {
        let run = Run::of(sweeper(args));
        assert!(run.exits(2).stderr.contains("' is an option of "), "{}", run.stderr);
    }
}

#[test]
fn what_other_cleaners_call_a_dry_run_is_answered() {
    for flag in ["-n", "-t", "--test", "--simulate"] {
        let run = Run::of(sweeper(&["run", flag]));
        let said = &run.exits(2).stderr;
        assert!(said.contains("a run that removes nothing is --dry-run"), "{flag}: {said}");
    }
}

#[test]
fn why_knows_a_path_that_is_relative_to_the_data_root() {
    let world = World::new();
    let file = world.file("tmp/old", DAY);
    world.file("cache/export/other", DAY);
    let other = world.path("cache/export/other");
    // From `/`: one of the directories exists there too, and the other does not.
    for (path, meant, code) in [("tmp/old", file, 0), ("cache/export/other", other, 1)] {
        let said = world.run(&["why", path]).exits(code).stdout.clone();
        assert!(said.contains(&format!("; did you mean {meant:?}?")), "{said}");
    }
}

#[test]
fn a_wrong_field_of_a_schedule_is_named() {
    let world = World::new();
    let run = world.run(&["serve", "--schedule", "tmp=5 25 * * *"]);
    let said = &run.exits(2).stderr;
    let words = "its field 2 is the hour, and cannot be \"25\": write 0 to 23,";
    assert!(said.contains("flag --schedule") && said.contains(words), "{said}");
}

#[test]
fn a_dry_run_says_that_a_removal_would_fail() {
    if !can_be_root("a directory of another user") {
        return;
    }
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let run = world.run_as(1000, &["run", "--dry-run", "-v"]);
    let said = run.exits(1).stdout.clone();
    assert!(
        said.contains("export: would fail: unlink ") && said.contains(", 1 would fail;"),
        "{said}"
    );
    assert!(run.stderr.contains("export: would fail to unlink "), "{}", run.stderr);
    let real = world.run_as(1000, &["run"]).exits(1).stdout.clone();
    assert!(real.contains("export: failed: unlink ") && real.contains(", 1 failed;"), "{real}");
}

#[test]
fn a_pass_without_the_lock_of_cvat_warns_right_above_the_last_line() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let said = world.run(&["run", "--dry-run"]).exits(0).stdout.clone();
    let warning = said.lines().rev().nth(1).unwrap();
    assert!(warning.starts_with("export: warning: CVAT's lock in Redis is not taken"), "{said}");
    assert!(warning.contains("--redis redis://HOST:6379"), "{said}");
}

#[test]
fn a_report_to_a_closed_stdout_is_not_lost_in_silence() {
    let world = World::new();
    let shell = |end: &str| {
        let mut command = Command::new("/bin/sh");
        let line = format!("\"$0\" run --dry-run --data \"$1\" {end}");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_sweeper")]).arg(&world.root).env_clear();
        let run = Run::from(command.finish().unwrap());
        run.exits(0).stderr.clone()
    };
    assert!(shell(">&-").contains("the output of this command is lost"), "{}", shell(">&-"));
    assert_eq!(shell("> /dev/null"), "");
    assert_eq!(shell("--lock flock -q >&-"), "", "nothing was to be printed");
}
