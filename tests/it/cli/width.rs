//! Reports in the width of a terminal, with and without color.

use crate::company::has_tool;
use crate::terminal::{on_terminal, plain};
use crate::world::{DAY, World, export_name};

/// Something of everything, in zones with long names: expired, fresh, unknown, excluded in vain.
fn world() -> World {
    let world = World::new();
    for number in 0..1200 {
        world.file(format!("cache/export/{}", export_name(number)), 2 * DAY);
    }
    world.file("cache/export/unknown", 2 * DAY);
    world.file("tmp/old with a name of several words", 20 * DAY);
    world.file("jobs/1/tmp/old", 20 * DAY);
    world.file("tasks/1/export_cache/old.zip", 2 * DAY);
    world
}

/// A report up to the time that it took.
fn timeless(text: &str) -> &str {
    text.rsplit_once("; done").unwrap().0
}

#[test]
fn a_report_fits_the_terminal_and_is_in_color_unless_it_is_unwanted() {
    if !has_tool("script", "reports on a terminal") {
        return;
    }
    let world = world();
    let progress = ("SWEEPER_PROGRESS", "never");
    for (args, label) in [
        ("run --dry-run --zones export,tmp,instance-tmp --exclude none-has-this-name", "note"),
        ("legacy --dry-run", "free"),
    ] {
        for width in [60, 80, 200] {
            let with = on_terminal(&world, width, args, &[progress]);
            let without = on_terminal(&world, width, args, &[progress, ("NO_COLOR", "1")]);
            let (with, without) = (with.exits(0).stdout.clone(), without.exits(0).stdout.clone());
            assert!(
                with.contains("\x1b[1m") && with.contains(&format!("{label}\x1b[0m")),
                "{with}"
            );
            assert!(!without.contains('\x1b'), "{without}");
            assert_eq!(timeless(&plain(&with)), timeless(&without), "the same but for the color");
            // A path that is wider than the terminal has a line of its own.
            let is_path =
                |line: &str| line.trim_start().starts_with('"') && !line.trim().contains("\" ");
            for line in without.lines().filter(|line| !is_path(line)) {
                assert!(line.chars().count() <= width as usize, "{width}: {line}\n{without}");
            }
        }
        let unwanted = on_terminal(&world, 80, &format!("{args} --color never"), &[progress]);
        assert!(!unwanted.exits(0).stdout.contains('\x1b'), "{}", unwanted.stdout);
    }
}

#[test]
fn in_a_pipe_each_line_is_whole_and_color_is_for_those_who_ask() {
    let world = world();
    for command in [&["run", "--dry-run"][..], &["legacy", "--dry-run"]] {
        let text = world.run(command).exits(0).stdout.clone();
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.lines().any(|line| line.len() > 100), "{text}");
        let colored = world.run(&[command, &["--color", "always"]].concat());
        assert_ne!(colored.exits(0).stdout, text);
        assert_eq!(timeless(&plain(&colored.stdout)), timeless(&text));
    }
}
