//! Without `/proc` a file whose name another user can give to a FIFO cannot be opened safely: it stays, and the
//! report says why.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{OLD, message_of, sweeping};
use crate::world::{Run, World, assert_counts, can_be_root};

/// The same command with an empty directory in the place of `/proc`.
fn without_proc(command: &Command) -> Command {
    let mut outer = Command::new("/usr/bin/unshare");
    outer.args(["--mount", "/bin/sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    outer.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    outer
}

#[test]
fn without_proc_a_file_in_a_directory_of_other_users_stays_and_is_not_said_to_be_gone() {
    if !can_be_root("a mount namespace without /proc") {
        return;
    }
    let world = World::new();
    let open = world.file("tmp/tree/sub/open", OLD);
    let file = world.file("tmp/file", OLD);
    world.file("tasks/1/tmp/private", OLD);
    for dir in ["tmp", "tmp/tree", "tmp/tree/sub"] {
        fs::set_permissions(world.path(dir), PermissionsExt::from_mode(0o1777)).unwrap();
    }
    for dir in ["tmp", "tasks"] {
        world.age_dirs(dir, OLD);
    }
    let _open = File::open(&open).unwrap();
    for args in [&["--dry-run"][..], &[]] {
        let args = [&["--zones", "tmp,instance-tmp"], args].concat();
        let report = Run::of(without_proc(&sweeping(&world, &args))).exits(1).json();
        assert_counts(&report, "tmp", &[("removed", 0), ("failed", 2)]);
        assert_counts(&report, "instance-tmp", &[("removed", 1)]);
        for path in [&open, &file] {
            assert!(path.exists());
            let message = message_of(&report, path);
            assert!(message.contains("/proc, which is not mounted"), "{message}");
        }
    }
}
