//! Shards of a pass: what they remove, how they are named, and one that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use retention_sweeper::rules::Shard;

use super::{ZONES, add, counts, entries, left, random_root, removed, swept, unlink_second_names};
use crate::company::{count, has_tool, log_beside, slowed};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, export_name};

#[test]
fn shards_remove_together_what_one_pass_removes_and_each_entry_once() {
    for seed in 1..=4 {
        for command in ["run", "legacy"] {
            let single = random_root(seed);
            let before = entries(&single);
            let whole = swept(&single, command, &[]);
            for count in [1, 3, 8] {
                let world = random_root(seed);
                let mut sum = BTreeMap::new();
                let (mut checked, mut gone) = (BTreeSet::new(), BTreeSet::new());
                for index in 0..count {
                    let name = format!("{index}/{count}");
                    let run = swept(&world, command, &["--shard", &name]);
                    assert_eq!(run.json()["shard"], name.as_str());
                    let shard = Shard::parse(&name).unwrap();
                    for path in run.outcomes().into_keys() {
                        let path = path.strip_prefix(&world.root).unwrap();
                        let base = path.file_name().unwrap().as_bytes();
                        let base = std::ffi::CString::new(base).unwrap();
                        assert!(shard.owns(path.parent().unwrap(), &base), "{path:?}");
                        assert!(checked.insert(path.to_owned()), "{path:?} twice");
                    }
                    gone.extend(removed(&world, &run));
                    add(&mut sum, &run.json());
                }
                assert_eq!(gone, removed(&single, &whole), "{command}, {count} shards");
                assert_eq!(left(&world), left(&single), "{command}, {count} shards");
                assert_eq!(sum, counts(&whole.json()), "{command}, {count} shards");
                if command == "run" {
                    let relative = |path: &PathBuf| path.strip_prefix(&single.root).unwrap().into();
                    assert_eq!(checked, before.iter().map(relative).collect());
                }
            }
        }
    }
}

#[test]
fn shards_at_the_same_time_do_not_interfere() {
    let (single, world) = (random_root(5), random_root(5));
    unlink_second_names(&single);
    unlink_second_names(&world);
    let whole = swept(&single, "run", &[]);
    let start = |index: u32| {
        let args = ["run", "--format", "jsonl", "-v", "--shard", &format!("{index}/8")];
        let mut command = world.command(&[&args[..], &ZONES[..]].concat());
        command.stderr(Stdio::null());
        command.stdout(Stdio::piped()).start().unwrap()
    };
    let shards: Vec<Child> = (0..8).map(start).collect();
    let mut sum = BTreeMap::new();
    let mut gone = 0;
    for shard in shards {
        let run = Run::from(shard.wait_with_output().unwrap());
        add(&mut sum, &run.exits(0).json());
        gone += removed(&world, &run).len();
    }
    assert_eq!(left(&world), left(&single));
    assert_eq!(gone, removed(&single, &whole).len());
    assert_eq!(sum, counts(&whole.json()));
}

#[test]
fn what_all_shards_fail_at_is_counted_once() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    std::fs::remove_dir(world.path("tmp")).unwrap();
    std::os::unix::fs::symlink("/etc", world.path("tmp")).unwrap();
    let whole = world.run(&["run", "--dry-run", "--format", "json"]);
    let mut sum = BTreeMap::new();
    let mut noted = 0;
    for index in 0..3 {
        let name = format!("{index}/3");
        let run = world.run(&["run", "--dry-run", "--format", "json", "--shard", &name]);
        add(&mut sum, &run.json());
        noted += usize::from(run.stdout.contains("the report of another shard"));
    }
    assert_eq!(sum, counts(&whole.exits(1).json()));
    assert_eq!(noted, 2, "the others mention it");
}

#[test]
fn a_shard_is_named_by_flag_variable_or_the_number_of_a_pod() {
    let world = World::new();
    let at = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = world.command(&[&["run", "--format", "json"], args].concat());
        command.envs(env.iter().copied());
        Run::of(command)
    };
    assert_eq!(at(&["--shard", "2/3"], &[]).exits(0).json()["shard"], "2/3");
    assert_eq!(at(&[], &[("SWEEPER_SHARD", "0/3")]).exits(0).json()["shard"], "0/3");
    let pod = [("JOB_COMPLETION_INDEX", "5")];
    assert_eq!(at(&["--shard", "auto/8"], &pod).exits(0).json()["shard"], "5/8");
    assert!(at(&[], &pod).exits(0).json().get("shard").is_none(), "none was requested");
    let text = world.run(&["run", "--shard", "1/4"]);
    assert!(text.exits(0).stdout.contains("shard 1/4"), "{}", text.stdout);
    for (args, env, why) in [
        (&["--shard", "3/3"][..], &[][..], "from 0 to 2"),
        (&["--shard", "1"], &[], "INDEX/COUNT"),
        (&["--shard", "auto/8"], &[], "JOB_COMPLETION_INDEX is not set"),
        (&["--shard", "auto/5"], &pod, "from 0 to 4"),
        (&[], &[("SWEEPER_SHARD", "$(JOB_COMPLETION_INDEX)/8")], "INDEX/COUNT"),
    ] {
        let run = at(args, env);
        assert!(run.exits(2).stderr.contains(why), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_shard_that_is_killed_and_started_again_completes_the_set() {
    if !has_tool("strace", "a shard that is killed") {
        return;
    }
    let world = World::new();
    for number in 0..3000 {
        world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY);
    }
    let remain = || count(world.path("cache/export"));
    let command = world.command(&["run", "--shard", "1/3", "--jobs", "1"]);
    let pause = std::time::Duration::from_millis(20);
    let mut child = slowed(&command, pause, &log_beside(&world)).start().unwrap();
    wait_until("something is removed", || remain() < 3000);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was killed before its end");
    let after_kill = remain();
    assert!((1..3000).contains(&after_kill), "in the middle: {after_kill} left");
    let mut sum = 0;
    for index in 0..3 {
        let run = swept(&world, "run", &["--shard", &format!("{index}/3")]);
        sum += run.json()["totals"]["removed"].as_u64().unwrap();
    }
    assert_eq!((remain(), sum), (0, after_kill as u64));
}
