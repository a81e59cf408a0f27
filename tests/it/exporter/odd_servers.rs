//! Servers that answer wrongly, slowly, without end, or not at all: no lock, no removal, and no wait without an
//! end.

use std::process::Command;
use std::time::Duration;

use super::fake::{self, Answer, line};
use super::{assert_left_alone, with_five_exports};
use crate::company::{Other, has_tool};
use crate::world::{Run, World, assert_counts, zone};

fn command(world: &World, url: &str, args: &[&str]) -> Command {
    let mut command = world.command(&[&["run", "--redis", url], args].concat());
    command.arg("--cvat-data").arg(&world.root);
    command
}

/// Asserts that exports are left alone for this reason, and that the rest is swept.
#[track_caller]
fn assert_leaves_alone(url: &str, reason: &str) {
    let world = with_five_exports();
    let run = Run::of(command(&world, url, &["--format", "json"]));
    assert_left_alone(&run, &world, reason);
}

#[test]
fn the_fake_server_is_good_enough_for_a_pass() {
    let world = with_five_exports();
    let run = Run::of(command(&world, &fake::serve(fake::good), &["--format", "json"]));
    let report = run.exits(0).json();
    assert_counts(&report, "export", &[("removed", 5)]);
    assert_eq!(zone(&report, "export")["notes"].to_string(), "[]");
}

#[test]
fn an_answer_that_is_not_understood_is_an_error_and_not_a_lock_of_another_process() {
    for wrong in
        ["$5\r\n0000?", "$5\r\n11112", "$4\r\n1111", ":5", "+OK", "$-1", "*0", "HTTP/1.1 400"]
    {
        let url = fake::serve(move |command| match fake::script(command) {
            Some((_, true)) => line(wrong),
            _ => fake::good(command),
        });
        assert_leaves_alone(&url, "not that of a Redis server");
    }
    for command in ["PING", "TIME", "SCAN"] {
        let url = fake::serve(
            move |asked| {
                if asked[0] == command { line(":1") } else { fake::good(asked) }
            },
        );
        assert_leaves_alone(&url, "not that of a Redis server");
    }
}

#[test]
fn releases_that_are_refused_are_reported() {
    let world = with_five_exports();
    let url = fake::serve(|command| match fake::script(command) {
        Some((_, false)) => line("-NOPERM no permission to release\x1b[2J"),
        _ => fake::good(command),
    });
    let run = Run::of(command(&world, &url, &["--format", "json"]));
    let report = run.exits(0).json();
    assert_counts(&report, "export", &[("removed", 5)]);
    let notes = zone(&report, "export")["notes"].to_string();
    let expected = "5 locks were not released (NOPERM no permission to release\\\\u{1b}[2J)";
    assert!(notes.contains(expected), "{notes}");
}

#[test]
fn releases_that_were_not_answered_before_the_server_was_given_up_are_reported() {
    let world = with_five_exports();
    let url = fake::serve(|command| match fake::script(command) {
        // One is tried again, on the connection that waits for the answer to the release of the others.
        Some((5, true)) => fake::text("11110"),
        Some((_, false)) => line("+OK"),
        _ => fake::good(command),
    });
    let run = Run::of(command(&world, &url, &["--format", "json"]));
    let report = run.exits(4).json();
    let notes = zone(&report, "export")["notes"].to_string();
    // And that one, whose request was not answered either.
    assert!(notes.contains("up to 5 locks were not released"), "{notes}");
}

#[test]
fn what_a_server_says_is_printed_without_control_characters() {
    let said = "-ERR \x1b]0;owned\x07\x1b[2J \u{202e}esrever";
    for at in ["PING", "EVAL", "TIME"] {
        let url = fake::serve(
            move |command| {
                if command[0] == at { line(said) } else { fake::good(command) }
            },
        );
        let world = with_five_exports();
        let run = Run::of(command(&world, &url, &[]));
        let all = format!("{}{}", run.exits(4).stdout, run.stderr);
        assert!(all.contains("owned") && all.contains("\\u{202e}"), "{all}");
        let is_plain = |c: char| !c.is_control() || c == '\n';
        assert!(all.chars().all(is_plain) && !all.contains('\u{202e}'), "{all:?}");
    }
}

#[test]
fn an_answer_takes_no_more_memory_than_a_good_one_would() {
    if !has_tool("time", "the memory of a pass") {
        return;
    }
    for start in ["$2000000000\r\n", "*2000000000\r\n$1\r\na\r\n", "+a", "-a"] {
        let url = fake::serve(move |command| {
            if command[0] != "PING" {
                return fake::good(command);
            }
            // About as much as a client can take before it gives up.
            Answer::Bytes([start.as_bytes(), &vec![b'a'; 300 << 20]].concat())
        });
        let world = with_five_exports();
        let inner = command(&world, &url, &["--format", "json"]);
        let mut measured = Command::new("/usr/bin/time");
        measured.args(["-f", "%M"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
        let run = Run::of(measured);
        assert_eq!(run.json()["exit"], 4, "{}", run.stdout);
        let kib: u64 = run.stderr.lines().last().unwrap().parse().unwrap();
        assert!(kib < 100 << 10, "{start:?}: {kib} KiB");
    }
}

#[test]
fn an_answer_that_never_ends_and_a_server_that_never_accepts_are_given_up() {
    // A byte, then another, each soon after the one before.
    for at in ["PING", "TIME", "EVAL"] {
        let url = fake::serve(move |command| {
            if command[0] == at {
                Answer::Forever(b"+".to_vec(), Duration::from_millis(500))
            } else {
                fake::good(command)
            }
        });
        assert_leaves_alone(&url, "no answer within");
    }
    // A socket on which so many wait to be accepted that the next one waits before that.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let full = "import socket\ns = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(0)\n\
                waiting = [socket.socket(socket.AF_UNIX) for _ in range(8)]\n\
                for w in waiting: w.setblocking(False)\n\
                print([w.connect_ex(path) for w in waiting], file=sys.stderr)";
    let _server = Other::python(full, &path);
    assert_leaves_alone(&format!("unix://{}", path.display()), "no answer within");
}

#[test]
fn a_server_from_before_redis_6_without_a_password_accepts_any() {
    let url = fake::serve(|command| match (command[0].as_str(), command.len()) {
        ("AUTH", 3) => line("-ERR wrong number of arguments for 'auth' command"),
        ("AUTH", 2) => line("-ERR Client sent AUTH, but no password is set"),
        _ => fake::good(command),
    });
    let url = url.replace("redis://", "redis://:superfluous@");
    let world = with_five_exports();
    let mut command = world.command(&["run", "--format", "json"]);
    command.env("SWEEPER_REDIS", url).env("SWEEPER_CVAT_DATA", &world.root);
    assert_counts(&Run::of(command).exits(0).json(), "export", &[("removed", 5)]);
}
