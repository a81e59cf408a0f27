//! Guards: a data root or a lock that cannot be examined is no data root, and is held.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::world::{
    DAY, NOW, Run, World, as_user, assert_counts, can_be_root, export_name, sweeper,
};

/// A command under strace, which lets calls on `path` fail.
fn with_fault(command: &Command, path: &Path, fault: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-P"]).arg(path).args(["-e", fault, "--"]);
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    strace
}

#[test]
fn a_root_that_is_found_and_cannot_be_examined_ends_the_search() {
    if !can_be_root("other users") {
        return;
    }
    let (shut, other) = (World::new(), World::new());
    for world in [&shut, &other] {
        world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
        world.chown(1000);
    }
    lchown(&shut.root, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&shut.root, PermissionsExt::from_mode(0o700)).unwrap();
    let command = sweeper(&["run", "--now", NOW]);
    let mut user = as_user(1000, &command);
    user.env("CVAT_BASE_DIR", shut.root.parent().unwrap());
    user.current_dir(other.root.parent().unwrap());
    let run = Run::of(user);
    let said = &run.exits(2).stderr;
    assert!(said.contains("cannot examine") && said.contains("Permission denied"), "{said}");
    assert!(said.contains(shut.root.to_str().unwrap()), "{said}");
    assert!(other.path("cache/export").join(export_name(1)).exists(), "./data was not swept");
    // The same if the user names it: it is not said to be "not a data root".
    let mut named = sweeper(&["run", "--data"]);
    named.arg(&shut.root);
    let said = Run::of(as_user(1000, &named)).stderr;
    assert!(said.contains("cannot examine") && !said.contains("is not a data root"), "{said}");
}

#[test]
fn a_lone_tmp_is_no_data_root_and_a_named_cache_is() {
    let world = World::new();
    std::fs::remove_dir_all(world.path("cache")).unwrap();
    world.file("tmp/old", 20 * DAY);
    let run = world.run(&["run"]);
    let said = &run.exits(2).stderr;
    assert!(said.contains("it contains only tmp, and a data root has two"), "{said}");
    let mut found = sweeper(&["run", "--now", NOW]);
    found.current_dir(world.root.parent().unwrap());
    assert!(Run::of(found).exits(2).stderr.contains("only tmp"));
    assert!(world.has("tmp/old"));
    world.dir("cache/export", 0);
    std::fs::rename(world.path("tmp"), world.path("other")).unwrap();
    world.run(&["run"]).exits(0);
}

#[test]
fn a_home_directory_that_cannot_be_compared_once_is_still_refused() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let mut command = world.command(&["run"]);
    command.env("HOME", &world.root);
    for error in ["ENOMEM", "EIO", "EACCES"] {
        // The first look is at the data root itself, the second at the home directory.
        let fault = format!("inject=statx:error={error}:when=2");
        let run = Run::of(with_fault(&command, &world.root, &fault));
        let said = &run.exits(2).stderr;
        assert!(said.contains("is refused: it could be"), "{error}: {said}");
        assert!(world.has("tmp/old"), "{error}");
    }
}

#[test]
fn a_directory_whose_lock_cannot_be_asked_about_is_not_removed() {
    for (fault, skipped) in [
        ("inject=flock:error=ENOLCK", 0),
        ("inject=flock:error=EIO", 0),
        ("inject=flock:error=EINTR", 0),
        ("inject=flock:error=EINTR:when=1", 1),
    ] {
        let world = World::new();
        world.file("tmp/tree/sub/file", 20 * DAY);
        world.age_dirs("tmp", 20 * DAY);
        let sub = world.path("tmp/tree/sub");
        let held = File::open(&sub).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let command = world.command(&["run", "--format", "json", "--lock-wait", "0"]);
        let run = Run::of(with_fault(&command, &sub, fault));
        let report = run.exits(i32::from(skipped == 0)).json();
        let failed = u64::from(skipped == 0);
        let counts = [("removed", 0), ("failed", failed), ("skipped_by.locked", skipped)];
        assert_counts(&report, "tmp", &counts);
        assert!(world.has("tmp/tree/sub/file"), "{fault}");
        if failed == 1 {
            assert_eq!(report["failures"][0]["action"], "lock", "{report:#}");
            let said = report["failures"][0]["message"].to_string();
            assert!(said.contains("it is not known whether another process"), "{said}");
        }
    }
}
