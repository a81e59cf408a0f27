//! Other processes beside a pass: locks, open files, signals, another sweeper.

mod at_start;
mod beside;
mod chunks;
pub mod file_systems;
mod hold;
mod in_use;
mod many_names;
mod signals;
mod waiting;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::start::Start;
use crate::world::{World, export_name, is_present};

/// A process that is killed at the end of the test.
pub struct Other {
    child: Child,
    /// The line with which it said that it is ready.
    said: String,
}

impl Other {
    /// Starts a process and waits until it prints a line that says that it is ready.
    fn ready(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).start().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("ready"), "{said:?}");
        Self { child, said }
    }

    /// A Python process that does something with a file, and then waits to be killed.
    pub fn python(script: &str, path: &Path) -> Self {
        let script = format!(
            "import sys, fcntl, mmap, os, signal\npath = sys.argv[1]\n{script}\n\
             print('ready', flush=True)\nsignal.pause()"
        );
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).arg(path);
        Self::ready(command)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn export(world: &World, number: u32, age: i64) -> PathBuf {
    world.file(Path::new("cache/export").join(export_name(number)), age)
}

/// What a run did to this entry: the reason why it was skipped or kept, or `removed`.
fn outcome_of(world: &World, path: &Path, args: &[&str]) -> String {
    let args = [&["run", "--format", "jsonl", "--lock-wait", "0"], args].concat();
    let run = world.run(&args);
    run.exits(0);
    let (outcome, reason) = run.outcomes().remove(path).unwrap();
    let removed = if args.contains(&"--dry-run") { "would_remove" } else { "removed" };
    assert_eq!(path.exists(), outcome != "removed", "{outcome} {reason}");
    if outcome == removed {
        "removed".to_owned()
    } else {
        assert!(!outcome.contains("remove"), "{outcome} {reason}");
        reason
    }
}

/// The number of entries in a directory.
pub fn count(dir: impl AsRef<Path>) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Sends a signal to a child.
pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Whether a signal was sent to a process and no thread of it has taken it yet.
pub fn is_pending(id: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    pending & (1 << (signal.as_raw() - 1)) != 0
}

/// Whether a tool exists. `tests/run` installs it, so there it must. Elsewhere one line says what was left out.
pub fn has_tool(tool: &str, what: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = std::env::split_paths(&path).any(|dir| dir.join(tool).exists());
    is_present(has, &format!("{tool}: {what}"))
}

/// The same command with a pause before each removal, so that a test can act in the middle of a pass on a
/// machine of any speed. The process is still the program itself, not `strace`. The log has its removals,
/// sleeps and signals.
pub fn slowed(command: &Command, pause: Duration, log: &Path) -> Command {
    let mut slowed = Command::new("strace");
    slowed.args(["-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=unlinkat,clock_nanosleep", "-e"]);
    slowed.arg(format!("inject=unlinkat:delay_enter={}", pause.as_micros()));
    slowed.arg("-o").arg(log).arg(command.get_program()).args(command.get_args());
    slowed.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    slowed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    slowed.current_dir(command.get_current_dir().unwrap_or_else(|| Path::new("/")));
    slowed.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    slowed
}

/// The log of [`slowed`] beside the data root.
pub fn log_beside(world: &World) -> PathBuf {
    world.root.parent().unwrap().join("strace.log")
}
