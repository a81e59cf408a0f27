//! Help, wrong usage, completions and the manual page.

use std::process::{Command, Stdio};

use super::run;
use crate::company::has_tool;
use crate::start::Start;
use crate::world::{DAY, Run, World, sweeper};

const COMMANDS: [&str; 14] = [
    "run",
    "plan",
    "apply",
    "serve",
    "legacy",
    "usage",
    "why",
    "health",
    "config",
    "demo",
    "hold",
    "merge",
    "completions",
    "man",
];

#[test]
fn help_lists_commands_and_flags_and_wrong_usage_is_exit_2() {
    let help = run(&["--help"]);
    for command in COMMANDS {
        assert!(help.exits(0).stdout.contains(command), "{command}");
    }
    let help = run(&["run", "--help"]);
    let flags = [
        "--data",
        "--config",
        "--dry-run",
        "--format",
        "--progress",
        "--jobs",
        "--lock",
        "--exclude",
        "--verbose",
        "--quiet",
        "--ttl",
        "--ttl-project",
        "--ttl-task",
        "--ttl-job",
        "--ttl-events",
        "--retention",
        "--tmp-age",
        "--zones",
        "--in-use",
        "--lock-wait",
        "--deadline",
        "--max-removals",
        "--max-bytes",
        "--max-share",
        "--audit-log",
        "Exit codes",
    ];
    for flag in flags {
        assert!(help.exits(0).stdout.contains(flag), "{flag}");
    }
    assert!(!help.stdout.contains("--now"), "it is for tests");
    assert!(run(&["--version"]).exits(0).stdout.starts_with("sweeper "));
    for wrong in [
        &["run", "--nonsense"][..],
        &["nonsense"],
        &[],
        &["why"],
        &["run", "--lock", "x"],
        &["run", "--in-use", "spare"],
    ] {
        let run = run(wrong);
        assert!(!run.exits(2).stderr.is_empty(), "{wrong:?}");
        assert!(run.stdout.is_empty(), "{wrong:?}");
    }
}

#[test]
fn the_help_says_what_an_option_does_in_this_command() {
    for (command, words) in [
        ("hold", "Wait for the lock for this long"),
        ("health", "Ask the service on this address or port"),
        ("health", "Look into this metrics file"),
        ("why", "1 if a path cannot be looked at"),
        ("run", "export, tmp, instance-tmp, chunk-cache,"),
    ] {
        let help = run(&[command, "--help"]).exits(0).stdout.clone();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(words), "{help}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_no_panic() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let path = world.path("tmp/old");
    let (root, path) = (world.root.to_str().unwrap(), path.to_str().unwrap());
    for args in [
        &["completions", "bash"][..],
        &["man"],
        &["config"],
        &["config", "--format", "json"],
        &["demo"],
        &["--help"],
        &["why", "--data", root, path],
        &["why", "--format", "json", "--data", root, path],
        &["run", "--dry-run", "--data", root],
        &["run", "--dry-run", "--format", "json", "--data", root],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = sweeper(args);
        let run = Run::from(command.stdout(full).stderr(Stdio::piped()).awaited().unwrap());
        run.exits(1);
        assert!(
            !run.stderr.contains("panicked") && !run.stderr.contains("os error"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn completions_and_the_manual_know_every_flag() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).exits(0).stdout.contains("max-removals"), "{shell}");
    }
    let man = run(&["man"]);
    for word in ["sweeper", "max\\-removals", "older\\-than", "hold", "legacy"] {
        assert!(man.exits(0).stdout.contains(word), "{word}");
    }
}

#[test]
fn the_manual_page_passes_mandoc_without_warnings() {
    if !has_tool("mandoc", "the manual page without warnings") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let page = scratch.path().join("sweeper.8");
    let lint = |text: &str| {
        std::fs::write(&page, text).unwrap();
        Run::from(Command::new("mandoc").args(["-T", "lint"]).arg(&page).finish().unwrap())
    };
    let man = run(&["man"]);
    let text = &man.exits(0).stdout;
    let said = lint(text);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    said.exits(0);
    // It would have said so.
    let said = lint(&format!("{text}.nonsense\n"));
    assert!(said.stdout.contains("nonsense"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn no_option_that_is_hidden_is_proposed() {
    for command in ["run", "serve", "legacy", "apply"] {
        let run = run(&[command, "--no"]);
        let said = &run.exits(2).stderr;
        assert!(said.contains("unexpected argument '--no'") && !said.contains("--now"), "{said}");
    }
    let legacy = sweeper(&["legacy", "--dry-rum"]);
    assert!(Run::of(legacy).exits(2).stderr.contains("'--dry-run'"));
}
