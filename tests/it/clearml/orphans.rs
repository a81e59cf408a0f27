//! Folders of the file server whose task is gone.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::double::Double;
use super::seeds::{DAY, id, model, path, task, url, with};
use crate::company::has_tool;
use crate::world::{NOW, Run, World, assert_counts, set_age, zone};

/// A file of a task, and everything above it, of this age.
pub fn old_file(double: &Double, file: &str, age: i64) {
    let at = double.file(file);
    set_age(&at, age);
    let root = double.path("files");
    for dir in at.ancestors().skip(1).take_while(|dir| *dir != root) {
        set_age(dir, age);
    }
}

fn command(double: &Double, args: &[&str]) -> Command {
    let root = double.path("files");
    let flags = ["orphans", "--now", NOW, "--format", "json", "--fileserver-root"];
    double.command(&[&flags[..], &[root.to_str().unwrap()], args].concat())
}

fn orphans(double: &Double, args: &[&str]) -> Run {
    Run::of(command(double, args))
}

#[test]
fn a_report_has_absolute_paths_only() {
    let double = double(json!({}));
    let gone = format!("{}/artifacts/x/x.bin", id("gone"));
    old_file(&double, &format!("p/t.{gone}"), 30 * DAY);
    let args = ["orphans", "--now", NOW, "--dry-run", "--format", "jsonl", "--fileserver-root"];
    let mut command = double.command(&[&args[..], &["files"]].concat());
    command.current_dir(double.path(""));
    let run = Run::of(command);
    let root = double.path("files");
    for line in run.exits(0).stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let paths = [&line["path"], &line["data_root"], &line["zones"][0]["path"]];
        for path in paths.into_iter().filter_map(Value::as_str) {
            assert!(path.starts_with(root.to_str().unwrap()), "{path}: {line}");
        }
    }
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);
}

/// A server with one live task.
fn double(more: Value) -> Double {
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let state = with(json!({"tasks": [live], "models": []}), more);
    let double = Double::new(state);
    old_file(&double, &path("live", "artifacts/x/x.bin"), 30 * DAY);
    double
}

#[test]
fn folders_of_tasks_that_are_gone_go_at_any_depth_and_all_others_stay() {
    let double = double(json!({}));
    let gone = |n: usize| format!("a/b/c/gone {n}.{}/artifacts/x/x.bin", id(&format!("gone {n}")));
    for n in 0..3 {
        old_file(&double, &gone(n), 30 * DAY);
    }
    let stay = [
        format!("young.{}/artifacts/x/x.bin", id("young")),
        "uploads/by hand/x.bin".to_owned(),
        format!("short.{}/x.bin", &id("short")[1..]),
        format!("{}/x.bin", id("plain")),
        path("live", "artifacts/x/x.bin"),
    ];
    old_file(&double, &stay[0], DAY);
    for file in &stay[1..4] {
        old_file(&double, file, 30 * DAY);
    }
    let dry = orphans(&double, &["--dry-run"]).exits(0).json();
    assert_counts(&dry, "clearml-orphans", &[("removed", 3), ("kept_by.fresh", 1)]);
    let report = orphans(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("removed", 3), ("kept_by.fresh", 1)]);
    let notes = zone(&report, "clearml-orphans")["notes"].to_string();
    assert!(notes.contains("the folders of 1 task that exists stay"), "{notes}");
    assert_eq!(double.files_left(), stay.into_iter().collect::<BTreeSet<_>>());
    assert!(!double.path("files/a").exists());
    let again = orphans(&double, &["--grace", "12h"]).exits(0).json();
    assert_counts(&again, "clearml-orphans", &[("removed", 1)]);
}

#[test]
fn a_folder_that_a_model_an_artifact_or_a_dataset_names_stays() {
    let file = |name: &str| format!("p/{name}.{}/artifacts/x/x.bin", id(name));
    let graph = json!({"0": {"job_id": id("in dataset"), "parents": []}}).to_string();
    let named = url(&file("named"));
    let mut user = with(task("user", &[]), json!({"system_tags": []}));
    user["execution"]["artifacts"] =
        json!([{"key": "i", "mode": "input", "uri": named, "type": "x"}]);
    let dataset = with(
        task("dataset", &[]),
        json!({"system_tags": ["dataset"], "configuration": {"Dataset Struct": {"value": graph}}}),
    );
    let double = double(json!({
        "tasks": [with(task("live", &[]), json!({"system_tags": []})), user, dataset],
        "models": [model("m", "x", &url(&file("model")), true)],
    }));
    for name in ["named", "model", "in dataset", "gone"] {
        old_file(&double, &file(name), 30 * DAY);
    }
    let report = orphans(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("removed", 1), ("kept_by.referenced", 3)]);
    assert!(!double.files_left().contains(&file("gone")));
}

#[test]
fn a_folder_stays_with_the_model_that_a_live_task_uses_though_the_task_of_the_model_is_gone() {
    let file = path("gone", "models/m.bin");
    let input = json!({"input": [{"name": "m", "model": id("m")}]});
    let user = with(task("user", &[]), json!({"system_tags": [], "models": input}));
    let double = double(json!({
        "tasks": [with(task("live", &[]), json!({"system_tags": []})), user],
        "models": [model("m", "gone", &url(&file), false)],
    }));
    old_file(&double, &file, 30 * DAY);
    let report = orphans(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("removed", 0), ("kept_by.referenced", 1)]);
    assert!(double.files_left().contains(&file));
}

#[test]
fn a_folder_in_which_the_folder_of_another_task_is_stays() {
    // So the SDK calls the folder of a project with a long path: its id is that of no task.
    let project = format!("team/long.{}", id("long project"));
    let double = double(json!({}));
    let sample = format!("{project}/t.{}/metrics/m/v/1.jpeg", id("live"));
    let deep = format!("p/gone.{}/a/b/t.{}/metrics/m/v/1.jpeg", id("gone"), id("live"));
    for file in [&sample, &deep] {
        old_file(&double, file, 30 * DAY);
    }
    for args in [&["--dry-run"][..], &[]] {
        let report = orphans(&double, args).exits(0).json();
        assert_counts(&report, "clearml-orphans", &[("removed", 0), ("kept_by.referenced", 2)]);
    }
    assert_eq!(double.files_left().len(), 3);
}

#[test]
fn the_folder_of_a_project_stays() {
    // Its path is long, so its folder ends with its id. Nothing but an upload is in it.
    let upload = |name: &str| format!("team/long.{}/uploads/logo.png", id(name));
    let hidden = json!({"id": id("hidden"), "name": "long hidden", "system_tags": ["hidden"]});
    let double = double(json!({"projects": [{"id": id("long"), "name": "team/long"}, hidden]}));
    for name in ["long", "hidden", "gone"] {
        old_file(&double, &upload(name), 30 * DAY);
    }
    for args in [&["--dry-run"][..], &[]] {
        let report = orphans(&double, args).exits(0).json();
        assert_counts(&report, "clearml-orphans", &[("removed", 1), ("kept_by.referenced", 2)]);
    }
    let live = path("live", "artifacts/x/x.bin");
    let left = BTreeSet::from([upload("long"), upload("hidden"), live]);
    assert_eq!(double.files_left(), left);
}

#[test]
fn a_server_that_knows_none_of_the_tasks_is_the_wrong_one_and_nothing_goes() {
    let double = Double::with_tasks(&[task("other", &[])]);
    for n in 0..3 {
        old_file(&double, &path(&format!("t{n}"), "artifacts/x/x.bin"), 30 * DAY);
    }
    let run = orphans(&double, &[]);
    assert!(run.exits(4).stderr.contains("knows none of the 3 tasks"), "{}", run.stderr);
    assert_eq!(double.files_left().len(), 3);
}

#[test]
fn a_wrong_answer_removes_no_folder() {
    for (endpoint, fault) in [
        ("tasks.get_all", json!({"do": "not_json"})),
        ("tasks.get_all", json!({"do": "status", "status": 500})),
        ("tasks.get_all", json!({"do": "wrong_envelope", "body": []})),
        ("models.get_all", json!({"do": "not_json"})),
        ("projects.get_all", json!({"do": "status", "status": 500})),
        ("projects.get_all", json!({"do": "not_json"})),
        ("auth.login", json!({"do": "status", "status": 401})),
    ] {
        let double = double(json!({}));
        old_file(&double, &path("gone", "artifacts/x/x.bin"), 30 * DAY);
        double.faults(json!([with(fault, json!({"match": endpoint}))]));
        orphans(&double, &[]).exits(4);
        assert_eq!(double.files_left().len(), 2, "{endpoint}");
    }
}

#[test]
fn tasks_are_asked_for_in_batches_of_500_and_hidden_ones_count() {
    let hidden = with(task("hidden", &[]), json!({"system_tags": ["hidden"]}));
    let double = double(json!({
        "tasks": [with(task("live", &[]), json!({"system_tags": []})), hidden],
    }));
    old_file(&double, &path("hidden", "artifacts/x/x.bin"), 30 * DAY);
    for n in 0..700 {
        old_file(&double, &path(&format!("g{n}"), "x/x.bin"), 30 * DAY);
    }
    let report = orphans(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("removed", 700)]);
    assert_eq!(double.files_left().len(), 2);
    for body in double.bodies("tasks.get_all") {
        assert!(body["id"].as_array().map_or(0, Vec::len) <= 500);
    }
}

#[test]
fn orphans_needs_the_directory_and_can_follow_a_cleanup() {
    let double = double(json!({}));
    let run = Run::of(double.command(&["orphans"]));
    assert!(run.exits(2).stderr.contains("--fileserver-root"), "{}", run.stderr);
    old_file(&double, &path("gone", "artifacts/x/x.bin"), 30 * DAY);
    let root = double.path("files");
    double.run(&["--orphans", "--fileserver-root", root.to_str().unwrap()]).exits(0);
    assert_eq!(double.files_left().len(), 1);
    // It is a directory like any other: a link in its place is followed by nobody.
    let world = World::new();
    let link = world.root.join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    assert!(fs::read_link(link).is_ok());
}

#[test]
fn more_folders_than_are_allowed_are_not_begun() {
    let double = double(json!({}));
    for n in 0..3 {
        old_file(&double, &path(&format!("gone {n}"), "artifacts/x/x.bin"), 30 * DAY);
    }
    for args in [["--max-tasks", "2"], ["--max-share", "74%"]] {
        let run = orphans(&double, &args);
        assert!(run.exits(3).stderr.contains("the folders of 3 "), "{}", run.stderr);
        assert_eq!(double.files_left().len(), 4);
    }
    orphans(&double, &["--max-tasks", "3", "--max-share", "75%"]).exits(0);
    assert_eq!(double.files_left().len(), 1);
}

#[test]
fn a_metrics_file_counts_the_folders_of_a_real_run() {
    let double = double(json!({}));
    old_file(&double, &path("gone", "artifacts/x/x.bin"), 30 * DAY);
    let file = double.path("sweeper.prom");
    let args = ["--metrics-file", file.to_str().unwrap()];
    orphans(&double, &[&args[..], &["--dry-run"]].concat()).exits(0);
    assert!(!file.exists());
    orphans(&double, &args).exits(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("sweeper_removed_total{zone=\"clearml-orphans\"} 1"), "{text}");
}

#[test]
fn folders_after_a_cleanup_are_in_its_report_and_cost_it_nothing() {
    let double = double(
        json!({"tasks": [with(task("live", &[]), json!({"system_tags": []})), task("a", &[])]}),
    );
    let gone = path("gone", "artifacts/x/x.bin");
    old_file(&double, &gone, 30 * DAY);
    let (root, metrics) = (double.path("files"), double.path("sweeper.prom"));
    let args = ["--orphans", "--fileserver-root", root.to_str().unwrap()];
    let report = double.run(&[&args[..], &["--dry-run"]].concat()).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("removed", 1)]);
    // A directory that cannot be used is known before anything is deleted.
    let none = ["--orphans", "--fileserver-root", "/no/such/place"];
    double.run(&none).exits(2);
    assert_eq!(double.left("tasks").len(), 2);
    // What comes up later leaves the folders alone.
    double.faults(json!([{
        "match": "tasks.get_all", "has": &id("gone"), "do": "status", "status": 500,
    }]));
    let run = double.run(&[&args[..], &["--metrics-file", metrics.to_str().unwrap()]].concat());
    let report = run.exits(4).json();
    assert_eq!(report["exit"], 4);
    assert_counts(&report, "clearml-tasks", &[("removed", 1)]);
    assert_counts(&report, "clearml-orphans", &[("removed", 0)]);
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(text.contains("sweeper_removed_total{zone=\"clearml-tasks\"} 1"), "{text}");
    assert!(text.contains("sweeper_left_alone{zone=\"clearml-orphans\"} 1"), "{text}");
    assert!(double.files_left().contains(&gone));
}

#[test]
fn what_the_removal_of_a_folder_notes_is_in_the_report() {
    let double = double(json!({}));
    let file = path("gone", "artifacts/x/x.bin");
    old_file(&double, &file, 30 * DAY);
    set_age(&double.path("files").join(&file), -3650 * DAY);
    let root = double.path("files");
    // By the clock of this machine, which has set the other times of the file.
    let args = ["orphans", "--format", "json", "--fileserver-root", root.to_str().unwrap()];
    let report = Run::of(double.command(&args)).exits(0).json();
    let notes = crate::world::zone(&report, "clearml-orphans")["notes"].to_string();
    assert!(notes.contains("more than 24 h in the future"), "{report:#}");
}

#[test]
fn a_link_or_a_file_that_is_named_like_a_folder_is_kept() {
    let double = double(json!({}));
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.bin"), "x").unwrap();
    let (link, file) = (format!("p/l.{}", id("gone 1")), format!("p/f.{}", id("gone 2")));
    old_file(&double, &file, 30 * DAY);
    let link = double.path("files").join(link);
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    set_age(&link, 30 * DAY);
    let report = orphans(&double, &[]).exits(0).json();
    assert_counts(&report, "clearml-orphans", &[("kept_by.unrecognized", 2), ("failed", 0)]);
    assert!(link.is_symlink() && double.files_left().contains(&file));
    assert!(outside.path().join("x.bin").exists());
}

#[test]
fn a_folder_whose_removal_was_killed_is_removed_by_the_next_run() {
    if !has_tool("strace", "a killed removal of a folder") {
        return;
    }
    let double = double(json!({}));
    for file in 0..9 {
        let file = format!("p/t.{}/artifacts/x/{file}.bin", id("gone"));
        old_file(&double, &file, 30 * DAY);
    }
    let inner = command(&double, &[]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:signal=KILL:when=4"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(Run::of(command).code, None, "it is killed");
    let private = |dir: &str| {
        let names = fs::read_dir(double.path(dir)).unwrap().map(|it| it.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with(".sweeper-")).count()
    };
    assert_eq!(private("files/p"), 1);
    orphans(&double, &[]).exits(0);
    let live = path("live", "artifacts/x/x.bin");
    assert_eq!(double.files_left(), BTreeSet::from([live]));
    assert!(!double.path("files/p").exists() || private("files/p") == 0);
}
