//! A pass that is stopped at one of its system calls, so that something can happen at exactly that moment.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};

use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{Run, World};

/// Where a pass is stopped: after so many of these system calls, in the syntax of `strace -e`.
pub struct Moment<'a> {
    pub calls: &'a str,
    pub count: usize,
    /// A call that fails each time, and its error.
    pub failure: Option<(&'a str, &'a str)>,
}

impl<'a> Moment<'a> {
    pub const fn of(calls: &'a str, count: usize) -> Self {
        Self { calls, count, failure: None }
    }

    /// The options of `strace`.
    fn options(&self) -> Vec<String> {
        let Self { calls, count, failure } = *self;
        let stop = |more: &str| format!("inject={calls}{more}:signal=SIGSTOP:when={count}");
        let (traced, injected) = match failure {
            None => (calls.to_owned(), vec![stop("")]),
            Some((call, error)) if call == calls => {
                (calls.to_owned(), vec![stop(&format!(":error={error}"))])
            }
            Some((call, error)) => {
                (format!("{calls},{call}"), vec![stop(""), format!("inject={call}:error={error}")])
            }
        };
        let all = std::iter::once(format!("trace={traced}")).chain(injected);
        all.flat_map(|option| ["-e".to_owned(), option]).collect()
    }
}

/// A pass that is stopped. `None` once it was resumed.
pub struct Paused(Option<Child>);

impl Paused {
    /// Starts a pass with one worker and waits until it has stopped, or has ended before that.
    ///
    /// With at most 256 descriptors (`files`), the program holds no leases on the files of a tree. It gets no more of them
    /// than this process may give it.
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
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        command.arg(format!("--nofile={}", most.min(files.into()))).args([
            "/usr/bin/strace",
            "-D",
            "-f",
        ]);
        command.args(moment.options());
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

    /// Whether a process waits for the lease of this pass on a file, as `/proc/locks` says:
    /// `1: LEASE  BREAKING  READ 4711 08:01:1234 0 EOF`. Another file system can have the same inode number.
    pub fn keeps_waiting(&self, ino: u64) -> bool {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let (ours, inode) = (self.0.as_ref().unwrap().id().to_string(), format!(":{ino}"));
        locks.lines().filter(|line| line.contains(" BREAKING ")).any(|line| {
            let mut words = line.split_whitespace().skip_while(|word| **word != ours);
            words.nth(1).is_some_and(|file| file.ends_with(&inode))
        })
    }

    /// Lets the pass continue to its end.
    pub fn finish(mut self) -> Run {
        self.send(Signal::CONT);
        Run::from(self.0.take().unwrap().wait_with_output().unwrap())
    }

    /// The same, of a pass that may have no end and prints little.
    pub fn ends(mut self) -> Run {
        self.send(Signal::CONT);
        let child = self.0.as_mut().unwrap();
        wait_until("it ends", || child.try_wait().unwrap().is_some());
        Run::from(self.0.take().unwrap().wait_with_output().unwrap())
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
