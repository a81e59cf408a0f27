//! A server that never answers. Where it is mounted on a file, the pass ends without asking it. Where it keeps a
//! whole zone, the pass ends when it is told to, and reports what it has done.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{OLD, sweeping, within};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{Run, World, assert_counts, can_be_root, export_name, tool};

/// A FUSE file system on a file, whose server answers nothing. A process that asks for its metadata waits.
struct Silent {
    path: PathBuf,
    _server: File,
}

impl Silent {
    fn on(path: &Path) -> Self {
        let is_dir = path.is_dir();
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let mut mount = Command::new("mount");
        let mode = if is_dir { "40755" } else { "100644" };
        let options = format!("fd=0,rootmode={mode},user_id=0,group_id=0");
        mount.args(["-i", "-t", "fuse", "-o", &options, "silent"]).arg(path);
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
    Run::of(within("/usr/bin/timeout", &["--signal=KILL", "120"], &sweeping(world, args)))
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

/// The threads of a process that wait in a call of FUSE.
fn waits_for_server(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stacks = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("wchan")));
    stacks.flatten().any(|function| function.contains("fuse"))
}

#[test]
fn a_zone_whose_server_does_not_answer_keeps_no_report_from_being_printed_at_the_end() {
    if !can_be_root("mounts") {
        return;
    }
    let world = World::new();
    let export = world.file(format!("cache/export/{}", export_name(1)), OLD);
    world.file("tmp/file", OLD);
    let _server = Silent::on(&world.path("tmp"));
    let mut command = sweeping(&world, &["--if-running", "share"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    wait_until("it waits for the server", || waits_for_server(child.id()));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(3).json();
    assert_eq!(report["stopped"], "signal");
    let notes = report["zones"].to_string();
    assert!(notes.contains("its server may be unreachable"), "{notes}");
    let removed = u64::from(!export.exists());
    assert_counts(&report, "export", &[("removed", removed), ("seen", removed)]);
}
