//! An address can be written in many ways. What is in use is recognized in all of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{id, model, path, sample, task, url, with};
use crate::world::{NOW, Run, assert_counts};

/// Other ways to write the address of a file.
fn spellings(file: &str) -> Vec<String> {
    let host = "{files}".to_owned();
    vec![
        format!("{host}/{}", file.replace('x', "%78")),
        format!("{host}//{file}"),
        format!("{host}/a/../{file}"),
        format!("{host}/%2e/b/%2E%2E/{file}"),
        format!("{host}/{file}?download=1"),
        format!("{host}/{file}#top"),
        format!("HTTP://LocalHost:8081/{file}"),
        format!("http://user:pass@files.example:1/{file}"),
        format!("http://[::1]:8081/{file}"),
        format!("https://web.example/files/{file}"),
        format!("/opt/clearml/data/fileserver/{file}"),
    ]
}

#[test]
fn a_file_in_use_stays_however_a_live_task_or_a_model_writes_its_address() {
    let live = |n: usize, address: &str| {
        let artifacts = json!([{"key": "in", "mode": "input", "uri": address}]);
        let fields = json!({"system_tags": [], "execution": {"artifacts": artifacts}});
        with(task(&format!("live {n}"), &[]), fields)
    };
    let (mut tasks, mut models, mut files) = (Vec::new(), Vec::new(), BTreeSet::new());
    let in_folder = |name: &str| path(name, "artifacts/x/x.bin");
    for n in 0..spellings("").len() {
        let (by_task, by_model) = (in_folder(&format!("t{n}")), in_folder(&format!("m{n}")));
        // Uploads to the file server need not lie in the folder of a task.
        let elsewhere = format!("uploads/x{n}.bin");
        let urls = [url(&by_task), url(&by_model), url(&elsewhere)];
        let name = format!("t{n}");
        tasks.push(task(&name, &[&urls[0], &urls[2]]));
        tasks.push(task(&format!("m{n}"), &[&urls[1]]));
        tasks.push(live(n, &spellings(&by_task)[n]));
        models.push(model(&format!("model {n}"), "gone", &spellings(&by_model)[n], false));
        files.extend([by_task, by_model]);
        tasks.push(live(n + 100, &spellings(&elsewhere)[n]));
        files.insert(elsewhere);
    }
    let own = path("own", "artifacts/x/x.bin");
    tasks.push(task("own", &[&url(&own)]));
    let double = Double::new(json!({"tasks": tasks, "models": models}));
    for file in files.iter().chain([&own]) {
        double.file(file);
    }
    let report = double.run(&[]).exits(0).json();
    assert_eq!(double.files_left(), files);
    assert_eq!(removed(&report).1, 1);
}

#[test]
fn a_file_outside_the_folders_of_tasks_is_recognized_by_its_path_in_the_mounted_directory() {
    let file = "uploads/x.bin";
    for is_by_path in [false, true] {
        let double = Double::with_tasks(&[]);
        let path = double.file(file);
        let root = double.path("files");
        let (root, link) = (root.to_str().unwrap(), double.path("link"));
        std::os::unix::fs::symlink(root, &link).unwrap();
        let mut names = [url(file).replace("{files}", &double.files), path.display().to_string()];
        if is_by_path {
            names.reverse();
        }
        let [own, other] = names;
        let live = with(task("live", &[&other]), json!({"system_tags": []}));
        double.load(&json!({
            "tasks": [task("a", &[&own]), live], "models": [], "events": {}, "projects": [],
            "credentials": {"key": "key", "secret": "s3cret"},
        }));
        let args: &[&str] = if is_by_path {
            &["--local-root", root]
        } else {
            &["--fileserver-root", link.to_str().unwrap()]
        };
        let report = double.run(args).exits(0).json();
        assert_counts(&report, "clearml-tasks", &[("removed", 1)]);
        assert_counts(&report, "clearml-files", &[("kept_by.referenced", 1), ("removed", 0)]);
        assert!(path.exists());
    }
}

#[test]
fn a_file_is_recognized_behind_another_host_if_its_file_server_has_a_path_of_its_own() {
    let path = "clearml/files/uploads/x.bin";
    let live = format!("http://ml.internal/{path}");
    let double = Double::with_tasks(&[
        task("a", &[&format!("https://ml.example/{path}")]),
        with(task("live", &[&live]), json!({"system_tags": []})),
    ]);
    let file = double.file("uploads/x.bin");
    let root = double.path("files");
    let mut command = double.command(&[
        "run",
        "--now",
        NOW,
        "--files",
        "mount",
        "--fileserver-root",
        root.to_str().unwrap(),
    ]);
    command.env("CLEARML_FILES_HOST", "https://ml.example/clearml/files");
    Run::of(command).exits(0);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("live")]));
    assert!(file.exists());
}

#[test]
fn a_host_is_recognized_in_any_case() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[]);
    let upper = double.files.replace("http://127.0.0.1", "HTTP://LOCALHOST");
    double.load(&json!({
        "tasks": [task("a", &[&format!("{upper}/{file}")])], "models": [], "events": {},
        "projects": [], "credentials": {"key": "key", "secret": "s3cret"},
    }));
    double.file(&file);
    let mut command = double.command(&["run", "--now", NOW]);
    command.env("CLEARML_FILES_HOST", double.files.replace("127.0.0.1", "localhost"));
    Run::of(command).exits(0);
    assert!(double.files_left().is_empty());
}

#[test]
fn addresses_that_lead_elsewhere_are_never_used() {
    let file = path("live", "artifacts/x/x.bin");
    let live = with(task("live", &[&url(&file)]), json!({"system_tags": []}));
    let odd: Vec<String> = [
        format!("{{files}}/p/../{file}"),
        format!("{{files}}/%2e%2e/files/{file}"),
        format!("{{files}}/{}", file.replace("/x.bin", "/.%2Fx.bin")),
        format!("{{files}}/{file}%00"),
        format!("{{files}}/{file}/"),
        "{files}/".to_owned(),
        "{files}".to_owned(),
        format!("{{files}}@evil.example/{file}"),
        format!("{{files}}0/{file}"),
        format!("http://user@127.0.0.1:1/{file}"),
        "http://[::1]:1/x".to_owned(),
        "file:///etc/passwd\0".to_owned(),
        "\u{1b}[31m".to_owned(),
        "://".to_owned(),
    ]
    .to_vec();
    let urls: Vec<&str> = odd.iter().map(String::as_str).collect();
    let double = Double::new(json!({
        "tasks": [task("a", &urls), live], "events": {id("a"): [sample(&url("../../../etc/x"))]},
    }));
    double.file(&file);
    double.file("x");
    let run = double.run(&[]);
    assert_counts(&run.exits(1).json(), "clearml-files", &[("removed", 0)]);
    assert!(!run.stderr.contains('\u{1b}') && !run.stderr.contains("panicked"), "{}", run.stderr);
    assert_eq!(double.files_left(), BTreeSet::from([file, "x".to_owned()]));
    let asked = double.requests().into_iter().filter(|request| request["host"] == "files");
    assert_eq!(asked.count(), 0);
    let compat = Double::with_tasks(&[task("b", &["\u{1b}[31m"])]);
    let run = compat.run(&["--compat-output"]);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains('\u{1b}'), "{}", run.stderr);
}

#[test]
fn an_address_above_the_file_of_a_model_that_stays_never_takes_that_file() {
    let (folder, weights) = (path("a", "models/best"), path("a", "models/best/weights.pt"));
    let other = path("b", "artifacts/set");
    let inside = path("b", "artifacts/set/part.bin");
    let user = json!([{"key": "in", "mode": "input", "uri": url(&inside)}]);
    let live =
        with(task("live", &[]), json!({"system_tags": [], "execution": {"artifacts": user}}));
    let tasks: Vec<Value> = vec![task("a", &[&url(&folder)]), task("b", &[&url(&other)]), live];
    let double = Double::new(json!({
        "tasks": tasks, "models": [model("published", "a", &url(&weights), true)],
    }));
    double.file(&weights);
    double.file(&inside);
    double.run(&["--force-delete"]).exits(0);
    assert_eq!(double.left("tasks"), BTreeSet::from([id("live")]));
    assert_eq!(double.files_left(), BTreeSet::from([weights, inside]));
}

#[test]
fn a_file_stays_that_is_in_a_directory_that_a_model_or_a_live_task_names() {
    let (best, beside) = (path("a", "artifacts/best/w.pt"), path("a", "artifacts/best2/w.pt"));
    let (deep, upload) = (path("b", "x/y/z.bin"), "uploads/set/part.bin".to_owned());
    let above = |file: &str, steps: usize| {
        let kept = file.split('/').count() - steps;
        url(&file.split('/').take(kept).collect::<Vec<_>>().join("/"))
    };
    // The directory of an upload, and the folder of a task as a whole.
    let dirs = [above(&upload, 1), above(&deep, 3) + "/"];
    let live = with(task("live", &dirs.each_ref().map(|it| &**it)), json!({"system_tags": []}));
    let double = Double::new(json!({
        "tasks": [
            task("a", &[&url(&best), &url(&beside), &url(&upload)]), task("b", &[&url(&deep)]), live,
        ],
        "models": [model("published", "live", &above(&best, 1), true)],
    }));
    for file in [&best, &beside, &deep, &upload] {
        double.file(file);
    }
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-files", &[("removed", 1), ("kept_by.referenced", 3)]);
    assert_eq!(double.files_left(), BTreeSet::from([best, upload, deep]));
}
