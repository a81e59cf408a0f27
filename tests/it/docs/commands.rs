//! Each command line of the documentation runs here as it stands, or stands in `fixtures/commands-not-run.toml`
//! with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use globset::{Glob, GlobMatcher};
use serde::Deserialize;

use super::blocks::{blocks, commands, inline, plain};
use super::scene::{Session, is_cron};
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
    /// The test that runs the same elsewhere, or the program that does.
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

/// A block that people paste: its place, and its commands.
pub(super) type Pasted = (String, Vec<String>);

/// The commands of all pages: of each page, each block for a shell or a crontab with its commands, and at the end the
/// commands in its text.
pub(super) fn found() -> Vec<(String, Vec<Pasted>)> {
    let of = |(page, text): (String, String)| {
        let mut all: Vec<_> = blocks(&page, &text)
            .into_iter()
            .filter(|block| ["sh", "crontab"].contains(&&*block.language))
            .map(|block| (block.place.clone(), commands(&block)))
            .collect();
        let inline = inline(&text).into_iter().filter(|(_, code)| is_command(code));
        all.extend(inline.map(|(line, code)| (format!("{page}:{line}"), vec![code.to_owned()])));
        (page, all)
    };
    pages().into_iter().map(of).collect()
}

/// Whether code in a text is a whole command, and not only the name of one.
fn is_command(code: &str) -> bool {
    let starts =
        ["docker exec ", "docker run ", "docker compose ", "kubectl ", "systemctl ", "cargo d"];
    let has_arguments = code.split_whitespace().count() > 2;
    (has_arguments && starts.iter().any(|start| code.starts_with(start))) || is_cron(code)
}

#[test]
fn every_block_says_what_it_is_so_that_no_command_is_missed() {
    let known = ["sh", "crontab", "toml", "json", "yaml", "python", "text"];
    for (page, text) in pages() {
        for block in blocks(&page, &text) {
            let language = &*block.language;
            assert!(known.contains(&language), "{}: {language:?}: is it a command?", block.place);
        }
    }
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
            let is = tests.contains(&format!("fn {test}(")) || repository(test).is_file();
            assert!(is, "{line}: there is no test {test}");
        }
    }
}

/// cron starts with an empty environment: what a line needs is in it, or in a file that its page has written before.
#[test]
fn a_line_of_a_crontab_names_the_data_root_or_a_file_that_its_page_writes() {
    let mut lines = 0;
    for (page, blocks) in found() {
        let mut before = String::new();
        for command in blocks.into_iter().flat_map(|(_, commands)| commands) {
            let is_ours = is_cron(&command) && command.contains("/sweeper ");
            if is_ours && !command.contains("sweeper clearml ") {
                lines += 1;
                let file = command.split("--config ").nth(1);
                let file = file.and_then(|rest| rest.split([' ', '\'']).next());
                let is_written = |file: &str| before.contains(&format!("> {file} "));
                let has_root = command.contains("--data ");
                assert!(has_root || file.is_some_and(is_written), "{page}: {command}");
            }
            before += &command;
        }
    }
    assert!(lines >= 3, "{lines}");
}

/// All blocks of a page, one after the other.
pub(super) fn session_of(blocks: &[Pasted]) -> Session {
    let mut session = Session::default();
    for (place, commands) in blocks {
        session.at(place);
        let pasted = commands.iter().filter(|command| listed(command).is_none());
        pasted.for_each(|command| session.paste(command));
    }
    session
}

#[test]
fn every_command_of_the_documentation_runs_when_it_is_pasted() {
    let mut ran = 0;
    for (page, blocks) in found() {
        let session = session_of(&blocks);
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

/// Each command of the program, with what its help says. The program itself has no name.
fn help() -> Vec<(String, String)> {
    let of = |name: &str| {
        let args: Vec<&str> = name.split_whitespace().chain(["--help"]).collect();
        Run::of(sweeper(&args)).exits(0).stdout.clone()
    };
    let commands = |name: &str| {
        let text = of(name);
        let (_, list) = text.split_once("Commands:\n").unwrap();
        let lines = list.split("\n\n").next().unwrap().lines().map(str::to_owned);
        let names = lines.filter(|line| !line.starts_with("   "));
        let first = |line: String| line.split_whitespace().next().unwrap().to_owned();
        names.map(first).filter(|name| name != "help").collect::<Vec<_>>()
    };
    let inner = commands("clearml").into_iter().map(|name| format!("clearml {name}"));
    let names = commands("").into_iter().chain(inner).chain([String::new()]);
    names.map(|name| (name.clone(), of(&name))).collect()
}

/// Pages that name flags of other programs.
const OTHERS: [&str; 4] =
    ["docs/deployment.md", "docs/migration.md", "docs/performance.md", "CONTRIBUTING.md"];

#[test]
fn every_flag_that_the_documentation_names_exists() {
    let help = help();
    assert!(help.len() > 15, "{help:?}");
    let has = |help: &str, flag: &str| {
        let after = |at: usize| help[at + flag.len()..].chars().next();
        let mut places = help.match_indices(flag).map(|(at, _)| after(at));
        places.any(|next| next.is_none_or(|next| !next.is_alphanumeric() && next != '-'))
    };
    let mut checked = 0;
    for (page, text) in pages() {
        for (line, code) in inline(&text) {
            let (name, rest) = code.strip_prefix("sweeper ").map_or(("", code), |call| {
                let names =
                    help.iter().map(|(name, _)| &**name).filter(|name| call.starts_with(name));
                (names.max_by_key(|name| name.len()).unwrap_or(""), call)
            });
            let is_flag =
                |word: &&str| word.starts_with("--") && word.len() > 2 && !word.contains('{');
            let flags = rest.split_whitespace().take_while(|word| *word != "--").filter(is_flag);
            let is_ours = code.starts_with("--") && !OTHERS.contains(&&*page);
            // It is for tests, and no help has it.
            let flags = flags.filter(|flag| *flag != "--now");
            for flag in flags.filter(|_| is_ours || !name.is_empty()) {
                // The names of ClearML's parameters are accepted as they are written there.
                let flag =
                    flag.split('=').next().unwrap().replace("General/", "").replace('_', "-");
                let mut of = help.iter().filter(|(other, _)| name.is_empty() || *other == name);
                assert!(of.any(|(_, help)| has(help, &flag)), "{page}:{line}: {code}: {flag}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} flags were found");
}
