//! Limits on processes, as `--pids-limit` sets them for a container: what runs has fewer threads or says that it cannot
//! start. Nothing panics, and no lock is left. And all threads have a part in the work, wherever it is found.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::company::has_tool;
use crate::exporter::server::Redis;
use crate::interrupted::tampered;
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{DAY, NOW, Run, World, assert_counts, can_be_root, export_name};

/// The limits that are tried. A container's own limit counts the same threads.
pub const LIMITS: std::ops::RangeInclusive<u32> = 1..=8;

/// A user of whom no process is running.
pub fn new_user() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + std::process::id() * 256 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The same command as a user who may have so many threads.
pub fn limited(threads: u32, user: u32, command: &Command) -> Command {
    let id = user.to_string();
    let mut other = Command::new("prlimit");
    other.arg(format!("--nproc={threads}")).arg("setpriv");
    other.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all"]);
    other.arg(command.get_program()).args(command.get_args());
    other.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        other.env(name, value.unwrap());
    }
    other
}

/// Whether the parts that are needed are there.
pub fn can_limit() -> bool {
    can_be_root("a limit on processes") && has_tool("prlimit", "a limit on processes")
}

/// A data root of the user, with two old entries and a fresh one.
fn data_root(user: u32) -> World {
    let world = World::new();
    for (number, age) in [(1, 2 * DAY), (2, 60)] {
        world.file(Path::new("cache/export").join(export_name(number)), age);
    }
    world.file("tmp/tree/in/it", 20 * DAY);
    world.age_dirs("tmp/tree", 20 * DAY);
    world.chown(user);
    world
}

#[track_caller]
pub fn assert_no_panic(run: &Run, limit: u32) {
    assert!(!run.stderr.contains("panicked"), "{limit}: {}", run.stderr);
    assert!(run.code.is_some(), "{limit}: it was killed: {}", run.stderr);
}

#[test]
fn a_pass_is_whole_however_few_threads_it_gets() {
    if !can_limit() {
        return;
    }
    let user = new_user();
    for limit in LIMITS {
        let world = data_root(user);
        let args = ["run", "--jobs", "4", "--deadline", "1h", "--format", "json"];
        let run = Run::of(limited(limit, user, &world.command(&args)));
        assert_no_panic(&run, limit);
        let report = run.exits(0).json();
        assert_counts(&report, "export", &[("removed", 1), ("kept_by.fresh", 1)]);
        assert_counts(&report, "tmp", &[("removed", 1)]);
        let is_told = run.stderr.contains("of 4 worker threads: Resource")
            && run.stderr.contains("--pids-limit");
        assert!(is_told || limit > 4, "{limit}: {}", run.stderr);
    }
}

#[test]
fn other_commands_end_with_a_result_or_a_reason() {
    if !can_limit() {
        return;
    }
    let user = new_user();
    for limit in LIMITS {
        let world = data_root(user);
        let plan = world.path("plan");
        let list = world.path("list");
        std::fs::write(&list, "tmp/tree\0").unwrap();
        let path = world.path("tmp/tree");
        let [plan, list, path] = [&plan, &list, &path].map(|path| path.to_str().unwrap());
        for args in [
            &["usage", "--deadline", "1h"][..],
            &["why", path],
            &["hold", path, "--", "/bin/true"],
            &["run", "--dry-run", "--from0", list],
            &["plan", "-o", plan, "--jobs", "4"],
            &["apply", plan, "--jobs", "4"],
        ] {
            let run = Run::of(limited(limit, user, &world.command(args)));
            assert_no_panic(&run, limit);
            // A list is read by a thread of its own, for which four workers leave no room. A command is a process.
            let may_lack = ["apply", "hold"].contains(&args[0]) || args.contains(&"--from0");
            let is_told = run.stderr.contains("cannot start a thread that reads the list")
                && run.stderr.contains("--pids-limit");
            let is_told = is_told || run.stderr.contains("cannot run \"/bin/true\"");
            assert!(
                run.code == Some(0) || (may_lack && is_told && limit < 8),
                "{limit} {args:?}: {:?} {}",
                run.code,
                run.stderr
            );
        }
        // One worker leaves room for it.
        if limit >= 5 {
            let again = data_root(user);
            let plan = again.path("plan");
            let plan = plan.to_str().unwrap();
            for args in [&["plan", "-o", plan][..], &["apply", plan]] {
                let args = [args, &["--jobs", "1"]].concat();
                Run::of(limited(limit, user, &again.command(&args))).exits(0);
            }
        }
        let mut demo = crate::world::sweeper(&["demo"]);
        demo.env("TMPDIR", &world.root);
        let run = Run::of(limited(limit, user, &demo));
        assert_no_panic(&run, limit);
        run.exits(0);
    }
}

#[test]
fn a_service_works_or_does_not_start_and_is_never_half_dead() {
    if !can_limit() {
        return;
    }
    let (user, mut served) = (new_user(), 0);
    for limit in LIMITS {
        let world = data_root(user);
        let args = ["serve", "--at-start", "--listen", "0", "--jobs", "4", "--deadline", "1h"];
        let mut command = world.command(&args);
        command.env("TZ", "UTC");
        let mut command = limited(limit, user, &command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
        let mut ended = None;
        wait_until("a pass, or the reason why there is none", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || !world.has("tmp/tree")
        });
        if ended.is_none() {
            served += 1;
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        let run = Run::from(child.wait_with_output().unwrap());
        assert_no_panic(&run, limit);
        if ended.is_some() {
            assert_eq!(run.code, Some(2), "{limit}: {}", run.stderr);
            assert!(run.stderr.contains("cannot start a thread"), "{limit}: {}", run.stderr);
            assert!(run.stderr.contains("--pids-limit"), "{limit}: {}", run.stderr);
        } else {
            assert!([Some(0), Some(3)].contains(&run.code), "{limit}: {}", run.stderr);
        }
    }
    assert!(served >= 2, "with seven and with eight threads there is enough for a service");
}

#[test]
fn a_hold_that_cannot_extend_its_lock_gives_it_back() {
    let Some(redis) = Redis::start(&[]) else { return };
    if !can_limit() {
        return;
    }
    let user = new_user();
    let world = data_root(user);
    let path = world.path("cache/export").join(export_name(1));
    let mut hold = crate::world::sweeper(&["hold", "--redis", &redis.url(), "--data"]);
    hold.arg(&world.root).arg("--cvat-data").arg(&world.root).arg(&path);
    hold.args(["--", "/bin/echo", "it ran"]);
    let run = Run::of(limited(1, user, &hold));
    assert_no_panic(&run, 1);
    assert!(run.exits(4).stderr.contains("CVAT's lock cannot be extended"), "{}", run.stderr);
    assert!(run.stderr.contains("the command was not run") && run.stdout.is_empty());
    assert!(redis.keys().is_empty(), "the lock is left: {:?}", redis.keys());
}

/// How many names each thread of a pass with four workers removes, while a removal takes as long as on a server. The first
/// number is that of the thread that has begun the pass.
fn removals(world: &World, args: &[&str]) -> Vec<usize> {
    let log = world.root.parent().unwrap().join("removals.log");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=execve,unlinkat",
        "-e",
        "inject=unlinkat:delay_enter=1000",
    ]);
    command.arg("-o").arg(&log).arg(env!("CARGO_BIN_EXE_sweeper"));
    command.args(["run", "--jobs", "4", "--now", NOW, "--data"]).arg(&world.root).args(args);
    Run::of({
        command.stdin(Stdio::null());
        command
    })
    .exits(0);
    let log = std::fs::read_to_string(log).unwrap();
    let mut threads: Vec<(&str, usize)> = Vec::new();
    for (thread, call) in log.lines().filter_map(|line| line.split_once(' ')) {
        let removed = usize::from(call.trim_start().starts_with("unlinkat("));
        match threads.iter_mut().find(|(known, _)| *known == thread) {
            Some((_, count)) => *count += removed,
            None => threads.push((thread, removed)),
        }
    }
    threads.into_iter().map(|(_, count)| count).collect()
}

#[track_caller]
fn assert_shared(removals: &[usize], least: usize) {
    let all: usize = removals.iter().sum();
    assert!(all >= least, "{removals:?}");
    assert!(removals.iter().all(|one| one * 10 <= all * 6), "one thread does it all: {removals:?}");
}

#[test]
fn old_trees_of_an_instance_are_removed_by_all_workers() {
    if !has_tool("strace", "which thread removes what") {
        return;
    }
    let world = World::new();
    for number in 0..500 {
        world.file(format!("projects/1/tmp/tree-{number}/file"), 40 * DAY);
    }
    world.age_dirs("projects/1/tmp", 40 * DAY);
    assert_shared(&removals(&world, &["--zones", "instance-tmp"]), 1000);
    assert!(!world.has("projects/1/tmp/tree-0"));
}

#[test]
fn what_an_interrupted_removal_has_left_is_removed_by_all_workers() {
    if !has_tool("strace", "which thread removes what") {
        return;
    }
    let world = World::new();
    for number in 0..400 {
        world.file(format!("tmp/tree/{number}"), 40 * DAY);
    }
    world.age_dirs("tmp/tree", 40 * DAY);
    let killed = tampered(&world, "unlinkat", "signal=KILL:when=9");
    assert_ne!(killed.status.code(), Some(0));
    assert_shared(&removals(&world, &["--zones", "tmp"]), 390);
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}
