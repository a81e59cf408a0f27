//! The book of the documentation is built by mdbook, and all links are checked by lychee, in the Markdown that
//! GitHub shows and in the pages of the book.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{pages, repository};
use crate::start::Start;
use crate::world::{Run, is_present};

/// A program from the tests' own Python environment.
fn program(name: &str) -> Option<Command> {
    let python = std::env::var_os("SWEEPER_TESTS_PYTHON").map(PathBuf::from);
    let path = python.map(|python| python.with_file_name(name)).filter(|path| path.exists());
    is_present(path.is_some(), name).then(|| Command::new(path.unwrap()))
}

/// Asserts that every link in these files leads to a file and a heading that exist.
#[track_caller]
fn assert_links(files: &[String], dir: &Path) {
    let Some(mut lychee) = program("lychee") else { return };
    lychee.args(["--offline", "--include-fragments", "--no-progress"]).args(files);
    let run = Run::from(lychee.current_dir(dir).finish().unwrap());
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    // It has looked at more links than there are files.
    let total = run.stdout.split(" Total").next().unwrap().rsplit(' ').next().unwrap();
    assert!(total.parse::<usize>().unwrap() > files.len(), "{}", run.stdout);
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut files: Vec<String> = pages().into_iter().map(|(page, _)| page).collect();
    files.push("CHANGELOG.md".to_owned());
    assert_links(&files, &repository(""));
}

#[test]
fn the_book_has_every_page_and_every_link_in_it_leads_somewhere() {
    let Some(mut mdbook) = program("mdbook") else { return };
    let dir = tempfile::tempdir().unwrap();
    mdbook.arg("build").arg(repository("")).arg("--dest-dir").arg(dir.path());
    let run = Run::from(mdbook.finish().unwrap());
    run.exits(0);
    assert!(!run.stderr.contains("WARN") && !run.stderr.contains("ERROR"), "{}", run.stderr);
    let made: BTreeSet<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "html"))
        .collect();
    for (page, _) in pages() {
        let name = page.trim_start_matches("docs/").replace(".md", ".html");
        let is_listed = name == "README.html" || name == "SUMMARY.html" || made.contains(&name);
        assert!(is_listed, "docs/SUMMARY.md does not name {page}");
    }
    // The page for wrong addresses names the root of a server.
    let files: Vec<String> = made.into_iter().filter(|name| name != "404.html").collect();
    assert!(files.contains(&"index.html".to_owned()), "{files:?}");
    let index = fs::read_to_string(dir.path().join("index.html")).unwrap();
    assert!(index.contains("My disk is full now") && index.contains("href=\"rules.html\""));
    assert_links(&files, dir.path());
}
