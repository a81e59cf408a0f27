//! The journal: whenever the program dies, no file is left that was listed, and none is deleted that was not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{DAY, id, model, path, sample, task, url, with};
use crate::start::Start;
use crate::world::{NOW, Run};

/// Two tasks with all kinds of files, and a live one.
fn double() -> Double {
    let at = |task: &str, rest: &str| path(task, rest);
    let live_file = at("live", "artifacts/x/x.bin");
    let live = with(task("live", &[&url(&live_file)]), json!({"system_tags": []}));
    let (mut tasks, mut models, mut files) = (vec![live], Vec::new(), vec![live_file]);
    let mut events = json!({});
    for name in ["a", "b"] {
        let file = at(name, "artifacts/x/x.bin");
        let image = at(name, "metrics/m/v/1.jpeg");
        let weights = at(name, "models/m.pt");
        tasks.push(task(name, &[&url(&file)]));
        models.push(model(&format!("model of {name}"), name, &url(&weights), false));
        events[id(name)] = json!([sample(&url(&image))]);
        files.extend([file, image, weights]);
    }
    let double = Double::new(json!({"tasks": tasks, "models": models, "events": events}));
    for file in files {
        double.file(&file);
    }
    double
}

fn run(double: &Double) -> Command {
    double.command(&["run", "--now", NOW, "--connections", "1"])
}

/// What must be true when a run was killed: a task that is there has all of its files.
#[track_caller]
fn asserts_no_file_is_missing(double: &Double, when: &str) {
    let (tasks, files) = (double.left("tasks"), double.files_left());
    for (name, count) in [("live", 1), ("a", 3), ("b", 3)] {
        let folder = format!("project/{name}.{}/", id(name));
        let left = files.iter().filter(|file| file.starts_with(&folder)).count();
        assert!(!tasks.contains(&id(name)) || left == count, "{when}: {name} has {left} files");
    }
}

/// Runs again, and expects that all is done; and once more, which does nothing.
#[track_caller]
fn asserts_the_next_run_ends_it(double: &Double, when: &str) {
    double.faults(json!([]));
    let output = run(double).finish().unwrap();
    assert!(output.status.success(), "{when}: {output:?}");
    assert_eq!(double.left("tasks"), BTreeSet::from([id("live")]), "{when}");
    assert_eq!(double.left("models"), BTreeSet::new(), "{when}");
    let files = BTreeSet::from([path("live", "artifacts/x/x.bin")]);
    assert_eq!(double.files_left(), files, "{when}");
    let before = double.requests().len();
    run(double).finish().unwrap();
    for request in &double.requests()[before..] {
        let path = request["path"].as_str().unwrap();
        assert!(!path.contains("delete"), "{when}: {request}");
    }
}

#[test]
fn a_run_that_is_killed_at_any_request_loses_no_file() {
    let mut at = 0;
    loop {
        // Before the server has done it, and after.
        let mut is_over = true;
        for fault in [json!({"do": "hang"}), json!({"do": "slow_drip", "seconds": 60})] {
            let double = double();
            let is_after = fault["do"] == "slow_drip";
            double.faults(json!([with(fault, json!({"match": "*", "skip": at, "times": 1}))]));
            let mut child =
                run(&double).stdout(Stdio::null()).stderr(Stdio::null()).start().unwrap();
            let when = format!("request {at}, after: {is_after}");
            let reached = loop {
                if double.hits() > 0 && (!is_after || double.requests().len() > at) {
                    break true;
                }
                if child.try_wait().unwrap().is_some() {
                    break double.hits() > 0;
                }
                std::thread::yield_now();
            };
            child.kill().unwrap();
            child.wait().unwrap();
            is_over &= !reached;
            asserts_no_file_is_missing(&double, &when);
            asserts_the_next_run_ends_it(&double, &when);
        }
        if is_over {
            break;
        }
        at += 1;
    }
    assert!(at > 12, "only {at} requests");
}

/// The program under strace, with a fault at one of its calls on the journal.
fn injected(double: &Double, fault: &str, at: usize) -> Run {
    traced(
        double,
        "/dev/null".into(),
        &["-e", &format!("inject=write,fdatasync:{fault}:when={at}")],
    )
}

/// The program under strace, which writes its calls on the journal to a file.
fn traced(double: &Double, calls: PathBuf, more: &[&str]) -> Run {
    let state = double.path("state");
    std::fs::create_dir_all(&state).unwrap();
    let plain = run(double);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(calls);
    for name in ["journal.jsonl", "journal.new"] {
        command.arg("-P").arg(state.join(name));
    }
    command.arg("-e").arg("trace=write,fdatasync,ftruncate");
    command.args(more);
    command.arg(plain.get_program()).args(plain.get_args()).arg("--state").arg(&state);
    command.env_clear().envs(plain.get_envs().map(|(name, value)| (name, value.unwrap())));
    command.env("PATH", std::env::var_os("PATH").unwrap());
    Run::of(command)
}

/// The same program without strace, with the same journal.
fn with_state(double: &Double) -> PathBuf {
    let link = double.path("home/.local/state/sweeper");
    std::fs::create_dir_all(&link).unwrap();
    let link = link.join("clearml");
    if !link.exists() {
        std::os::unix::fs::symlink(double.path("state"), &link).unwrap();
    }
    link
}

#[test]
fn a_run_that_is_killed_at_any_write_of_the_journal_loses_no_file() {
    let mut at = 1;
    loop {
        let double = double();
        let run = injected(&double, "signal=KILL", at);
        asserts_no_file_is_missing(&double, &format!("write {at}"));
        with_state(&double);
        asserts_the_next_run_ends_it(&double, &format!("write {at}"));
        if run.code == Some(0) {
            break;
        }
        at += 1;
    }
    assert!(at > 6, "only {at} writes");
}

#[test]
fn each_write_of_the_journal_is_on_disk_before_anything_else_is_done() {
    let double = double();
    let calls = double.path("calls");
    traced(&double, calls.clone(), &[]).exits(0);
    let text = std::fs::read_to_string(&calls).unwrap();
    let calls: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|it| it.1).collect();
    let written = |at: &usize| calls[*at].trim_start().starts_with("write(");
    let writes: Vec<usize> = (0..calls.len()).filter(written).collect();
    assert!(writes.len() > 3, "{text}");
    let is_record = |at: &&usize| ["plan", "deleted"].iter().any(|op| calls[**at].contains(op));
    let records: Vec<&usize> = writes.iter().filter(is_record).collect();
    assert!(records.len() > 1, "{text}");
    for at in records {
        assert!(calls[at + 1].trim_start().starts_with("fdatasync("), "{text}");
    }
}

#[test]
fn a_full_disk_or_a_journal_that_cannot_be_synced_deletes_nothing_more() {
    for fault in ["error=ENOSPC", "error=EIO"] {
        let mut at = 1;
        loop {
            let double = double();
            let run = injected(&double, fault, at);
            let when = format!("{fault} {at}");
            if run.code == Some(0) {
                break;
            }
            run.exits(4);
            assert!(run.stderr.contains("the journal cannot be used"), "{when}: {}", run.stderr);
            asserts_no_file_is_missing(&double, &when);
            let has_plan = std::fs::read_to_string(double.path("state/journal.jsonl"))
                .is_ok_and(|text| text.contains("\"op\":\"plan\""));
            if !has_plan {
                assert!(double.bodies("tasks.delete_many").is_empty(), "{when}");
            }
            with_state(&double);
            asserts_the_next_run_ends_it(&double, &when);
            at += 1;
        }
        assert!(at > 6, "only {at} calls");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_deletes_nothing() {
    let double = double();
    let (before, files) = (double.state(), double.files_left());
    let file = double.path("a file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("below");
    let run = double.run(&["--state", state.to_str().unwrap()]);
    assert!(run.exits(4).stderr.contains("Not a directory"), "{}", run.stderr);
    let broken = double.path("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("journal.jsonl"), "hello\n").unwrap();
    let run = double.run(&["--state", broken.to_str().unwrap()]);
    assert!(run.exits(4).stderr.contains("line 1"), "{}", run.stderr);
    double.asserts_untouched(&before, &files);
}

#[test]
fn two_runs_with_one_journal_do_not_work_at_the_same_time() {
    let double = double();
    double.faults(json!([{"match": "events.get_task_events", "do": "hang", "times": 1}]));
    let mut first = run(&double).stdout(Stdio::null()).stderr(Stdio::null()).start().unwrap();
    double.wait_for_hit();
    let second = double.run(&[]);
    assert!(second.exits(4).stderr.contains("another sweeper is at work"), "{}", second.stderr);
    first.kill().unwrap();
    first.wait().unwrap();
    asserts_the_next_run_ends_it(&double, "after two runs");
}

#[test]
fn a_wrong_address_of_the_file_server_loses_nothing_and_a_retry_with_the_right_one_ends_it() {
    let double = double();
    let mut wrong = double.command(&["run", "--now", NOW]);
    wrong.env("CLEARML_FILES_HOST", "http://127.0.0.1:1");
    Run::of(wrong).exits(1);
    assert_eq!(double.files_left().len(), 7);
    // A further run does not try in vain.
    double.run(&[]).exits(0);
    assert_eq!(double.files_left().len(), 7);
    Run::of(double.command(&["journal", "retry", "--now", NOW])).exits(0);
    assert_eq!(double.files_left().len(), 1);
    let list = Run::of(double.command(&["journal"]));
    assert!(list.stdout.contains("nothing is unfinished"), "{}", list.stdout);
}

#[test]
fn a_file_that_nobody_deletes_is_not_forgotten_when_another_one_of_the_task_is_retried() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file), "http://elsewhere/y"])]);
    double.file(&file);
    double.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
    double.run(&[]).exits(1);
    double.faults(json!([]));
    double.run(&[]).exits(0);
    assert!(double.files_left().is_empty());
    let list = Run::of(double.command(&["journal"]));
    assert!(list.stdout.contains("left \"http://elsewhere/y\""), "{}", list.stdout);
}

#[test]
fn files_of_a_task_that_is_there_again_stay() {
    let file = path("a", "artifacts/x/x.bin");
    let credentials = json!({"credentials": {"key": "key", "secret": "s3cret"}});
    for (left, command) in [
        (url(&file), &["run"][..]),
        (url(&file), &["journal", "retry"]),
        // Nothing could delete it with the address of the file server that was set.
        ("http://127.0.0.1:1/".to_owned() + &file, &["journal", "retry"]),
    ] {
        let double = Double::with_tasks(&[task("a", &[&left])]);
        double.file(&file);
        let before = with(double.state(), credentials.clone());
        double.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
        double.run(&[]).exits(1);
        assert!(double.left("tasks").is_empty());
        double.faults(json!([]));
        // From a backup of the database. Now the task is in use.
        let mut again = before;
        again["tasks"][0]["system_tags"] = json!([]);
        double.load(&again);
        let mut command = double.command(&[command, &["--now", NOW]].concat());
        command.env(
            "CLEARML_FILES_HOST",
            left.strip_suffix(&file).unwrap().replace("{files}", &double.files),
        );
        let run = Run::of(command);
        assert!(run.exits(0).stderr.contains("is there again: its files stay"), "{}", run.stderr);
        assert_eq!(double.files_left(), BTreeSet::from([file.clone()]), "{left}");
        let list = Run::of(double.command(&["journal"]));
        assert!(list.stdout.contains("nothing is unfinished"), "{}", list.stdout);
    }
}

#[test]
fn a_damaged_journal_deletes_nothing_and_a_line_cut_short_is_left_out() {
    let double = double();
    double.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
    double.run(&[]).exits(1);
    double.faults(json!([]));
    let journal = double.path("home/.local/state/sweeper/clearml/journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    for damage in [&b"\0\0\0\n"[..], b"{\"op\":\"new\"}\n", b"{}\n", b"\xff\n", b"\n"] {
        std::fs::write(&journal, [&whole[..], damage].concat()).unwrap();
        let files = double.files_left();
        let run = double.run(&[]);
        assert!(run.exits(4).stderr.contains("is damaged"), "{}", run.stderr);
        assert_eq!(double.files_left(), files);
    }
    std::fs::write(&journal, [&whole[..], b"{\"op\":\"kept\",\"task\":"].concat()).unwrap();
    asserts_the_next_run_ends_it(&double, "after a line that was cut");
}

#[test]
fn a_journal_of_another_server_is_not_continued_here() {
    let (one, other) = (double(), double());
    one.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
    let state = one.path("state");
    let state = ["--state", state.to_str().unwrap()];
    one.run(&state).exits(1);
    let (before, files) = (other.state(), other.files_left());
    let run = other.run(&state);
    assert!(run.exits(4).stderr.contains("has unfinished work on http://"), "{}", run.stderr);
    other.asserts_untouched(&before, &files);
    let list: Value =
        Run::of(one.command(&[&["journal", "--format", "json"], &state[..]].concat())).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0]["files"][0]["outcome"], "failed");
}

#[test]
fn a_run_that_cannot_begin_leaves_the_journal_alone_and_one_that_ends_early_reports_what_it_did() {
    let double = double();
    double.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
    double.run(&[]).exits(1);
    let ahead = json!([{"match": "*", "do": "clock", "seconds": -2 * DAY}]);
    for (faults, args) in [(json!([]), &["--project", "typo"][..]), (ahead.clone(), &[])] {
        double.faults(faults);
        let run = double.run(args);
        assert_eq!(run.exits(2).stdout, "");
        assert_eq!(double.files_left().len(), 7, "{}", run.stderr);
    }
    Run::of(double.command(&["journal", "retry", "--now", NOW])).exits(2);
    assert_eq!(double.files_left().len(), 7);
    double.faults(json!([]));
    let mut state = double.state();
    state["tasks"].as_array_mut().unwrap().push(task("c", &[]));
    double.load(&with(state, json!({"credentials": {"key": "key", "secret": "s3cret"}})));
    let run = double.run(&["--max-tasks", "0"]);
    assert!(run.exits(3).stderr.contains("nothing more is deleted: 1 tasks"), "{}", run.stderr);
    assert_eq!(removed(&run.json()), (0, 6));
    assert_eq!(double.files_left().len(), 1);
}
