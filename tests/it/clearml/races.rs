//! Others work on the same server at the same time, and the server cuts its answers short or is not to be believed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{DAY, id, model, path, task, task_of, url, with};
use crate::world::{NOW, Run, assert_counts};

/// A live task that reads this file.
fn reader(name: &str, file: &str) -> Value {
    let artifacts = json!([{"key": "in", "mode": "input", "uri": url(file)}]);
    with(task(name, &[]), json!({"system_tags": [], "execution": {"artifacts": artifacts}}))
}

#[test]
fn a_live_task_that_moves_to_another_page_while_others_delete_tasks_still_protects_its_files() {
    // The rows come in the order of ids; the 501st names a file of the task that goes.
    let name = |n: u32| format!("{n:032x}");
    let file = path("a", "artifacts/x/x.bin");
    let mut tasks: Vec<Value> = (0..700)
        .map(|n| with(reader(&format!("r{n}"), "uploads/other"), json!({"id": name(n)})))
        .collect();
    tasks[500] = with(reader("needs it", &file), json!({"id": name(500)}));
    tasks.push(task("a", &[&url(&file)]));
    for gone in [1, 650] {
        let double = Double::with_tasks(&tasks);
        double.file(&file);
        let ids: Vec<String> = (0..gone).map(name).collect();
        let ids: Vec<&String> = ids.iter().filter(|id| **id != name(500)).collect();
        double.faults(json!([{
            "match": "tasks.get_all", "has": "execution.artifacts\"],\"order_by", "times": 1,
            "do": "vanish", "ids": ids,
        }]));
        double.run(&[]).exits(0);
        assert_eq!(double.hits(), 1);
        assert_eq!(double.files_left(), BTreeSet::from([file.clone()]), "{gone}");
    }
}

#[test]
fn a_task_that_another_cleaner_deletes_meanwhile_stops_nothing() {
    let file = path("b", "artifacts/x/x.bin");
    for endpoint in ["events.get_task_events", "tasks.delete_many"] {
        let double = Double::with_tasks(&[task("a", &[]), task("b", &[&url(&file)])]);
        double.file(&file);
        let fault = json!({
            "match": endpoint, "do": "vanish", "before": true, "ids": [id("a")], "times": 1,
        });
        double.faults(json!([fault]));
        double.run(&[]).exits(0);
        assert_eq!(double.hits(), 1);
        assert!(double.left("tasks").is_empty() && double.files_left().is_empty(), "{endpoint}");
    }
}

#[test]
fn a_task_that_another_client_deletes_right_before_leaves_its_files_to_the_next_run() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    double.faults(json!([{
        "match": "tasks.get_all", "has": "[\"last_update\",\"id\"", "do": "vanish", "before": true,
        "ids": [id("a")], "times": 1,
    }]));
    let report = double.run(&[]).exits(0).json();
    assert_eq!(double.hits(), 1);
    assert_counts(&report, "clearml-tasks", &[("skipped_by.gone", 1)]);
    assert_eq!(double.files_left(), BTreeSet::from([file]));
    double.run(&[]).exits(0);
    assert!(double.files_left().is_empty());
}

#[test]
fn a_task_that_is_gone_before_its_batch_is_told_as_gone() {
    let double = Double::with_tasks(&[task("a", &[]), task("b", &[])]);
    double.faults(json!([{
        "match": "tasks.get_all", "has": "[\"last_update\",\"execution.artifacts\"", "do": "vanish",
        "before": true, "ids": [id("a")], "times": 1,
    }]));
    let report = double.run(&[]).exits(0).json();
    assert_eq!(double.hits(), 1);
    let counts = [("removed", 1), ("skipped_by.gone", 1), ("skipped", 1)];
    assert_counts(&report, "clearml-tasks", &counts);
}

#[test]
fn a_server_that_gives_shorter_pages_than_it_is_asked_for_loses_nothing_that_is_in_use() {
    let shared: Vec<String> =
        (0..12).map(|n| path(&format!("host {n}"), "artifacts/x/x.bin")).collect();
    let (names, mut tasks): (Vec<&str>, Vec<Value>) = (vec!["m0", "m1", "m2", "m3"], Vec::new());
    let urls: Vec<String> = shared.iter().map(|file| url(file)).collect();
    tasks.push(task("a", &urls.iter().map(String::as_str).collect::<Vec<_>>()));
    // Each of these files lies in the folder of a live task.
    tasks.extend((0..8).map(|n| with(task(&format!("host {n}"), &[]), json!({"system_tags": []}))));
    let models: Vec<Value> = names
        .iter()
        .zip(&shared[8..])
        .map(|(name, file)| model(name, "gone", &url(file), false))
        .collect();
    let double = Double::new(json!({"tasks": tasks, "models": models}));
    for file in &shared {
        double.file(file);
    }
    double.faults(json!([
        {"match": "tasks.get_all", "do": "clamp", "rows": 3},
        {"match": "models.get_all", "do": "clamp", "rows": 2},
    ]));
    double.run(&[]).exits(0);
    assert_eq!(double.files_left().len(), 12);
    let root = double.path("files");
    for file in &shared[..8] {
        super::orphans::old_file(&double, file, 30 * DAY);
    }
    let orphans = ["orphans", "--now", NOW, "--fileserver-root", root.to_str().unwrap()];
    Run::of(double.command(&orphans)).exits(0);
    for file in &shared[..8] {
        assert!(double.files_left().contains(file), "{file}");
    }
}

#[test]
fn a_task_that_the_server_keeps_keeps_the_files_that_it_names() {
    // 150 tasks are two batches, and the server keeps the task of the second one.
    let (used, free) = (path("t0", "artifacts/x/x.bin"), path("t1", "artifacts/x/x.bin"));
    let mut tasks: Vec<Value> =
        (0..150).map(|n| task_of(&format!("t{n}"), 40 * DAY + n, &[])).collect();
    let input = |file: &str| json!([{"key": "in", "mode": "input", "uri": url(file)}]);
    tasks[0] = task_of("t0", 40 * DAY, &[&url(&used)]);
    tasks[1] = task_of("t1", 40 * DAY, &[&url(&free)]);
    tasks[148]["execution"]["artifacts"] = input(&used);
    tasks[149]["execution"]["artifacts"] = input(&free);
    for is_dry in [false, true] {
        let double = Double::with_tasks(&tasks);
        double.file(&used);
        double.file(&free);
        let refused = id("t148");
        if is_dry {
            assert_eq!(removed(&double.run(&["--dry-run"]).exits(0).json()), (150, 2));
            continue;
        }
        double.faults(json!([{
            "match": "tasks.delete_many", "do": "refuse", "text": refused, "codes": [400, 123],
        }]));
        let report = double.run(&[]).exits(0).json();
        assert_eq!(double.left("tasks"), BTreeSet::from([refused]));
        assert_counts(&report, "clearml-files", &[("removed", 1), ("kept_by.referenced", 1)]);
        assert_eq!(double.files_left(), BTreeSet::from([used.clone()]));
        let journal = Run::of(double.command(&["journal"]));
        assert!(journal.exits(0).stdout.contains("nothing is unfinished"), "{}", journal.stdout);
    }
}

#[test]
fn a_task_in_the_journal_that_is_live_again_keeps_the_files_that_it_names() {
    let file = path("a", "artifacts/x/x.bin");
    let input = json!([{"key": "in", "mode": "input", "uri": url(&file)}]);
    let b = with(task("b", &[]), json!({"execution": {"artifacts": input}}));
    let double = Double::with_tasks(&[task("a", &[&url(&file)]), b]);
    double.file(&file);
    // The run dies between the deletion of the first and the second.
    double.faults(json!([
        {"match": "tasks.delete_many", "do": "refuse", "text": id("b"), "codes": [500, 100]},
        {"match": "tasks.get_all", "has": "\"id\":[", "skip": 2, "do": "status", "status": 500},
    ]));
    let run = double.run(&[]);
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("b")]));
    double.faults(json!([]));
    let mut state = double.state();
    for task in state["tasks"].as_array_mut().unwrap() {
        task["system_tags"] = json!([]);
    }
    double.load(&with(state, json!({"credentials": {"key": "key", "secret": "s3cret"}})));
    let run = double.run(&[]);
    assert!(run.code.is_some_and(|code| code < 2), "{}{}", run.stdout, run.stderr);
    assert_eq!(double.files_left(), BTreeSet::from([file]));
}

#[test]
fn a_server_that_only_says_that_it_has_deleted_a_task_deletes_no_file() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    double.faults(json!([{"match": "tasks.delete_many", "do": "claim"}]));
    let run = double.run(&[]);
    assert!(run.exits(1).stdout.contains("still has it"), "{}", run.stdout);
    assert_eq!(double.files_left(), BTreeSet::from([file]));
}

#[test]
fn a_clock_that_is_ahead_of_the_servers_deletes_nothing() {
    for (behind, is_right) in [(0, true), (-1800, true), (900 * DAY, true), (-2 * DAY, false)] {
        let double = Double::with_tasks(&[task("a", &[])]);
        double.faults(json!([{"match": "*", "do": "clock", "seconds": behind}]));
        let run = double.run(&[]);
        if is_right {
            run.exits(0);
        } else {
            assert!(run.exits(2).stderr.contains("is 2d ahead of the server's"), "{}", run.stderr);
            assert_eq!(double.left("tasks").len(), 1);
        }
    }
}

#[test]
fn a_server_that_drops_the_filter_of_projects_deletes_nothing() {
    let projects = json!([
        {"id": id("p"), "name": "p"}, {"id": id("sub"), "name": "p/sub"},
        {"id": id("other"), "name": "p2"},
    ]);
    let of = |project: &str| with(task(project, &[]), json!({"project": id(project)}));
    let double =
        Double::new(json!({"tasks": [of("p"), of("sub"), of("other")], "projects": projects}));
    let fault = json!([{"match": "tasks.get_all", "do": "drop_filter", "fields": ["project"]}]);
    double.faults(fault);
    for name in ["p", &id("p")] {
        let run = double.run(&["--project", name]);
        assert!(run.exits(4).stderr.contains("of another project"), "{}", run.stderr);
    }
    assert_eq!(double.left("tasks").len(), 3);
    double.faults(json!([]));
    double.run(&["--project", &id("p")]).exits(0);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("other")]));
}

#[test]
fn a_task_in_the_journal_that_cannot_be_asked_for_keeps_its_files() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    let refuse = json!({"match": "tasks.delete_many", "do": "refuse", "codes": [500, 100]});
    double.faults(json!([refuse]));
    double.run(&[]).exits(1);
    for fault in [
        json!({"do": "status", "status": 500}),
        json!({"do": "status", "status": 404, "subcode": 101}),
        json!({"do": "not_json"}),
        json!({"do": "close"}),
    ] {
        double.faults(json!([with(fault.clone(), json!({"match": "tasks.get_by_id"}))]));
        assert_ne!(double.run(&[]).code, Some(0), "{fault}");
        assert!(double.hits() > 0, "{fault}");
        assert_eq!(double.files_left(), BTreeSet::from([file.clone()]), "{fault}");
    }
    double.faults(json!([]));
    double.run(&[]).exits(0);
    assert!(double.files_left().is_empty());
}
