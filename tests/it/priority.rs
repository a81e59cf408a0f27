//! `--nice`, `--max-rate` and the default of `--jobs`: how much of the machine a pass takes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::company::{has_tool, log_beside};
use crate::start::Start;
use crate::wait::{AT_ONCE, LIMIT, wait_until};
use crate::world::{DAY, Run, World, assert_counts, can_be_root, export_name, tool};

/// A pass that waits for a locked export, and the lock.
fn waiting(world: &World, args: &[&str]) -> (Child, fs::File) {
    let locked = world.file(format!("cache/export/{}", export_name(1)), 2 * DAY);
    let held = fs::File::open(locked).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut command = world.command(&["run", "--lock-wait", "10m", "--zones", "export"]);
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    (child, held)
}

/// The threads of a process, and whether each does the work. Those that wait for signals and for the end do none.
fn all_threads(pid: u32) -> Vec<(std::path::PathBuf, bool)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|at| at.unwrap().path());
    let with_work = |at: std::path::PathBuf| {
        let name = fs::read_to_string(at.join("comm")).unwrap_or_default();
        let works = !["signals", "watchdog"].contains(&name.trim());
        (at, works)
    };
    threads.map(with_work).collect()
}

/// Those that do the work.
fn threads(pid: u32) -> Vec<std::path::PathBuf> {
    all_threads(pid).into_iter().filter(|(_, works)| *works).map(|(at, _)| at).collect()
}

/// The niceness of each of them, by `/proc/<pid>/task/<tid>/stat`.
fn niceness(pid: u32) -> Vec<String> {
    let of = |stat: String| {
        // The name, in parentheses, may contain spaces. The niceness is the 17th field after it.
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned()
    };
    let stats = threads(pid).into_iter().map(|at| fs::read_to_string(at.join("stat")));
    stats.flatten().map(of).collect()
}

/// The class of a process or thread for its reads and writes, as `ionice` names it.
fn class(id: &str) -> String {
    let output = Command::new("ionice").args(["-p", id]).finish().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(':').next().unwrap().trim().to_owned()
}

#[test]
fn nice_gives_every_thread_that_works_the_lowest_priority_and_the_idle_class() {
    let world = World::new();
    // So many that there is work for several.
    for number in 2..100 {
        world.file(Path::new("cache/export").join(export_name(number)), 60);
    }
    // Without it, they have those of the process that starts the program: these tests may have a low priority themselves.
    let own = rustix::process::getpriority_process(None).unwrap().to_string();
    let own = (own, class(&std::process::id().to_string()));
    for (args, (nice, class_of_all)) in [
        (&["--jobs", "2", "--nice"][..], ("19".to_owned(), "idle".to_owned())),
        (&["--jobs", "2"][..], own),
    ] {
        let (mut child, held) = waiting(&world, args);
        // A new thread has the name of the program for a moment.
        wait_until("the two workers have started", || niceness(child.id()) == [&*nice; 3]);
        for thread in threads(child.id()) {
            assert_eq!(class(thread.file_name().unwrap().to_str().unwrap()), class_of_all);
        }
        drop(held);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn threads_that_wait_share_no_descriptors_with_the_one_that_works_which_would_slow_its_calls() {
    let world = World::new();
    let (mut child, held) = waiting(&world, &["--jobs", "1"]);
    let open = |at: &Path| {
        let open = fs::read_dir(at.join("fd")).unwrap().map(|fd| fd.unwrap().file_name());
        let mut open: Vec<String> = open.map(|fd| fd.into_string().unwrap()).collect();
        open.sort();
        open
    };
    let are_apart = || {
        let (works, waits): (Vec<_>, Vec<_>) =
            all_threads(child.id()).into_iter().partition(|(_, works)| *works);
        works.len() == 1
            && waits.len() == 2
            && open(&works[0].0).len() > 3
            && waits.iter().all(|(at, _)| open(at) == ["0", "1", "2"])
    };
    wait_until("each has a table of its own", are_apart);
    drop(held);
    assert!(child.wait().unwrap().success());
}

#[test]
fn room_for_descriptors_is_made_before_there_is_a_second_thread_for_which_the_kernel_would_wait() {
    if !has_tool("strace", "the order of calls at the start of a pass") {
        return;
    }
    let world = World::new();
    let log = log_beside(&world);
    let command = world.command(&["run", "--jobs", "2"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=fcntl,clone,clone3", "-o"]).arg(&log);
    traced.arg(command.get_program()).args(command.get_args());
    traced.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Run::from(traced.finish().unwrap()).exits(0);
    let text = fs::read_to_string(log).unwrap();
    // The last descriptor of the room.
    let is_room = |line: &str| {
        let (_, number) = line.split_once("F_DUPFD_CLOEXEC, ")?;
        number.split(')').next()?.parse::<u32>().ok().filter(|last| *last >= 255)
    };
    let room = text.lines().position(|line| is_room(line).is_some()).expect("room");
    let thread = text.lines().position(|line| line.contains("clone")).expect("a thread");
    assert!(room < thread, "{text}");
}

#[test]
fn no_more_files_a_second_are_removed_than_the_rate_allows_in_trees_too() {
    for place in ["cache/export", "tmp/tree/a"] {
        let world = World::new();
        world.dir("tmp/tree", 20 * DAY);
        for number in 0..200 {
            world.file(format!("{place}/{}", export_name(number)), 20 * DAY);
        }
        if place.starts_with("tmp") {
            world.age_dirs("tmp/tree", 20 * DAY);
        } else {
            fs::remove_dir(world.path("tmp/tree")).unwrap();
        }
        let pass = |args: &[&str]| {
            let start = Instant::now();
            let run = world.run(&[&["run", "--format", "json", "--jobs", "2"], args].concat());
            (run.exits(0).json()["totals"]["removed"].as_u64().unwrap(), start.elapsed())
        };
        let units = if place == "cache/export" { 200 } else { 1 };
        // Nothing is removed, so nothing waits: 200 at one a second would take longer.
        let (would_remove, took) = pass(&["--max-rate", "1/s", "--dry-run"]);
        assert!(would_remove == units && took < LIMIT, "{would_remove} {took:?}");
        let (removed, took) = pass(&["--max-rate", "200/s"]);
        assert_eq!(removed, units);
        // All but the first twenty wait: those may be removed together.
        assert!(took >= Duration::from_millis(880), "{place}: 200 at 200 a second took {took:?}");
    }
}

#[test]
fn a_slow_pass_ends_when_it_is_told_to() {
    let world = World::new();
    for number in 0..100 {
        world.file(format!("cache/export/{}", export_name(number)), 2 * DAY);
    }
    let mut command = world.command(&["run", "--format", "json", "--max-rate", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let left = || fs::read_dir(world.path("cache/export")).unwrap().count();
    wait_until("it begins", || left() < 100);
    tool("kill", &["-TERM".as_ref(), child.id().to_string().as_ref()]);
    let told = Instant::now();
    let run = Run::from(child.wait_with_output().unwrap());
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
    let report = run.exits(3).json();
    assert_eq!(report["stopped"], "signal");
    assert_counts(&report, "export", &[("removed", 100 - left() as u64), ("failed", 0)]);
    assert!(left() > 90, "{} are left", left());
}

#[test]
fn a_rate_of_zero_is_refused() {
    let world = World::new();
    for rate in ["0", "0/s", "fast", "-1", "10/m"] {
        let run = world.run(&["run", &format!("--max-rate={rate}")]);
        assert!(run.exits(2).stderr.contains("not a rate"), "{rate}: {}", run.stderr);
    }
}

#[test]
fn as_many_workers_as_the_container_may_use_cores() {
    if !can_be_root("a control group with a quota") {
        return;
    }
    let world = World::new();
    // Version 1 or 2 of control groups, whichever this machine has.
    let (group, quota) = match fs::metadata("/sys/fs/cgroup/cgroup.controllers") {
        Ok(_) => ("/sys/fs/cgroup/sweeper-test", "cpu.max"),
        Err(_) => ("/sys/fs/cgroup/cpu/sweeper-test", "cpu.cfs_quota_us"),
    };
    let group = format!("{group}-{}", std::process::id());
    fs::create_dir(&group).unwrap();
    let text = if quota == "cpu.max" { "100000 100000" } else { "100000" };
    fs::write(format!("{group}/{quota}"), text)
        .expect("this machine has no control groups with quotas");
    let config = world.command(&["config"]);
    let mut inside = std::process::Command::new("sh");
    inside.arg("-c").arg(r#"echo $$ > "$0/cgroup.procs" && exec "$@""#).arg(&group);
    inside.arg(config.get_program()).args(config.get_args()).env_clear();
    let run = Run::of(inside);
    fs::remove_dir(&group).unwrap();
    let jobs = run.exits(0).stdout.lines().find(|line| line.starts_with("jobs")).unwrap();
    assert_eq!(jobs.split_whitespace().nth(1), Some("\"1\""), "{jobs}");
}
