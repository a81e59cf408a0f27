//! Which system calls a pass makes, and so where it can be made to fail.

use std::collections::BTreeMap;
use std::process::Command;

use super::Kind;
use crate::exporter::server::Redis;
use crate::start::Start;
use crate::world::World;

/// One fault.
#[derive(Debug)]
pub struct Case {
    /// The system call.
    pub call: String,
    /// Its error.
    pub error: &'static str,
    /// It fails at this one of the calls of a thread.
    pub when: usize,
    /// So do all after it.
    pub and_on: bool,
}

/// Calls that fail in no way that a program can do anything about, or that are not made by the program itself.
/// `close` releases the descriptor whatever it answers, which strace prevents.
const LEFT_OUT: [&str; 26] = [
    "access",
    "arch_prctl",
    "brk",
    "close",
    "execve",
    "exit",
    "exit_group",
    "futex",
    "geteuid",
    "getrandom",
    "gettid",
    "getpid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "pause",
    "pread64",
    "prlimit64",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
];

/// The calls of a pass from when it opens the data root: each with the first and the last of its numbers in a
/// thread.
pub fn calls_of(kind: Kind, world: &World, redis: Option<&Redis>) -> Vec<(String, usize, usize)> {
    let log = world.root.parent().unwrap().join("all.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).arg(env!("CARGO_BIN_EXE_sweeper"));
    command.args(kind.args(world, redis)).env_clear().current_dir("/");
    let output = command.finish().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let root = world.root.to_str().unwrap();
    let (mut numbers, mut found) = (BTreeMap::new(), BTreeMap::<String, (usize, usize)>::new());
    let mut has_begun = false;
    for line in log.lines() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let Some((call, args)) = line.trim_start().split_once('(') else { continue };
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        has_begun |= call.starts_with("open") && args.contains(root);
        let number: &mut usize = numbers.entry((thread.to_owned(), call.to_owned())).or_default();
        *number += 1;
        if has_begun && !LEFT_OUT.contains(&call) {
            let known = found.entry(call.to_owned()).or_insert((*number, *number));
            *known = (known.0.min(*number), known.1.max(*number));
        }
    }
    found.into_iter().map(|(call, (from, to))| (call, from, to)).collect()
}
