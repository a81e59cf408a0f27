//! Small made-up crates: what uses what, and which circles are found.

use super::*;

fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// The uses of a crate whose `lib.rs` names its rooms, as `from -> to`.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let sources = sources(files);
    let uses = Crate::read(&sources).uses();
    uses.iter().map(|one| format!("{} -> {}", one.from, one.to)).collect()
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources = sources(files);
    circles(&Crate::read(&sources).uses(), str::to_owned)
}

#[test]
fn every_way_to_write_a_path_is_understood() {
    for text in [
        "use crate::b::c::D;",
        "use crate::{x::y, b::c::{D, E}};",
        "use crate::b::{self, c::D as F};",
        "use crate::b::D;",
        "use super::b::c::D;",
        "fn f() { crate::b::c::D::new(); }",
        "fn f(d: &super::b::c::D) {}",
        "use crate::b; fn f() { b::c::D::new(); }",
        "use crate::b as other; fn f() -> other::c::D { m!(other::c::D) }",
        "pub(in crate::a) use crate::b::c::D;",
    ] {
        let b = ("b.rs", "mod c; pub use c::D;");
        let found = arrows(&[("lib.rs", "mod a; mod b;"), ("a.rs", text), b, ("b/c.rs", "")]);
        assert!(found.contains(&"a.rs -> b/c.rs".to_owned()), "{text}: {found:?}");
    }
    for text in ["// crate::b::c::D", "\"crate::b::c::D\"", "use b::c::D;", "x.b::<c::D>()"] {
        let found = arrows(&[("a.rs", text), ("b.rs", "mod c;"), ("b/c.rs", "")]);
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}

#[test]
fn super_is_resolved_from_where_it_stands() {
    let files = |text| [("a.rs", "mod b;"), ("a/b.rs", "mod c;"), ("a/b/c.rs", text), ("d.rs", "")];
    assert_eq!(arrows(&files("use super::super::super::d::X;")), ["a/b/c.rs -> d.rs"]);
    assert_eq!(arrows(&files("use super::super::X;")), ["a/b/c.rs -> a.rs"]);
    assert_eq!(
        arrows(&files("use super::{X, super::Y};")),
        ["a/b/c.rs -> a/b.rs", "a/b/c.rs -> a.rs"]
    );
    assert_eq!(arrows(&[("a.rs", "mod b; use b::X;"), ("a/b.rs", "")]), ["a.rs -> a/b.rs"]);
    assert_eq!(arrows(&[("a.rs", "mod b; fn f() { self::b::g(); }"), ("a/b.rs", "")]).len(), 1);
}

#[test]
fn a_re_export_of_a_child_is_no_use_and_is_followed() {
    let a = ("a.rs", "mod b; mod c; pub use b::X; pub use self::c::Y;");
    let files = [a, ("a/b.rs", "use super::Y;"), ("a/c.rs", ""), ("d.rs", "use crate::a::{X, Y};")];
    assert_eq!(arrows(&files), ["a/b.rs -> a/c.rs", "d.rs -> a/b.rs", "d.rs -> a/c.rs"]);
    let other_crate = [("a.rs", "pub use elsewhere::X;"), ("b.rs", "use crate::a::X;")];
    assert_eq!(arrows(&other_crate).len(), 0);
}

#[test]
fn a_circle_is_found_with_each_of_its_lines() {
    let through_super = [("a.rs", "mod b; use b::X;"), ("a/b.rs", "\nuse super::Y;")];
    let found = circles_of(&through_super);
    assert_eq!(found, ["src/a.rs:1: b::X\n  src/a/b.rs:2: super::Y"]);
    let siblings = ["use super::c::X;", "use super::d::Y;", "fn f() { super::b::Z; }"];
    let [b, c, d] = siblings;
    let files = [("a.rs", "mod b; mod c; mod d;"), ("a/b.rs", b), ("a/c.rs", c), ("a/d.rs", d)];
    assert_eq!(circles_of(&files)[0].lines().count(), 3);
    let through_a_re_export = [
        ("a.rs", "mod b; mod c; pub use b::X; pub use c::Y;"),
        ("a/b.rs", "use super::Y;"),
        ("a/c.rs", "use super::X;"),
    ];
    assert_eq!(circles_of(&through_a_re_export).len(), 1);
}

#[test]
fn children_may_share_what_their_parent_holds() {
    let files =
        [("a.rs", "mod b; mod c; pub struct S; pub use c::Y;"), ("a/b.rs", "use super::S;")];
    assert!(circles_of(&[&files[..], &[("a/c.rs", "use super::{S, b::X};")]].concat()).is_empty());
}

#[test]
fn tests_are_not_code() {
    let a = ("a.rs", "#[cfg(test)] mod tests { use crate::b::X; } #[cfg(test)] mod samples;");
    let files = [a, ("a/samples.rs", "mod more; use crate::b::X;"), ("a/samples/more.rs", "")];
    let files = [&files[..], &[("b.rs", "use crate::a::Y;"), ("lib.rs", "mod a; mod b;")]].concat();
    assert_eq!(arrows(&files), ["b.rs -> a.rs"]);
    assert!(Crate::read(&sources(&files)).problems().is_empty());
}

#[test]
fn what_cannot_be_checked_is_refused() {
    for (files, words) in [
        (
            &[("lib.rs", "mod a;"), ("a.rs", "use crate::b::*;"), ("b.rs", "")][..],
            "name what is used",
        ),
        (&[("lib.rs", "mod a { fn f() {} }")], "write mod a as a file"),
        (&[("lib.rs", "mod a;"), ("a.rs", ""), ("b.rs", "")], "src/b.rs: no `mod` names it"),
    ] {
        let problems = Crate::read(&sources(files)).problems();
        assert!(problems.iter().any(|problem| problem.contains(words)), "{problems:?}");
    }
}
