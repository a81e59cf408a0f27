//! Servers that answer wrongly: nothing is deleted, and one sentence says what is wrong.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::Double;
use super::seeds::{id, path, plot, sample, task, url, with};
use crate::world::{NOW, Run, assert_counts};

/// A server with a task that has a file and a debug sample.
fn double() -> Double {
    let (file, image) = (path("a", "artifacts/x/x.bin"), path("a", "metrics/m/v/1.jpeg"));
    let double = Double::new(json!({
        "tasks": [task("a", &[&url(&file)])], "events": {id("a"): [sample(&url(&image))]},
    }));
    double.file(&file);
    double.file(&image);
    double
}

/// Runs with a fault, and expects that nothing goes.
#[track_caller]
fn nothing_goes(fault: &Value, words: &str) {
    nothing_goes_in("60s", fault, words);
}

#[track_caller]
fn nothing_goes_in(timeout: &str, fault: &Value, words: &str) {
    let double = double();
    let (before, files) = (double.state(), double.files_left());
    double.faults(json!([fault]));
    let run = double.run(&["--request-timeout", timeout]);
    run.exits(4);
    assert!(double.hits() > 0, "{fault}");
    double.asserts_untouched(&before, &files);
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 1, "{fault}: {}", run.stderr);
    assert!(lines[0].contains(words), "{fault}: {}", lines[0]);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Everything that is asked before a task is deleted.
const ENDPOINTS: [&str; 4] =
    ["auth.login", "tasks.get_all", "models.get_all", "events.get_task_events"];

#[test]
fn an_answer_that_is_not_json_deletes_nothing() {
    for endpoint in ENDPOINTS {
        nothing_goes(&json!({"match": endpoint, "do": "not_json"}), "the answer is not JSON");
    }
}

#[test]
fn an_answer_in_another_envelope_deletes_nothing() {
    for endpoint in ENDPOINTS {
        for body in
            [json!([]), json!({}), json!({"data": {"tasks": []}}), json!({"meta": {}, "data": {}})]
        {
            let fault = json!({"match": endpoint, "do": "wrong_envelope", "body": body});
            nothing_goes(&fault, "does not answer like a ClearML API server");
        }
    }
}

#[test]
fn an_answer_without_its_list_deletes_nothing() {
    let body = json!({"meta": {"result_code": 200, "result_subcode": 0}, "data": {}});
    for endpoint in ENDPOINTS {
        let fault = json!({"match": endpoint, "do": "wrong_envelope", "body": body});
        nothing_goes(&fault, "does not answer like");
    }
}

#[test]
fn a_redirect_to_another_host_is_not_followed_and_deletes_nothing() {
    let other = Double::with_tasks(&[]);
    for endpoint in ENDPOINTS {
        let to = format!("{}/{endpoint}", other.api);
        for status in [302, 307, 308] {
            let fault = json!({"match": endpoint, "do": "redirect", "to": to, "status": status});
            nothing_goes(&fault, "it redirects to");
        }
    }
    assert!(other.requests().is_empty(), "the token was sent elsewhere");
}

#[test]
fn a_body_of_10_gib_is_not_read_to_its_end() {
    let fault = json!({"match": "tasks.get_all", "do": "huge"});
    nothing_goes_in("5m", &fault, "longer than 64 MiB");
}

#[test]
fn an_answer_byte_by_byte_ends_at_the_time_limit() {
    for endpoint in ENDPOINTS {
        let fault = json!({"match": endpoint, "do": "slow_drip", "seconds": 0.3});
        nothing_goes_in("1s", &fault, "no complete answer arrived in time");
    }
}

#[test]
fn pages_that_repeat_and_events_that_do_not_end_delete_nothing() {
    nothing_goes(&json!({"match": "tasks.get_all", "do": "repeat_page"}), "repeats a page");
    nothing_goes(
        &json!({"match": "events.get_task_events", "do": "endless_scroll"}),
        "without end",
    );
}

#[test]
fn an_error_of_the_server_before_the_deletion_deletes_nothing() {
    for endpoint in ENDPOINTS {
        for (status, words) in [(500, "500/"), (403, "403/"), (404, "404/"), (400, "400/")] {
            let body = json!({
                "meta": {"result_code": status, "result_subcode": 1, "result_msg": "broken"}, "data": {},
            });
            let fault = json!({"match": endpoint, "do": "status", "status": status, "body": body});
            nothing_goes(&fault, words);
        }
    }
}

#[test]
fn wrong_answers_of_the_file_server_are_failures_and_the_files_are_not_forgotten() {
    let body = json!({"deleted": {}, "errors": {}});
    for fault in [
        json!({"do": "not_json"}),
        json!({"do": "wrong_envelope"}),
        json!({"do": "wrong_envelope", "body": body}),
        json!({"do": "status", "status": 500}),
        json!({"do": "status", "status": 401}),
        json!({"do": "status", "status": 404}),
        // Proxies whose server is away.
        json!({"do": "status", "status": 404, "body": "404 page not found\n"}),
        json!({"do": "status", "status": 404, "body": "<html>File x not found</html>"}),
        json!({"do": "redirect", "to": "http://127.0.0.1:1/x"}),
        json!({"do": "close"}),
    ] {
        let double = double();
        double.faults(json!([with(fault.clone(), json!({"match": "files:*"}))]));
        let report = double.run(&[]).exits(1).json();
        assert_counts(&report, "clearml-files", &[("failed", 2), ("removed", 0)]);
        assert_eq!(double.files_left().len(), 2, "{fault}");
        double.faults(json!([]));
        double.run(&[]).exits(0);
        assert!(double.files_left().is_empty(), "{fault}");
    }
}

#[test]
fn a_page_for_people_is_no_answer_of_a_file_server_that_deletes_one_file_at_a_time() {
    let file = path("a", "artifacts/x/x.bin");
    for (fault, is_removed) in [
        (json!({"do": "not_json"}), false),
        (json!({"do": "status", "status": 200, "body": "\n <HTML>login</HTML>"}), false),
        // Other versions may answer otherwise.
        (json!({"do": "status", "status": 200, "body": "", "after": true}), true),
        (json!({"do": "status", "status": 200, "body": {"deleted": 1}, "after": true}), true),
    ] {
        let double = Double::new(json!({
            "tasks": [task("a", &[&url(&file)])], "fileserver": {"delete_many": false},
        }));
        double.file(&file);
        double.faults(json!([with(fault.clone(), json!({"match": "files:DELETE"}))]));
        let report = double.run(&[]).exits(i32::from(!is_removed)).json();
        let removed = u64::from(is_removed);
        let counts = [("removed", removed), ("failed", 1 - removed)];
        assert_counts(&report, "clearml-files", &counts);
        assert_eq!(double.files_left().is_empty(), is_removed, "{fault}");
        double.faults(json!([]));
        double.run(&[]).exits(0);
        assert!(double.files_left().is_empty(), "{fault}");
    }
}

/// Two tasks with a plot, one of which has an answer about its plots that is too long.
fn double_with_long_plots(has: &str) -> Double {
    let image = |name| path(name, "plots/p.png");
    let events = json!({
        id("a"): [plot(&[&url(&image("a"))])], id("b"): [plot(&[&url(&image("b"))])],
    });
    let double = Double::new(json!({"tasks": [task("a", &[]), task("b", &[])], "events": events}));
    for name in ["a", "b"] {
        double.file(&image(name));
    }
    let fault = json!({
        "match": "events.get_task_events", "has": has, "do": "huge", "bytes": 65 << 20,
    });
    double.faults(json!([fault]));
    double
}

#[test]
fn a_task_whose_plots_are_too_long_stays_and_the_others_go() {
    let double = double_with_long_plots(&id("a"));
    for dry_run in [&["--dry-run"][..], &[]] {
        let report = double.run(dry_run).exits(1).json();
        assert_counts(&report, "clearml-tasks", &[("removed", 1), ("failed", 1)]);
        assert!(report.to_string().contains("too long to be read"), "{report:#}");
    }
    assert_eq!(double.left("tasks"), BTreeSet::from([id("a")]));
    assert_eq!(double.files_left(), BTreeSet::from([path("a", "plots/p.png")]));
    let why = Run::of(double.command(&["why", "--now", NOW, &id("a")]));
    let words = "a cleanup would keep it: its plots or debug samples are too long to be read";
    assert!(why.exits(0).stdout.contains(words), "{}", why.stdout);
}

#[test]
fn plots_that_are_too_long_together_are_read_in_smaller_parts() {
    let double = double_with_long_plots("\"batch_size\":100,");
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2)]);
    assert!(double.hits() > 0 && double.files_left().is_empty());
}
