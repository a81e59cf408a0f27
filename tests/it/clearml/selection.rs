//! Which tasks are selected, and what the server is asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{DAY, ago, id, task, task_of, with};
use crate::world::{NOW, Run, assert_counts};

/// Many archived tasks without files.
fn many(count: usize, make: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(make).collect()
}

#[test]
fn the_query_asks_for_archived_tasks_older_than_a_cutoff_in_pythons_form() {
    let double = Double::with_tasks(&[task("a", &[])]);
    double.run(&["--dry-run"]).exits(0);
    let query = &double.bodies("tasks.get_all")[0];
    assert_eq!(query["system_tags"], json!(["archived"]));
    assert_eq!(query["status_changed"], json!(["<2025-12-03 03:04:05.000000"]));
    assert_eq!(query["order_by"], json!(["-last_update"]));
}

#[test]
fn the_threshold_is_30_days_and_may_be_a_fraction_under_every_name() {
    let ages =
        [("a", DAY / 2 - 60), ("b", DAY / 2 + 60), ("c", 30 * DAY - 60), ("d", 30 * DAY + 60)];
    let tasks: Vec<Value> = ages.iter().map(|(name, age)| task_of(name, *age, &[])).collect();
    let double = Double::with_tasks(&tasks);
    let count = |run: &Run| removed(&run.exits(0).json()).0;
    assert_eq!(count(&double.run(&["--dry-run"])), 1);
    for args in [
        &["--delete-threshold-days", "0.5"][..],
        &["--delete_threshold_days=0.5"],
        &["--General/delete_threshold_days", "0.5"],
    ] {
        assert_eq!(count(&double.run(&[&["--dry-run"], args].concat())), 3, "{args:?}");
    }
    let mut by_variable = double.command(&["run", "--now", NOW, "--format", "json", "--dry-run"]);
    by_variable.env("SWEEPER_CLEARML_DELETE_THRESHOLD_DAYS", "0.5");
    assert_eq!(count(&Run::of(by_variable)), 3);
    let file = double.path("settings.toml");
    std::fs::write(&file, "[clearml]\n\"General/delete_threshold_days\" = 0.5\n").unwrap();
    assert_eq!(count(&double.run(&["--dry-run", "--config", file.to_str().unwrap()])), 3);
    let help = String::from_utf8(
        crate::start::Start::finish(&mut crate::world::sweeper(&["clearml", "serve", "--help"]))
            .unwrap()
            .stdout,
    )
    .unwrap();
    for name in [
        "--delete-threshold-days",
        "--cleanup-period-in-days",
        "--force-delete",
        "--run-as-service",
    ] {
        assert!(help.contains(name), "{name}: {help}");
    }
}

#[test]
fn archived_age_cleanup_in_days_is_the_old_name_of_the_threshold() {
    let double = Double::with_tasks(&[task_of("a", 3 * DAY, &[])]);
    let run = double.run(&["--dry-run", "--archived_age_cleanup_in_days", "2"]);
    assert_eq!(removed(&run.exits(0).json()).0, 1);
    let run = double.run(&["--dry-run", "--archived-age-cleanup-in-days", "4"]);
    assert_eq!(removed(&run.exits(0).json()).0, 0);
}

/// Runs with a server that returns what was not asked for, and expects that nothing goes.
#[track_caller]
fn refuses(double: &Double, words: &str) {
    let (before, files) = (double.state(), double.files_left());
    let run = double.run(&[]);
    run.exits(4);
    assert!(run.stderr.contains("cannot be right, so nothing more is deleted"), "{}", run.stderr);
    assert!(run.stderr.contains(words), "{}", run.stderr);
    double.asserts_untouched(&before, &files);
    assert!(double.bodies("tasks.delete_many").is_empty());
}

#[test]
fn a_task_that_is_too_young_or_has_no_time_is_never_deleted_though_the_server_returns_it() {
    let young = Double::with_tasks(&[task("old", &[]), task_of("young", DAY, &[])]);
    young.faults(json!([{"match": "tasks.get_all", "do": "drop_filter"}]));
    refuses(&young, "too young");
    let without = with(task("without", &[]), json!({"status_changed": null}));
    let missing = Double::with_tasks(&[task("old", &[]), without]);
    missing.faults(json!([{"match": "tasks.get_all", "do": "drop_filter"}]));
    refuses(&missing, "without a time");
}

#[test]
fn a_live_task_is_never_deleted_though_the_server_returns_it() {
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let double = Double::with_tasks(&[task("old", &[]), live]);
    double.faults(json!([{"match": "tasks.get_all", "do": "live_rows"}]));
    refuses(&double, "not archived");
}

#[test]
fn all_of_250_and_of_1200_tasks_go_in_one_cleanup_also_among_120_that_stay() {
    for count in [250, 1200] {
        let double = Double::with_tasks(&many(count, |n| task(&format!("t{n}"), &[])));
        assert_eq!(removed(&double.run(&[]).exits(0).json()), (u64::try_from(count).unwrap(), 0));
        assert_eq!(double.left("tasks"), BTreeSet::new());
    }
    let double = Double::with_tasks(&many(370, |n| {
        let plain = task_of(&format!("t{n}"), 40 * DAY + i64::try_from(n).unwrap(), &[]);
        if n % 3 == 0 && n < 360 { with(plain, json!({"status": "published"})) } else { plain }
    }));
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 250), ("kept_by.published", 120)]);
    assert_eq!(double.left("tasks").len(), 120);
}

#[test]
fn pages_have_at_most_500_rows_and_a_cleanup_ends_though_no_task_can_be_deleted() {
    let double = Double::with_tasks(&many(600, |n| task(&format!("t{n}"), &[])));
    double.faults(json!([{
        "match": "tasks.delete_many", "do": "refuse", "codes": [400, 123], "reason": "no",
    }]));
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 0), ("kept_by.refused", 600)]);
    for body in double.requests() {
        assert!(body["body"]["page_size"].as_u64().unwrap_or(0) <= 500, "{body}");
        assert!(body["body"]["ids"].as_array().map_or(0, Vec::len) <= 500, "{body}");
    }
}

#[test]
fn hidden_tasks_are_left_out_unless_asked_for() {
    let hidden = with(task("hidden", &[]), json!({"system_tags": ["archived", "hidden"]}));
    let double = Double::with_tasks(&[task("plain", &[]), hidden]);
    assert_eq!(removed(&double.run(&["--dry-run"]).exits(0).json()).0, 1);
    assert_eq!(double.bodies("tasks.get_all")[0]["search_hidden"], json!(false));
    assert_eq!(removed(&double.run(&["--dry-run", "--hidden"]).exits(0).json()).0, 2);
}

#[test]
fn filters_leave_out_other_tasks() {
    let of = |name: &str, fields: Value| with(task(name, &[]), fields);
    let state = json!({
        "tasks": [
            of("plain", json!({})),
            of("tagged", json!({"tags": ["x", "y"]})),
            of("testing", json!({"type": "testing"})),
            of("users", json!({"user": id("user")})),
            of("failed", json!({"status": "failed"})),
            of("draft", json!({"status": "created"})),
            of("below", json!({"project": id("sub")})),
            of("other", json!({"project": id("other")})),
        ],
        "projects": [
            {"id": id("project"), "name": "a.b"}, {"id": id("sub"), "name": "a.b/c"},
            {"id": id("other"), "name": "aXb"},
        ],
    });
    let double = Double::new(state);
    for (args, names) in [
        (&["--tag", "x"][..], &["tagged"][..]),
        (&["--tag", "x", "--tag", "z"], &[]),
        (&["--type", "testing"], &["testing"]),
        (&["--user", &id("user")], &["users"]),
        (&["--status", "failed", "--status", "created"], &["failed", "draft"]),
        (&["--draft-only"], &["draft"]),
        (&["--name", "^be"], &["below"]),
        (&["--project", "a.b/c"], &["below"]),
        (
            &["--project", "a.b"],
            &["plain", "tagged", "testing", "users", "failed", "draft", "below"],
        ),
        (&["--project", &id("other")], &["other"]),
    ] {
        let mut command = double.command(&["run", "--now", NOW, "--format", "jsonl", "--dry-run"]);
        command.args(args);
        let run = Run::of(command);
        run.exits(0);
        let found: BTreeSet<String> =
            run.outcomes().into_keys().map(|path| path.to_str().unwrap().to_owned()).collect();
        let wanted: BTreeSet<String> = names.iter().map(|name| id(name)).collect();
        assert_eq!(found, wanted, "{args:?}");
    }
    let run = double.run(&["--project", "nowhere"]);
    assert!(run.exits(2).stderr.contains("there is no project \"nowhere\""), "{}", run.stderr);
}

#[test]
fn the_newest_of_each_project_stay_if_asked_for() {
    let in_project = |n: usize, project: &str| {
        with(
            task_of(&format!("{project}{n}"), 40 * DAY + i64::try_from(n).unwrap(), &[]),
            json!({"project": id(project)}),
        )
    };
    let tasks: Vec<Value> = (0..3).flat_map(|n| [in_project(n, "p"), in_project(n, "q")]).collect();
    let double = Double::with_tasks(&tasks);
    let report = double.run(&["--keep-last", "2"]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2), ("kept_by.newest", 4)]);
    let stay: BTreeSet<String> = ["p0", "p1", "q0", "q1"].iter().map(|name| id(name)).collect();
    assert_eq!(double.left("tasks"), stay);
}

#[test]
fn a_task_that_was_used_after_it_was_selected_stays() {
    let double = Double::with_tasks(&[task("a", &[]), task("b", &[])]);
    // The server's own clock has moved: between the two looks, `a` becomes young.
    let mut state = double.state();
    let run = {
        double.faults(
            json!([{"match": "events.get_task_events", "do": "slow", "seconds": 1, "times": 1}]),
        );
        let child = crate::start::Start::start(
            double
                .command(&["run", "--now", NOW, "--format", "json"])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped()),
        )
        .unwrap();
        double.wait_for_hit();
        for task in state["tasks"].as_array_mut().unwrap() {
            if task["id"] == id("a").as_str() {
                task["last_update"] = json!(ago(0));
            }
        }
        double.load(&state);
        Run::from(child.wait_with_output().unwrap())
    };
    run.exits(0);
    assert_counts(&run.json(), "clearml-tasks", &[("removed", 1), ("skipped_by.used", 1)]);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("a")]));
}
