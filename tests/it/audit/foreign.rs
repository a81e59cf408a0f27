//! An audit log is appended to a file of ours alone, and no other file of the sweeper takes its place.

use std::fs;
use std::path::Path;

use super::{export, lines, log_of};
use crate::world::{DAY, Run, World};

const NOT_OURS: &str = "is not an audit log of sweeper: name a new file, or one that sweeper wrote";

fn with_an_old_export() -> World {
    let world = World::new();
    world.file(export(1), 2 * DAY);
    world
}

fn run(world: &World, log: &Path, args: &[&str]) -> Run {
    world.run(&[&["run", "--audit-log", log.to_str().unwrap()], args].concat())
}

#[test]
fn a_file_that_is_no_audit_log_is_refused_before_anything_is_removed_and_stays() {
    let world = with_an_old_export();
    let file = world.root.parent().unwrap().join("some.file");
    for text in [
        "ttl = '1d'\n",
        "{\"schema\": 1}\n",
        "{\n  \"schema\": 1\n}\n",
        "{\"event\":\"login\",\"time\":\"2026-01-02T03:04:05Z\"}\n",
        "\u{7f}ELF",
        "\n",
        " ",
    ] {
        fs::write(&file, text).unwrap();
        for args in [&[][..], &["--dry-run"], &["--config", file.to_str().unwrap()]] {
            if args.contains(&"--config") && text != "ttl = '1d'\n" {
                continue;
            }
            let refused = run(&world, &file, args);
            let words = format!("the audit log {file:?} {NOT_OURS}");
            assert!(refused.exits(2).stderr.contains(&words), "{text:?}: {}", refused.stderr);
            assert_eq!(fs::read_to_string(&file).unwrap(), text, "{args:?}");
            assert!(world.has(export(1)), "{text:?}: the export was removed");
        }
    }
}

#[test]
fn a_log_that_a_crash_or_a_rotation_has_cut_short_is_continued() {
    let world = with_an_old_export();
    let log = log_of(&world);
    run(&world, &log, &[]).exits(0);
    let whole = fs::read_to_string(&log).unwrap();
    let not_removed = "{\"event\":\"not_removed\",\"time\":\"@1\",\"run\":\"0\"}\n";
    let deleted = "{\"event\":\"delete\",\"time\":\"@1\",\"run\":\"0\"}\n";
    for text in ["", "{", "{\"event\":\"rem", &whole[..100], &whole, not_removed, deleted] {
        fs::write(&log, text).unwrap();
        // What was cut short gets an end, and the next run must take that as well.
        for _ in 0..2 {
            world.file(export(1), 2 * DAY);
            run(&world, &log, &[]).exits(0);
            assert!(!world.has(export(1)), "{text:?}");
        }
        let after = fs::read_to_string(&log).unwrap();
        assert!(after.starts_with(text) && after.ends_with(&format!("{}\n", last(&after))));
    }
}

fn last(text: &str) -> &str {
    let line = text.lines().last().unwrap();
    assert!(line.starts_with("{\"event\":\"remove\",\"time\":"), "{line}");
    line
}

#[test]
fn one_file_is_not_written_for_two_purposes() {
    let world = with_an_old_export();
    let dir = world.root.parent().unwrap().to_owned();
    fs::create_dir(dir.join("sub")).unwrap();
    let (file, same) = (dir.join("a"), dir.join("sub/../a"));
    let (file, same) = (file.to_str().unwrap(), same.to_str().unwrap());
    let both = ["--audit-log", file, "--metrics-file", same];
    let said = world.run(&[&["run"][..], &both].concat()).exits(2).stderr.clone();
    assert!(said.contains("audit_log and metrics_file name the same file"), "{said}");
    for (args, variable, words) in [
        (["usage", "--html", same], "SWEEPER_AUDIT_LOG", "html and audit_log name the same file"),
        (["usage", "--html", same], "SWEEPER_METRICS_FILE", "html and metrics_file name the same"),
        (["plan", "-o", same], "SWEEPER_AUDIT_LOG", "--output and audit_log name the same file"),
    ] {
        let mut command = world.command(&args);
        let run = Run::of({
            command.env(variable, file);
            command
        });
        assert!(run.exits(2).stderr.contains(words), "{args:?}: {}", run.stderr);
    }
    assert!(!Path::new(file).exists() && world.has(export(1)));
    // Two files of a run each have their own content.
    let other = dir.join("metrics.prom");
    run(&world, Path::new(file), &["--metrics-file", other.to_str().unwrap()]).exits(0);
    assert_eq!(lines(Path::new(file)).len(), 1);
}

#[test]
fn a_log_that_cannot_be_opened_is_named() {
    let world = with_an_old_export();
    let refused = run(&world, Path::new("/proc/sweeper.log"), &[]);
    let said = &refused.exits(2).stderr;
    assert!(said.contains("cannot open the audit log \"/proc/sweeper.log\": "), "{said}");
    assert!(world.has(export(1)));
}
