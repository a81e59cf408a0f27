//! README and docs, held to what they say: each command line runs, each link leads somewhere, each settings file is
//! accepted, the words of the program are explained as it prints them, and the book builds.
//!
//! `blocks` reads Markdown, `scene` runs what it found on a machine that is thrown away.

mod blocks;
mod book;
mod commands;
mod migration;
mod pictures;
mod scene;
mod settings;
mod troubleshooting;

use std::fs;
use std::path::{Path, PathBuf};

/// A path in this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The pages of the documentation, with their paths in the repository.
fn pages() -> Vec<(String, String)> {
    let beside = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    let mut names: Vec<String> = fs::read_dir(repository("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .collect();
    names.sort();
    assert!(names.len() > 10, "these are not the docs");
    let read = |name: String| {
        let text = fs::read_to_string(repository(&name)).unwrap();
        (name, text)
    };
    beside.into_iter().chain(names).map(read).collect()
}
