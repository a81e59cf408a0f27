//! Tests of adding reports.

use serde_json::{Value, json};

use super::*;
use crate::report::sample;

/// A report on the sample pass as shard `shard`.
fn report(shard: &str, change: impl FnOnce(&mut Value)) -> (String, Vec<u8>) {
    let summary = sample::summary();
    let info = RunInfo { shard: Some(Shard::parse(shard).unwrap()), ..sample::info() };
    let mut out = Vec::new();
    json::pretty(&mut out, &info, &summary, Duration::from_secs(1), ExitCode::of(&summary))
        .unwrap();
    let mut value = serde_json::from_slice(&out).unwrap();
    change(&mut value);
    (format!("part-{shard}"), value.to_string().into_bytes())
}

fn same(_: &mut Value) {}

fn written(merged: &Merged) -> Value {
    let mut out = Vec::new();
    merged.write(&mut out, Format::Json, Canvas::PLAIN).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn refusal(reports: &[(String, Vec<u8>)]) -> String {
    merge(reports).unwrap_err()
}

#[test]
fn two_shards_add_up_to_one_report() {
    let later = |value: &mut Value| {
        value["now"] = json!("2026-01-02T03:05:00Z");
        value["elapsed_s"] = json!(2.5);
        value["zones"][1]["notes"] = json!(["another note", "the probe cannot be used"]);
        value["failures"] = json!([]);
        value["zones"][0]["failed"] = json!(0);
        value["zones"][0]["seen"] = json!(10);
        value["exit"] = json!(0);
    };
    let merged = merge(&[report("1/2", later), report("0/2", same)]).unwrap();
    assert_eq!(merged.exit, ExitCode::SomeFailed);
    let value = written(&merged);
    assert_eq!(value["now"], "2026-01-02T03:04:05Z");
    assert_eq!(value["elapsed_s"], 2.5);
    assert_eq!(value["shard"], Value::Null);
    assert_eq!(value["stopped"], Value::Null);
    assert_eq!(value["totals"]["seen"], 21 + 2 * 1234);
    assert_eq!(value["zones"][0]["kept_by"]["fresh"], 6);
    assert_eq!(value["zones"][0]["skipped_by"]["in_use"], 2);
    assert_eq!(value["zones"][1]["notes"], json!(["the probe cannot be used", "another note"]));
    assert_eq!(value["failures"].as_array().unwrap().len(), 1);
    assert_eq!(value["failures"][0]["errno"], "EACCES");
}

#[test]
fn a_single_report_comes_back_as_it_was() {
    let (name, bytes) = report("0/1", same);
    let mut before: Value = serde_json::from_slice(&bytes).unwrap();
    before.as_object_mut().unwrap().remove("shard");
    let merged = merge(&[(name.clone(), bytes)]).unwrap();
    assert_eq!(written(&merged), before);
    // The last of several lines is a report as well.
    let lines = format!("{{\"zone\":\"tmp\"}}\n{before}\n").into_bytes();
    assert_eq!(written(&merge(&[(name, lines)]).unwrap()), before);
}

#[test]
fn zones_of_any_name_are_added_and_cannot_steer_a_terminal() {
    let rename = |value: &mut Value| {
        value["zones"][0]["zone"] = json!("label-exports\u{1b}[31m");
        value["zones"][0]["path"] = json!("/mnt/exports");
        value["failures"][0]["zone"] = json!("label-exports\u{1b}[31m");
    };
    let merged = merge(&[report("0/2", rename), report("1/2", rename)]).unwrap();
    assert_eq!(written(&merged)["zones"][0]["zone"], "label-exports\\u{1b}[31m");
    assert_eq!(written(&merged)["failures"].as_array().unwrap().len(), 2);
    let mut out = Vec::new();
    merged.write(&mut out, Format::Text, Canvas::PLAIN).unwrap();
    assert!(!out.contains(&0x1b));
}

#[test]
fn a_missing_shard_is_noted() {
    for (reports, note) in [
        (vec![report("0/2", same)], "no report of shard 1 of 2: the counts are incomplete"),
        (
            vec![report("1/4", same), report("3/4", same)],
            "no report of shards 0, 2 of 4: the counts are incomplete",
        ),
        (
            vec![report("0/99", same)],
            "no report of shards 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and more of 99: the counts are \
             incomplete",
        ),
    ] {
        let merged = merge(&reports).unwrap();
        assert_eq!(merged.exit, ExitCode::Stopped);
        assert_eq!(written(&merged)["zones"][0]["notes"], json!([note]));
    }
}

#[test]
fn of_a_shard_that_was_run_again_the_earlier_report_counts_its_removals_alone() {
    let stopped = |value: &mut Value| {
        value["stopped"] = json!("deadline");
        value["exit"] = json!(3);
    };
    for reports in [
        [report("0/1", stopped), report("0/1", same)],
        [report("0/1", same), report("0/1", stopped)],
    ] {
        let value = written(&merge(&reports).unwrap());
        assert_eq!(value["stopped"], Value::Null);
        assert_eq!(value["exit"], 1);
        assert_eq!(value["zones"][0]["removed"], 8);
        assert_eq!(value["zones"][0]["seen"], 15);
        assert_eq!(value["zones"][0]["freed_bytes"], 32_768);
    }
    let error = refusal(&[report("0/1", same), report("0/1", same)]);
    assert_eq!(error, "part-0/1: there is another complete report of shard 0/1");
}

#[test]
fn reports_of_different_passes_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|value| value["command"] = json!("legacy"), "command: legacy and run"),
        (|value| value["dry_run"] = json!(true), "dry_run: true and false"),
        (|value| value["data_root"] = json!("/x"), "data_root: \"/x\" and \"/data\""),
        (
            |value| value["zones"].as_array_mut().unwrap().reverse(),
            "zones: tmp, export and export, tmp",
        ),
        (
            |value| value["zones"][1]["path"] = json!("/mnt"),
            "path of the zones: \"/data/cache/export\", \"/mnt\" and \"/data/cache/export\", \
             \"/data/tmp\"",
        ),
        (|value| value["shard"] = json!("1/3"), "number of shards: 3 and 2"),
    ];
    for (change, why) in cases {
        let error = refusal(&[report("0/2", same), report("1/2", change)]);
        assert_eq!(error, format!("part-1/2 and part-0/2 are not parts of one pass: {why}"));
    }
    assert_eq!(refusal(&[]), "no reports were given");
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_the_report() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 14] = [
        (|value| value["schema"] = json!(2), "schema 2 is unknown; this version reads 1"),
        (
            |value| value["command"] = json!("why"),
            "a report of \"why\", not of \"run\" or \"legacy\"",
        ),
        (|value| value["shard"] = json!("2/2"), "shard \"2/2\": write an index from 0 to 1"),
        (|value| value["exit"] = json!(2), "no pass has exit code 2"),
        (|value| value["stopped"] = json!("rain"), "stopped: \"rain\" is unknown"),
        (|value| value["zones"][1]["zone"] = json!("export"), "zone export is in it twice"),
        (|value| value["zones"][0]["seen"] = json!(7), "zone export: the counts do not add up"),
        (
            |value| value["zones"][0]["removed"] = json!(u64::MAX),
            "zone export: the counts do not add up",
        ),
        (
            |value| value["zones"][0]["kept_by"]["liked"] = json!(0),
            "zone export: kept_by: \"liked\" is unknown",
        ),
        (
            |value| value["failures"][0]["action"] = json!("eat\n"),
            "action of a failure: \"eat\\n\" is unknown",
        ),
        (
            |value| value["failures"][0]["errno"] = json!("EAT"),
            "errno of a failure: \"EAT\" is unknown",
        ),
        (
            |value| value["failures"][0]["zone"] = json!("x"),
            "a failure in zone x, which is not in it",
        ),
        (
            |value| value["failures"][0]["path_hex"] = json!("2f6"),
            "path_hex: \"2f6\" is not hexadecimal",
        ),
        (
            |value| value["zones"][0]["path_hex"] = json!("+1"),
            "zone export: path_hex: \"+1\" is not hexadecimal",
        ),
    ];
    for (change, why) in cases {
        assert_eq!(refusal(&[report("0/2", change)]), format!("part-0/2: {why}"));
    }
    for bytes in [&b""[..], b"seen", b"{}"] {
        let error = refusal(&[("x".to_owned(), bytes.to_vec())]);
        assert!(error.starts_with("x: not a report of --format json: "), "{error}");
    }
}

#[test]
fn a_path_that_is_not_utf_8_survives() {
    let hex = |value: &mut Value| value["failures"][0]["path_hex"] = json!("2fff");
    let value = written(&merge(&[report("0/1", hex)]).unwrap());
    assert_eq!(value["failures"][0]["path"], "/\u{fffd}");
    assert_eq!(value["failures"][0]["path_hex"], "2fff");
}

#[test]
fn text_that_is_read_cannot_steer_a_terminal() {
    assert_eq!(visible("\"a\\b\" \u{1b}[31m\n\u{202e}é"), "\"a\\b\" \\u{1b}[31m\\n\\u{202e}é");
}
