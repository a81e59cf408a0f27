//! What is deleted on the server, and what is said of what is not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{id, model, path, task, url, with};
use crate::world::{NOW, Run, assert_counts, zone};

#[test]
fn archived_tasks_of_every_status_are_deleted_with_force_false() {
    let tasks: Vec<Value> = ["created", "completed", "failed", "stopped", "closed"]
        .iter()
        .map(|status| with(task(status, &[]), json!({"status": status})))
        .collect();
    for version in ["2.14", "2.34"] {
        let double = Double::new(json!({"tasks": tasks, "version": version}));
        assert_eq!(removed(&double.run(&[]).exits(0).json()).0, 5, "{version}");
        assert!(double.left("tasks").is_empty());
        for body in double.bodies("tasks.delete_many") {
            assert_eq!(body["force"], json!(false));
        }
    }
}

/// A task with a published child, which the server refuses to delete without force.
fn with_published_child() -> Double {
    let child = with(
        task("child", &[]),
        json!({"parent": id("parent"), "status": "published", "system_tags": []}),
    );
    Double::with_tasks(&[task("parent", &[]), task("plain", &[]), child])
}

#[test]
fn force_delete_false_never_sends_force_and_a_refused_task_is_kept_and_reported() {
    let double = with_published_child();
    let run = double.run(&[]);
    let report = run.exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 1), ("kept_by.refused", 1)]);
    assert!(
        run.stderr.contains("400/123") && run.stderr.contains("has children"),
        "{}",
        run.stderr
    );
    assert!(double.left("tasks").contains(&id("parent")));
    assert!(double.bodies("tasks.delete_many").iter().all(|body| body["force"] == json!(false)));
}

#[test]
fn a_dry_run_and_why_know_which_tasks_the_server_refuses_to_delete() {
    let (file, weights) = (path("a", "artifacts/x/x.bin"), path("a", "models/m.pt"));
    let published = || {
        Double::new(json!({
            "tasks": [task("a", &[&url(&file)])],
            "models": [model("m", "a", &url(&weights), true)],
        }))
    };
    for (double, name) in [(with_published_child(), "parent"), (published(), "a")] {
        let dry = double.run(&["--dry-run"]).exits(0).json();
        assert_counts(&dry, "clearml-tasks", &[("kept_by.refused", 1)]);
        let why = |args: &[&str]| {
            let id = id(name);
            Run::of(double.command(&[&["why", "--now", NOW, &id], args].concat())).stdout
        };
        assert!(why(&[]).contains("the server refuses to delete it"), "{}", why(&[]));
        assert!(why(&["--force-delete"]).contains("would delete it"), "{name}");
        let run = double.run(&[]).exits(0).json();
        for zone in ["clearml-tasks", "clearml-files"] {
            let counts = |report| crate::world::zone(report, zone)["kept_by"].clone();
            assert_eq!(counts(&dry), counts(&run), "{name}");
        }
        assert_eq!(removed(&dry), removed(&run), "{name}");
    }
}

#[test]
fn force_delete_true_sends_force() {
    let double = with_published_child();
    let report = double.run(&["--force-delete"]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2)]);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("child")]));
    assert!(double.bodies("tasks.delete_many").iter().all(|body| body["force"] == json!(true)));
    let off = with_published_child();
    off.run(&["--force-delete=false"]).exits(0);
    assert!(off.left("tasks").contains(&id("parent")));
}

#[test]
fn draft_only_deletes_tasks_that_never_ran_and_no_others() {
    let draft = with(task("draft", &[]), json!({"status": "created"}));
    let double = Double::with_tasks(&[draft, task("done", &[])]);
    assert_eq!(removed(&double.run(&["--draft-only"]).exits(0).json()).0, 1);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("done")]));
}

#[test]
fn published_tasks_are_kept_and_are_no_errors_unless_they_are_asked_for() {
    let double = Double::with_tasks(&[with(task("a", &[]), json!({"status": "published"}))]);
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("kept_by.published", 1), ("failed", 0)]);
    assert_eq!(removed(&double.run(&["--delete-published"]).exits(0).json()).0, 1);
}

#[test]
fn a_running_task_is_skipped_unless_it_is_asked_for() {
    let tasks: Vec<Value> = ["queued", "in_progress"]
        .iter()
        .map(|status| with(task(status, &[]), json!({"status": status})))
        .collect();
    let double = Double::with_tasks(&tasks);
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("skipped_by.in_use", 2)]);
    assert_eq!(removed(&double.run(&["--delete-running"]).exits(0).json()).0, 2);
}

#[test]
fn a_task_with_a_status_that_is_not_known_here_stays() {
    let tasks: Vec<Value> = ["unknown", "paused", ""]
        .iter()
        .map(|status| with(task(status, &[]), json!({"status": status})))
        .collect();
    let double = Double::with_tasks(&tasks);
    for args in [&[][..], &["--force-delete", "--delete-running", "--delete-published"]] {
        let report = double.run(args).exits(0).json();
        assert_counts(&report, "clearml-tasks", &[("kept_by.unrecognized", 3)]);
    }
}

#[test]
fn a_model_of_another_task_stays_though_a_deleted_task_lists_it() {
    let file = path("live", "models/m.pt");
    let lists = json!({"models": {"output": [{"name": "m", "model": id("m")}]}});
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let double = Double::new(json!({
        "tasks": [with(task("a", &[]), lists), live], "models": [model("m", "live", &url(&file), true)],
    }));
    double.file(&file);
    double.run(&["--force-delete", "--delete-published-models"]).exits(0);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("live")]));
    assert!(double.bodies("models.delete").is_empty());
    assert_eq!(double.left("models"), BTreeSet::from([id("m")]));
    assert_eq!(double.files_left(), BTreeSet::from([file]));
}

#[test]
fn draft_models_go_with_their_files_and_models_in_use_stay_with_theirs() {
    let at = |name: &str| path("a", &format!("models/{name}.pt"));
    let consumer = with(
        task("consumer", &[]),
        json!({"system_tags": [], "models": {"input": [{"name": "m", "model": id("used")}]}}),
    );
    let models: Vec<Value> = [("draft", false), ("used", false), ("published", true)]
        .iter()
        .map(|(name, ready)| model(name, "a", &url(&at(name)), *ready))
        .collect();
    for args in [&[][..], &["--force-delete"], &["--force-delete", "--delete-published-models"]] {
        let forced = with(task("a", &[]), json!({}));
        let double = Double::new(json!({"tasks": [forced, consumer], "models": models}));
        for name in ["draft", "used", "published"] {
            double.file(&at(name));
        }
        let dry = double.run(&[args, &["--dry-run"]].concat()).exits(0).json();
        let run = double.run(args);
        let report = run.exits(0).json();
        assert_eq!(removed(&dry), removed(&report), "{args:?}: a dry run knows what stays");
        let all: BTreeSet<String> =
            ["draft", "used", "published"].iter().map(|it| id(it)).collect();
        let (records, files) = (double.left("models"), double.files_left());
        let stay = |names: &[&str]| {
            let ids: BTreeSet<String> = names.iter().map(|name| id(name)).collect();
            assert_eq!(records, ids, "{args:?}");
            assert_eq!(files, names.iter().map(|name| at(name)).collect(), "{args:?}");
        };
        match args.len() {
            // The server refuses a task with published models.
            0 => assert_eq!(records, all),
            1 => stay(&["used", "published"]),
            _ => stay(&["used"]),
        }
    }
}

#[test]
fn each_task_that_fails_in_a_batch_is_reported_with_code_subcode_and_message() {
    let double = Double::with_tasks(&[task("a", &[]), task("b", &[]), task("c", &[])]);
    double.faults(json!([{
        "match": "tasks.delete_many", "do": "refuse", "text": id("b"), "codes": [400, 110],
        "reason": "the reason",
    }]));
    let report = double.run(&[]).exits(1).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2), ("failed", 1)]);
    let failure = &report["failures"][0];
    assert_eq!(failure["path"], id("b").as_str());
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("400/110") && message.contains("the reason"), "{message}");
    assert_eq!(double.left("tasks"), BTreeSet::from([id("b")]));
}

#[test]
fn after_an_answer_that_says_nothing_files_go_if_the_task_is_gone_and_stay_if_it_is_not() {
    let file = path("a", "artifacts/x/x.bin");
    for (fault, is_done) in [
        (json!({"do": "status", "status": 500, "after": true}), true),
        (json!({"do": "status", "status": 500}), false),
        (json!({"do": "status", "status": 503, "after": true}), true),
        (json!({"do": "close_after"}), true),
        (json!({"do": "close"}), false),
        (json!({"do": "not_json", "after": true}), true),
        (json!({"do": "truncate"}), true),
        (json!({"do": "slow_drip", "seconds": 0.5}), true),
    ] {
        let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
        double.file(&file);
        let fault = with(fault, json!({"match": "tasks.delete_many", "times": 1}));
        double.faults(json!([fault]));
        let run = double.run(&["--request-timeout", "1s"]);
        assert_eq!(double.left("tasks").is_empty(), is_done, "{fault}");
        assert_eq!(double.files_left().is_empty(), is_done, "{fault}\n{}", run.stderr);
        assert_eq!(run.code, Some(i32::from(!is_done)), "{fault}\n{}", run.stderr);
        // The next run does the rest.
        double.run(&[]).exits(0);
        assert!(double.left("tasks").is_empty() && double.files_left().is_empty(), "{fault}");
    }
}

#[test]
fn a_public_task_is_skipped_and_is_no_error() {
    let public = with(task("public", &[]), json!({"company": ""}));
    let double = Double::with_tasks(&[public, task("own", &[])]);
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 1), ("kept_by.not_ours", 1)]);
    assert_eq!(zone(&report, "clearml-tasks")["failed"], 0);
}

#[test]
fn an_old_server_without_delete_many_deletes_one_by_one() {
    let file = path("a", "artifacts/x/x.bin");
    let tasks: Vec<Value> =
        ["a", "b"].iter().map(|name| with(task(name, &[]), json!({"status": "created"}))).collect();
    let mut tasks = tasks;
    tasks[0]["execution"] = task("a", &[&url(&file)])["execution"].clone();
    let double = Double::new(json!({"tasks": tasks, "version": "2.9"}));
    double.file(&file);
    let run = double.run(&[]);
    assert_eq!(removed(&run.exits(0).json()), (2, 1), "{}", run.stderr);
    assert!(double.left("tasks").is_empty() && double.files_left().is_empty());
    assert_eq!(double.bodies("tasks.delete").len(), 2);
}

/// A task with a draft model, and a task that has used it. Both are to be deleted in one request.
fn maker_and_user(maker: &str, user: &str, file: &str, artifacts: &[&str]) -> Double {
    let input = json!({"models": {"input": [{"name": "m", "model": id("m")}]}});
    let double = Double::new(json!({
        "tasks": [task(maker, artifacts), with(task(user, &[]), input)],
        "models": [model("m", maker, &url(file), false)],
    }));
    double.file(file);
    double
}

#[test]
fn a_draft_model_that_a_task_in_the_same_request_has_used_goes_with_its_file_or_stays_with_it() {
    // The tasks come in the order of their ids, so each of them is once the first.
    for (maker, user) in [("a", "b"), ("b", "a")] {
        let file = path(maker, "models/m.pt");
        let double = maker_and_user(maker, user, &file, &[]);
        let dry = double.run(&["--dry-run"]).exits(0).json();
        let report = double.run(&[]).exits(0).json();
        assert_eq!((removed(&dry), removed(&report)), ((2, 1), (2, 1)), "{maker}");
        assert_eq!(double.bodies("tasks.delete_many").len(), 1);
        assert!(double.left("models").is_empty() && double.files_left().is_empty(), "{maker}");

        // Also if the maker has the same file as an artifact, with its address in another form.
        let other_form = format!("{}?download=1", url(&file));
        let double = maker_and_user(maker, user, &file, &[&other_form]);
        double.faults(json!([{
            "match": "tasks.delete_many", "do": "refuse", "text": id(user), "codes": [400, 123],
        }]));
        let report = double.run(&[]).exits(0).json();
        assert_counts(&report, "clearml-tasks", &[("removed", 1), ("kept_by.refused", 1)]);
        assert_counts(&report, "clearml-files", &[("removed", 0), ("kept_by.referenced", 1)]);
        assert_eq!(double.left("models"), BTreeSet::from([id("m")]), "{maker}");
        assert_eq!(double.files_left(), BTreeSet::from([file]), "{maker}");
    }
}
