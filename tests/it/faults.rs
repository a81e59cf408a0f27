//! A pass in which system calls fail: each call, with each of some errors, once or from then on.
//!
//! Whatever fails, every entry has one outcome, what is gone is what was reported, the exit code says that
//! something failed, nothing that has not expired is lost, and the next pass completes the work.
//!
//! `strace` makes the calls fail. There are tens of thousands of cases, so a sample of them is tried, with one
//! worker the same one each time. `SWEEPER_TESTS_FAULTS=all` tries all, and a number so many of each kind of pass.

mod calls;
mod judge;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::exporter::server::Redis;
use crate::interrupted::has_strace;
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, export_name, sweeper};
use calls::{Case, calls_of};

/// What fails.
const ERRORS: [&str; 12] = [
    "EIO", "EACCES", "EPERM", "ENOSPC", "EINTR", "EMFILE", "ENOMEM", "ESTALE", "EBUSY", "EROFS",
    "ENOSYS", "ENOLCK",
];

/// A kind of pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneWorker,
    TwoWorkers,
    Legacy,
    DryRun,
    Redis,
}

impl Kind {
    /// The arguments of such a pass.
    fn args(self, world: &World, redis: Option<&Redis>) -> Vec<String> {
        let own: &[&str] = match self {
            Self::OneWorker => &["run", "--jobs", "1", "--zones", "export,tmp,instance-tmp"],
            Self::TwoWorkers => &["run", "--jobs", "2"],
            Self::Legacy => &["legacy", "--jobs", "1", "--older-than", "7d"],
            Self::DryRun => &["run", "--jobs", "1", "--dry-run"],
            Self::Redis => &["run", "--jobs", "1", "--zones", "export"],
        };
        let mut args: Vec<String> = own.iter().map(|&arg| arg.to_owned()).collect();
        let rest = ["--format", "jsonl", "-v", "--now", NOW, "--lock-wait", "0"];
        args.extend(rest.map(str::to_owned));
        let root = world.root.to_str().unwrap().to_owned();
        if let Some(redis) = redis {
            args.extend([
                "--redis".to_owned(),
                redis.url(),
                "--cvat-data".to_owned(),
                root.clone(),
            ]);
        }
        args.extend(["--data".to_owned(), root]);
        args
    }
}

/// What every pass removes, and what none may, below the data root.
const OLD: [&str; 8] = [
    "tmp/file",
    "tmp/link",
    "tmp/tree",
    "tmp/tree-2",
    "tmp/empty",
    "tasks/1/tmp/other",
    "tasks/1/tmp/work",
    "tasks/1/export_cache",
];
const FRESH: [&str; 9] = [
    "cache/export/unknown",
    "tmp/fresh/file",
    "tmp/half-fresh/new",
    "tmp/half-fresh/sub/old",
    "tmp/new",
    "tasks/1/tmp/new",
    "tasks/1/data",
    "projects/3/export_cache/new",
    "projects/3/export_cache/old",
];

fn world() -> World {
    let world = World::new();
    for number in [1, 2] {
        world.file(format!("cache/export/{}", export_name(number)), 40 * DAY);
    }
    world.file(format!("cache/export/{}", export_name(3)), 0);
    world.file("tmp/file", 40 * DAY);
    world.link("tmp/link", "nowhere", 40 * DAY);
    for path in ["a", "sub/b", "sub/deep/c"] {
        world.file(format!("tmp/tree/{path}"), 40 * DAY);
    }
    world.link("tmp/tree/sub/link", "..", 40 * DAY);
    world.dir("jobs", 0);
    world.file("tmp/tree-2/x/y", 40 * DAY);
    world.dir("tmp/empty", 40 * DAY);
    for path in ["other", "work/x", "work/sub/y"] {
        world.file(format!("tasks/1/tmp/{path}"), 40 * DAY);
    }
    for path in ["tasks/1/export_cache/x", "tasks/1/export_cache/sub/y"] {
        world.file(path, 40 * DAY);
    }
    for path in FRESH {
        world.file(
            path,
            if path.contains("old") || path.contains("unknown") { 40 * DAY } else { 0 },
        );
    }
    for dir in ["tmp", "tasks/1/tmp", "tasks/1/export_cache", "projects/3/export_cache"] {
        world.age_dirs(dir, 40 * DAY);
    }
    world
}

/// Runs the pass of a case under strace.
fn disturbed(kind: Kind, case: &Case, world: &World, redis: Option<&Redis>) -> Run {
    let Case { call, error, when, and_on } = case;
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "60", "strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"]);
    command.arg("-e").arg(format!("trace={call}")).arg("-e");
    let more = if *and_on { "+" } else { "" };
    command.arg(format!("inject={call}:error={error}:when={when}{more}"));
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(kind.args(world, redis));
    Run::from(command.env_clear().current_dir("/").finish().unwrap())
}

/// What is wrong after this case and the pass after it, and whether the pass ended with another exit code than 0.
fn problems(kind: Kind, case: &Case, redis: Option<&Redis>) -> (Vec<String>, bool) {
    let world = world();
    let before = judge::Before::of(&world);
    let run = disturbed(kind, case, &world, redis);
    let mut problems = judge::after_fault(kind, &world, &before, &run);
    if let Some(redis) = redis {
        // As when the locks of a process that is gone run out.
        redis.cli(&["FLUSHALL"]);
    }
    let next = if kind == Kind::DryRun { Kind::OneWorker } else { kind };
    let args = next.args(&world, redis);
    let again = Run::of(sweeper(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    problems.extend(judge::after_next(next, &world, &again));
    let is_felt = run.code != Some(0);
    if !problems.is_empty() {
        for run in [run, again] {
            problems.push(format!("exit code {:?}\n{}\n{}", run.code, run.stdout, run.stderr));
        }
    }
    (problems, is_felt)
}

/// How many cases of each kind of pass are tried, of `all`.
fn sample(all: usize) -> usize {
    match std::env::var("SWEEPER_TESTS_FAULTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => 90,
    }
}

/// Tries the cases of a kind of pass with two threads.
fn try_faults(kind: Kind) {
    if !has_strace() {
        return;
    }
    let redis = if kind == Kind::Redis { Redis::start(&[]) } else { None };
    if kind == Kind::Redis && redis.is_none() {
        return;
    }
    let mut cases: Vec<Case> = Vec::new();
    for (call, from, to) in calls_of(kind, &world(), redis.as_ref()) {
        for when in from..=to {
            for error in ERRORS {
                // No call is interrupted forever.
                for and_on in [false, true].into_iter().filter(|and_on| !and_on || error != "EINTR")
                {
                    cases.push(Case { call: call.clone(), error, when, and_on });
                }
            }
        }
    }
    let all = cases.len();
    assert!(all > 1000, "only {all} cases of {kind:?}");
    // Not a multiple of the number of errors, so that every error is among them.
    let step = (all / sample(all)).max(1);
    let step = if step == 1 { 1 } else { step | 1 };
    let cases: Vec<Case> = cases.into_iter().step_by(step).collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let felt = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Claims in Redis are of one pass at a time.
        for _ in 0..if redis.is_some() { 1 } else { 2 } {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (problems, is_felt) = problems(kind, case, redis.as_ref());
                    felt.fetch_add(usize::from(is_felt), Ordering::Relaxed);
                    if !problems.is_empty() {
                        let text = format!("{kind:?} {case:?}:\n{}", problems.join("\n"));
                        eprintln!("{text}");
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let wrong: Vec<&str> = wrong.iter().filter_map(|text| text.lines().next()).collect();
    assert!(wrong.is_empty(), "{} of {} cases: {wrong:#?}", wrong.len(), cases.len());
    let felt = felt.into_inner();
    // Otherwise nothing failed, or no failure counts.
    assert!(felt > cases.len() / 4, "{felt} of {} faults changed an exit code", cases.len());
    eprintln!("{} of {all} cases of {kind:?} were tried, {felt} were felt", cases.len());
}

#[test]
fn a_call_that_fails_loses_nothing_with_one_worker() {
    try_faults(Kind::OneWorker);
}

#[test]
fn a_call_that_fails_loses_nothing_with_two_workers() {
    try_faults(Kind::TwoWorkers);
}

#[test]
fn a_call_that_fails_loses_nothing_of_old_export_caches() {
    try_faults(Kind::Legacy);
}

#[test]
fn a_call_that_fails_in_a_dry_run_changes_nothing() {
    try_faults(Kind::DryRun);
}

#[test]
fn a_call_that_fails_loses_nothing_under_the_lock_of_the_exporter() {
    try_faults(Kind::Redis);
}
