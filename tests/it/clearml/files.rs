//! What becomes of the files of deleted tasks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{id, model, path, plot, sample, task, url, with};
use crate::world::{NOW, Run, assert_counts, zone};

#[test]
fn output_artifacts_are_deleted_and_input_artifacts_are_not() {
    let (own, input) = (path("a", "artifacts/own/own.bin"), path("b", "artifacts/in/in.bin"));
    let mut record = task("a", &[&url(&own)]);
    let input_record = json!({"key": "in", "mode": "input", "uri": url(&input), "type": "custom"});
    record["execution"]["artifacts"].as_array_mut().unwrap().push(input_record);
    let double = Double::with_tasks(&[record]);
    double.file(&own);
    double.file(&input);
    assert_eq!(removed(&double.run(&[]).exits(0).json()), (1, 1));
    assert_eq!(double.files_left(), BTreeSet::from([input]));
}

#[test]
fn all_debug_samples_and_all_images_of_plots_are_deleted() {
    let images: Vec<String> =
        (0..250).map(|n| path("a", &format!("metrics/m/v/m_v_{n:08}.jpeg"))).collect();
    // Addresses repeat, and new ones come up to the last page.
    let mut events: Vec<Value> = (0..12_000).map(|n| sample(&url(&images[n / 48]))).collect();
    let plots: Vec<String> =
        (0..207).map(|n| path("a", &format!("metrics/plots/v/p_{n:08}.png"))).collect();
    let urls: Vec<String> = plots.iter().map(|path| url(path)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    events.push(plot(&urls[..3]));
    events.push(plot(&urls[3..7]));
    events.extend(urls[7..].iter().map(|url| plot(&[url])));
    let double = Double::new(json!({"tasks": [task("a", &[])], "events": {id("a"): events}}));
    for file in images.iter().chain(&plots) {
        double.file(file);
    }
    assert_eq!(removed(&double.run(&[]).exits(0).json()), (1, 457));
    assert_eq!(double.files_left(), BTreeSet::new());
}

#[test]
fn an_image_outside_the_folder_of_its_task_stays_because_others_may_show_it() {
    let (own, logo) = (path("a", "metrics/m/v/1.jpeg"), "shared/logo.png");
    let plotted = "shared/plot.png";
    let events = json!([sample(&url(&own)), sample(&url(logo)), plot(&[&url(plotted)])]);
    let live = with(task("live", &[]), json!({"system_tags": []}));
    let state = json!({"tasks": [task("a", &[]), live], "events": {
        id("a"): events, id("live"): [sample(&url(logo)), plot(&[&url(plotted)])],
    }});
    for (args, kept) in [(&[][..], 2), (&["--delete-shared-files"], 0)] {
        let double = Double::new(state.clone());
        for file in [&own, logo, plotted] {
            double.file(file);
        }
        if kept > 0 {
            let why = Run::of(double.command(&["why", "--now", NOW, &id("a")]));
            assert!(why.exits(0).stdout.contains("other tasks may show it"), "{}", why.stdout);
        }
        let report = double.run(args).exits(0).json();
        let counts = [("removed", 3 - kept), ("kept", kept), ("failed", 0)];
        assert_counts(&report, "clearml-files", &counts);
        assert_eq!(double.files_left().len() as u64, kept);
        assert!(!double.files_left().contains(&own));
    }
}

#[test]
fn events_without_an_address_and_plots_that_are_no_json_do_not_stop_a_deletion() {
    let file = path("a", "metrics/m/v/1.jpeg");
    let events = json!([
        {"type": "training_debug_image"}, {"type": "training_debug_image", "url": null},
        sample(&url(&file)), {"type": "plot", "plot_str": "not json"}, {"type": "plot"},
    ]);
    let double = Double::new(json!({"tasks": [task("a", &[])], "events": {id("a"): events}}));
    double.file(&file);
    assert_eq!(removed(&double.run(&[]).exits(0).json()), (1, 1));
    assert!(double.left("tasks").is_empty() && double.files_left().is_empty());
}

#[test]
fn a_file_that_is_not_there_is_already_gone() {
    let gone = url(&path("a", "artifacts/x/x.bin"));
    for fileserver in [json!({}), json!({"delete_many": false})] {
        let double = Double::new(json!({"tasks": [task("a", &[&gone])], "fileserver": fileserver}));
        let report = double.run(&[]).exits(0).json();
        assert_counts(&report, "clearml-files", &[("skipped_by.gone", 1), ("failed", 0)]);
    }
}

#[test]
fn a_file_that_fails_stops_nothing_else_and_is_listed() {
    let at = |task: &str, n: u32| path(task, &format!("artifacts/a{n}/{n}.bin"));
    let tasks: Vec<Value> = ["a", "b"]
        .iter()
        .map(|name| {
            let urls: Vec<String> = (0..3).map(|n| url(&at(name, n))).collect();
            task(name, &urls.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let double = Double::with_tasks(&tasks);
    for name in ["a", "b"] {
        (0..3).for_each(|n| drop(double.file(&at(name, n))));
    }
    double.faults(json!([{"match": "files:*", "do": "refuse", "text": at("a", 1)}]));
    let report = double.run(&[]).exits(1).json();
    assert_counts(&report, "clearml-tasks", &[("removed", 2)]);
    assert_counts(&report, "clearml-files", &[("removed", 5), ("failed", 1)]);
    let failed = report["failures"][0]["path"].as_str().unwrap();
    assert_eq!(failed, url(&at("a", 1)).replace("{files}", &double.files));
    assert_eq!(double.files_left(), BTreeSet::from([at("a", 1)]));
    let list = Run::of(double.command(&["journal"]));
    assert!(list.exits(0).stdout.contains(failed), "{}", list.stdout);
    // It is tried again, and then forgotten.
    double.faults(json!([]));
    Run::of(double.command(&["journal", "retry", "--now", NOW])).exits(0);
    assert!(double.files_left().is_empty());
    let list = Run::of(double.command(&["journal"]));
    assert!(list.exits(0).stdout.contains("nothing is unfinished"), "{}", list.stdout);
}

#[test]
fn odd_names_are_removed_exactly() {
    let names =
        ["a+b.bin", "a b.bin", "e%20f.bin", "e f.bin", "k#1.bin", "k", "ä?.bin", "100%.bin"];
    for fileserver in [json!({}), json!({"delete_many": false})] {
        for name in names {
            let file = path("a", &format!("artifacts/x/{name}"));
            let double = Double::new(
                json!({"tasks": [task("a", &[&url(&file)])], "fileserver": fileserver}),
            );
            let mut left = BTreeSet::new();
            for other in names {
                let other = path("a", &format!("artifacts/x/{other}"));
                double.file(&other);
                left.insert(other);
            }
            double.run(&[]).exits(0);
            left.remove(&file);
            assert_eq!(double.files_left(), left, "{name}");
        }
    }
}

/// The SDK uploads a file under its own name, and does not write these characters as `%XX` in the address of a model.
#[test]
fn what_looks_like_a_query_or_a_fragment_is_a_part_of_the_name_of_a_file() {
    for (name, without) in [("run#2.bin", "run"), ("run?2.bin", "run")] {
        let (file, other) = (format!("uploads/{name}"), format!("uploads/{without}"));
        let address = format!("{}/{name}", url("uploads"));
        for mode in ["mount", "http"] {
            let double = Double::with_tasks(&[task("a", &[&address])]);
            double.file(&file);
            double.file(&other);
            let root = double.path("files");
            let args = ["--files", mode, "--fileserver-root", root.to_str().unwrap()];
            let report = double.run(&args).exits(0).json();
            assert_counts(&report, "clearml-files", &[("removed", 1)]);
            assert_eq!(double.files_left(), BTreeSet::from([other.clone()]), "{file} {mode}");
        }
    }
}

#[test]
fn a_file_server_without_delete_many_is_asked_for_each_file() {
    let file = path("a", "artifacts/x/x.bin");
    for fileserver in
        [json!({"delete_many": false}), json!({"delete": false, "delete_many": false})]
    {
        let has_delete = fileserver.get("delete").is_none();
        let double =
            Double::new(json!({"tasks": [task("a", &[&url(&file)])], "fileserver": fileserver}));
        double.file(&file);
        let run = double.run(&[]);
        run.exits(i32::from(!has_delete));
        assert_eq!(double.files_left().is_empty(), has_delete);
        if !has_delete {
            assert!(run.stdout.contains("--files mount"), "{}", run.stdout);
            let root = double.path("files");
            let root = root.to_str().unwrap();
            double.run(&["--files", "mount", "--fileserver-root", root]).exits(0);
            assert!(double.files_left().is_empty());
        }
    }
}

#[test]
fn an_address_that_is_a_directory_never_takes_what_is_in_it() {
    let folder = format!("project/a.{}", id("a"));
    for place in ["project".to_owned(), folder.clone(), format!("{folder}/artifacts")] {
        let double = Double::with_tasks(&[task("a", &[&url(&place)])]);
        double.file(&format!("{folder}/artifacts/x/x.bin"));
        double.file("project/other/x.bin");
        double.run(&[]).exits(0);
        assert_eq!(double.files_left().len(), 2, "{place}");
    }
}

#[test]
fn addresses_on_other_hosts_are_not_touched_and_get_no_token() {
    let other = Double::with_tasks(&[]);
    other.file("x.bin");
    let elsewhere = format!("{}/x.bin", other.files);
    let double = Double::with_tasks(&[task("a", &[&elsewhere, "ftp://h/x", "{files}/a/../b"])]);
    let report = double.run(&[]).exits(1).json();
    assert_counts(&report, "clearml-files", &[("failed", 3), ("removed", 0)]);
    assert!(other.requests().is_empty());
    assert_eq!(other.files_left().len(), 1);
    let text = report.to_string();
    assert!(text.contains("not the file server, so it is not touched"), "{text}");
}

#[test]
fn an_image_on_another_host_stays_because_others_may_show_it() {
    let logo = sample("https://cdn.example/logo.png");
    let double = Double::new(json!({"tasks": [task("a", &[])], "events": {id("a"): [logo]}}));
    let report = double.run(&[]).exits(0).json();
    assert_counts(&report, "clearml-files", &[("kept_by.referenced", 1), ("failed", 0)]);
}

#[test]
fn files_of_this_machine_stay_unless_they_are_below_a_root_that_the_user_names() {
    let names = ["in/a.bin", "in/b.bin", "out/c.bin", "in/link"];
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let urls = [
        format!("file://{}", at("in/a.bin").display()),
        at("in/b.bin").display().to_string(),
        format!("file://{}", at("out/c.bin").display()),
        format!("file://{}", at("in/link").display()),
    ];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let left = || names.iter().filter(|name| at(name).symlink_metadata().is_ok()).count();
    for (args, count) in [(None, 4), (Some(at("in")), 2)] {
        for name in &names[..3] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            crate::start::written(|| std::fs::write(at(name), "x")).unwrap();
        }
        let _ = std::os::unix::fs::symlink(at("out/c.bin"), at("in/link"));
        let double = Double::with_tasks(&[task("a", &urls)]);
        let root = args.as_ref().map(|root| ["--local-root", root.to_str().unwrap()]);
        let args: Vec<&str> = root.into_iter().flatten().collect();
        let run = double.run(&args);
        run.exits(1);
        assert_eq!(left(), count, "{args:?}: {}", run.stdout);
    }
}

#[test]
fn files_in_object_stores_are_left_to_the_server_or_to_nobody_and_never_called_deleted() {
    let tasks =
        [task("a", &["s3://bucket/x", "gs://bucket/y", "azure://a.blob.core.windows.net/c/z"])];
    for (version, args, code) in
        [("2.34", &[][..], 0), ("2.34", &["--object-stores", "nobody"], 1), ("2.20", &[], 1)]
    {
        let double = Double::new(json!({"tasks": tasks, "version": version}));
        let report = double.run(args).exits(code).json();
        let files = zone(&report, "clearml-files");
        assert_eq!(files["removed"], 0);
        let told = double.bodies("tasks.delete_many")[0]["delete_external_artifacts"].clone();
        if code == 0 {
            assert_eq!((&files["kept_by"]["left_to_server"], told), (&json!(3), json!(true)));
        } else {
            assert_eq!((&files["failed"], told), (&json!(3), json!(false)));
            assert!(report.to_string().contains("nothing deletes it"));
            let list = Run::of(double.command(&["journal"]));
            assert!(list.stdout.contains("s3://bucket/x"), "{}", list.stdout);
            Run::of(double.command(&["journal", "forget"])).exits(0);
            let list = Run::of(double.command(&["journal"]));
            assert!(list.stdout.contains("nothing is unfinished"), "{}", list.stdout);
        }
    }
}

#[test]
fn with_files_none_the_server_is_told_to_delete_them_and_no_file_is_touched() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    let report = double.run(&["--files", "none"]).exits(0).json();
    assert_counts(&report, "clearml-files", &[("kept_by.left_to_server", 1)]);
    assert_eq!(double.bodies("tasks.delete_many")[0]["delete_external_artifacts"], json!(true));
    assert!(double.requests().iter().all(|request| request["host"] != "files"));
}

#[test]
fn the_server_is_not_told_to_delete_what_something_else_names() {
    for (mode, address) in
        [("none", url(&path("a", "artifacts/x/x.bin"))), ("http", "s3://b/x".to_owned())]
    {
        let own = if mode == "none" {
            url(&path("a", "artifacts/y/y.bin"))
        } else {
            "s3://b/y".to_owned()
        };
        let input = json!({"artifacts": [{"key": "in", "mode": "input", "uri": address}]});
        let live = with(task("live", &[]), json!({"system_tags": [], "execution": input}));
        let double = Double::with_tasks(&[task("a", &[&address, &own]), live]);
        let report = double.run(&["--files", mode]).exits(1).json();
        assert_counts(&report, "clearml-files", &[("kept_by.referenced", 1), ("failed", 1)]);
        assert_eq!(
            double.bodies("tasks.delete_many")[0]["delete_external_artifacts"],
            json!(false)
        );
    }
}

#[test]
fn the_server_is_told_to_delete_the_files_of_a_task_with_a_draft_model() {
    let (artifact, weights) =
        (url(&path("a", "artifacts/x/x.bin")), url(&path("a", "models/m.pt")));
    let input = json!({"models": {"input": [{"name": "m", "model": id("m")}]}});
    let user = |fields: &Value| with(with(task("user", &[]), input.clone()), fields.clone());
    let (unused, live) = (json!({"models": {}}), json!({"system_tags": []}));
    for (mode, files, user, is_told) in [
        ("none", [&*artifact, &weights], user(&unused), true),
        ("http", ["s3://b/x", "s3://b/m"], user(&unused), true),
        // A task that goes in the same request has used it. If it stays after all, the server keeps the model in a
        // store, but some versions would take it with the directory that it is in.
        ("none", [&artifact, &weights], user(&json!({})), false),
        ("http", ["s3://b/x", "s3://b/m"], user(&json!({})), true),
        ("none", [&artifact, &weights], user(&live), false),
    ] {
        let double = Double::new(json!({
            "tasks": [task("a", &[files[0]]), user], "models": [model("m", "a", files[1], false)],
        }));
        let report = double.run(&["--files", mode]).exits(i32::from(!is_told)).json();
        let of_a = |body: &&Value| body["ids"].as_array().unwrap().contains(&json!(id("a")));
        let bodies = double.bodies("tasks.delete_many");
        let told = &bodies.iter().find(of_a).unwrap()["delete_external_artifacts"];
        assert_eq!(*told, json!(is_told), "{mode} {user}");
        if is_told {
            assert_counts(&report, "clearml-files", &[("kept_by.left_to_server", 2)]);
            assert!(double.left("models").is_empty());
        }
    }
}

#[test]
fn the_server_is_not_told_to_delete_what_is_not_alone_in_its_directory() {
    let own = url(&path("a", "artifacts/y/y.bin"));
    let outside = url("shared/a.zip");
    // Something else in the folder of the task is named by a live task.
    let named = json!({"artifacts": [
        {"key": "in", "mode": "input", "uri": url(&path("a", "artifacts/y/z.bin"))},
    ]});
    let live = |execution: &Value| {
        with(task("live", &[]), json!({"system_tags": [], "execution": execution}))
    };
    for (files, execution) in
        [(&[&*own, &outside][..], &json!({})), (&[&own], &named), (&["s3://b/x", &outside], &named)]
    {
        for mode in ["none", "http"] {
            let is_left = mode == "none" || files[0].starts_with("s3:");
            let double = Double::with_tasks(&[task("a", files), live(execution)]);
            double.run(&["--files", mode]).exits(i32::from(is_left));
            let told = double.bodies("tasks.delete_many")[0]["delete_external_artifacts"].clone();
            assert_eq!(told, json!(false), "{files:?} {mode}");
        }
    }
}

#[test]
fn a_dry_run_says_what_a_run_does_with_the_bytes_and_changes_nothing() {
    let (own, shared) = (path("a", "artifacts/x/x.bin"), path("a", "artifacts/s/s.bin"));
    let live = with(task("live", &[&url(&shared)]), json!({"system_tags": []}));
    let double = Double::with_tasks(&[task("a", &[&url(&own), &url(&shared)]), live]);
    double.file(&own);
    double.file(&shared);
    let (before, files) = (double.state(), double.files_left());
    let dry = double.run(&["--dry-run"]).exits(0).json();
    double.asserts_untouched(&before, &files);
    assert!(!double.path("home/.local").exists(), "a dry run needs no journal");
    // The server reports only the sizes of the files: how much disk space is freed is not among the totals.
    let notes = zone(&dry, "clearml-files")["notes"].to_string();
    assert!(notes.contains("the files on file servers total 1 B;"), "{notes}");
    let real = double.run(&[]).exits(0).json();
    for name in ["clearml-tasks", "clearml-files"] {
        for key in ["seen", "removed", "kept", "skipped", "failed", "kept_by", "freed_bytes"] {
            assert_eq!(zone(&dry, name)[key], zone(&real, name)[key], "{name} {key}");
        }
    }
    assert_eq!(dry["totals"], real["totals"]);
}
