//! A server that never answers, mounted on a file: the pass ends all the same, without asking it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{OLD, sweeping, within};
use crate::start::Start;
use crate::world::{Run, World, assert_counts, can_be_root, tool};

/// A FUSE file system on a file, whose server answers nothing. A process that asks for its metadata waits.
struct Silent {
    path: PathBuf,
    _server: File,
}

impl Silent {
    fn on(path: &Path) -> Self {
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let mut mount = Command::new("mount");
        let options = "fd=0,rootmode=100644,user_id=0,group_id=0";
        mount.args(["-i", "-t", "fuse", "-o", options, "silent"]).arg(path);
        let output = mount.stdin(server.try_clone().unwrap()).finish().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self { path: path.to_owned(), _server: server }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        tool("umount", &[OsStr::new("-l"), self.path.as_ref()]);
    }
}

/// A pass that is killed when it hangs.
fn sweep(world: &World, args: &[&str]) -> Run {
    Run::of(within("/usr/bin/timeout", &["--signal=KILL", "30"], &sweeping(world, args)))
}

#[test]
fn a_server_that_does_not_answer_is_not_asked_about_a_file_of_a_tree() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    world.file("tmp/gone", OLD);
    let file = world.file("tmp/old/x/b", OLD);
    world.file("tmp/old/a", OLD);
    world.age_dirs("tmp/old", OLD);
    let _server = Silent::on(&file);
    for args in [&["--dry-run"][..], &["--dry-run", "--in-use", "ignore"], &[]] {
        let report = sweep(&world, args).exits(0).json();
        assert_counts(&report, "tmp", &[("removed", 1), ("skipped_by.mount_point", 1)]);
    }
    assert!(world.has("tmp/old/a"));
}

#[test]
fn a_server_that_does_not_answer_is_not_asked_about_an_entry() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    world.file("tmp/gone", OLD);
    let _server = Silent::on(&world.file("tmp/old", OLD));
    let report = sweep(&world, &[]).exits(0).json();
    assert_counts(&report, "tmp", &[("removed", 1), ("kept_by.mount_point", 1)]);
}
