//! What people see: a picture in the width of a terminal, and plain lines in a pipe.

use super::volume;
use crate::company::has_tool;
use crate::terminal::{self, plain};
use crate::world::{DAY, Run, World, sweeper};

/// What a terminal of this width shows.
fn on_terminal(world: &World, width: u32, env: &[(&str, &str)]) -> String {
    without_volume(&terminal::on_terminal(world, width, "usage", env).exits(0).stdout)
}

/// Without the lines on the whole file system, on which other programs write meanwhile.
fn without_volume(text: &str) -> String {
    let is_kept = |line: &&str| !line.contains("file system") && !line.starts_with("inodes ");
    text.lines().filter(is_kept).map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn a_picture_fits_terminals_of_any_width_with_and_without_color() {
    if !has_tool("script", "the picture on a terminal") {
        return;
    }
    let world = volume(50);
    for width in [60, 80, 200] {
        let no_color = [("NO_COLOR", "1"), ("SWEEPER_PROGRESS", "never")];
        let without = on_terminal(&world, width, &no_color);
        assert!(!without.contains('\x1b'), "{without}");
        let with = on_terminal(&world, width, &[("SWEEPER_PROGRESS", "never")]);
        assert!(with.contains("\x1b[34m█") && with.contains("\x1b[33m▒"), "{with}");
        assert_eq!(plain(&with), without, "the same but for the color");
        let widest = without.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width as usize, "{widest} of {width}:\n{without}");
        // The largest area has a bar up to the last column.
        assert!(widest + 1 >= width as usize, "{widest} of {width}:\n{without}");
        for title in [
            "what takes up space",
            "by age",
            "exports by kind",
            "the most exports",
            "what `sweeper run` could remove",
            "what can be removed",
            "never removed by this program",
        ] {
            assert!(without.contains(title), "{title}:\n{without}");
        }
    }
    let dumb = on_terminal(&world, 80, &[("TERM", "dumb"), ("SWEEPER_PROGRESS", "never")]);
    assert!(!dumb.contains('\x1b') && dumb.contains('█'), "{dumb}");
}

#[test]
fn a_pipe_gets_plain_lines_with_whole_names_unless_color_is_asked_for() {
    let world = volume(51);
    let run =
        |args: &[&str]| without_volume(&world.run(&[&["usage"], args].concat()).exits(0).stdout);
    let text = run(&[]);
    assert!(text.is_ascii(), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let export = text.lines().find(|line| line.starts_with("export ")).unwrap();
    let path = format!("{:?}", world.path("cache/export"));
    assert!(export.contains("  sweeper run  ") && export.ends_with(&path), "{export}");
    let media = text.lines().find(|line| line.starts_with("media ")).unwrap();
    assert!(media.contains("  never  "), "{media}");
    // The documentation shows these lines.
    let docs = include_str!("../../../docs/usage.md");
    let shown =
        docs.split_once("In a pipe:\n\n```text\n").unwrap().1.split_once("\n```").unwrap().0;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(shown.lines().next().map(words), text.lines().next().map(words));
    for line in shown.lines().filter(|line| !line.starts_with(['.', '"'])) {
        let first = words(line).swap_remove(0);
        assert!(text.lines().any(|line| words(line).first() == Some(&first)), "{line}");
    }
    assert!(run(&["--color", "always"]).contains("\x1b[34m█"));
    assert_eq!(run(&["--color", "never"]), text);
}

#[test]
fn an_empty_data_root_has_a_picture_too() {
    let world = World::new();
    let text = world.run(&["usage", "--color", "always"]).exits(0).stdout.clone();
    assert!(text.contains("what takes up space") && !text.contains("the most exports"), "{text}");
    let none = sweeper(&["usage", "--profile", "none", "--data", world.root.to_str().unwrap()]);
    assert!(Run::of(none).exits(2).stderr.contains("there are no zones"));
}

#[test]
fn progress_is_shown_on_request_and_never_on_stdout() {
    let world = World::new();
    for number in 0..3000 {
        world.file(format!("data/{number}"), DAY);
    }
    let quiet = world.run(&["usage", "--progress", "never"]);
    let shown = world.run(&["usage", "--progress", "always"]);
    assert_eq!(quiet.exits(0).stderr, "");
    assert_eq!(without_volume(&shown.exits(0).stdout), without_volume(&quiet.stdout));
}
