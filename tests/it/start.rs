//! Starts programs for tests, never while another test writes a file.
//!
//! A child process has copies of all our descriptors until it runs its program. A file that another test is
//! writing at that moment stays open in the child a little longer: the sweeper skips it as "in use", and the
//! system refuses to run it.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{FlockOperation, flock};

/// Locked for reading while a file is written, and for writing while a program is started.
static WRITING: RwLock<()> = RwLock::new(());

thread_local! {
    /// Whether this thread is in [`written`].
    static IS_WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Writes files that no process has open once this returns, or opens and locks some that no other process is to have a
/// copy of. It starts no program, and may call itself.
pub fn written<T>(write: impl FnOnce() -> T) -> T {
    if IS_WRITING.get() {
        return write();
    }
    let _writing = WRITING.read().unwrap_or_else(PoisonError::into_inner);
    IS_WRITING.set(true);
    let result = write();
    IS_WRITING.set(false);
    result
}

/// Ends the lock of an open file or directory at once. Closing it does not: a copy of it would still hold the lock.
pub fn unlock(held: impl AsFd) {
    flock(held, FlockOperation::Unlock).unwrap();
}

/// The ways to start a program.
pub trait Start {
    /// Like `spawn`: returns when the program runs.
    fn start(&mut self) -> io::Result<Child>;

    /// Runs it to its end and returns what it prints into pipes. It inherits stdin unless told otherwise.
    fn awaited(&mut self) -> io::Result<Output>;

    /// Like `output`: runs it to its end and returns everything that it prints.
    fn finish(&mut self) -> io::Result<Output>;

    /// Like `status`: runs it to its end.
    fn ended(&mut self) -> io::Result<ExitStatus>;
}

impl Start for Command {
    fn start(&mut self) -> io::Result<Child> {
        // What is set for the tests is no setting of the program, which would refuse it.
        for (name, _) in std::env::vars_os() {
            let is_of_tests = name.as_encoded_bytes().starts_with(b"SWEEPER_TESTS_");
            if is_of_tests && self.get_envs().all(|(own, _)| own != name) {
                self.env_remove(name);
            }
        }
        let _alone = WRITING.write().unwrap_or_else(PoisonError::into_inner);
        self.spawn()
    }

    fn awaited(&mut self) -> io::Result<Output> {
        self.start()?.wait_with_output()
    }

    fn finish(&mut self) -> io::Result<Output> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped()).awaited()
    }

    fn ended(&mut self) -> io::Result<ExitStatus> {
        self.start()?.wait()
    }
}
