//! Programs that tests start, none of them while another test writes a file.
//!
//! A child has copies of all our descriptors until it runs its program. Files that another test was
//! writing just then stay open in it for that moment, and whoever asks is told so: the sweeper spares
//! them as "in use", the system does not run them.

use std::io;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{PoisonError, RwLock};

/// Read by those who write files, written by whoever starts a program.
static WRITING: RwLock<()> = RwLock::new(());

/// Writes files that are open nowhere once this returns.
pub fn written<T>(write: impl FnOnce() -> T) -> T {
    let _writing = WRITING.read().unwrap_or_else(PoisonError::into_inner);
    write()
}

/// The ways to start a program.
pub trait Start {
    /// Like `spawn`, which returns when the program runs.
    fn start(&mut self) -> io::Result<Child>;

    /// Runs it to its end and has what it prints into pipes. Its stdin is ours, if not told otherwise.
    fn awaited(&mut self) -> io::Result<Output>;

    /// Like `output`: the same, with all that it prints.
    fn finish(&mut self) -> io::Result<Output>;

    /// Like `status`: runs it to its end.
    fn ended(&mut self) -> io::Result<ExitStatus>;
}

impl Start for Command {
    fn start(&mut self) -> io::Result<Child> {
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
