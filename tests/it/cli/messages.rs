//! Messages that name what is wrong, where it is written, and what to do.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::company::send;
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, sweeper, zone};

#[test]
fn a_refused_data_root_is_named_with_its_whole_path_and_where_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().canonicalize().unwrap().join("empty");
    fs::create_dir(&whole).unwrap();
    let said = |args: &[&str], data: Option<&str>| {
        let mut command = sweeper(args);
        command.current_dir(dir.path());
        if let Some(data) = data {
            command.env("SWEEPER_DATA", data);
        }
        Run::of(command).exits(2).stderr.clone()
    };
    let none = said(&["run"], Some("empty"));
    let words = format!("data (environment SWEEPER_DATA): {whole:?} is not a data root");
    assert!(none.contains(&words), "{none}");
    let nowhere = said(&["usage"], Some("nope"));
    assert!(nowhere.contains("data (environment SWEEPER_DATA): cannot open the data root"));
    assert!(nowhere.contains(&format!("{:?}", whole.with_file_name("nope"))), "{nowhere}");
    fs::write(dir.path().join("s.toml"), "\ndata = \"~/vol\"\n").unwrap();
    for command in ["run", "serve"] {
        let said = said(&[command, "--config", "s.toml"], None);
        assert!(said.contains("s.toml\", line 2): cannot open the data root"), "{said}");
    }
    let flag = said(&["run", "--data", "empty"], None);
    assert!(flag.contains(&format!("{whole:?} is not a data root")), "{flag}");
    assert!(!flag.contains("data (flag"), "{flag}");
    // Docker keeps the files of a volume there.
    fs::create_dir_all(whole.join("_data/tmp")).unwrap();
    fs::create_dir_all(whole.join("_data/cache/export")).unwrap();
    let docker = said(&["run", "--data", "empty"], None);
    assert!(docker.contains(&format!("did you mean {:?}?", whole.join("_data"))), "{docker}");
    assert!(!docker.contains("Kubernetes"), "{docker}");
}

#[test]
fn why_says_that_a_zone_with_another_sweeper_is_left_alone() {
    let world = World::new();
    let old = world.file("tmp/old", 20 * DAY);
    let why = |args: &[&str]| {
        let args = [&["why", "--format", "json", old.to_str().unwrap()], args].concat();
        world.run(&args).exits(0).json()["paths"][0].clone()
    };
    assert_eq!(why(&[])["verdict"], "would_remove");
    let held = File::open(world.path("tmp")).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let answer = why(&[]);
    assert_eq!(answer["verdict"], "left_alone", "{answer:#}");
    assert_eq!(answer["text"], "a run now would leave this zone alone");
    let lock = answer["details"]["lock"].as_str().unwrap();
    assert!(lock.contains(&format!("process {} (", std::process::id())), "{lock}");
    world.run(&["run"]).exits(4);
    assert_eq!(why(&["--lock", "none"])["verdict"], "would_remove", "as a run does");
}

#[test]
fn a_lock_that_is_not_wanted_is_not_asked_for() {
    let world = World::new();
    for lock in ["none", "flock"] {
        let mut command = world.command(&["run", "--lock", lock, "--format", "json"]);
        command.env("SWEEPER_REDIS", "redis://h:1");
        let report = Run::of(command).exits(0).json();
        let notes = zone(&report, "export")["notes"].to_string();
        assert!(notes.contains(&format!("because lock = {lock}:")), "{notes}");
        assert!(!notes.contains("name the server"), "{notes}");
    }
}

#[test]
fn the_wait_for_another_sweeper_counts_as_time() {
    let world = World::new();
    let held = File::open(world.path("tmp")).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let args = ["run", "--zones", "tmp", "--if-running", "wait", "--format", "json"];
    let mut command = world.command(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.start().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting for it"), "{line}");
    let wait = Duration::from_millis(300);
    std::thread::sleep(wait);
    send(&child, Signal::TERM);
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(3).json();
    assert!(report["elapsed_s"].as_f64().unwrap() >= wait.as_secs_f64(), "{report:#}");
}

#[test]
fn a_command_says_which_file_it_has_written_unless_it_is_quiet() {
    let world = World::new();
    let beside = |name: &str| world.root.with_file_name(name).to_str().unwrap().to_owned();
    let (plan, page) = (beside("plan"), beside("page.html"));
    for (args, words) in [
        (["plan", "-o", &plan], format!("the plan is in {plan:?}")),
        (["usage", "--html", &page], format!("the page is in {page:?}")),
    ] {
        let said = world.run(&args).exits(0).stderr.clone();
        assert!(said.contains(&words), "{said}");
        let quiet = world.run(&[&args[..], &["-q"]].concat()).exits(0).stderr.clone();
        assert!(!quiet.contains(&words), "{quiet}");
    }
}

#[test]
fn a_plan_says_which_directory_it_was_made_for() {
    let world = World::new();
    let plan = world.root.with_file_name("plan");
    world.run(&["plan", "-o", plan.to_str().unwrap()]).exits(0);
    let made_for = format!("{:?}", world.root);
    let empty = tempfile::tempdir().unwrap();
    let mut command = sweeper(&["apply", "--now", NOW]);
    command.arg(&plan).current_dir(empty.path());
    let nowhere = Run::of(command).exits(2).stderr.clone();
    assert!(nowhere.contains(&format!("it was made for {made_for}; no data root")), "{nowhere}");
    let other = World::new().run(&["apply", plan.to_str().unwrap()]).exits(2).stderr.clone();
    assert!(other.contains(&format!(": it was made for {made_for} at ")), "{other}");
}

#[test]
fn what_is_no_plan_is_called_that() {
    let world = World::new();
    let path = world.root.with_file_name("plan");
    for (content, words) in [
        ("", "it is empty"),
        ("data = \"/x\"\n", "it is not a plan"),
        ("{\"plan\":1}\n", "keep that line when you edit a plan"),
    ] {
        fs::write(&path, content).unwrap();
        let said = world.run(&["apply", path.to_str().unwrap()]).exits(2).stderr.clone();
        assert!(said.contains(words), "{content:?}: {said}");
        assert_eq!(said.contains("edit a plan"), content.starts_with('{'), "{said}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_of_every_command_and_ends_none_without_a_word() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let (old, out) = (world.path("tmp/old"), world.root.with_file_name("out"));
    for args in [
        &["--help"][..],
        &["man"],
        &["completions", "bash"],
        &["config"],
        &["why", old.to_str().unwrap()],
        &["run", "--dry-run"],
    ] {
        let inner = if args.len() == 1 && args[0] != "config" || args[0] == "completions" {
            sweeper(args)
        } else {
            world.command(args)
        };
        let mut limited = std::process::Command::new("/bin/sh");
        limited.args(["-c", "ulimit -f 0; out=$1; shift; exec \"$0\" \"$@\" > \"$out\""]);
        limited.arg(inner.get_program()).arg(&out).args(inner.get_args());
        Run::of(limited).exits(1);
    }
}
