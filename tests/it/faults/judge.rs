//! What must hold after a pass in which something failed, and after the next one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{FRESH, Kind, OLD};
use crate::world::{Run, World, export_name};

/// The data root before the pass.
pub struct Before {
    paths: BTreeSet<PathBuf>,
}

impl Before {
    pub fn of(world: &World) -> Self {
        Self { paths: paths(world) }
    }
}

/// Everything in the data root but private directories.
fn paths(world: &World) -> BTreeSet<PathBuf> {
    world.snapshot().into_keys().filter(|path| !is_private(path)).collect()
}

fn is_private(path: &Path) -> bool {
    path.iter().any(|step| step.to_str().is_some_and(|step| step.starts_with(".sweeper-")))
}

/// The entries that a pass of this kind removes.
fn expired(kind: Kind) -> Vec<String> {
    let in_zone = |path: &&&str| match kind {
        Kind::OneWorker | Kind::DryRun => !path.contains("export_cache"),
        Kind::TwoWorkers => path.starts_with("tmp/"),
        Kind::Legacy => path.contains("export_cache"),
        Kind::Redis => false,
    };
    let mut all: Vec<String> = OLD.iter().filter(in_zone).map(|&path| path.to_owned()).collect();
    if kind != Kind::Legacy {
        all.extend([1, 2].map(|number| format!("cache/export/{}", export_name(number))));
    }
    all
}

fn fresh() -> Vec<String> {
    let mut all: Vec<String> = FRESH.iter().map(|&path| path.to_owned()).collect();
    all.push(format!("cache/export/{}", export_name(3)));
    all
}

/// Whether an entry is there, under its name or in a private directory.
fn is_there(world: &World, path: &Path) -> bool {
    let is_name = |name: &str| name.rsplit('%').next() == path.file_name().unwrap().to_str();
    let in_quarantine = |other: &PathBuf| {
        let stage = other.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        is_private(other)
            && matches!(stage, Some("check" | "remove"))
            && other.file_name().and_then(|name| name.to_str()).is_some_and(is_name)
    };
    path.symlink_metadata().is_ok() || world.snapshot().keys().any(in_quarantine)
}

/// What is wrong after a pass in which something failed.
pub fn after_fault(kind: Kind, world: &World, before: &Before, run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    // The calls are numbered in each thread. What fails in a worker can fail in the loader of the program, too.
    let is_loaded = !run.stderr.contains("error while loading shared libraries");
    check(matches!(run.code, Some(0..=4)) || !is_loaded, "it did not end by itself");
    check(!run.stderr.contains("panicked"), "it panicked");
    for path in fresh() {
        let path = world.path(path);
        let is_whole = path.symlink_metadata().is_ok_and(|found| found.len() == 4);
        check(is_whole, &format!("{path:?} is not there"));
    }
    let after = paths(world);
    if kind == Kind::DryRun || run.code == Some(2) {
        check(after == before.paths, "something was changed");
    }
    let report =
        run.stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let Some(report) = report.filter(|report| report["totals"].is_object()) else {
        check(run.code != Some(0), "there is no report, and the exit code is 0");
        return wrong;
    };
    for counts in report["zones"].as_array().into_iter().flatten().chain([&report["totals"]]) {
        let count = |key: &str| counts[key].as_u64().unwrap_or(u64::MAX / 8);
        let sum = count("removed") + count("kept") + count("skipped") + count("failed");
        check(count("seen") == sum, &format!("the counts do not add up: {counts}"));
        check(
            count("failed") == 0 || run.code != Some(0),
            "something failed, and the exit code is 0",
        );
    }
    let is_told = run.stderr.contains("cannot write the report");
    let is_same = report["exit"].as_i64() == run.code.map(i64::from);
    check(is_same || is_told && run.code == Some(1), "the report has another exit code");
    wrong.extend(outcomes_are_true(kind, world, before, &after, run, &report));
    wrong
}

/// Compares what was reported with what is there.
fn outcomes_are_true(
    kind: Kind,
    world: &World,
    before: &Before,
    after: &BTreeSet<PathBuf>,
    run: &Run,
    report: &Value,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let outcomes = run.outcomes();
    let removed = outcomes.values().filter(|(outcome, _)| outcome == "removed").count() as u64;
    if kind != Kind::DryRun && report["totals"]["removed"].as_u64() != Some(removed) {
        wrong.push(format!("{removed} lines say removed"));
    }
    for (path, (outcome, reason)) in &outcomes {
        let is_there = is_there(world, path);
        let is_right = match &**outcome {
            "removed" => !is_there,
            "kept" | "skipped" => {
                let below = |paths: &BTreeSet<PathBuf>| {
                    paths.iter().filter(|other| other.starts_with(path)).count()
                };
                is_there && below(&before.paths) == below(after)
            }
            _ => is_there,
        };
        if !is_right {
            wrong.push(format!("{path:?} is {outcome} ({reason}), and there: {is_there}"));
        }
    }
    for path in expired(kind).into_iter().map(|path| world.path(path)) {
        let is_removed = outcomes.get(&path).is_some_and(|(outcome, _)| outcome == "removed");
        if !is_there(world, &path) && !is_removed {
            wrong.push(format!("{path:?} is gone: {:?}", outcomes.get(&path)));
        }
    }
    wrong
}

/// What is wrong after the next pass.
pub fn after_next(kind: Kind, world: &World, run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    if run.code != Some(0) {
        wrong.push("the next pass failed".to_owned());
    }
    for path in expired(kind).into_iter().filter(|path| world.has(path)) {
        wrong.push(format!("{path} is there after the next pass"));
    }
    for path in fresh().into_iter().filter(|path| !world.has(path)) {
        wrong.push(format!("{path} is gone after the next pass"));
    }
    for path in world.snapshot().into_keys() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_private(&path) || name.contains(".kept-") {
            wrong.push(format!("{path:?} is left"));
        }
    }
    wrong
}
