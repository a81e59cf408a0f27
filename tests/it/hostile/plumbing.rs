//! A poor environment: no process reads the output, there is no home directory, or the current directory
//! is gone. The pass does its work and ends all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::{OLD, USER, bounded, within};
use crate::start::Start;
use crate::world::{Run, Stat, World, as_user, can_be_root, export_name};

const ENTRIES: u32 = 300;

/// Enough entries that the output fills any buffer, and a fresh file.
fn with_much_to_report() -> World {
    let world = World::new();
    for number in 0..ENTRIES {
        world.file(format!("cache/export/{}", export_name(number)), OLD);
        world.file(format!("tmp/with-a-long-name-that-fills-the-buffers-{number}"), OLD);
    }
    world.file("tmp/fresh", 0);
    world
}

#[track_caller]
fn assert_swept(world: &World, what: &str) {
    assert_eq!(fs::read_dir(world.path("cache/export")).unwrap().count(), 0, "{what}");
    let left: Vec<_> =
        fs::read_dir(world.path("tmp")).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [world.path("tmp/fresh")], "{what}");
}

/// The end of a pipe that no process reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_pass_needs_no_reader_of_stdout_and_stderr() {
    for format in ["text", "json", "jsonl"] {
        let world = with_much_to_report();
        let mut command = bounded(&world.command(&["run", "-v", "--format", format]));
        let output = command.stdout(closed_pipe()).stderr(closed_pipe()).awaited().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_swept(&world, format);
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_not_reported() {
    for format in ["text", "json", "jsonl"] {
        let world = with_much_to_report();
        let mut command = bounded(&world.command(&["run", "--format", format]));
        let run =
            Run::from(command.stdout(closed_pipe()).stderr(Stdio::piped()).awaited().unwrap());
        assert_eq!(run.exits(0).stderr, "", "{format}");
        assert_swept(&world, format);
    }
}

#[test]
fn with_descriptors_closed_from_the_start_the_report_is_not_written_to_a_file_of_the_data_root() {
    for format in ["text", "json", "jsonl"] {
        let world = with_much_to_report();
        let fresh = Stat::of(&world.path("tmp/fresh"));
        let closed = r#"exec "$@" <&- >&- 2>&-"#;
        let command = world.command(&["run", "-v", "--format", format]);
        let command = within("/bin/sh", &["-c", closed, "sh"], &command);
        Run::of(bounded(&command)).exits(0);
        assert_swept(&world, format);
        assert_eq!(Stat::of(&world.path("tmp/fresh")), fresh);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_message_and_the_pass_continues() {
    for format in ["text", "json", "jsonl"] {
        let world = with_much_to_report();
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = bounded(&world.command(&["run", "--format", format]));
        let run = Run::from(command.stdout(full).stderr(Stdio::piped()).awaited().unwrap());
        let is_whole = "ERROR cannot write the report: No space left on device; the pass itself is complete: removed ";
        assert!(run.stderr.contains(is_whole), "{}", run.stderr);
        let counts = run.stderr.split(is_whole).nth(1).unwrap();
        assert!(counts.contains(" entries, freed "), "{format}: {counts}");
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert_swept(&world, format);
    }
}

#[test]
fn no_home_no_temporary_directory_and_no_terminal_are_needed() {
    let homes = [
        &[][..],
        &["HOME=", "TMPDIR=", "PATH="],
        &["HOME=/nowhere", "TMPDIR=/nowhere", "TERM=odd"],
    ];
    for environment in homes {
        let world = with_much_to_report();
        let command = world.command(&["run", "--progress", "always"]);
        let run = Run::of(bounded(&within("/usr/bin/env", environment, &command)));
        run.exits(0);
        assert_swept(&world, &format!("{environment:?}"));
    }
}

/// The same command, run in a directory.
fn from(dir: &str, command: &Command) -> Command {
    within("/bin/sh", &["-c", r#"cd "$0" && exec "$@""#, dir], command)
}

#[test]
fn a_pass_needs_no_current_directory() {
    let world = with_much_to_report();
    let gone = world.dir("gone", 0);
    let command = world.command(&["run"]);
    let script = r#"cd "$0" && rmdir "$0" && exec "$@""#;
    let run =
        Run::of(bounded(&within("/bin/sh", &["-c", script, gone.to_str().unwrap()], &command)));
    run.exits(0);
    assert!(!gone.exists());
    assert_swept(&world, &run.stdout);
}

#[test]
fn the_data_root_is_found_from_a_current_directory_that_is_not_writable() {
    if !can_be_root("other users") {
        return;
    }
    let world = with_much_to_report();
    world.chown(USER);
    let above = world.root.parent().unwrap();
    fs::set_permissions(above, PermissionsExt::from_mode(0o555)).unwrap();
    // `./data` is one of the default data roots.
    let command = crate::world::sweeper(&["run", "--now", crate::world::NOW]);
    let run = Run::of(bounded(&as_user(USER, &from(above.to_str().unwrap(), &command))));
    run.exits(0);
    assert_swept(&world, &run.stdout);
    assert_eq!(fs::read_dir(above).unwrap().count(), 1, "no file was created there");
}
