//! What a message advises must be right where it is printed.

use std::fs;
use std::path::Path;

use crate::world::{DAY, Run, World, export_name, sweeper};

#[test]
fn a_relative_path_in_a_list_is_told_where_it_is_looked_for() {
    let world = World::new();
    let dir = world.root.parent().unwrap();
    let name = world.root.file_name().unwrap().to_str().unwrap();
    let listed: Vec<String> = (0..4).map(|number| format!("{name}/tmp/tree-{number}")).collect();
    for number in 0..4 {
        world.dir(format!("tmp/tree-{number}"), 20 * DAY);
    }
    fs::write(dir.join("list"), listed.join("\0") + "\0").unwrap();
    let mut command = world.command(&["run", "--from0", "list"]);
    let run = Run::of({
        command.current_dir(dir);
        command
    });
    let wanted = format!(
        "failed: path in the list: \"{}\" and 3 others: no entry has such a path: a path in a list is absolute, or \
         relative to the data root; the data root is {:?}",
        listed[0], world.root
    );
    assert!(run.exits(1).stdout.contains(&wanted), "{wanted}: {}", run.stdout);
    assert!(world.has("tmp/tree-0"));
    let none = world.run(&["run", "--from0", "/nowhere/list"]);
    let words = "cannot open the list \"/nowhere/list\": No such file or directory";
    assert!(none.exits(2).stderr.contains(words), "{}", none.stderr);
}

#[test]
fn a_file_that_is_no_plan_is_called_so() {
    let world = World::new();
    let file = world.root.parent().unwrap().join("notes.txt");
    fs::write(&file, "hello\n").unwrap();
    let run = world.run(&["apply", file.to_str().unwrap()]);
    let words = "is refused: it is not a plan written by `sweeper plan`";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
}

#[test]
fn without_cvat_no_zone_of_cvat_is_advised() {
    let world = World::new();
    let file = world.root.parent().unwrap().join("s.toml");
    fs::write(&file, "[[zone]]\nname = 'a'\npath = 'a'\nentry = 'tree'\nttl = '1d'\n").unwrap();
    let file = file.to_str().unwrap();
    let args = ["run", "--profile", "none", "--config", file, "--pressure", "85%", "--dry-run"];
    let run = world.run(&args);
    let words = "with profile none there are no exports: name zones in --pressure-zones";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
}

#[test]
fn a_lock_that_nobody_looked_at_is_not_called_free() {
    let world = World::new();
    let export = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let why = |args: &[&str]| {
        let args = [&["why", export.to_str().unwrap()], args].concat();
        world.run(&args).exits(0).stdout.clone()
    };
    let unseen =
        "lock      flock: free; CVAT's lock was not looked at, because no Redis server is named";
    assert!(why(&[]).contains(unseen), "{}", why(&[]));
    assert!(why(&["--lock", "flock"]).contains("lock      free\n"));
    let hold = |path: &Path, args: &[&str]| {
        let mut hold = sweeper(&[&["hold"], args].concat());
        hold.arg("--data").arg(&world.root).arg(path).args(["--", "/bin/true"]);
        Run::of(hold).exits(0).stderr.clone()
    };
    let dir = world.path("cache/export");
    let words = format!(
        "CVAT locks single exports, not {dir:?}: this lock stops sweepers, but not CVAT; hold the export itself"
    );
    for server in [&[][..], &["--redis", "redis://127.0.0.1:1"]] {
        let said = hold(&dir, server);
        assert!(said.contains(&words) && said.lines().count() == 1, "{server:?}: {said}");
    }
    assert_eq!(hold(&dir, &["--lock", "flock"]), "");
}
