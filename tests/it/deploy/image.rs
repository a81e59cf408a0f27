//! The Dockerfile: the image has the binary and nothing else, and is built from what it copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{checked, file, python_tool};
use crate::world::tool;

/// The instructions of the Dockerfile, in stages.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(file("docker/Dockerfile")).unwrap();
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push((instruction.to_owned(), rest.to_owned()));
    }
    stages
}

#[test]
fn the_image_has_the_binary_and_nothing_else() {
    if let Some(tool) = python_tool("hadolint") {
        checked(Command::new(tool).arg(file("docker/Dockerfile")));
    }
    let stages = stages();
    let expected = [
        ("FROM", "scratch"),
        ("COPY", "--from=build /src/target/static/sweeper /sweeper"),
        ("USER", "1000:1000"),
        ("ENTRYPOINT", "[\"/sweeper\"]"),
        ("CMD", "[\"run\"]"),
    ];
    let last: Vec<(&str, &str)> =
        stages.last().unwrap().iter().map(|(word, rest)| (word.as_str(), rest.as_str())).collect();
    assert_eq!(last, expected);
}

#[test]
fn the_image_is_built_from_what_is_sent_to_the_builder() {
    // What the first stage copies is what is sent to the builder, and enough for the build.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sent = fs::read_to_string(file("docker/Dockerfile.dockerignore")).unwrap();
    let sent: Vec<&str> = sent.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let stages = stages();
    let copied: Vec<&str> = stages[0]
        .iter()
        .filter(|(word, _)| word == "COPY")
        .flat_map(|(_, rest)| rest.split(' ').rev().skip(1).collect::<Vec<_>>())
        .collect();
    let (mut sent, mut copied) = (sent, copied);
    sent.sort_unstable();
    copied.sort_unstable();
    assert_eq!(sent, copied);
    let scratch = tempfile::tempdir().unwrap();
    for name in copied {
        let from = root.join(name);
        tool("cp", &["-r".as_ref(), from.as_os_str(), scratch.path().as_os_str()]);
    }
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let mut tree = Command::new(cargo);
    tree.args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]);
    let run = checked(tree.current_dir(scratch.path()));
    assert!(run.stdout.contains("\"name\":\"sweeper\""), "{}", run.stdout);
    // The compiler is new enough for this version.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let minor = |text: &str, before: &str| -> u32 {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{before} in {text}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let (_, image) = &stages[0][0];
    assert!(minor(image, "rust:1.") >= minor(&manifest, "rust-version = \"1."));
}
