//! `sweeper`: runs one command and exits with its code.
//!
//! This module must not do anything else; `retention_sweeper::cmd` has the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    retention_sweeper::cmd::main(std::env::args_os())
}
