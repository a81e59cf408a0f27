//! Models that more than one task has. This file must not test which files of a task are shared: `files` does.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{id, model, path, task, url, with};
use crate::start::Start;
use crate::world::{NOW, assert_counts};

/// What a task has of models: these as its output.
fn lists(models: &[&str]) -> Value {
    let models: Vec<Value> =
        models.iter().map(|name| json!({"name": name, "model": id(name)})).collect();
    json!({"models": {"output": models}})
}

fn ids(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| id(name)).collect()
}

/// An archived task with a draft of its own and one that a live task lists, too. The latter belongs to `owner`.
fn with_draft_of_live_task(owner: &str, more: &[Value], version: &str) -> (Double, String, String) {
    let (own, shared) = (path("a", "models/own.pt"), path(owner, "models/shared.pt"));
    let live = with(task("live", &[]), lists(&["shared"]));
    let mut tasks = vec![
        with(task("a", &[]), lists(&["own", "shared"])),
        with(live, json!({"system_tags": []})),
    ];
    tasks.extend_from_slice(more);
    let double = Double::new(json!({
        "tasks": tasks, "version": version, "models": [
            model("own", "a", &url(&own), false), model("shared", owner, &url(&shared), false),
            model("other", "plain", "", false),
        ],
    }));
    double.file(&own);
    double.file(&shared);
    (double, own, shared)
}

#[test]
fn a_draft_model_that_a_live_task_lists_stays_with_its_file() {
    for owner in ["a", "live"] {
        for args in
            [&[][..], &["--delete-shared-files"], &["--force-delete", "--delete-published-models"]]
        {
            let plain = task("plain", &[]);
            let (double, _, shared) = with_draft_of_live_task(owner, &[plain], "2.34");
            let dry = double.run(&[args, &["--dry-run"]].concat()).exits(0).json();
            let report = double.run(args).exits(0).json();
            assert_eq!((removed(&dry), removed(&report)), ((2, 1), (2, 1)), "{owner} {args:?}");
            assert_eq!(double.left("models"), ids(&["shared"]), "{owner} {args:?}");
            assert_eq!(double.files_left(), BTreeSet::from([shared]), "{owner} {args:?}");
            // The server deletes the drafts of the other task itself.
            for body in double.bodies("tasks.delete_many") {
                let is_other = body["ids"] == json!([id("plain")]);
                assert_eq!(body["delete_output_models"], json!(is_other), "{body}");
            }
        }
    }
}

#[test]
fn a_server_that_deletes_the_drafts_of_other_tasks_in_any_case_does_not_get_the_task() {
    let plain = with(task("plain", &[]), json!({"status": "created"}));
    let (double, own, shared) = with_draft_of_live_task("live", &[plain], "2.9");
    let dry = double.run(&["--force-delete", "--dry-run"]).exits(0).json();
    let report = double.run(&["--force-delete"]).exits(0).json();
    assert_eq!(removed(&dry), removed(&report));
    assert_counts(&report, "clearml-tasks", &[("removed", 1), ("kept_by.refused", 1)]);
    assert_eq!(double.left("models"), ids(&["own", "shared"]));
    assert_eq!(double.files_left(), BTreeSet::from([own, shared]));
}

#[test]
fn the_server_is_not_told_to_delete_files_of_a_task_that_lists_the_draft_of_a_live_one() {
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let double = Double::new(json!({
        "tasks": [with(task("a", &["s3://bucket/a"]), lists(&["m"])), live],
        "models": [model("m", "live", "s3://bucket/m", false)],
    }));
    // Nothing deletes the artifact then.
    double.run(&[]).exits(1);
    assert_eq!(double.left("tasks"), ids(&["live"]));
    assert_eq!(double.left("models"), ids(&["m"]));
    assert_eq!(double.state()["queued_urls"], json!([]));
}

/// What only the server can delete would be lost if it kept the draft models of the task.
#[test]
fn the_server_deletes_the_files_of_archived_tasks_that_list_the_same_draft() {
    let tasks =
        ["a", "b"].map(|name| with(task(name, &[&format!("s3://bucket/{name}")]), lists(&["m"])));
    let models = [model("m", "a", "s3://bucket/m", false)];
    let double = Double::new(json!({"tasks": tasks, "models": models}));
    double.run(&[]).exits(0);
    assert!(double.left("tasks").is_empty() && double.left("models").is_empty());
    let queued = double.state()["queued_urls"].to_string();
    assert!(
        ["a", "b", "m"].iter().all(|name| queued.contains(&format!("s3://bucket/{name}"))),
        "{queued}"
    );
}

#[test]
fn a_draft_model_that_two_archived_tasks_list_goes_with_both_or_stays_with_one_of_them() {
    for (owner, other) in [("a", "b"), ("b", "a")] {
        let file = path(owner, "models/m.pt");
        for refused in [None, Some(owner), Some(other)] {
            let tasks = ["a", "b"].map(|name| with(task(name, &[]), lists(&["m"])));
            let models = [model("m", owner, &url(&file), false)];
            let double = Double::new(json!({"tasks": tasks, "models": models}));
            double.file(&file);
            if let Some(task) = refused {
                double.faults(json!([{
                    "match": "tasks.delete_many", "do": "refuse", "text": id(task),
                    "codes": [400, 123],
                }]));
            }
            double.run(&[]).exits(0);
            let (models, files) = (double.left("models"), double.files_left());
            assert_eq!(models.is_empty(), refused.is_none(), "{owner} {refused:?}");
            assert_eq!(files.is_empty(), refused.is_none(), "{owner} {refused:?}");
        }
    }
}

/// A task that has gone on with the training of its own draft model.
fn resumed(uri: &str, artifacts: &[&str], more: &[Value]) -> Double {
    let item = json!({"name": "m", "model": id("m")});
    let models = json!({"models": {"input": [item], "output": [item]}});
    let mut tasks = vec![with(task("a", artifacts), models)];
    tasks.extend_from_slice(more);
    Double::new(json!({"tasks": tasks, "models": [model("m", "a", uri, false)]}))
}

#[test]
fn a_draft_model_that_its_own_task_has_as_its_input_goes_with_its_file() {
    let file = path("a", "models/m.pt");
    let double = resumed(&url(&file), &[], &[]);
    double.file(&file);
    let dry = double.run(&["--dry-run"]).exits(0).json();
    let report = double.run(&[]).exits(0).json();
    assert_eq!((removed(&dry), removed(&report)), ((1, 1), (1, 1)));
    assert!(double.left("models").is_empty() && double.files_left().is_empty());

    // In an object store the server's own queue deletes the file.
    let double = resumed("s3://bucket/m", &["s3://bucket/a"], &[]);
    double.run(&[]).exits(0);
    assert!(double.left("models").is_empty());
    let queued = double.state()["queued_urls"].as_array().unwrap().len();
    assert_eq!(queued, 2, "{}", double.state()["queued_urls"]);

    let input = json!({"models": {"input": [{"name": "m", "model": id("m")}]}});
    let live = with(with(task("live", &[]), input), json!({"system_tags": []}));
    let double = resumed(&url(&file), &[], &[live]);
    double.file(&file);
    let dry = double.run(&["--dry-run"]).exits(0).json();
    let report = double.run(&[]).exits(0).json();
    assert_eq!((removed(&dry), removed(&report)), ((1, 0), (1, 0)));
    assert_eq!(double.left("models"), ids(&["m"]));
    assert_eq!(double.files_left(), BTreeSet::from([file]));
}

const PUBLISHED: [&str; 2] = ["--delete-published-models", "--force-delete"];

/// An archived task with a published model, whose file it also has as an artifact, by another address.
fn with_published(more: &[Value]) -> (Double, String) {
    let file = path("a", "models/m.pt");
    let mut tasks = vec![task("a", &[&format!("{}?download=1", url(&file))])];
    tasks.extend_from_slice(more);
    let models = [model("m", "a", &url(&file), true), model("empty", "a", "", true)];
    let double = Double::new(json!({"tasks": tasks, "models": models}));
    double.file(&file);
    (double, file)
}

#[test]
fn a_model_that_cannot_be_deleted_keeps_its_file_is_counted_and_is_deleted_by_the_next_run() {
    for fault in [json!({"do": "status", "status": 500}), json!({"do": "close"})] {
        let (double, file) = with_published(&[]);
        double.faults(json!([with(fault.clone(), json!({"match": "models.delete"}))]));
        for _ in 0..2 {
            let run = double.run(&PUBLISHED);
            let report = run.exits(1).json();
            assert_counts(&report, "clearml-files", &[("removed", 0), ("failed", 2)]);
            let paths: BTreeSet<&str> = report["failures"]
                .as_array()
                .unwrap()
                .iter()
                .map(|failure| failure["path"].as_str().unwrap())
                .collect();
            let named = ["m", "empty"].map(|name| format!("model {}", id(name)));
            assert_eq!(paths, named.iter().map(String::as_str).collect(), "{fault}");
            assert!(double.left("tasks").is_empty(), "{fault}");
            assert_eq!(double.left("models"), ids(&["m", "empty"]), "{fault}");
            assert_eq!(double.files_left(), BTreeSet::from([file.clone()]), "{fault}");
        }
        double.faults(json!([]));
        double.run(&[]).exits(0);
        assert!(double.left("models").is_empty() && double.files_left().is_empty(), "{fault}");
        let before = double.bodies("models.delete").len();
        double.run(&PUBLISHED).exits(0);
        assert_eq!(double.bodies("models.delete").len(), before, "the journal is finished");
    }
}

#[test]
fn a_run_that_is_killed_before_it_deletes_a_model_leaves_that_to_the_next_one() {
    // Before the server has done it, and after.
    for fault in [json!({"do": "hang"}), json!({"do": "slow_drip", "seconds": 60})] {
        let (double, _) = with_published(&[]);
        double.faults(json!([with(fault.clone(), json!({"match": "models.delete", "times": 2}))]));
        let mut command = double.command(&[&["run", "--now", NOW][..], &PUBLISHED].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).start().unwrap();
        double.wait_for_hit();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(double.left("tasks").is_empty(), "{fault}");
        double.faults(json!([]));
        double.run(&[]).exits(0);
        assert!(double.left("models").is_empty() && double.files_left().is_empty(), "{fault}");
    }
}

#[test]
fn a_model_that_a_live_task_uses_by_the_next_run_stays_with_its_file() {
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let item = json!([{"name": "m", "model": id("m")}]);
    for models in [json!({"input": item}), json!({"output": item})] {
        let (double, file) = with_published(std::slice::from_ref(&live));
        double.faults(json!([{"match": "models.delete", "do": "status", "status": 500}]));
        double.run(&PUBLISHED).exits(1);
        double.faults(json!([]));
        let mut state = double.state();
        state["tasks"][0]["models"] = models;
        double.load(&state);
        double.run(&PUBLISHED).exits(0);
        assert_eq!(double.left("models"), ids(&["m"]), "{}", state["tasks"][0]["models"]);
        assert_eq!(double.files_left(), BTreeSet::from([file]));
    }
}
