//! Locks that pottery holds, and locks that a sweeper takes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::server::{Pottery, Redis};
use super::{export, key, run, with_locks};
use crate::company::{count, has_tool, log_beside, slowed};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{NOW, Run, World, assert_counts, sweeper};

#[test]
fn a_file_whose_lock_pottery_holds_is_skipped() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let (held, free) = (export(&world, 1), export(&world, 2));
    let holder = Pottery::hold(&redis, &held, 600);
    for args in [&["--dry-run"][..], &[]] {
        let report = run(&redis, &world, &[&["--lock-wait", "200ms"], args].concat());
        assert_counts(
            &report.exits(0).json(),
            "export",
            &[("removed", 1), ("skipped_by.locked", 1), ("failed", 0)],
        );
        assert_eq!(redis.keys(), [key(&held)], "all others are released");
    }
    assert!(held.exists() && !free.exists());
    // Its token is still there: pottery can release.
    assert_eq!(holder.release(), "released");
    let report = run(&redis, &world, &[]);
    assert_counts(&report.exits(0).json(), "export", &[("removed", 1)]);
}

#[test]
fn a_file_that_pottery_locks_for_a_moment_is_removed_at_the_end() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let held = export(&world, 1);
    for number in 2..40 {
        export(&world, number);
    }
    let holder = Pottery::hold(&redis, &held, 600);
    let args = with_locks(&redis, &world);
    let mut command = world.command(&args.each_ref().map(String::as_str));
    let child = command.args(["--lock-wait", "10m"]).stdout(Stdio::piped()).start().unwrap();
    wait_until("all others are removed", || count(world.path("cache/export")) == 1);
    assert!(held.exists());
    assert_eq!(holder.release(), "released");
    let run = Run::from(child.wait_with_output().unwrap());
    assert_counts(&run.exits(0).json(), "export", &[("removed", 39), ("skipped", 0)]);
    assert!(redis.keys().is_empty());
}

#[test]
fn a_key_without_an_end_and_a_foreign_token_are_left_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    redis.cli(&["SET", &key(&path), "another-process"]);
    let report = run(&redis, &world, &["--lock-wait", "0"]);
    assert_counts(&report.exits(0).json(), "export", &[("skipped_by.locked", 1)]);
    assert_eq!(redis.cli(&["GET", &key(&path)]).trim(), "another-process");
    // `why` names the holder, and says that the lock does not expire.
    let why = || {
        let mut why = sweeper(&["why", "--redis", &redis.url(), "--now", NOW, "--cvat-data"]);
        why.arg(&world.root).arg("--data").arg(&world.root).arg(&path);
        Run::of(why).exits(0).stdout.clone()
    };
    let said = why();
    assert!(said.contains("another-process"), "{said}");
    assert!(said.contains("without an expiry") && said.contains("delete the key"), "{said}");
    redis.cli(&["SET", &key(&path), "cvat-uuid", "PX", "3600000"]);
    let said = why();
    assert!(said.contains("held by CVAT in Redis for another 3"), "{said}");
    assert!(said.contains("cvat-uuid"), "{said}");
}

#[test]
fn a_dry_run_takes_and_releases_the_same_locks() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    for number in 0..50 {
        export(&world, number);
    }
    let taken = |args: &[&str]| {
        let watched = redis.watch(|| {
            run(&redis, &world, args).exits(0);
        });
        let mut keys: Vec<String> = watched
            .iter()
            .filter(|line| line.contains("\"SET\""))
            .map(|line| line.split('"').nth(3).unwrap().to_owned())
            .collect();
        keys.sort();
        assert!(redis.keys().is_empty());
        keys
    };
    let dry = taken(&["--dry-run"]);
    assert_eq!(dry.len(), 50);
    assert_eq!(dry, taken(&[]));
}

#[test]
fn without_redis_the_report_says_who_is_not_excluded() {
    let world = World::new();
    export(&world, 1);
    for args in [&["run", "--dry-run"][..], &["run", "--dry-run", "--lock", "flock"]] {
        let run = world.run(args);
        assert!(
            run.exits(0).stdout.contains("CVAT's lock in Redis is not taken"),
            "{}",
            run.stdout
        );
    }
}

/// What is left of the life of each key, in milliseconds, all at once; -1 for one that does not expire.
fn lives(redis: &Redis) -> Vec<i64> {
    let script = "local left = {} for i, key in ipairs(redis.call('KEYS', '*')) do \
                  left[i] = redis.call('PTTL', key) end return left";
    let answer = redis.cli(&["EVAL", script, "0"]);
    let lines = answer.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_killed_sweeper_leaves_no_lock_that_outlasts_its_ttl() {
    if !has_tool("strace", "a sweeper that is killed while it holds locks") {
        return;
    }
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let left = || count(world.path("cache/export"));
    for round in 0..28_u64 {
        for number in 0..1500 {
            export(&world, number);
        }
        let args = with_locks(&redis, &world);
        let mut command = world.command(&args.each_ref().map(String::as_str));
        // Long enough that those of a batch are still there when they are looked at.
        command.args(["--lock-ttl", "10m"]);
        if round < 25 {
            // At any moment.
            let mut child = command.stdout(Stdio::null()).start().unwrap();
            std::thread::sleep(Duration::from_millis(2 + round * 3));
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            // In the middle of a batch.
            let pause = Duration::from_millis(20);
            let mut child = slowed(&command, pause, &log_beside(&world)).start().unwrap();
            let most = 1500 - usize::try_from(round - 24).unwrap();
            wait_until("some are removed", || left() <= most);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!lives(&redis).is_empty(), "it was killed while it held no lock");
        }
        for life in lives(&redis) {
            assert!(life != -1 && life <= 600_000, "{life} ms");
        }
        redis.cli(&["FLUSHALL"]);
    }
}
