//! The pictures of the documentation show what the program prints now (`docs/picture`).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::repository;
use crate::start::Start;
use crate::world::{Run, is_present};

/// The words in a picture of a terminal. Numbers differ from run to run, and bars from one file system to another.
fn words(svg: &str) -> Vec<String> {
    let texts = svg.lines().filter_map(|line| line.split_once("xml:space=\"preserve\">"));
    let shown: Vec<&str> = texts.map(|(_, text)| text.trim_end_matches("</text>")).collect();
    let shown = shown.join(" ");
    let words = shown.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 2);
    words.filter(|word| !["KiB", "MiB", "GiB", "TiB"].contains(word)).map(str::to_owned).collect()
}

/// The width and the height of a picture.
fn size(png: &Path) -> (u32, u32) {
    let bytes = fs::read(png).unwrap();
    assert_eq!(&bytes[1..4], b"PNG", "{png:?}");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn the_pictures_show_what_the_program_prints_now() {
    let has_browser = Path::new("/usr/bin/chromium").exists();
    if !is_present(has_browser, "chromium") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut picture = Command::new("python3");
    picture.arg("-B").arg(repository("docs/picture")).arg("--out").arg(out.path());
    let run = Run::from(picture.arg(env!("CARGO_BIN_EXE_sweeper")).finish().unwrap());
    run.exits(0);
    for name in ["run.svg", "usage.svg"] {
        let read = |path: &Path| words(&fs::read_to_string(path).unwrap());
        let (old, new) = (read(&repository("docs").join(name)), read(&out.path().join(name)));
        assert!(new.len() > 30, "{name}: {new:?}");
        assert_eq!(old, new, "docs/{name} is old: run docs/picture");
    }
    for name in ["page-light.png", "page-dark.png"] {
        let (old, new) = (repository("docs").join(name), out.path().join(name));
        assert_eq!(size(&old), size(&new), "docs/{name} is old: run docs/picture");
    }
    let read = |name: &str| fs::read(out.path().join(name)).unwrap();
    assert_ne!(read("page-light.png"), read("page-dark.png"), "there are two color schemes");
}
