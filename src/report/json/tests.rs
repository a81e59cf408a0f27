//! Tests of the report for programs, among them a check against the published schema.

use std::ffi::CStr;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::protocol::Failure;
use crate::report::sample;
use crate::rules::{Action, Bytes, Kept, Moment, Shard, ZoneName};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schema/report-1.schema.json")).unwrap()
}

/// Compares a value with a schema, as far as this schema uses the language, and demands that every key
/// is described.
fn check(root: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect(name);
        check(root, target, value, at);
    }
    let types = schema["type"].as_array().cloned();
    let types = types.unwrap_or_else(|| schema.get("type").cloned().into_iter().collect());
    let is = |wanted: &Value| match wanted.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        other => panic!("{at}: type {other:?}"),
    };
    assert!(types.is_empty() || types.iter().any(is), "{at}: {value} is not {types:?}");
    if let Some(all) = schema["enum"].as_array() {
        assert!(all.contains(value), "{at}: {value}");
    }
    assert!(schema["const"].is_null() || schema["const"] == *value, "{at}: {value}");
    for item in value.as_array().into_iter().flatten() {
        check(root, &schema["items"], item, &format!("{at}[]"));
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(object.contains_key(key.as_str().unwrap()), "{at} has no {key}");
        }
        for (key, value) in object {
            let property = properties.get(key).unwrap_or_else(|| panic!("{at}.{key}"));
            check(root, property, value, &format!("{at}.{key}"));
        }
    }
}

fn check_report(value: &Value) {
    let schema = schema();
    check(&schema, &schema, value, "report");
}

fn report(info: &RunInfo<'_>, summary: &Summary) -> String {
    let mut out = Vec::new();
    pretty(&mut out, info, summary, Duration::from_micros(420_400), ExitCode::of(summary)).unwrap();
    String::from_utf8(out).unwrap()
}

/// The keys of the objects in a text, in order.
fn keys(text: &str) -> Vec<&str> {
    let keys = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": "));
    keys.map(|(key, _)| key).collect()
}

#[test]
fn a_report_has_the_keys_of_the_contract_in_its_order() {
    let mut summary = sample::summary();
    summary.zones.truncate(1);
    let text = report(&sample::info(), &summary);
    let counts = ["seen", "removed", "kept", "skipped", "failed"];
    let expected = [
        &["schema", "command", "dry_run", "now", "data_root", "elapsed_s", "stopped", "zones"],
        &["zone", "path"][..],
        &counts,
        &["kept_by", "fresh", "unrecognized", "not_a_file", "excluded", "mount_point"],
        &["skipped_by", "locked", "in_use", "used", "replaced", "gone", "mount_point"],
        &["freed_bytes", "notes", "totals"],
        &counts,
        &["freed_bytes", "failures", "zone", "path", "action", "errno", "message", "exit"],
    ];
    assert_eq!(keys(&text), expected.concat());
    let value: Value = serde_json::from_str(&text).unwrap();
    check_report(&value);
    assert_eq!(value["dry_run"], false);
    assert_eq!(value["now"], "2026-01-02T03:04:05Z");
    assert_eq!(value["data_root"], "/data");
    assert_eq!(value["elapsed_s"], 0.42);
    assert_eq!(value["zones"][0]["path"], "/data/cache/export");
    assert_eq!(value["zones"][0]["kept_by"]["fresh"], 3);
    assert_eq!(value["zones"][0]["skipped_by"]["in_use"], 1);
    assert_eq!(value["failures"][0]["action"], "unlink");
    assert_eq!(value["failures"][0]["errno"], "EACCES");
    assert_eq!(value["exit"], 1);
}

#[test]
fn a_sharded_dry_run_that_was_stopped_says_so() {
    let shard = Shard::new(1, 8).ok();
    let info = RunInfo { mode: RunMode::DryRun, shard, ..sample::info() };
    let mut summary = sample::summary();
    summary.stopped = Some(StopReason::MaxRemovals);
    summary.zones[0].path = PathBuf::from(std::ffi::OsStr::from_bytes(b"/data/\xff"));
    let value: Value = serde_json::from_str(&report(&info, &summary)).unwrap();
    check_report(&value);
    assert_eq!(value["dry_run"], true);
    assert_eq!(value["shard"], "1/8");
    assert_eq!(value["stopped"], "max_removals");
    assert_eq!(value["exit"], 3);
    assert_eq!(value["totals"]["seen"], 1245);
    assert_eq!(value["totals"]["freed_bytes"], 16_384 + (2_u64 << 30));
    assert_eq!(value["zones"][0]["path"], "/data/\u{fffd}");
    assert_eq!(value["zones"][0]["path_hex"], "2f646174612fff");
    assert_eq!(value["zones"][1]["path_hex"], Value::Null);
}

/// The line about an entry, without its end.
fn line_of(name: Option<&CStr>, kind: OutcomeKind<'_>, mode: RunMode) -> String {
    let directory = sample::directory();
    let (now, used) = (Moment::from_unix(100, 0), Moment::from_unix(30, 0));
    let entry = Outcome {
        zone: &directory.zone.name,
        dir: &directory.path,
        device: directory.id.dev,
        name,
        kind,
        age: Some(used.age_at(now)),
        ttl: Some(Ttl::from_secs(60)),
        freed: Bytes(4096),
        is_early: false,
    };
    let mut out = Vec::new();
    outcome(&mut out, &entry, mode).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    let schema = schema();
    check(&schema, &schema["$defs"]["entry"], &value, "entry");
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn a_line_is_the_one_of_the_contract_and_a_dry_run_says_would_remove() {
    let rest = r#""reason":"expired","age_s":70,"ttl_s":60,"bytes":4096}"#;
    for (mode, word) in [(RunMode::Real, "removed"), (RunMode::DryRun, "would_remove")] {
        let line = line_of(Some(c"a"), OutcomeKind::Removed, mode);
        let start = r#"{"zone":"tmp","path":"/data/tmp/a","outcome":""#;
        assert_eq!(line, format!("{start}{word}\",{rest}"));
    }
}

#[test]
fn each_outcome_has_its_word_and_reason() {
    let kept = Kept { why: KeptReason::NotAFile, age: None, rule: None };
    let failure = |error: io::Error| Failure {
        zone: ZoneName::new("tmp"),
        action: Action::RemoveTree,
        path: PathBuf::from("/data/tmp/a/b"),
        error,
        hint: None,
    };
    let (system, own) =
        (failure(io::Error::from_raw_os_error(39)), failure(io::Error::other("no")));
    for (kind, expected) in [
        (OutcomeKind::Kept(kept), r#""kept","reason":"not_a_file""#),
        (OutcomeKind::Skipped(Skipped::InUse), r#""skipped","reason":"in_use""#),
        (OutcomeKind::Failed(&system), r#""failed","reason":"ENOTEMPTY""#),
        (OutcomeKind::Failed(&own), r#""failed","reason":"remove_tree""#),
    ] {
        let line = line_of(Some(c"a"), kind, RunMode::Real);
        assert!(line.contains(&format!("\"outcome\":{expected}")), "{line}");
    }
    let line = line_of(None, OutcomeKind::Failed(&system), RunMode::Real);
    assert!(line.contains("\"path\":\"/data/tmp\","), "{line}");
}

#[test]
fn a_name_of_any_bytes_is_one_plain_line_and_can_be_restored() {
    let name = c"\xff\n\x1b[31m\xe2\x80\xae\"\\";
    let line = line_of(Some(name), OutcomeKind::Removed, RunMode::Real);
    assert!(line.chars().all(|c| c.is_ascii_graphic() || c == '\u{fffd}'), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["path"], "/data/tmp/\u{fffd}\n\u{1b}[31m\u{202e}\"\\");
    assert_eq!(value["path_hex"], "2f646174612f746d702fff0a1b5b33316de280ae225c");
}

#[test]
fn any_value_can_be_written_escaped() {
    let mut out = Vec::new();
    write(
        &mut out,
        &serde_json::json!({"key": "a\u{1b}\u{1f600}\u{202e}"}),
        Some(PrettyFormatter::new()),
    )
    .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, "{\n  \"key\": \"a\\u001b\u{1f600}\\u202e\"\n}\n");
}
