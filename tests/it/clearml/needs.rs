//! What another task needs goes after that task, and stays as long as it does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::guards::version;
use super::seeds::{DAY, id, task, task_of, with};
use crate::world::assert_counts;

/// A pipeline.
fn pipeline(fields: Value) -> Value {
    with(with(task("user", &[]), json!({"system_tags": ["archived", "pipeline"]})), fields)
}

/// A step of it.
fn step(name: &str) -> Value {
    let fields = json!({"system_tags": ["archived", "hidden"], "parent": id("user")});
    with(task(name, &[]), fields)
}

/// A dataset version and one that it is based on; a pipeline and a step of it.
fn pairs() -> [[Value; 2]; 2] {
    [
        [version("needed", json!({}), &[]), version("user", json!({}), &["needed"])],
        [pipeline(json!({})), step("needed")],
    ]
}

#[test]
fn what_a_task_needs_that_could_not_be_deleted_stays() {
    for pair in pairs() {
        for (fault, kept) in [
            (json!({"do": "refuse", "text": id("user"), "codes": [400, 123]}), 1),
            (json!({"do": "refuse", "text": id("user"), "codes": [500, 100]}), 0),
            (json!({"do": "close", "has": id("user")}), 0),
        ] {
            let double = Double::with_tasks(&[&pair[..], &[task("other", &[])]].concat());
            double.faults(json!([with(fault, json!({"match": "tasks.delete_many"}))]));
            let report = double.run(&[]).exits(1 - kept).json();
            let kept = 1 + u64::try_from(kept).unwrap();
            let counts = [("kept_by.referenced", 1), ("kept", kept)];
            assert_counts(&report, "clearml-tasks", &counts);
            let stay = BTreeSet::from([id("user"), id("needed")]);
            assert!(double.left("tasks").is_superset(&stay), "{pair:?}");
        }
    }
}

#[test]
fn what_a_task_needs_goes_after_it_and_in_a_request_of_its_own() {
    for pair in pairs() {
        let double = Double::with_tasks(&pair);
        assert_eq!(removed(&double.run(&["--dry-run"]).exits(0).json()).0, 2);
        assert_eq!(removed(&double.run(&[]).exits(0).json()).0, 2);
        let ids = |body: &Value| body["ids"].clone();
        let requests: Vec<Value> = double.bodies("tasks.delete_many").iter().map(ids).collect();
        assert_eq!(requests, [json!([id("user")]), json!([id("needed")])]);
    }
}

#[test]
fn a_run_that_ends_before_what_a_task_needs_deletes_only_that_task() {
    for pair in pairs() {
        let double = Double::with_tasks(&pair);
        let fault =
            json!({"match": "tasks.delete_many", "do": "status", "status": 500, "times": 1});
        double.faults(json!([
            with(fault, json!({"after": true})),
            {"match": "tasks.get_by_id", "do": "status", "status": 500},
        ]));
        assert_ne!(double.run(&[]).code, Some(0));
        assert_eq!(double.left("tasks"), BTreeSet::from([id("needed")]));
    }
}

#[test]
fn the_steps_of_a_pipeline_that_is_kept_or_not_selected_stay_also_with_hidden_ones() {
    for pipeline in [
        pipeline(json!({"status": "published"})),
        pipeline(json!({"system_tags": ["pipeline"]})),
        with(task_of("user", DAY, &[]), json!({"system_tags": ["archived", "pipeline"]})),
    ] {
        let double = Double::with_tasks(&[pipeline.clone(), step("a"), step("b")]);
        double.run(&["--hidden"]).exits(0);
        assert_eq!(double.left("tasks").len(), 3, "{pipeline}");
    }
    // A task that is made from one that is no pipeline goes.
    let double =
        Double::with_tasks(&[with(task("user", &[]), json!({"system_tags": []})), step("a")]);
    double.run(&["--hidden"]).exits(0);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("user")]));
}

#[test]
fn an_earlier_run_of_a_pipeline_is_not_a_step_of_it() {
    // A run that is made from another one has this one as its parent, and its tags.
    let earlier = pipeline(json!({"id": id("earlier"), "name": "earlier", "parent": id("user")}));
    let of_earlier = with(step("b"), json!({"parent": id("earlier")}));
    let double = Double::with_tasks(&[
        pipeline(json!({"system_tags": ["pipeline"]})),
        step("a"),
        earlier,
        of_earlier,
    ]);
    let report = double.run(&["--hidden"]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2), ("kept_by.referenced", 1)]);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("user"), id("a")]));
}

#[test]
fn a_server_that_drops_the_filter_of_parents_deletes_nothing() {
    let hidden = with(task("other", &[]), json!({"system_tags": ["archived", "hidden"]}));
    let double = Double::with_tasks(&[pipeline(json!({})), step("a"), hidden]);
    double.faults(json!([{"match": "tasks.get_all", "do": "drop_filter", "fields": ["parent"]}]));
    let (before, files) = (double.state(), double.files_left());
    let run = double.run(&[]);
    assert!(run.exits(4).stderr.contains("not a step of"), "{}", run.stderr);
    double.asserts_untouched(&before, &files);
}
