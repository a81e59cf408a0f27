//! What a service says about itself, and when.

use serde_json::Value;

use super::{Serving, serve};
use crate::world::{Run, World};

/// Whether a text begins with a time: `2026-01-02T03:04:05+01:00`.
fn has_time(text: &str, distance: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let is_like = |(found, wanted): (char, char)| match wanted {
        'd' => found.is_ascii_digit(),
        wanted => found == wanted,
    };
    text.chars().zip(shape.chars()).all(is_like) && text[shape.len()..].starts_with(distance)
}

#[test]
fn every_log_line_of_a_service_has_the_local_time() {
    let world = World::new();
    for (zone, distance) in [("Asia/Kolkata", "+05:30 "), ("Etc/UTC", "+00:00 ")] {
        let mut command = serve(&world, &["--listen", "0"]);
        command.env("TZ", zone);
        let mut service = Serving::start(command);
        let line = service.says("serving");
        let next = line.split_once("next pass: export at ").unwrap().1;
        assert!(has_time(next, distance.trim_end()), "{line}");
        let (run, _) = service.stop();
        assert!(run.exits(0).stderr.lines().count() >= 3, "{}", run.stderr);
        assert!(run.stderr.lines().all(|line| has_time(line, distance)), "{}", run.stderr);
    }
    let mut command = serve(&world, &["--log-format", "json"]);
    command.env("TZ", "Asia/Kolkata");
    let mut service = Serving::start(command);
    let line: Value = serde_json::from_str(&service.says("serving")).unwrap();
    assert!(has_time(line["timestamp"].as_str().unwrap(), "+05:30"), "{line}");
    service.stop().0.exits(0);
    // Its settings are wrong, and it says when it found out. A command for people does not.
    let mut refused = serve(&world, &["--ttl", "soon"]);
    refused.env("TZ", "Etc/UTC");
    let refused = Run::of(refused);
    assert!(has_time(&refused.exits(2).stderr, "+00:00"), "{}", refused.stderr);
    assert!(!has_time(&world.run(&["run", "--ttl", "soon"]).exits(2).stderr, "+00:00"));
}

#[test]
fn log_lines_are_json_objects_with_log_format_json() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--log-format", "json"]);
    let line: Value = serde_json::from_str(&service.says("serving")).unwrap();
    assert_eq!(line["level"], "INFO");
    assert!(line["message"].as_str().unwrap().starts_with("serving; next pass: "), "{line}");
    assert!(line["timestamp"].is_string(), "{line}");
    service.stop().0.exits(0);

    let wrong = world.run(&["run", "--log-format", "json", "--ttl", "soon"]);
    let line: Value = serde_json::from_str(wrong.exits(2).stderr.trim()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains("flag --ttl"), "{line}");
    assert!(world.run(&["run", "--log-format", "xml"]).exits(2).stderr.contains("xml"));
    let mut command = world.command(&["run"]);
    command.env("SWEEPER_LOG_FORMAT", "xml");
    assert!(Run::of(command).exits(2).stderr.contains("environment SWEEPER_LOG_FORMAT"));
}
