//! Each check on made-up sources that break it.

use super::*;

fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[track_caller]
fn assert_found(problems: &[String], wanted: &[&str]) {
    assert_eq!(problems.len(), wanted.len(), "{problems:?}");
    for (problem, words) in problems.iter().zip(wanted) {
        assert!(problem.contains(words), "{problem} is not about {words}");
    }
}

#[test]
fn a_row_that_names_a_row_below_it_is_found() {
    let rows: [Row; 3] = [("a", &["b"]), ("b", &["a"]), ("c", &["*"])];
    assert_found(&check_rows(&rows), &["the row of a names b"]);
}

#[test]
fn a_room_without_a_row_and_an_arrow_that_is_not_allowed_are_found() {
    let sources = sources(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use super::c::Y;"),
        ("b.rs", "mod inner;"),
        ("b/inner.rs", "fn f() { crate::a::g(); }"),
        ("c.rs", "use crate::a::X;"),
        ("new/deep.rs", ""),
    ]);
    let uses = Crate::read(&sources).uses();
    let rows: [Row; 4] = [("lib", &[]), ("b", &[]), ("c", &["*"]), ("a", &["c"])];
    let problems = check_rooms(&sources, &uses, &rows);
    assert_found(
        &problems,
        &["src/new/deep.rs: its room", "b/inner.rs:1: crate::a::g: b may not use a"],
    );
    let without_arrow: [Row; 5] =
        [("lib", &[]), ("b", &["*"]), ("c", &["*"]), ("new", &[]), ("a", &["c"])];
    let files = [("lib.rs", ""), ("a.rs", "use super::b::X;"), ("b.rs", "")];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let problems = check_rooms(&files, &Crate::read(&files).uses(), &without_arrow);
    assert_found(&problems, &["src/a.rs:1: super::b::X: a may not use b"]);
}

#[test]
fn io_in_a_pure_room_is_found() {
    let sources = sources(&[
        ("pure.rs", "use std::{fmt, fs::File, io::{self, Read}}; fn f() { std::env::var(X) }"),
        ("pure/sub.rs", "use std::iota; // std::fs\n"),
        ("other.rs", "use std::fs;"),
    ]);
    let problems =
        check_pure(&Crate::read(&sources), &["pure"], &["std::fs", "std::io", "std::env"]);
    assert_found(&problems, &["fs::File", "std::io in", "std::io::Read", "std::env::var"]);
}

#[test]
fn a_second_door_an_unused_door_and_a_crate_without_a_row_are_found() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\none-crate = \"1\" # why\ntwo = \"2\"\n\
                    three = \"3\" # why\nfour = { optional = true } # why\nserde = \"1\" # why\n\n[features]\n";
    let sources = sources(&[
        ("a.rs", "use one_crate::X; use serde::Y;"),
        ("b.rs", "#[derive(one_crate::Z)] struct S;"),
        ("c.rs", "// two::X\n"),
    ]);
    let doors: [Row; 2] = [("one_crate", &["a.rs"]), ("two", &["c.rs"])];
    let problems = check_doors(&Crate::read(&sources), manifest, &doors, &["serde"]);
    let wanted =
        ["b.rs uses one_crate", "two: say in", "c.rs is a door of two", "three has no row"];
    assert_found(&problems, &wanted);
}

#[test]
fn what_stands_in_a_wrong_file_or_nowhere_is_found() {
    let sources = sources(&[
        ("a.rs", "unlinkat (x); \"futimens(\""),
        ("b.rs", "fn f() { unlinkat(x) } #[cfg(test)] fn g() { unsafe { x } }"),
    ]);
    let places: [Row; 3] = [("unlinkat(", &["a.rs"]), ("futimens(", &["a.rs"]), ("unsafe {", &[])];
    let problems = check_places(&Crate::read(&sources), &places);
    assert_found(&problems, &["src/b.rs:1: \"unlinkat(\"", "\"futimens(\" does not stand here"]);
}

#[test]
fn the_name_of_an_application_outside_its_folder_is_found() {
    let sources = sources(&[
        ("engine.rs", "fn of_cvat() { tell(\"CVAT holds it\") } // cvat\n let x = \"export\";"),
        ("rules/x.rs", "struct CvatZone; fn f() { Zone::Export; Zone::new() }"),
        ("cvat/x.rs", "struct Cvat; let x = \"export\"; Zone::Tmp"),
    ]);
    let problems = check_applications(&Crate::read(&sources), &["cvat"], &["export"], &["cvat"]);
    let wanted = ["engine.rs:1: of_cvat", "engine.rs:2: \"export\"", "CvatZone", "Zone::Export"];
    assert_found(&problems, &wanted);
}

#[test]
fn a_file_that_does_not_say_what_it_is_or_must_not_do_is_found() {
    let sources = sources(&[
        ("lib.rs", "//! A library.\nmod a; mod b; #[cfg(test)] mod tests;"),
        ("a.rs", "//! It is a.\n//!\n//! It must not do b.\n"),
        ("b.rs", "//! It is b.\n"),
        ("tests.rs", "use x;"),
    ]);
    let problems = check_docs(&Crate::read(&sources), &sources, &["lib.rs"]);
    assert_found(&problems, &["b.rs does not say what it must not", "tests.rs does not begin"]);
}

#[test]
fn a_file_that_is_too_long_is_found() {
    let files = sources(&[("a.rs", "1\n2\n3\n"), ("b/mod.rs", "1\n2")]);
    assert_found(&check_sizes(&files, 2), &["a.rs has 3 lines", "b/mod.rs: write"]);
}

#[test]
fn a_condition_that_ends_no_script_is_found() {
    let text = "set -e\n[ $a = 0 ] && [ $b = 0 ]\n[ $a = 0 ] || [ $b = 0 ]\nif [ $a ] && [ $b ]; then c; fi\n";
    let files = sources(&[("run", &format!("#!/usr/bin/env bash\n{text}")), ("run.md", text)]);
    let problems = check_conditions(&files);
    assert_eq!(problems.len(), 1);
    assert_found(&problems, &["run:3: a condition"]);
}
