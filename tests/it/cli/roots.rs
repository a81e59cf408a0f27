//! The data root: where it is looked for, which directories are refused, and zones that are missing.

use std::path::Path;
use std::process::Command;

use crate::start::{Start, written};
use crate::world::{DAY, NOW, Run, World, assert_counts, export_name, is_shown, sweeper, zone};

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
    for system in ["/var", "/usr", "/etc"] {
        assert!(refused(Path::new(system), None).contains("system directory"), "{system}");
    }
    let world = World::new();
    assert!(refused(&world.root, Some(&world.root)).contains("home directory"));
    assert!(refused(Path::new("/no/such"), None).contains("/no/such"));
    let empty = tempfile::tempdir().unwrap();
    let said = refused(empty.path(), None);
    assert!(
        said.contains("is not a data root: it contains none of cache/export, projects"),
        "{said}"
    );
    // One level off is the usual mistake, and the right one is named.
    let inside = world.path("cache/export");
    assert!(refused(&inside, None).contains(&format!("did you mean {:?}", world.root)));
    let above = refused(world.root.parent().unwrap(), None);
    assert!(above.contains(&format!("did you mean {:?}", world.root)), "{above}");
    // A root that contains the running program.
    let copy = world.path("bin/sweeper");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    written(|| std::fs::copy(env!("CARGO_BIN_EXE_sweeper"), &copy)).unwrap();
    let run = Command::new(&copy).env_clear().args(["run", "--data"]).arg(&world.root).finish();
    let run = Run::from(run.unwrap());
    assert!(run.exits(2).stderr.contains("contains this program"), "{}", run.stderr);
}

#[test]
fn a_place_of_cvat_that_is_not_there_is_not_passed_over_in_silence() {
    let world = World::new();
    let base = world.root.parent().unwrap();
    std::fs::create_dir_all(base.join("empty/data")).unwrap();
    let run = |name: &str| {
        let mut command = sweeper(&["run", "--quiet", "--dry-run", "--now", NOW]);
        command.current_dir(base).env("CVAT_BASE_DIR", name);
        let run = Run::of(command);
        run.exits(0);
        run.stderr
    };
    let used = "so \"./data\" is used; name the data root with --data";
    let said = run("/no/such");
    let words = format!("CVAT_BASE_DIR = \"/no/such\": \"/no/such/data\" does not exist, {used}");
    assert!(said.contains(&words), "{said}");
    let said = run("./empty");
    let words = format!("CVAT_BASE_DIR = \"./empty\": \"./empty/data\" is not a data root, {used}");
    assert!(said.contains(&words), "{said}");
    for right in [base.to_str().unwrap(), ".", "./empty/.."] {
        let said = run(right);
        assert!(!said.contains("CVAT_BASE_DIR ="), "{right}: {said}");
    }
}

#[test]
fn the_data_root_is_looked_for_where_cvat_has_it() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let base = world.root.parent().unwrap();
    let mut by_env = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_env.env("CVAT_BASE_DIR", base);
    assert_eq!(Run::of(by_env).exits(0).json()["data_root"], world.root.to_str().unwrap());
    let mut by_ours = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_ours.env("CVAT_BASE_DIR", "/nowhere").env("SWEEPER_DATA", &world.root);
    Run::of(by_ours).exits(0);
    let mut by_cwd = sweeper(&["run", "--dry-run", "--format", "json", "--now", NOW]);
    by_cwd.current_dir(base);
    assert_counts(&Run::of(by_cwd).exits(0).json(), "export", &[("removed", 1)]);
    // If the user names a root that is none, no other is tried.
    let mut named = sweeper(&["run", "--data", "/nowhere"]);
    named.current_dir(base);
    Run::of(named).exits(2);
    let empty = tempfile::tempdir().unwrap();
    let mut nowhere = sweeper(&["run"]);
    nowhere.current_dir(empty.path()).env("CVAT_BASE_DIR", "/none");
    let run = Run::of(nowhere);
    for tried in ["no data root found", "/none/data", "./data", "/home/django/data", "--data"] {
        assert!(run.exits(2).stderr.contains(tried), "{tried}: {}", run.stderr);
    }
}

#[test]
fn a_missing_zone_is_noted_once_and_is_no_error() {
    let world = World::new();
    std::fs::remove_dir(world.path("tmp")).unwrap();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let run = world.run(&["run", "--format", "json", "--zones", "export,tmp,instance-tmp"]);
    let report = run.exits(0).json();
    for name in ["tmp", "instance-tmp"] {
        let notes = zone(&report, name)["notes"].to_string();
        assert_eq!(notes.matches("does not exist").count(), 1, "{notes}");
        assert_counts(&report, name, &[("seen", 0)]);
    }
    assert_counts(&report, "export", &[("removed", 1)]);
}

#[test]
fn reports_name_the_data_root_by_its_whole_path_wherever_it_was_named_from() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let base = world.root.parent().unwrap();
    // As many directories up as it takes, and by a link, which is how others may know it.
    let link = base.join("link");
    std::os::unix::fs::symlink(&world.root, &link).unwrap();
    for (args, expected) in [
        (&[][..], &world.root),
        (&["--data", "data"], &world.root),
        (&["--data", "./data/"], &world.root),
        (&["--data", "link"], &link),
    ] {
        let mut command = sweeper(&["run", "--dry-run", "--format", "jsonl", "--now", NOW]);
        command.args(args).current_dir(base);
        let run = Run::of(command);
        let report = run.exits(0).json();
        assert_eq!(report["data_root"], expected.to_str().unwrap(), "{args:?}");
        for path in run.outcomes().keys() {
            assert!(path.starts_with(expected), "{args:?}: {path:?}");
        }
        assert_eq!(run.outcomes().len(), 1);
        let mut text = sweeper(&["run", "--dry-run", "--now", NOW]);
        text.args(args).current_dir(base);
        let text = Run::of(text).stdout;
        let (shown, did) = text.lines().last().unwrap()[1..].split_once("\": ").unwrap();
        assert!(is_shown(shown, expected), "{text}");
        assert!(did.starts_with("would remove 1 of 1 entry"), "{text}");
    }
}
