//! Files of deleted tasks in the mounted directory of the file server.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{id, model, path, sample, task, url, with};
use crate::wait::wait_until;
use crate::world::{NOW, Run, as_user, assert_counts, can_be_root, zone};

/// Runs with the directory of the file server.
fn mount(double: &Double, args: &[&str]) -> Run {
    let root = double.path("files");
    let mount = ["--files", "mount", "--fileserver-root", root.to_str().unwrap()];
    double.run(&[&mount[..], args].concat())
}

#[test]
fn the_folders_of_deleted_tasks_go_at_any_depth_and_are_named() {
    let deep = format!("p/q/r/deep.{}/artifacts/x/x.bin", id("deep"));
    let unknown = format!("p/q/r/deep.{}/something/else.txt", id("deep"));
    let live = path("live", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[
        task("deep", &[&url(&deep)]),
        with(task("live", &[&url(&live)]), json!({"system_tags": []})),
    ]);
    for file in [&deep, &unknown, &live] {
        double.file(file);
    }
    let run = mount(&double, &["--compat-output"]);
    let folder = double.path("files").join(format!("p/q/r/deep.{}", id("deep")));
    let expected = format!("Deleting Task id={} data folder {}", id("deep"), folder.display());
    assert!(run.exits(0).stdout.lines().any(|it| it == expected), "{}\n{}", run.stdout, run.stderr);
    assert_eq!(double.files_left(), BTreeSet::from([live]));
    assert!(!double.path("files/p").exists(), "emptied folders go, up to the root");
    assert!(double.requests().iter().all(|request| request["host"] != "files"));
}

#[test]
fn a_folder_with_a_model_that_stays_keeps_that_model() {
    let (own, used) = (path("a", "artifacts/x/x.bin"), path("a", "models/m.pt"));
    let consumer = with(
        task("consumer", &[]),
        json!({"system_tags": [], "models": {"input": [{"name": "m", "model": id("m")}]}}),
    );
    let named = path("b", "artifacts/x/x.bin");
    let double = Double::new(json!({
        "tasks": [task("a", &[&url(&own)]), task("b", &[]), consumer],
        // One is used, and the other only lies in the folder of another task.
        "models": [model("m", "a", &url(&used), false), model("n", "consumer", &url(&named), false)],
    }));
    for file in [&own, &used, &named] {
        double.file(file);
    }
    mount(&double, &[]).exits(0);
    assert_eq!(double.files_left(), BTreeSet::from([used, named]));
}

#[test]
fn a_folder_in_which_the_folder_of_a_live_task_is_does_not_go_as_a_whole() {
    let own = path("a", "artifacts/x/x.bin");
    let shown = format!("project/a.{}/p/live.{}/metrics/m/v/1.jpeg", id("a"), id("live"));
    let double = Double::with_tasks(&[
        task("a", &[&url(&own)]),
        with(task("live", &[]), json!({"system_tags": []})),
    ]);
    double.file(&own);
    double.file(&shown);
    mount(&double, &[]).exits(0);
    assert_eq!(double.files_left(), BTreeSet::from([shown]));
}

#[test]
fn a_folder_goes_as_a_whole_though_its_task_shows_an_image_that_stays_elsewhere() {
    let (unknown, logo) = (path("a", "something/else.txt"), "shared/logo.png");
    let events = json!({id("a"): [sample(&url(logo))]});
    let double = Double::new(json!({"tasks": [task("a", &[])], "events": events}));
    double.file(&unknown);
    double.file(logo);
    let report = mount(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-files", &[("kept_by.referenced", 1)]);
    assert_eq!(double.files_left(), BTreeSet::from([logo.to_owned()]));
}

#[test]
fn nothing_outside_the_root_goes_and_no_link_is_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.bin"), "x").unwrap();
    fs::create_dir(outside.path().join("dir")).unwrap();
    fs::write(outside.path().join("dir/x.bin"), "x").unwrap();
    let folder = format!("project/a.{}", id("a"));
    let links = [format!("{folder}/artifacts/l/x.bin"), format!("{folder}/artifacts/d/x.bin")];
    let double = Double::with_tasks(&[task(
        "a",
        &[&url(&links[0]), &url(&links[1]), "{files}/%2e%2e/x.bin", "{files}/../x.bin"],
    )]);
    let at = |path: &str| double.path("files").join(path);
    fs::create_dir_all(at(&format!("{folder}/artifacts/l"))).unwrap();
    symlink(outside.path().join("x.bin"), at(&links[0])).unwrap();
    symlink(outside.path().join("dir"), at(&format!("{folder}/artifacts/d"))).unwrap();
    fs::write(double.path("x.bin"), "x").unwrap();
    // The folder of a task that is a link itself.
    let second = format!("project/b.{}", id("a"));
    symlink(outside.path(), at(&second)).unwrap();
    mount(&double, &[]).exits(1);
    for path in ["x.bin", "dir/x.bin"] {
        assert!(outside.path().join(path).exists(), "{path}");
    }
    assert!(double.path("x.bin").exists());
}

#[test]
fn a_folder_goes_only_after_the_server_has_confirmed_the_deletion() {
    let file = path("a", "artifacts/x/x.bin");
    for fault in [
        json!({"do": "status", "status": 500}),
        json!({"do": "close"}),
        json!({"do": "refuse", "codes": [400, 123]}),
        json!({"do": "refuse", "codes": [403, 21]}),
    ] {
        let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
        double.file(&file);
        double.faults(json!([with(fault, json!({"match": "tasks.delete_many"}))]));
        mount(&double, &[]);
        assert_eq!(double.files_left().len(), 1);
    }
}

#[test]
fn a_root_that_is_a_system_directory_is_refused() {
    let double = Double::with_tasks(&[task("a", &[])]);
    for root in ["/", "/etc", "/usr"] {
        let run = double.run(&["--files", "mount", "--fileserver-root", root]);
        assert!(run.exits(2).stderr.contains("is refused"), "{}", run.stderr);
    }
    assert!(!double.left("tasks").is_empty());
}

#[test]
fn a_dry_run_counts_the_same_and_knows_the_bytes() {
    let (own, gone) = (path("a", "artifacts/x/x.bin"), path("a", "artifacts/y/y.bin"));
    let double = Double::with_tasks(&[task("a", &[&url(&own), &url(&gone)])]);
    double.file(&own);
    let (before, files) = (double.state(), double.files_left());
    let dry = mount(&double, &["--dry-run"]).exits(0).json();
    double.asserts_untouched(&before, &files);
    let real = mount(&double, &[]).exits(0).json();
    for key in ["seen", "removed", "skipped", "freed_bytes"] {
        assert_eq!(zone(&dry, "clearml-files")[key], zone(&real, "clearml-files")[key], "{key}");
    }
    assert_counts(&real, "clearml-files", &[("removed", 1), ("skipped_by.gone", 1)]);
    assert!(zone(&real, "clearml-files")["freed_bytes"].as_u64().unwrap() > 0);
    assert_eq!(removed(&real), (1, 1));
}

#[test]
fn a_file_that_another_process_has_open_stays_until_the_next_run() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    let open = fs::File::open(double.file(&file)).unwrap();
    let report = mount(&double, &[]).json();
    assert_counts(&report, "clearml-files", &[("skipped_by.in_use", 1)]);
    assert_eq!(double.files_left().len(), 1);
    drop(open);
    wait_until("the file is removed", || {
        mount(&double, &[]).exits(0);
        double.files_left().is_empty()
    });
    let text: Vec<Value> = double.requests();
    assert!(!text.is_empty() && !NOW.is_empty());
}

#[test]
fn files_that_an_empty_root_does_not_have_are_not_taken_for_gone() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    let open = fs::File::open(double.file(&file)).unwrap();
    let (before, files) = (double.state(), double.files_left());
    let unmounted = tempfile::tempdir().unwrap();
    let args = ["--files", "mount", "--fileserver-root", unmounted.path().to_str().unwrap()];
    for dry_run in [&["--dry-run"][..], &[]] {
        let run = double.run(&[&args[..], dry_run].concat());
        assert!(run.exits(2).stderr.contains("is it mounted?"), "{}", run.stderr);
        double.asserts_untouched(&before, &files);
    }
    // Nor are those of an earlier run.
    mount(&double, &[]).exits(0);
    assert_eq!((double.left("tasks").len(), double.files_left().len()), (0, 1));
    drop(open);
    let run = double.run(&args);
    assert!(run.exits(2).stderr.contains("is it mounted?"), "{}", run.stderr);
    wait_until("the file is removed", || {
        mount(&double, &[]).exits(0);
        double.files_left().is_empty()
    });
}

#[test]
fn an_empty_root_is_no_obstacle_where_no_file_is_looked_for_or_the_run_empties_it() {
    let double = Double::with_tasks(&[task("a", &["s3://bucket/x"]), task("b", &[])]);
    mount(&double, &[]);
    assert!(double.left("tasks").is_empty());
    // More than one batch. Only the first task still has its file.
    let tasks: Vec<Value> = (0..150)
        .map(|n| task(&format!("t{n}"), &[&url(&path(&format!("t{n}"), "artifacts/x/x.bin"))]))
        .collect();
    let double = Double::with_tasks(&tasks);
    let first = tasks.iter().map(|it| it["id"].as_str().unwrap()).min().unwrap();
    let first = tasks.iter().find(|it| it["id"] == first).unwrap()["name"].as_str().unwrap();
    double.file(&path(first, "artifacts/x/x.bin"));
    let report = mount(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-files", &[("removed", 1), ("skipped_by.gone", 149)]);
}

#[test]
fn a_root_that_cannot_be_opened_is_named_with_its_own_option() {
    let double = Double::with_tasks(&[]);
    for (args, named) in [
        (&["--files", "mount", "--fileserver-root", "/nope"][..], "--fileserver-root"),
        (&["--local-root", "/nope"], "--local-root"),
    ] {
        let run = double.run(args);
        let words = format!("({named}): cannot open \"/nope\"");
        assert!(run.exits(2).stderr.contains(&words), "{}", run.stderr);
    }
}

#[test]
fn what_the_removal_notes_is_in_the_report() {
    if !can_be_root("a file of another user") {
        return;
    }
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(double.path(""), open).unwrap();
    for root in ["files", "home"] {
        for entry in walkdir::WalkDir::new(double.path(root)).into_iter().map(Result::unwrap) {
            if entry.file_type().is_dir() {
                std::os::unix::fs::chown(entry.path(), Some(1234), Some(1234)).unwrap();
            }
        }
    }
    let root = double.path("files");
    let args = ["run", "--now", NOW, "--format", "json", "--files", "mount", "--fileserver-root"];
    let command = double.command(&[&args[..], &[root.to_str().unwrap()]].concat());
    let mut other = as_user(1234, &command);
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let report = Run::of(other).exits(0).json();
    let notes = zone(&report, "clearml-files")["notes"].to_string();
    assert!(notes.contains("does not say whether some of the files are open"), "{report:#}");
}
