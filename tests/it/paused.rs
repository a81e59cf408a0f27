//! A pass that is stopped at one of its system calls, so that something can happen at exactly that moment.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::start::Start;
use crate::world::{Run, World};

/// Where a pass is stopped: after so many of these system calls, in the syntax of `strace -e`.
pub struct Moment<'a> {
    pub calls: &'a str,
    pub count: usize,
}

/// A pass that is stopped. `None` once it was resumed.
pub struct Paused(Option<Child>);

impl Paused {
    /// Starts a pass with one worker and waits until it has stopped, or has ended before that.
    ///
    /// With at most 256 descriptors (`files`), the program holds no leases on the files of a tree.
    pub fn at(world: &World, args: &[&str], files: u32, moment: &Moment<'_>) -> Result<Self, Run> {
        Self::of("run", world, args, files, moment)
    }

    /// The same, of any command that sweeps.
    pub fn of(
        sweep: &str,
        world: &World,
        args: &[&str],
        files: u32,
        moment: &Moment<'_>,
    ) -> Result<Self, Run> {
        let log = world.root.parent().unwrap().join("calls.log");
        let _ = std::fs::remove_file(&log);
        let inner = world.command(&[&[sweep, "--format", "json", "--jobs", "1"], args].concat());
        let mut command = Command::new("/usr/bin/prlimit");
        // -D: the child is the program itself, and strace is a process of its own.
        command.arg(format!("--nofile={files}")).args(["/usr/bin/strace", "-D", "-f"]);
        let Moment { calls, count } = moment;
        command.args(["-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:signal=SIGSTOP:when={count}")]);
        command.arg("-o").arg(&log).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.start().unwrap();
        while !is_stopped(&log) {
            if child.try_wait().unwrap().is_some() {
                return Err(Run::from(child.wait_with_output().unwrap()));
            }
            std::thread::yield_now();
        }
        Ok(Self(Some(child)))
    }

    /// Sends a signal, which arrives when the pass continues.
    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    /// Lets the pass continue to its end.
    pub fn finish(mut self) -> Run {
        let child = self.0.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
        Run::from(child.wait_with_output().unwrap())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_stopped(log: &Path) -> bool {
    let log = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&log).contains("--- stopped by SIGSTOP ---")
}

/// Whether a process waits for the lease on this file to end, as `/proc/locks` says:
/// `1: LEASE  BREAKING  READ 4711 08:01:1234 0 EOF`.
pub fn is_waited_for(ino: u64) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let inode = format!(":{ino} ");
    locks.lines().any(|line| line.contains("BREAKING") && line.contains(&inode))
}
