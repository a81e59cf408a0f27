//! The steps of a removal as the system sees them: those of the model in `tests/model/detach.rs`, in its order. What
//! that model shows is so for this program only as long as they are the same.

use std::process::Command;

use super::has_strace;
use crate::start::Start;
use crate::world::{DAY, NOW, World};

/// The questions whether a lease is undisturbed. They are a part of the check, and then of each look.
const ASK: &str = "ask";

/// The step that a line of strace is a part of; `None` if of none.
fn step(line: &str) -> Option<String> {
    let (call, args) = line.split_once('(')?;
    let quoted = || args.split('"').nth(1).unwrap_or_default();
    if call == "rt_sigpending" {
        return Some(ASK.to_owned());
    }
    // strace -y: a descriptor is followed by its path, which ends with the name in the private directory.
    let dir = args.split_once('>')?.0;
    let within = |what: &str| dir.ends_with(what);
    let is_out = dir.contains("/.sweeper-");
    let word = match call {
        "flock" if within("/tmp/tree") || within("/tmp/file") => "judge".to_owned(),
        "flock" if is_out && !dir.contains("/check") && !dir.contains("/remove") => {
            "lock the private directory".to_owned()
        }
        "fcntl" if args.contains("F_SETLEASE") && is_out => ASK.to_owned(),
        // The lease on a file in memory is broken on purpose.
        "fcntl" if args.contains("F_SETLEASE") && !dir.contains("memfd:") => "survey".to_owned(),
        "fcntl" if args.contains("F_GETLEASE") => "look".to_owned(),
        "mkdirat" if args.contains("\".sweeper-") => "make the private directory".to_owned(),
        "statx" if within("/check") => "arrive".to_owned(),
        // Through the handle that the lease is on, or by the name.
        "statx" if within("/remove/tree") && !quoted().is_empty() && quoted() != ".." => {
            "look".to_owned()
        }
        "statx" if dir.contains("/remove/tree/") => "look".to_owned(),
        "statx" if within("/remove") && quoted() == "tree" => "look at the top".to_owned(),
        "renameat2" => {
            assert!(args.contains("RENAME_NOREPLACE) = 0"), "{line}");
            if within("/check") { "approve" } else { "detach" }.to_owned()
        }
        "unlinkat" if within("/remove") => "rmdir the top".to_owned(),
        "unlinkat" if dir.contains("/remove/tree") || within("/check") => {
            assert!(args.contains(" = 0"), "{line}");
            format!("unlink {}", quoted())
        }
        "unlinkat" => "leave".to_owned(),
        _ => return None,
    };
    Some(word)
}

#[test]
fn a_removal_takes_the_steps_of_the_model_in_their_order() {
    if !has_strace() {
        return;
    }
    let steps_of = |path: &str| {
        let world = World::new();
        world.file(path, 40 * DAY);
        if path.contains("tree") {
            world.file("tmp/tree/b", 40 * DAY);
        }
        world.age_dirs("tmp", 40 * DAY);
        let log = world.root.parent().unwrap().join("calls.log");
        let mut command = Command::new("strace");
        // A log for each thread: in one, a line may be cut in two.
        command.args(["-ff", "-y", "-qq", "-s", "255", "-o"]).arg(&log);
        command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--jobs", "1", "--zones", "tmp"]);
        command.args(["--now", NOW, "--data"]).arg(&world.root);
        assert!(command.finish().unwrap().status.success());
        assert!(!world.has(path));
        let logs = std::fs::read_dir(log.parent().unwrap()).unwrap().map(|entry| entry.unwrap());
        let mut logs =
            logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("calls"));
        let log = logs.find_map(|entry| {
            let log = std::fs::read_to_string(entry.path()).unwrap();
            log.contains("renameat2(").then_some(log)
        });
        let log = log.unwrap();
        let mut steps: Vec<String> = log.lines().filter_map(step).collect();
        let approval = steps.iter().position(|step| step == "approve").unwrap_or_default();
        let detached = steps.iter().position(|step| step == "detach").unwrap_or_default();
        for step in &mut steps[detached..approval.max(detached)] {
            *step = if step == ASK { "check".to_owned() } else { step.clone() };
        }
        for step in &mut steps[approval.max(detached)..] {
            *step = if step == ASK { "look".to_owned() } else { step.clone() };
        }
        steps.retain(|step| step != ASK);
        // A step may take several calls.
        steps.dedup();
        steps
    };
    let outside = ["judge", "survey", "make the private directory", "lock the private directory"];
    // In what order the members of a tree come is the file system's.
    let mut tree = steps_of("tmp/tree/a");
    let unlinks: Vec<usize> = (0..tree.len()).filter(|&i| tree[i].starts_with("unlink")).collect();
    let mut names: Vec<String> = unlinks.iter().map(|&i| tree[i].split_off(7)).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    let inside = ["detach", "arrive", "check", "approve", "look", "unlink ", "look", "unlink "];
    let end = ["look at the top", "rmdir the top", "leave"];
    assert_eq!(tree, [&outside[..], &inside, &end].concat());
    let inside = ["detach", "look", "arrive", "unlink file", "leave"];
    assert_eq!(steps_of("tmp/file"), [&outside[..], &inside].concat());
}
