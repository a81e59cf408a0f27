//! What is protected although its task is old and archived, and how that is overridden.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{DAY, id, model, path, task, task_of, url, with};
use crate::world::{NOW, Run, assert_counts};

#[test]
fn a_file_that_a_live_task_or_another_model_names_stays() {
    let own = path("a", "artifacts/own/own.bin");
    let (by_task, by_model) = (path("a", "artifacts/t/t.bin"), path("a", "artifacts/m/m.bin"));
    let in_live = path("live", "artifacts/l/l.bin");
    let mut live = with(task("live", &[]), json!({"system_tags": []}));
    // Another way to write the same address.
    let odd = url(&by_task).replace("t.bin", "%74.bin");
    live["execution"]["artifacts"] = json!([{"key": "in", "mode": "input", "uri": odd}]);
    let urls = [url(&own), url(&by_task), url(&by_model), url(&in_live)];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let state = json!({
        "tasks": [task("a", &urls), live],
        "models": [model("m", "other", &url(&by_model), false)],
    });
    for (args, kept) in [(&[][..], 3), (&["--delete-shared-files"], 0)] {
        let double = Double::new(state.clone());
        for file in [&own, &by_task, &by_model, &in_live] {
            double.file(file);
        }
        let report = double.run(args).exits(0).json();
        let counts = [("removed", 4 - kept), ("kept", kept)];
        assert_counts(&report, "clearml-files", &counts);
        assert_eq!(double.files_left().len() as u64, kept);
        assert!(!double.files_left().contains(&own));
    }
}

/// A version of a dataset that is made from others.
pub fn version(name: &str, fields: Value, parents: &[&str]) -> Value {
    let ids: Vec<String> = parents.iter().map(|name| id(name)).collect();
    let mut graph = json!({"0": {"job_id": id(name), "parents": ids}});
    for (n, parent) in ids.iter().enumerate() {
        graph[(n + 1).to_string()] = json!({"job_id": parent, "parents": []});
    }
    let configuration = json!({"Dataset Struct": {
        "name": "Dataset Struct", "type": "json", "value": graph.to_string(),
    }});
    let tags = json!({"system_tags": ["archived", "dataset"], "configuration": configuration});
    with(with(task(name, &[]), tags), fields)
}

#[test]
fn a_dataset_version_that_others_are_made_from_stays_with_all_that_it_needs() {
    let live = json!({"system_tags": ["dataset"]});
    let tasks = [
        version("root", json!({}), &[]),
        version("middle", json!({}), &["root"]),
        version("live", live, &["middle"]),
        version("alone", json!({}), &[]),
        version("gone parent", json!({}), &[]),
        version("gone child", json!({}), &["gone parent"]),
    ];
    let double = Double::with_tasks(&tasks);
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 3), ("kept_by.referenced", 2)]);
    let stay: BTreeSet<String> = ["root", "middle", "live"].iter().map(|name| id(name)).collect();
    assert_eq!(double.left("tasks"), stay);
    let all = Double::with_tasks(&tasks);
    assert_eq!(removed(&all.run(&["--delete-dataset-parents"]).exits(0).json()).0, 5);
}

#[test]
fn the_steps_of_a_pipeline_go_one_by_one_with_their_files() {
    let file = path("step", "artifacts/x/x.bin");
    let hidden = json!({"system_tags": ["archived", "hidden"], "parent": id("pipe")});
    let young = with(task_of("young", DAY, &[]), hidden.clone());
    let live = json!({"system_tags": ["hidden"], "parent": id("pipe")});
    let double = Double::with_tasks(&[
        with(
            task("pipe", &[]),
            json!({"system_tags": ["archived", "pipeline"], "type": "controller"}),
        ),
        with(task("step", &[&url(&file)]), hidden),
        young,
        with(task("live", &[]), live),
    ]);
    double.file(&file);
    assert_eq!(removed(&double.run(&[]).exits(0).json()), (2, 1));
    assert_eq!(double.left("tasks"), BTreeSet::from([id("young"), id("live")]));
    assert!(double.files_left().is_empty());
    for body in double.bodies("tasks.delete_many") {
        assert_ne!(body["include_pipeline_steps"], json!(true));
    }
}

#[test]
fn the_parents_of_a_dataset_whose_list_of_versions_cannot_be_read_stay() {
    let live = json!({"system_tags": ["dataset"]});
    let mut child = version("child", live, &["parent"]);
    let struct_of = &mut child["configuration"]["Dataset Struct"]["value"];
    let text = struct_of.as_str().unwrap();
    *struct_of = json!(text[..text.len() - 1]);
    let double = Double::with_tasks(&[version("parent", json!({}), &[]), child]);
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("kept_by.referenced", 1)]);
}

#[test]
fn datasets_that_need_each_other_end_the_search_and_go_or_stay_together() {
    for (tags, left) in [(json!(["archived", "dataset"]), 0), (json!(["dataset"]), 3)] {
        let double = Double::with_tasks(&[
            version("a", json!({}), &["b"]),
            version("b", json!({}), &["a"]),
            version("c", json!({"system_tags": tags}), &["a"]),
        ]);
        double.run(&[]).exits(0);
        assert_eq!(double.left("tasks").len(), left);
    }
}

#[test]
fn the_steps_of_a_pipeline_that_stays_stay_too() {
    let double = Double::with_tasks(&[
        with(task_of("pipe", 35 * DAY, &[]), json!({"system_tags": ["archived", "pipeline"]})),
        with(
            task("step", &[]),
            json!({"system_tags": ["archived", "hidden"], "parent": id("pipe"), "project": id("other")}),
        ),
        task("older", &[]),
    ]);
    let report = double.run(&["--keep-last", "1"]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 1), ("kept_by.newest", 1)]);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("pipe"), id("step")]));
}

#[test]
fn more_than_is_allowed_is_not_begun() {
    let tasks: Vec<Value> = (0..10).map(|n| task(&format!("t{n}"), &[])).collect();
    let young = (0..10).map(|n| task_of(&format!("y{n}"), DAY, &[]));
    let tasks: Vec<Value> = tasks.into_iter().chain(young).collect();
    let double = Double::with_tasks(&tasks);
    let (before, files) = (double.state(), double.files_left());
    for (args, words) in
        [(["--max-tasks", "9"], "--max-tasks allows only 9"), (["--max-share", "49%"], "50.0%")]
    {
        let run = double.run(&args);
        assert!(run.exits(3).stderr.contains(words), "{}", run.stderr);
        assert_eq!(run.json()["stopped"], "too_many");
        double.asserts_untouched(&before, &files);
    }
    assert_eq!(
        removed(&double.run(&["--max-tasks", "10", "--max-share", "50%"]).exits(0).json()).0,
        10
    );
}

#[test]
fn why_explains_what_a_cleanup_does_with_a_task() {
    let file = path("old", "artifacts/x/x.bin");
    let live = with(task("live", &[&url(&file)]), json!({"system_tags": []}));
    let double = Double::with_tasks(&[
        task("old", &[&url(&file)]),
        task_of("young", DAY, &[]),
        with(task("published", &[]), json!({"status": "published"})),
        live,
    ]);
    for (name, words) in [
        ("old", "a cleanup would delete it"),
        ("young", "it is not old enough"),
        ("published", "it is published (--delete-published)"),
        ("live", "it is not archived"),
        ("unknown", "the server has no such task"),
    ] {
        let run = Run::of(double.command(&["why", "--now", NOW, &id(name)]));
        assert!(run.exits(0).stdout.contains(words), "{name}: {}", run.stdout);
        if name == "old" {
            assert!(
                run.stdout.contains("(stays: something that is kept refers to it)"),
                "{}",
                run.stdout
            );
        }
    }
    let run = Run::of(double.command(&["why", "--now", NOW, "--format", "json", &id("old"), "x"]));
    let answers = run.exits(0).json();
    assert_eq!(answers[0]["would_delete"], true);
    assert!(answers[1]["verdict"].as_str().unwrap().contains("32 hexadecimal digits"));
    assert!(double.bodies("tasks.delete_many").is_empty());
}

#[test]
fn why_says_of_each_task_and_file_what_a_dry_run_does() {
    let hidden = |of: &str| json!({"system_tags": ["archived", "hidden"], "parent": id(of)});
    let other = json!({"project": id("other")});
    let tags = json!({"system_tags": ["pipeline"]});
    let (own, by_live) = (path("old", "artifacts/a/a.bin"), path("old", "artifacts/b/b.bin"));
    let urls = [&*url(&own), &*url(&by_live), "s3://b/x", "/data/x", "ftp://h/x", "http://h/x"];
    let tasks = [
        task("old", &urls),
        task_of("young", DAY, &[]),
        with(task_of("newest", 35 * DAY, &[]), other.clone()),
        with(task("older", &[]), other),
        with(task("pipe", &[]), tags),
        with(task("step", &[]), hidden("pipe")),
        with(task("secret", &[]), hidden("old")),
        with(task("live", &[&url(&by_live)]), json!({"system_tags": [], "project": id("p")})),
        version("gone parent", json!({"project": id("q")}), &[]),
        version("gone child", json!({"project": id("q")}), &["gone parent"]),
        version("parent", json!({"project": id("r")}), &[]),
        version("child", json!({"system_tags": ["dataset"]}), &["parent"]),
    ];
    let double = Double::with_tasks(&tasks);
    double.file(&own);
    double.file(&by_live);
    let ids: Vec<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    for filters in [&[][..], &["--keep-last", "1"], &["--hidden"]] {
        let dry = ["run", "--now", NOW, "--dry-run", "--format", "jsonl", "-v"];
        let dry = Run::of(double.command(&[&dry[..], filters].concat()));
        let dry = dry.outcomes();
        let why = ["why", "--now", NOW, "--format", "json"];
        // No guard stops an explanation.
        let mut why = double.command(&[&why[..], filters, &ids].concat());
        why.env("SWEEPER_CLEARML_MAX_TASKS", "1");
        for answer in Run::of(why).exits(0).json().as_array().unwrap() {
            let task = answer["task"].as_str().unwrap();
            let end = dry.get(std::path::Path::new(task));
            let verdict = answer["verdict"].as_str().unwrap();
            let is_removed = end.is_some_and(|(outcome, _)| outcome == "would_remove");
            assert_eq!(answer["would_delete"], is_removed, "{filters:?} {answer} {end:?}");
            for (reason, words) in
                [("referenced", "a task that is kept needs it"), ("newest", "(--keep-last)")]
            {
                let is_reason = end.is_some_and(|(_, why)| why == reason);
                assert_eq!(verdict.contains(words), is_reason, "{filters:?} {answer} {end:?}");
            }
            for file in answer["files"].as_array().unwrap() {
                let url = file["url"].as_str().unwrap();
                let end = dry.get(std::path::Path::new(url));
                let end = end.unwrap_or_else(|| panic!("{url}: {dry:?}"));
                assert_eq!(file["stays"].is_null(), end.0 == "would_remove", "{file} {end:?}");
            }
        }
    }
    let why = Run::of(double.command(&["why", "--now", NOW, &id("secret")]));
    assert!(why.exits(0).stdout.contains("it is hidden (--hidden)"), "{}", why.stdout);
}

#[test]
fn a_guard_of_data_roots_that_does_not_limit_a_cleanup_is_warned_about() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let file = double.path("sweeper.toml");
    std::fs::write(&file, "exclude = ['keep-*']\nmax_removals = 0\n").unwrap();
    let args = ["run", "--now", NOW, "--config", file.to_str().unwrap()];
    let mut command = double.command(&args);
    command.env("SWEEPER_MAX_SHARE", "1%").env("SWEEPER_MAX_BYTES", "1B");
    let said = Run::of(command).exits(0).stderr.clone();
    for words in [
        "max_share = 1% (environment SWEEPER_MAX_SHARE)",
        "max_bytes = 1B (environment SWEEPER_MAX_BYTES)",
        "max_removals = 0 (file ",
        "exclude = keep-* (file ",
        "does not apply here",
        "SWEEPER_CLEARML_MAX_SHARE",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What is set for the cleanup holds.
    let double = Double::with_tasks(&[task("a", &[])]);
    let mut command = double.command(&["run", "--now", NOW]);
    command.env("SWEEPER_CLEARML_MAX_SHARE", "1%");
    let run = Run::of(command);
    assert!(!run.exits(3).stderr.contains("does not apply"), "{}", run.stderr);
}

#[test]
fn a_journal_is_not_finished_where_a_dry_run_is_asked_for() {
    let double = Double::with_tasks(&[]);
    for (action, code) in [("retry", 2), ("forget", 2), ("list", 0)] {
        let mut command = double.command(&["journal", action]);
        command.env("SWEEPER_DRY_RUN", "1");
        let run = Run::of(command);
        assert_eq!(run.exits(code).stderr.contains("dry_run is set"), code == 2, "{action}");
    }
}
