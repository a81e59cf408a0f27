//! Runs a session of pasted commands on a machine that is thrown away (`tests/docs/scene`).

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::blocks::plain;
use super::repository;
use crate::start::{Start, written};
use crate::world::{Run, can_be_root, is_present};

/// What a session needs.
const TOOLS: [&str; 8] =
    ["unshare", "ip", "redis-server", "jq", "curl", "tmpreaper", "systemd-tmpfiles", "find"];

/// Commands in the order in which they are pasted.
#[derive(Default)]
pub(super) struct Session {
    script: String,
    pub(super) commands: usize,
}

impl Session {
    /// A block begins: the sample volumes are made anew.
    pub(super) fn at(&mut self, place: &str) {
        writeln!(self.script, "at {}", quoted(place)).unwrap();
    }

    /// A command of the block. A service runs beside those that follow, and a line of a crontab runs as cron runs it.
    pub(super) fn paste(&mut self, command: &str) {
        self.commands += 1;
        if is_service(command) {
            writeln!(self.script, "serve {}", quoted(command)).unwrap();
        } else if is_cron(command) {
            writeln!(self.script, "cron {}", quoted(command)).unwrap();
        } else {
            writeln!(self.script, "{command}").unwrap();
        }
    }

    /// Runs everything. `None` where this machine does not allow it.
    pub(super) fn run(&self) -> Option<Run> {
        let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        for tool in TOOLS {
            let is = places.iter().any(|dir| std::path::Path::new(dir).join(tool).exists());
            if !is_present(is, tool) {
                return None;
            }
        }
        let python = std::env::var_os("SWEEPER_TESTS_PYTHON");
        if !is_present(python.is_some(), "SWEEPER_TESTS_PYTHON")
            || !can_be_root("the commands of the documentation")
        {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("sweeper-docs-").tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (scratch, session) = (dir.path().join("machine"), dir.path().join("session"));
        fs::create_dir(&scratch).unwrap();
        written(|| fs::write(&session, &self.script)).unwrap();
        // A command that waits forever is a failure, not a test that never ends.
        let mut scene = Command::new("timeout");
        scene.arg("1800").arg(repository("tests/docs/scene")).arg(scratch);
        scene.arg(env!("CARGO_BIN_EXE_sweeper")).arg(python.unwrap()).arg(session);
        Some(Run::from(scene.stdin(std::process::Stdio::null()).finish().unwrap()))
    }
}

/// Whether this is a line of a crontab.
pub(super) fn is_cron(line: &str) -> bool {
    let is_field = |field: &str| field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
    let fields = line.split_whitespace().take(5).filter(|field| is_field(field)).count();
    fields == 5
}

/// Whether a command runs until it is told to end.
fn is_service(command: &str) -> bool {
    let starts = ["sweeper serve", "sweeper clearml serve"];
    let command = plain(command);
    starts.iter().any(|start| command.starts_with(start)) || command.ends_with("./cleanup_service")
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn a_command_that_fails_ends_the_session_and_is_named() {
    let mut session = Session::default();
    session.at("here");
    session.paste("sweeper run --no-such-flag | cat");
    session.paste("echo went on");
    let Some(run) = session.run() else { return };
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stdout.contains("failed: exit code 2 in the block at here"), "{}", run.stdout);
    assert!(!run.stdout.contains("went on"), "{}", run.stdout);
}

#[test]
fn a_service_that_does_not_start_ends_the_session() {
    let mut session = Session::default();
    session.at("here");
    session.paste("sweeper serve --data /nowhere");
    session.paste("echo went on");
    let Some(run) = session.run() else { return };
    assert!(run.code != Some(0) && !run.stdout.contains("went on"), "{}", run.stdout);
}
