//! The settings files and the JSON in the documentation.

use std::fs;

use super::blocks::blocks;
use super::pages;
use crate::start::written;
use crate::world::{Run, World, sweeper};

#[test]
fn every_settings_file_in_the_documentation_is_accepted() {
    let mut accepted = 0;
    for (page, text) in pages() {
        for block in blocks(&page, &text).into_iter().filter(|block| block.language == "toml") {
            let world = World::new();
            let file = world.root.with_file_name("sweeper.toml");
            written(|| fs::write(&file, &block.text)).unwrap();
            let mut command = sweeper(&["config", "--config"]);
            command.arg(&file).env("CLEARML_API_HOST", "http://127.0.0.1:1");
            let run = Run::of(command);
            assert_eq!(run.code, Some(0), "{}: {}", block.place, run.stderr);
            accepted += 1;
        }
    }
    assert!(accepted >= 5, "only {accepted} files were found");
}

#[test]
fn all_json_in_the_documentation_is_json() {
    for (page, text) in pages() {
        for block in blocks(&page, &text).into_iter().filter(|block| block.language == "json") {
            let json = serde_json::from_str::<serde_json::Value>(&block.text);
            assert!(json.is_ok(), "{}: {json:?}", block.place);
        }
    }
}
