//! Unusual file names: each is handled, and none forges a line or controls a terminal.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::{OLD, USER, bounded};
use crate::start::Start;
use crate::world::{DAY, Run, World, as_user, assert_counts, can_be_root};

/// The formats of a report; the first two are those of every command.
const FORMATS: [&str; 3] = ["text", "json", "jsonl"];

fn all() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"\xff\xfe"[..],
        b"latin-1 \xe9t\xe9.zip",
        b"half a letter \xe2\x82",
        b"surrogate \xed\xa0\x80",
        b"\x9b31m as one byte",
        b"new\nline",
        b"x\nforged: line",
        b"x\r\nforged: line",
        b"\x1b]0;owned\x07",
        b"\x1b[2J\x1b[31mred",
        b"\x01\x02\x08\x0b\x0c\x7f",
        b"\t tab",
        b"-rf",
        b"--help",
        b"--",
        b"*",
        b"?",
        b"[!a]",
        b"{a,b}",
        b"...",
        b"..hidden",
        b".dot",
        b" ",
        b" space around ",
        b"\\",
        b"\"quoted\"",
        b"'",
        b"$(reboot)",
        b"; reboot",
        b"%s%n",
        b"~",
    ]
    .map(<[u8]>::to_vec)
    .into();
    let marks = [
        "\u{9b}31m",
        "a\u{202e}piz.exe",
        "\u{2066}x\u{2069}",
        "\u{200f}\u{61c}",
        "\u{feff}",
        "two\u{2028}forged: lines\u{2029}",
        "\u{200b}",
        "e\u{301}",
        "\u{e0041}",
        "Привет 📦",
        "\u{fffd}",
    ];
    names.extend(marks.map(|mark| mark.as_bytes().to_vec()));
    names.extend([vec![b'n'; 255], vec![0xff; 255], vec![b'\n'; 255]]);
    names
}

/// A data root with such names, and such a name itself: old files and trees in `tmp`, with a fresh file
/// beside them, and files among the exports.
fn world_of_names() -> World {
    let mut world = World::new();
    world.root.push("\u{1b}[31mda\nforged: ta\u{202e}");
    for dir in ["tmp", "cache/export"] {
        fs::create_dir_all(world.path(dir)).unwrap();
    }
    for (number, name) in all().iter().enumerate() {
        let name = OsStr::from_bytes(name);
        if number % 2 == 0 {
            world.file(world.path("tmp").join(name), OLD);
        } else {
            world.file(world.path("tmp").join(name).join(name), OLD);
            world.age_dirs(world.path("tmp").join(name), OLD);
        }
        world.file(world.path("cache/export").join(name), OLD);
    }
    world.file("tmp/abc", DAY);
    world
}

/// Every name with the outcome that it must have.
fn expected(world: &World) -> BTreeMap<PathBuf, (String, String)> {
    let outcome = |kind: &str, reason: &str| (kind.to_owned(), reason.to_owned());
    let mut outcomes = BTreeMap::from([(world.path("tmp/abc"), outcome("kept", "fresh"))]);
    for name in all() {
        let name = OsStr::from_bytes(&name);
        outcomes.insert(world.path("tmp").join(name), outcome("removed", "expired"));
        outcomes.insert(world.path("cache/export").join(name), outcome("kept", "unrecognized"));
    }
    outcomes
}

#[test]
fn whatever_its_name_an_old_entry_is_removed_and_nothing_else_is() {
    let world = world_of_names();
    let args = ["run", "-v", "--format", "jsonl"];
    let run = Run::of(bounded(&world.command(&args)));
    run.exits(0);
    assert_eq!(run.outcomes(), expected(&world));
    let left: Vec<_> =
        fs::read_dir(world.path("tmp")).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [world.path("tmp/abc")]);
    assert_eq!(fs::read_dir(world.path("cache/export")).unwrap().count(), all().len());
}

#[test]
fn the_longest_names_are_taken_out_of_reach_like_any_other() {
    let world = World::new();
    for dir in ["tmp", "tasks/7/tmp"] {
        world.file(format!("{dir}/{}", "f".repeat(255)), OLD);
        world.file(format!("{dir}/{0}/{0}", "t".repeat(255)), OLD);
        world.age_dirs(dir, OLD);
    }
    let run = world.run(&["run", "--zones", "tmp,instance-tmp", "--format", "json"]);
    let report = run.exits(0).json();
    for zone in ["tmp", "instance-tmp"] {
        assert_counts(&report, zone, &[("removed", 2)]);
    }
    assert!(!run.stdout.contains("in place"), "{}", run.stdout);
}

#[test]
fn a_path_has_its_bytes_in_hex_beside_it_only_if_it_is_not_utf_8() {
    let world = world_of_names();
    let run = Run::of(world.command(&["run", "--dry-run", "--format", "jsonl"]));
    let mut in_hex = 0;
    for line in run.exits(0).stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(path) = line.get("path").and_then(Value::as_str) else { continue };
        match line.get("path_hex").and_then(Value::as_str) {
            None => assert!(world.has(path), "{line}"),
            Some(hex) => {
                in_hex += 1;
                let bytes: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                assert!(world.has(OsStr::from_bytes(&bytes)), "{line}");
                assert_eq!(String::from_utf8_lossy(&bytes), path);
            }
        }
    }
    let not_text = all().iter().filter(|name| std::str::from_utf8(name).is_err()).count();
    assert_eq!(in_hex, not_text);
}

/// Nothing in it controls a terminal, changes the writing direction or starts a line of its own.
#[track_caller]
fn assert_harmless(printed: &[u8], what: &str) {
    let text = std::str::from_utf8(printed).unwrap_or_else(|error| panic!("{what}: {error}"));
    let turns = |c| matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let bad = |c: char| (c.is_control() && c != '\n') || turns(c);
    assert!(!text.contains(bad), "{what}: {:?}", text.lines().find(|line| line.contains(bad)));
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{what}: a forged line:\n{text}");
}

/// Runs it in each of its formats: everything that it prints must be harmless. It must print something to
/// stdout.
fn assert_all_harmless(
    args: &[&str],
    formats: &[&str],
    code: i32,
    command: impl Fn(&[&str]) -> Command,
) {
    for format in formats {
        let args = [args, &["--format", format]].concat();
        let Output { status, stdout, stderr } = bounded(&command(&args)).finish().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        assert!(!stdout.is_empty());
        assert_harmless(&stdout, &format!("stdout of {args:?}"));
        assert_harmless(&stderr, &format!("stderr of {args:?}"));
        if *format != "text" {
            assert!(String::from_utf8(stdout).unwrap().lines().all(|line| !line.is_empty()));
        }
    }
}

#[test]
fn no_printed_name_forges_a_line_or_controls_a_terminal() {
    let world = world_of_names();
    assert_all_harmless(&["run", "-v", "--dry-run"], &FORMATS, 0, |args| world.command(args));
    // There are no entries that could have a line each.
    assert_all_harmless(&["config"], &FORMATS[..2], 0, |args| world.command(args));
    let mut paths: Vec<_> = expected(&world).into_keys().collect();
    paths.push(world.path("tmp/no such\n\u{1b}[1mentry"));
    for format in &FORMATS[..2] {
        let mut command = world.command(&["why", "--format", format]);
        let Output { stdout, stderr, .. } = command.arg("--").args(&paths).finish().unwrap();
        assert!(!stdout.is_empty(), "{}", String::from_utf8_lossy(&stderr));
        assert_harmless(&stdout, "stdout of why");
        assert_harmless(&stderr, "stderr of why");
    }
}

#[test]
fn no_name_in_a_failure_forges_a_line_or_controls_a_terminal() {
    if !can_be_root("other users") {
        return;
    }
    let world = world_of_names();
    world.chown(USER);
    fs::set_permissions(world.path("tmp"), PermissionsExt::from_mode(0o555)).unwrap();
    // What fails is still there for the next format; trees are emptied by the first.
    assert_all_harmless(&["run", "-v"], &FORMATS, 1, |args| as_user(USER, &world.command(args)));
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), all().len() + 1);
}

#[test]
fn no_name_in_an_error_forges_a_line_or_controls_a_terminal() {
    let world = World::new();
    let odd = world.dir("x\n\u{1b}[31mforged: \u{202e}", 0);
    let mut command = crate::world::sweeper(&["run", "--data"]);
    let Output { status, stdout, stderr } = command.arg(&odd).finish().unwrap();
    assert_eq!((status.code(), &*stdout), (Some(2), &b""[..]));
    assert!(!stderr.is_empty());
    assert_harmless(&stderr, "stderr");
    let mut command = world.command(&["run", "--zones", "x\n\u{1b}[31mforged: \u{202e}"]);
    let Output { status, stderr, .. } = command.finish().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_harmless(&stderr, "stderr of a wrong setting");
}
