//! Each command line of the documentation runs here as it stands, or stands in `fixtures/commands-not-run.toml`
//! with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use globset::{Glob, GlobMatcher};
use serde::Deserialize;

use super::blocks::{blocks, commands, inline, plain};
use super::scene::Session;
use super::{pages, repository};
use crate::world::{Run, sweeper};

/// The list of the commands that do not run here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    not_run: Vec<NotRun>,
}

/// Commands that do not run here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotRun {
    /// The command, where `*` stands for anything.
    line: String,
    because: String,
    /// The test that runs the same elsewhere.
    test: Option<String>,
}

impl NotRun {
    fn matcher(&self) -> GlobMatcher {
        let literal = self.line.split('*').map(globset::escape).collect::<Vec<_>>().join("*");
        Glob::new(&literal).unwrap().compile_matcher()
    }
}

static NOT_RUN: LazyLock<Vec<NotRun>> = LazyLock::new(|| {
    let text = fs::read_to_string(repository("fixtures/commands-not-run.toml")).unwrap();
    toml::from_str::<List>(&text).unwrap().not_run
});

/// The entry of the list for a command.
fn listed(command: &str) -> Option<usize> {
    let command = plain(command);
    NOT_RUN.iter().position(|entry| entry.matcher().is_match(&command))
}

/// The commands of all pages that are for a shell: of each page, each block with its commands.
fn found() -> Vec<(String, Vec<(String, Vec<String>)>)> {
    let of = |(page, text): (String, String)| {
        let shell = blocks(&page, &text).into_iter().filter(|block| block.language == "sh");
        let all = shell.map(|block| (block.place.clone(), commands(&block))).collect();
        (page, all)
    };
    pages().into_iter().map(of).collect()
}

#[test]
fn every_command_that_is_listed_as_not_run_exists_and_has_a_reason() {
    let found = found();
    let blocks = found.iter().flat_map(|(_, blocks)| blocks);
    let used: BTreeSet<usize> =
        blocks.flat_map(|(_, commands)| commands).filter_map(|command| listed(command)).collect();
    let tests: String = walkdir::WalkDir::new(repository("tests"))
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned())
        .collect();
    for (at, entry) in NOT_RUN.iter().enumerate() {
        let line = &entry.line;
        assert!(used.contains(&at), "no page has the command any more: {line}");
        assert!(entry.because.len() > 10, "why does it not run? {line}");
        if let Some(test) = &entry.test {
            assert!(tests.contains(&format!("fn {test}(")), "{line}: there is no test {test}");
        }
    }
}

#[test]
fn every_command_of_the_documentation_runs_when_it_is_pasted() {
    let mut ran = 0;
    for (page, blocks) in found() {
        let mut session = Session::default();
        for (place, commands) in &blocks {
            session.at(place);
            let pasted = commands.iter().filter(|command| listed(command).is_none());
            pasted.for_each(|command| session.paste(command));
        }
        if session.commands == 0 {
            continue;
        }
        let Some(run) = session.run() else { return };
        let hint = "mend the command, or list it in fixtures/commands-not-run.toml with the reason";
        let failed = run.stdout.lines().find(|line| line.starts_with("failed: "));
        let failed = failed.unwrap_or("failed");
        let all = format!("{}\n{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(0), "{page}: {all}\n{page}: {failed}\n{hint}");
        ran += session.commands;
        // The volumes were there: what should remove has removed, and in places only looked.
        if ["README.md", "docs/deployment.md", "docs/troubleshooting.md"].contains(&&*page) {
            assert!(run.stdout.contains("removed by the block before"), "{page}: {}", run.stdout);
        }
    }
    assert!(ran >= 60, "only {ran} commands were found");
}

#[test]
fn every_flag_that_the_documentation_gives_a_command_exists() {
    let names = ["run", "serve", "legacy", "usage", "plan", "apply", "why", "hold", "config", "merge"];
    let help = names.map(|name| (name, Run::of(sweeper(&[name, "--help"])).exits(0).stdout.clone()));
    let mut checked = 0;
    for (page, text) in pages() {
        for (line, code) in inline(&text) {
            let mut words = code.split_whitespace();
            let called = words.next().is_some_and(|word| word.ends_with("sweeper"));
            let name = words.next().unwrap_or_default();
            let Some((_, help)) = help.iter().find(|(other, _)| called && *other == name) else {
                continue;
            };
            for flag in words.take_while(|word| *word != "--").filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{page}:{line}: {code}");
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} flags were found");
}
