//! Tests of the report for people.

use std::path::PathBuf;

use super::*;
use crate::protocol::LISTED_FAILURES;
use crate::report::sample;
use crate::rules::{Action, ZoneName};

fn written(mode: RunMode, given: &Summary) -> String {
    drawn(Canvas::PLAIN, mode, given)
}

fn drawn(canvas: Canvas, mode: RunMode, given: &Summary) -> String {
    let mut out = Vec::new();
    let info = RunInfo { mode, ..sample::info() };
    summary(&mut out, canvas, &info, given, Duration::from_millis(420)).unwrap();
    String::from_utf8(out).unwrap()
}

fn failure(path: &str, errno: Option<i32>, message: &str) -> ListedFailure {
    let message = message.to_owned();
    ListedFailure { path: PathBuf::from(path), action: Action::Unlink, errno, message }
}

fn of_failures(failed: u64, failures: Vec<ListedFailure>) -> String {
    let zone = ZoneSummary {
        zone: ZoneName::new("tmp"),
        path: PathBuf::from("/data/tmp"),
        tally: Tally { seen: failed, failed, failures, ..Tally::default() },
        notes: Vec::new(),
        no_lock: None,
    };
    let mut out = Vec::new();
    super::failures(&mut out, Canvas::PLAIN, RunMode::Real, &zone).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_real_run_reads_like_this() {
    let expected = r#"
zone     seen  removed  kept  skipped  failed     freed
export     11        4     5        1       1  16.0 KiB
tmp     1,234    1,234     0        0       0   2.0 GiB
export: kept: 3 fresh, 1 unrecognized, 1 not a file
export: skipped: 1 in use
export: failed: unlink "/data/cache/export/x.zip": Permission denied [EACCES]; ask root
tmp: note: the probe cannot be used
"/data": removed 1,238 of 1,245 entries, freed 2.0 GiB, 1 failed; done in 0.42 s
"#;
    assert_eq!(written(RunMode::Real, &sample::summary()), expected.trim_start());
}

#[test]
fn a_dry_run_says_would_and_fits_80_columns() {
    let mut summary = sample::summary();
    summary.zones[0].zone = ZoneName::new("instance-tmp");
    summary.zones[0].tally.seen += 8_999_999;
    summary.zones[0].tally.removed += 8_999_999;
    summary.stopped = Some(StopReason::Deadline);
    let text = written(RunMode::DryRun, &summary);
    let table: Vec<&str> = text.lines().take(3).collect();
    assert_eq!(
        table,
        [
            "zone               seen  would remove  kept  skipped  failed  would free",
            "instance-tmp  9,000,010     9,000,003     5        1       1    16.0 KiB",
            "tmp               1,234         1,234     0        0       0     2.0 GiB",
        ]
    );
    let closing = text.lines().last().unwrap();
    let expected = "\"/data\": would remove 9,001,237 of 9,001,244 entries, would free 2.0 GiB, \
                    1 would fail; nothing was removed; stopped at the deadline after 0.42 s";
    assert_eq!(closing, expected);
}

#[test]
fn a_report_fits_a_terminal_of_60_columns() {
    let mut summary = sample::summary();
    let expected = r"
                would                            would
zone     seen  remove  kept  skipped  failed      free
";
    let text = drawn(Canvas { width: 60, has_color: false }, RunMode::DryRun, &summary);
    let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
    assert_eq!(text.lines().take(2).collect::<Vec<_>>(), expected, "{text}");
    summary.zones[0].zone = ZoneName::new("instance-tmp");
    summary.zones[0].tally.seen += 8_999_999;
    summary.zones[0].tally.removed += 8_999_999;
    summary.zones[0].notes = vec!["warning: look out ".repeat(9)];
    for mode in [RunMode::Real, RunMode::DryRun] {
        let plain = written(mode, &summary);
        let text = drawn(Canvas { width: 60, has_color: false }, mode, &summary);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        // Nothing is lost: from the reasons on, the words are the same.
        let words = |text: &str| {
            let from = text.find("instance-tmp: kept").unwrap();
            text[from..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&text), words(&plain));
    }
    let sentence = "instance-tmp: seen 9,000,010, would remove 9,000,003, kept\n  5, skipped 1, failed 1, would free 16.0 KiB\n";
    assert!(
        drawn(Canvas { width: 60, has_color: false }, RunMode::DryRun, &summary)
            .starts_with(sentence)
    );
}

#[test]
fn color_changes_no_text() {
    let codes = regex::Regex::new("\u{1b}\\[[0-9]+m").unwrap();
    for mode in [RunMode::Real, RunMode::DryRun] {
        let colored = drawn(Canvas { width: 60, has_color: true }, mode, &sample::summary());
        let plain = drawn(Canvas { width: 60, has_color: false }, mode, &sample::summary());
        assert_eq!(codes.replace_all(&colored, ""), plain);
        let painted = match mode {
            RunMode::Real => "\u{1b}[31mfailed\u{1b}[0m",
            RunMode::DryRun => "\u{1b}[31mwould fail\u{1b}[0m",
        };
        assert!(colored.contains(painted), "{colored}");
    }
}

#[test]
fn a_dry_run_foresees_the_failure_of_a_removal_and_reports_that_of_a_look() {
    let mut summary = sample::summary();
    let mut unread = failure("/data/tmp/dir", Some(13), "Permission denied");
    unread.action = Action::Open;
    summary.zones[1].tally.failures = vec![unread];
    summary.zones[1].tally.failed = 1;
    let text = written(RunMode::DryRun, &summary);
    assert!(text.contains("export: would fail: unlink \"/data/cache/export/x.zip\""), "{text}");
    assert!(text.contains("tmp: failed: open \"/data/tmp/dir\""), "{text}");
}

#[test]
fn a_pass_that_a_guard_stopped_shows_what_it_would_have_done() {
    let mut summary = sample::summary();
    summary.stopped = Some(StopReason::MaxRemovals);
    summary.zones.iter_mut().for_each(|zone| zone.tally.withhold());
    let expected = r#"
zone     seen  would remove  kept  skipped  failed  would free
export     11             4     5        1       1    16.0 KiB
tmp     1,234         1,234     0        0       0     2.0 GiB
export: kept: 3 fresh, 1 unrecognized, 1 not a file
export: skipped: 1 in use
export: would fail: unlink "/data/cache/export/x.zip": Permission denied [EACCES]; ask root
tmp: note: the probe cannot be used
"/data": nothing was removed, because a guard stopped this pass: it would remove 1,238 of 1,245 entries and free 2.0 GiB, 1 would fail; done in 0.42 s
"#;
    assert_eq!(written(RunMode::Real, &summary), expected.trim_start());
}

#[test]
fn a_pass_that_ended_while_it_was_counting_blames_no_guard() {
    let mut summary = sample::summary();
    summary.stopped = Some(StopReason::Signal);
    summary.zones.iter_mut().for_each(|zone| zone.tally.withhold());
    let text = written(RunMode::Real, &summary);
    let last = "\"/data\": nothing was removed, because the pass ended while it was still counting for its guards \
                (1,245 entries so far); stopped by a signal after 0.42 s";
    assert_eq!(text.lines().last(), Some(last));
}

#[test]
fn a_warning_stands_above_the_last_line() {
    let mut summary = sample::summary();
    summary.zones[0].notes = vec!["warning: look out".to_owned(), "a note".to_owned()];
    let text = written(RunMode::Real, &summary);
    let lines: Vec<&str> = text.lines().rev().skip(1).take(3).collect();
    let expected = [
        "export: warning: look out",
        "tmp: note: the probe cannot be used",
        "export: note: a note",
    ];
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn a_long_zone_name_widens_its_column() {
    let mut summary = sample::summary();
    summary.zones[1].zone = ZoneName::new("a-zone-with-a-name-of-thirty-c");
    let text = written(RunMode::Real, &summary);
    let widths: Vec<usize> = text.lines().take(3).map(str::len).collect();
    assert_eq!(widths, [widths[0]; 3], "{text}");
    assert!(widths[0] <= 80, "{text}");
}

#[test]
fn a_shard_and_an_empty_pass_are_told() {
    let mut out = Vec::new();
    let shard = crate::rules::Shard::new(1, 8).ok();
    let info = RunInfo { shard, ..sample::info() };
    let nothing =
        Summary { zones: Vec::new(), stopped: Some(StopReason::Signal), relief: Vec::new() };
    summary(&mut out, Canvas::PLAIN, &info, &nothing, Duration::ZERO).unwrap();
    let text = String::from_utf8(out).unwrap();
    let end: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        end,
        [
            "shard 1/8: only the entries of this shard were checked",
            "\"/data\": removed 0 of 0 entries, freed 0 B; stopped by a signal after 0.00 s",
        ]
    );
}

#[test]
fn failures_that_say_the_same_share_a_line() {
    let denied = |n: u64| {
        let hint = format!("Permission denied (os error 13); the owner is uid {}", 1000 + n % 3);
        failure(&format!("/data/tmp/{n}"), Some(13), &hint)
    };
    let mut failures: Vec<ListedFailure> = (0..97).map(denied).collect();
    failures.push(failure("/data/tmp/b", Some(16), "Device or resource busy (os error 16)"));
    failures.push(failure("/data/tmp/c", None, "malformed"));
    failures.push(failure("/data/tmp/d", None, "malformed"));
    assert_eq!(failures.len(), LISTED_FAILURES);
    let expected = r#"
tmp: failed: unlink "/data/tmp/0" and 96 others: Permission denied [EACCES]; the owner is uid 1000
tmp: failed: unlink "/data/tmp/b": Device or resource busy [EBUSY]
tmp: failed: unlink "/data/tmp/c" and 1 other: malformed
tmp: failed: 1,150 more, not listed
"#;
    assert_eq!(of_failures(1250, failures), expected.trim_start());
}

#[test]
fn what_differs_in_action_error_or_hint_has_its_own_line() {
    let hint = |hint: &str| failure("/a", Some(1), &format!("not permitted (os error 1); {hint}"));
    let mut other = hint("chattr -i");
    other.action = Action::Rmdir;
    let all = [hint("chattr -i"), hint("chattr -a"), other, hint("chattr -i")];
    let counts: Vec<u64> = groups(&all).iter().map(|group| group.count).collect();
    assert_eq!(counts, [2, 1, 1]);
}

#[test]
fn kinds_of_failures_are_limited() {
    let kinds = (b'a'..=b'p').map(|kind| failure("/x", None, &char::from(kind).to_string()));
    let text = of_failures(16, kinds.collect());
    assert_eq!(text.lines().count(), FAILURE_KINDS + 1, "{text}");
    assert!(text.ends_with("tmp: failed: 6 more, not listed\n"), "{text}");
}

#[test]
fn long_text_is_cut_in_the_middle() {
    assert_eq!(cut("abcdef", 6), "abcdef");
    assert_eq!(cut("abcdefg", 6), "abc…fg");
    assert_eq!(cut("ééééééé", 5), "éé…éé");
    let name = "n".repeat(LONGEST_NAME);
    let whole = format!("/data/{name}/f");
    assert_eq!(shown_short(Path::new(&whole)), format!("\"{whole}\""));
    let path = format!("/data/{name}n.zip");
    let cut = format!("\"/data/{}…{}.zip\"", "n".repeat(30), "n".repeat(25));
    assert_eq!(shown_short(Path::new(&path)), cut);
    let deep = format!("/data{}/last", "/name".repeat(500));
    let text = shown_short(Path::new(&deep));
    assert_eq!(text.chars().count(), LONGEST_PATH + 2);
    assert!(text.starts_with("\"/data/name/") && text.ends_with("/name/last\""), "{text}");
}

#[test]
fn a_name_cannot_forge_a_line() {
    let text = of_failures(1, vec![failure("/data/a\n\u{1b}[31m\"b", None, "no")]);
    assert_eq!(text, "tmp: failed: unlink \"/data/a\\n\\u{1b}[31m\\\"b\": no\n");
}
