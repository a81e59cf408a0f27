//! The Dockerfiles: the image has the binary and nothing else, and is built from what is sent to the builder.
//! `tests/engine/run` builds and runs it with a real engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{checked, file, python_tool};
use crate::world::tool;

/// The one that takes a binary that is there, and the one that builds it.
const FILES: [&str; 2] = ["docker/Dockerfile", "docker/source.Dockerfile"];

type Instruction = (String, String);

/// The instructions of a Dockerfile, in stages.
fn stages(name: &str) -> Vec<Vec<Instruction>> {
    let text = fs::read_to_string(file(name)).unwrap().replace("\\\n", "");
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
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
fn both_images_have_the_binary_and_nothing_else() {
    if let Some(tool) = python_tool("hadolint") {
        checked(Command::new(tool).args(FILES.map(file)));
    }
    let images = FILES.map(|name| stages(name).pop().unwrap());
    let is_copy = |(word, _): &&Instruction| word == "COPY" || word == "ADD";
    for (image, copied) in
        images.iter().zip(["sweeper /sweeper", "--from=build /src/target/static/sweeper /sweeper"])
    {
        assert_eq!(image[0], ("FROM".to_owned(), "scratch".to_owned()));
        let copies: Vec<&Instruction> = image.iter().filter(is_copy).collect();
        assert_eq!(copies, [&("COPY".to_owned(), copied.to_owned())]);
        assert!(image.iter().all(|(word, _)| word != "RUN"));
    }
    // Everything else is the same.
    let rest = |image: &[Instruction]| -> Vec<Instruction> {
        let is_other = |one: &&Instruction| !is_copy(one);
        image.iter().filter(is_other).cloned().collect()
    };
    assert_eq!(rest(&images[0]), rest(&images[1]));
    for (word, value) in [
        ("USER", "1000:1000"),
        ("ENTRYPOINT", "[\"/sweeper\"]"),
        ("CMD", "[\"run\"]"),
        ("ARG", concat!("VERSION=", env!("CARGO_PKG_VERSION"))),
    ] {
        assert!(images[0].contains(&(word.to_owned(), value.to_owned())), "{word} {value}");
    }
    let label = &images[0].iter().find(|(word, _)| word == "LABEL").unwrap().1;
    for key in ["title", "description", "licenses", "version", "revision", "created"] {
        assert!(label.contains(&format!("org.opencontainers.image.{key}=")), "{key}: {label}");
    }
    let check = &images[0].iter().find(|(word, _)| word == "HEALTHCHECK").unwrap().1;
    assert!(check.ends_with("CMD [\"/sweeper\", \"health\"]"), "{check}");
}

#[test]
fn the_prebuilt_image_needs_no_base_image_and_no_network() {
    let stages = stages(FILES[0]);
    assert_eq!(stages.len(), 1, "another stage would need a base image");
    let sent = fs::read_to_string(file("docker/Dockerfile.dockerignore")).unwrap();
    assert_eq!(sent, "*\n!sweeper\n");
}

#[test]
fn the_image_is_built_from_what_is_sent_to_the_builder() {
    // What the first stage copies is what is sent to the builder, and enough for the build: Cargo asks for every
    // program that Cargo.toml names.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // At the top, where builders of all versions look for it.
    let sent = fs::read_to_string(root.join(".dockerignore")).unwrap();
    let sent: Vec<&str> = sent.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let stages = stages(FILES[1]);
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
    let run = checked(
        Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
            .current_dir(scratch.path()),
    );
    let metadata: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let targets = metadata["packages"][0]["targets"].as_array().unwrap();
    assert!(targets.iter().any(|target| target["name"] == "sweeper"), "{targets:?}");
    for target in targets {
        let path = target["src_path"].as_str().unwrap();
        assert!(Path::new(path).is_file(), "{path} is not copied");
    }
    // `metadata` alone would not see a file that a source includes.
    let mut check = Command::new(&cargo);
    check.args(["check", "--bin", "sweeper", "--locked", "--offline", "--quiet"]);
    check.env("CARGO_TARGET_DIR", root.join("target")).current_dir(scratch.path());
    checked(&mut check);
    // The compiler is new enough for this version.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let minor = |text: &str, before: &str| -> u32 {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{before} in {text}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let (_, image) = &stages[0][0];
    assert!(minor(image, "rust:1.") >= minor(&manifest, "rust-version = \"1."));
}
