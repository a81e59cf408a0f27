//! The picture and the tables of a made-up usage.

use std::path::PathBuf;

use super::*;
use crate::fs::Space;
use crate::protocol::ListedFailure;
use crate::rules::{Action, Bytes, Moment, Owner};
use crate::usage::model::{ByAge, Forecast, HORIZONS_S};
use crate::usage::uploads::Remains;
use crate::usage::{
    AreaUsage, KindUsage, OwnerUsage, RemovedBy, Totals, Unreached, UnreachedUsage,
};

const MIB: u64 = 1 << 20;

fn area(name: &str, mib: u64, expired: u64, removed_by: RemovedBy) -> AreaUsage {
    AreaUsage {
        name: name.to_owned(),
        about: "",
        path: PathBuf::from("/data").join(name),
        is_outside: false,
        entries: mib,
        totals: Totals { inodes: mib + 1, allocated: Bytes(mib * MIB) },
        expired: Bytes(expired * MIB),
        forecast: Forecast::default(),
        by_age: ByAge::default(),
        removed_by,
    }
}

pub(super) fn usage() -> Usage {
    let run = RemovedBy::Run("sweeper run".to_owned());
    Usage {
        data_root: PathBuf::from("/data/\x1b[31m"),
        now: Moment::from_unix(1_767_323_045, 0),
        space: Some(Space {
            bytes: 1000 * MIB,
            bytes_used: 930 * MIB,
            bytes_available: 70 * MIB,
            inodes: 10,
            inodes_used: 1,
        }),
        areas: vec![
            area("files", 300, 100, run),
            area("a-zone-with-a-name-that-has-no-end", 1, 1, RemovedBy::OnRequest("x".to_owned())),
            area("rest", 600, 0, RemovedBy::Never),
            area("\u{202e}evil", 0, 0, RemovedBy::Never),
        ],
        totals: Totals { inodes: 905, allocated: Bytes(901 * MIB) },
        forecast: std::array::from_fn(|at| Bytes(at as u64 * MIB)),
        by_age: std::array::from_fn(|at| Bytes(at as u64 * MIB)),
        kinds: vec![KindUsage {
            owner: Some("task"),
            content: Some("dataset"),
            files: 1,
            allocated: Bytes(300 * MIB),
            by_age: ByAge::default(),
        }],
        owners: vec![OwnerUsage {
            owner: Owner { kind: "task", id: 7 },
            files: 12_345,
            allocated: Bytes(75 * MIB),
        }],
        unreached: vec![UnreachedUsage {
            why: Unreached::Upload(Remains::NoProgress),
            area: "\u{202e}evil".to_owned(),
            entries: 2,
            allocated: Bytes(MIB),
            expired: Bytes(0),
            removed_by: RemovedBy::Never,
        }],
        failed: 0,
        failures: Vec::new(),
        mount_points: 0,
        mounts: Vec::new(),
        notes: Vec::new(),
        stopped: None,
    }
}

fn text(usage: &Usage, canvas: Option<Canvas>) -> String {
    let mut out = Vec::new();
    write(&mut out, usage, Format::Text, canvas).unwrap();
    String::from_utf8(out).unwrap()
}

/// The line about one thing.
#[track_caller]
fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    let found = text.lines().find(|line| line.trim_start().starts_with(begin));
    found.unwrap_or_else(|| panic!("{begin}:\n{text}"))
}

#[test]
fn no_line_is_longer_than_the_terminal_is_wide() {
    for width in [48, 60, 71, 72, 80, 133, 200] {
        let text = text(&usage(), Some(Canvas { width, has_color: false }));
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert!(text.lines().any(|line| line.chars().count() == width), "{width}:\n{text}");
    }
}

#[test]
fn bars_are_as_long_as_the_amounts_say() {
    let text = text(&usage(), Some(Canvas { width: 100, has_color: false }));
    let bar = |begin| line(&text, begin).chars().filter(|c| "█▏▎▍▌▋▊▉▒".contains(*c)).count();
    let (rest, files) = (bar("rest "), bar("files "));
    assert!(files * 2 == rest || files * 2 == rest + 1, "{files} of {rest}:\n{text}");
    let expired = line(&text, "files ").matches('▒').count();
    assert!((expired * 3).abs_diff(files) <= 3, "{expired} of {files}:\n{text}");
    assert_eq!(bar("\\u{202e}evil"), 0, "what is empty has no bar:\n{text}");
    assert!(line(&text, "files ").contains("  33%  "), "{text}");
    assert!(line(&text, "task 7 ").contains("  25%  12,345 files  "), "a share of all exports");
    assert!(text.contains("file system 93% full: 930.0 MiB of 1000.0 MiB"), "{text}");
}

#[test]
fn names_are_escaped_and_only_our_own_colors_are_used() {
    for canvas in [None, Some(Canvas { width: 80, has_color: true })] {
        let text = text(&usage(), canvas);
        assert!(text.contains("\\u{1b}[31m") && !text.contains("\x1b[31m"), "{text}");
        assert!(text.contains("\\u{202e}evil") && !text.contains('\u{202e}'), "{text}");
    }
}

#[test]
fn each_command_is_named_once_with_what_it_removes() {
    let text = text(&usage(), Some(Canvas { width: 80, has_color: false }));
    let at = text.find("what can be removed").unwrap();
    let lines: Vec<&str> = text[at..].lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "what can be removed",
            "sweeper run",
            "100.0 MiB expired in files",
            "x",
            "1.0 MiB expired in a-zone-with-…-has-no-end",
            "never removed by this program",
            "rest, \\u{202e}evil",
        ]
    );
    assert!(line(&text, "in 1 h").contains("100.0 MiB"), "what has expired counts from now on");
    assert!(line(&text, "in 30 d").contains("106.0 MiB"), "{text}");
    assert_eq!(HORIZONS_S.len(), 7);
}

#[test]
fn what_is_missing_from_the_numbers_is_said_in_every_format() {
    let mut usage = usage();
    usage.failed = 120;
    usage.failures = vec![ListedFailure {
        path: "/data/x\x1b".into(),
        action: Action::Open,
        errno: Some(13),
        message: "Permission denied".to_owned(),
    }];
    usage.mount_points = 2;
    usage.mounts = vec!["/data/mount".into()];
    usage.notes = vec!["a note".to_owned()];
    assert_eq!(exit_code(&usage), ExitCode::SomeFailed);
    usage.stopped = Some(StopReason::Deadline);
    assert_eq!(exit_code(&usage), ExitCode::Stopped);
    for canvas in [None, Some(Canvas { width: 80, has_color: false })] {
        let text = text(&usage, canvas);
        for said in [
            "usage: failed: open \"/data/x\\u{1b}\": Permission denied",
            "usage: failed: 119 more, not listed",
            "usage: note: not counted, another mount: \"/data/mount\"",
            "usage: note: not counted, other mounts: 1 more",
            "usage: note: a note",
            "usage: stopped by the deadline: these numbers are not complete",
        ] {
            assert!(text.contains(said), "{said}:\n{text}");
        }
    }
    let mut out = Vec::new();
    write(&mut out, &usage, Format::Json, None).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&object["failed"], &object["exit"]), (&120.into(), &3.into()));
    assert_eq!((&object["stopped"], &object["notes"][0]), (&"deadline".into(), &"a note".into()));
    assert_eq!(object["failures"][0]["errno"], "EACCES");
}
