//! The service: when it cleans up, what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::double::Double;
use super::seeds::{DAY, id, path, task, url, with};
use crate::start::Start;
use crate::world::{NOW, Run};

/// Starts a command whose output is read.
fn start(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The next line.
fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(out.read_line(&mut line).unwrap() > 0, "it has ended");
    line.trim_end().to_owned()
}

#[test]
fn run_cleans_up_once_and_ends() {
    let double = Double::with_tasks(&[task("a", &[])]);
    double.run(&[]).exits(0);
    assert!(double.left("tasks").is_empty());
}

#[test]
fn the_service_sleeps_for_a_day_or_for_the_period_between_two_cleanups() {
    let double = Double::with_tasks(&[task("a", &[])]);
    for (args, words) in [
        (&[][..], "going to sleep for 1.0 days"),
        (&["--cleanup-period-in-days", "0.5"], "going to sleep for 0.5 days"),
        (&["--cleanup_period_in_days=2"], "going to sleep for 2.0 days"),
    ] {
        let mut command =
            double.command(&[&["serve", "--compat-output", "--now", NOW], args].concat());
        let (child, mut out) = start(&mut command);
        while line(&mut out) != words {}
        signal(&child, Signal::TERM);
        let run = Run::from(child.wait_with_output().unwrap());
        run.exits(0);
    }
    // 2 seconds, in days. What was added meanwhile is deleted by the next cleanup.
    let short =
        ["serve", "--compat-output", "--now", NOW, "--cleanup-period-in-days", "0.0000231482"];
    let (child, mut out) = start(&mut double.command(&short));
    while !line(&mut out).starts_with("going to sleep") {}
    double.load(&json!({
        "tasks": [task("b", &[])], "models": [], "events": {}, "projects": [],
        "credentials": {"key": "key", "secret": "s3cret"},
    }));
    while line(&mut out) != "Deleting 1 tasks" {}
    signal(&child, Signal::INT);
    drop(out);
    child.wait_with_output().unwrap();
}

/// The lines of the script, under its name.
fn as_script(double: &Double, args: &[&str]) -> Command {
    let link = double.path("cleanup_service");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sweeper"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.args(args).env_clear().stdin(Stdio::null());
    for (name, value) in double.command(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

#[test]
fn called_as_cleanup_service_it_prints_the_lines_of_the_script() {
    let tasks: Vec<_> = (0..150).map(|n| task(&format!("t{n}"), &[])).collect();
    let double = Double::with_tasks(&tasks);
    let (child, mut out) = start(&mut as_script(&double, &["--now", NOW]));
    for expected in [
        "Cleanup service started",
        "Starting cleanup",
        "Deleting 100 tasks",
        "Deleting 50 tasks",
        "going to sleep for 1.0 days",
    ] {
        assert_eq!(line(&mut out), expected);
    }
    signal(&child, Signal::TERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    child.wait_with_output().unwrap();
    assert!(double.left("tasks").is_empty());
}

#[test]
fn run_as_service_false_cleans_up_once_also_under_the_name_of_the_script() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let run = Run::of(as_script(&double, &["--now", NOW, "--run_as_service=false"]));
    assert_eq!(run.exits(0).stdout, "Starting cleanup\nDeleting 1 tasks\n");
    assert!(double.left("tasks").is_empty());
}

#[test]
fn a_signal_ends_it_while_a_server_hangs_with_a_summary() {
    for (endpoint, code) in [
        ("auth.login", 3),
        ("tasks.get_all", 3),
        ("events.get_task_events", 3),
        ("tasks.delete_many", 3),
        ("files:*", 3),
    ] {
        for command in ["run", "serve"] {
            let file = path("a", "artifacts/x/x.bin");
            let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
            double.file(&file);
            double.faults(json!([{"match": endpoint, "do": "hang", "times": 1}]));
            let mut child = double.command(&[command, "--now", NOW]);
            let (mut child, out) = start(&mut child);
            double.wait_for_hit();
            signal(&child, Signal::TERM);
            // The request itself would take a minute: if it was waited for, the test would end then.
            let ended = std::time::Instant::now();
            let status = child.wait().unwrap();
            assert!(ended.elapsed() < Duration::from_secs(30), "{endpoint}");
            assert_eq!(status.code(), Some(code), "{endpoint}");
            let text: Vec<String> = out.lines().map(Result::unwrap).collect();
            assert!(text.last().unwrap().contains("stopped by a signal"), "{text:?}");
            // Nothing is lost.
            double.faults(json!([]));
            double.run(&[]).exits(0);
            assert!(
                double.left("tasks").is_empty() && double.files_left().is_empty(),
                "{endpoint}"
            );
        }
    }
}

#[test]
fn a_service_beside_cvats_zones_cleans_up_as_its_table_says() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let settings = double.path("settings.toml");
    std::fs::write(&settings, "every = '1d'\n[clearml]\ndelete_threshold_days = 30.0\n").unwrap();
    let world = crate::world::World::new();
    let mut command = crate::world::sweeper(&["serve", "--at-start", "--now", NOW, "--config"]);
    command.arg(&settings).arg("--data").arg(&world.root);
    for (name, value) in double.command(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    let (child, mut out) = start(&mut command);
    let mut seen = Vec::new();
    while !["export", "clearml-tasks"]
        .iter()
        .all(|zone| seen.iter().any(|it: &String| it.starts_with(zone)))
    {
        let line = line(&mut out);
        assert!(!line.is_empty(), "{seen:?}");
        seen.push(line);
    }
    signal(&child, Signal::TERM);
    drop(out);
    child.wait_with_output().unwrap();
    assert!(!double.left("tasks").contains(&id("a")));
}

#[test]
fn a_deadline_ends_it_between_two_batches() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let run = double.run(&["--deadline", "0s"]);
    assert_eq!(run.exits(3).json()["stopped"], "deadline");
    assert!(!double.left("tasks").is_empty());
}

#[test]
fn a_deadline_ends_a_listing_before_its_next_page_and_nothing_is_deleted_after_it() {
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let double = Double::with_tasks(&[task("a", &[]), live]);
    let root = double.path("files");
    let orphans = ["orphans", "--fileserver-root", root.to_str().unwrap()];
    for command in [&["run"][..], &["run", "--project", "p"], &orphans] {
        let mut command = double.command(&[command, &["--now", NOW, "--format", "json"]].concat());
        command.env("SWEEPER_DEADLINE", "0s");
        assert_eq!(Run::of(command).exits(3).json()["stopped"], "deadline");
        let is_list = |request: &Value| request["path"].as_str().unwrap().ends_with(".get_all");
        assert!(!double.requests().iter().any(is_list));
    }
    double.faults(json!([{"match": "events.get_task_events", "do": "slow", "seconds": 2}]));
    let run = double.run(&["--deadline", "1s"]);
    assert_eq!(run.exits(3).json()["stopped"], "deadline");
    assert!(!run.stderr.contains("ERROR"), "{}", run.stderr);
    assert_eq!(double.left("tasks").len(), 2);
    assert!(double.bodies("tasks.delete_many").is_empty());
    // What deletes nothing has no deadline.
    let mut why = double.command(&["why", "--now", NOW, &id("a")]);
    why.env("SWEEPER_DEADLINE", "0s");
    assert!(Run::of(why).exits(0).stdout.contains("would delete it"));
}

#[test]
fn a_deadline_also_ends_the_work_of_an_earlier_run_and_the_search_for_folders() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[
        task("a", &[&url(&file)]),
        with(task("live", &[]), json!({"system_tags": []})),
    ]);
    super::orphans::old_file(&double, &file, 30 * DAY);
    super::orphans::old_file(&double, &path("live", "artifacts/x/x.bin"), 30 * DAY);
    double.faults(json!([{"match": "files:*", "do": "status", "status": 500}]));
    double.run(&[]).exits(1);
    double.faults(json!([]));
    let root = double.path("files");
    let orphans = ["orphans", "--fileserver-root", root.to_str().unwrap()];
    for command in [&["run"][..], &["journal", "retry"], &orphans] {
        let mut command = double.command(&[command, &["--now", NOW, "--format", "json"]].concat());
        command.env("SWEEPER_DEADLINE", "0s");
        assert_eq!(Run::of(command).exits(3).json()["stopped"], "deadline");
        assert_eq!(double.files_left().len(), 2);
    }
    double.run(&[]).exits(0);
    assert_eq!(double.files_left().len(), 1);
}

/// No clock of the system counts as far.
#[test]
fn the_longest_deadline_and_timeout_that_can_be_written_end_nothing() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let longest = format!("{}s", u64::MAX);
    double.run(&["--deadline", &longest, "--request-timeout", &longest]).exits(0);
    assert!(double.left("tasks").is_empty());
}

/// The lines of an audit log: the event, the zone and the path.
fn audited(path: &std::path::Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines.map(|it| (text(&it, "event"), text(&it, "zone"), text(&it, "path"))).collect()
}

#[test]
fn the_audit_log_names_what_is_deleted_before_it_is_and_without_it_nothing_is() {
    let file = path("a", "artifacts/x/x.bin");
    for mode in ["http", "mount"] {
        let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
        double.file(&file);
        let (log, root) = (double.path("audit.log"), double.path("files"));
        let root = ["--files", mode, "--fileserver-root", root.to_str().unwrap()];
        // Every write to it fails.
        let plain = double.command(&[&["run", "--now", NOW], &root[..]].concat());
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&log);
        command.args(["-e", "trace=write", "-e", "inject=write:error=ENOSPC"]);
        command.arg(plain.get_program()).args(plain.get_args()).arg("--audit-log").arg(&log);
        command.env_clear().envs(plain.get_envs().map(|(name, value)| (name, value.unwrap())));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let run = Run::of(command);
        assert!(run.exits(4).stderr.contains("the audit log: No space left"), "{}", run.stderr);
        assert!(double.bodies("tasks.delete_many").is_empty());
        assert_eq!(double.files_left().len(), 1);
        double.run(&[&root[..], &["--audit-log", log.to_str().unwrap()]].concat()).exits(0);
        let found = audited(&log);
        let line = |zone: &str, path: String| ("delete".to_owned(), zone.to_owned(), path);
        assert!(found.contains(&line("clearml-tasks", id("a"))), "{found:?}");
        let address = url(&file).replace("{files}", &double.files);
        assert!(found.contains(&line("clearml-files", address)), "{found:?}");
        assert!(double.files_left().is_empty());
    }
}

/// `logrotate` sends SIGHUP.
#[test]
fn a_rotated_audit_log_is_opened_anew_and_does_not_end_a_cleanup() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    double.faults(json!([{"match": "tasks.delete_many", "do": "slow", "seconds": 15, "times": 1}]));
    let log = double.path("audit.log");
    let args = ["run", "--now", NOW, "--audit-log", log.to_str().unwrap()];
    let (mut child, _out) = start(&mut double.command(&args));
    double.wait_for_hit();
    let rotated = double.path("audit.log.1");
    std::fs::rename(&log, &rotated).unwrap();
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(double.left("tasks").is_empty() && double.files_left().is_empty());
    let zones = |log| audited(log).into_iter().map(|(_, zone, _)| zone).collect::<Vec<_>>();
    assert_eq!(zones(&rotated), ["clearml-tasks"]);
    assert_eq!(zones(&log), ["clearml-files"]);
}

#[test]
fn a_metrics_file_has_the_zones() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let file = double.path("sweeper.prom");
    double.run(&["--metrics-file", file.to_str().unwrap()]).exits(0);
    let text = std::fs::read_to_string(file).unwrap();
    for line in [
        "sweeper_removed_total{zone=\"clearml-tasks\"} 1",
        "sweeper_removed_total{zone=\"clearml-files\"} 0",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_cleanup_that_cannot_ask_the_server_is_no_success_of_any_zone() {
    let double = Double::with_tasks(&[task("a", &[])]);
    double.faults(json!([{"match": "tasks.get_all", "do": "status", "status": 500}]));
    let file = double.path("sweeper.prom");
    double.run(&["--metrics-file", file.to_str().unwrap()]).exits(4);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("sweeper_last_success_timestamp_seconds{"), "{text}");
}

#[test]
fn another_address_to_listen_at_is_refused_until_a_restart() {
    let double = Double::with_tasks(&[]);
    let settings = double.path("settings.toml");
    std::fs::write(&settings, "listen = '127.0.0.1:0'\n").unwrap();
    let args = ["serve", "--now", NOW, "--config", settings.to_str().unwrap()];
    let (mut child, out) = start(&mut double.command(&args));
    let mut said = BufReader::new(child.stderr.take().unwrap());
    while !line(&mut said).contains("next pass") {}
    std::fs::write(&settings, "listen = '127.0.0.1:1'\n").unwrap();
    signal(&child, Signal::HUP);
    let answer = loop {
        let line = line(&mut said);
        if line.contains("reloaded") {
            break line;
        }
    };
    assert!(answer.contains("not reloaded") && answer.contains("listen only changes"), "{answer}");
    signal(&child, Signal::TERM);
    drop((out, said));
    child.wait_with_output().unwrap();
}
