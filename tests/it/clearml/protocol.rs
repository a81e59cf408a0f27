//! How the program talks to the servers, and where it finds them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::double::{Double, removed};
use super::seeds::{path, task, url};
use crate::world::{NOW, Run, sweeper};

#[test]
fn it_logs_in_once_and_sends_the_token_afterwards() {
    let double = Double::with_tasks(&[task("a", &[])]);
    double.run(&[]).exits(0);
    let requests = double.requests();
    assert_eq!(requests.iter().filter(|it| it["path"] == "/auth.login").count(), 1);
    assert!(requests.iter().all(|it| it["authorization"] == true));
}

#[test]
fn one_401_makes_it_log_in_again_and_a_second_one_ends_the_run() {
    let double = Double::with_tasks(&[task("a", &[])]);
    double.faults(json!([
        {"match": "tasks.get_all", "do": "status", "status": 401, "times": 1, "skip": 1},
    ]));
    assert_eq!(removed(&double.run(&[]).exits(0).json()).0, 1);
    assert_eq!(double.bodies("auth.login").len(), 2);

    let wrong = Double::with_tasks(&[task("a", &[])]);
    let mut command = wrong.command(&["run", "--now", NOW]);
    command.env("CLEARML_API_SECRET_KEY", "wr0ng");
    let run = Run::of(command);
    assert!(run.exits(4).stderr.contains("401/22"), "{}", run.stderr);
    assert!(!run.stderr.contains("wr0ng") && !run.stdout.contains("wr0ng"));
    assert_eq!(wrong.bodies("auth.login").len(), 1);
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let state = json!({"tasks": [task("a", &[])], "token_seconds": 300});
    let double = Double::new(state);
    double.run(&[]).exits(0);
    // It has less than 360 seconds left from the beginning, so each request asks for a new one.
    assert!(double.bodies("auth.login").len() > 3);
}

#[test]
fn requests_are_posts_of_plain_json_to_known_endpoints() {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    double.run(&[]).exits(0);
    let known: BTreeSet<&str> = [
        "/auth.login",
        "/tasks.get_all",
        "/tasks.get_by_id",
        "/tasks.delete",
        "/tasks.delete_many",
        "/events.get_task_events",
        "/models.get_all",
        "/models.delete",
        "/delete_many",
    ]
    .into();
    for request in double.requests() {
        assert_eq!(request["method"], "POST", "{request}");
        assert!(request["body"].is_object(), "{request}");
        assert!(known.contains(request["path"].as_str().unwrap()), "{request}");
    }
}

#[test]
fn a_server_that_is_not_clearmls_is_named_as_such() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let mut command = double.command(&["run", "--now", NOW]);
    // The address of the file server instead of that of the API.
    command.env("CLEARML_API_HOST", &double.files);
    let run = Run::of(command);
    assert!(
        run.exits(4).stderr.contains("does not answer like a ClearML API server"),
        "{}",
        run.stderr
    );
    assert!(!double.left("tasks").is_empty());
}

/// Runs a dry run with this environment, and files in its home directory.
fn dry_run(double: &Double, env: &[(&str, &str)], files: &[(&str, &str)]) -> Run {
    let mut command = sweeper(&["clearml", "run", "--dry-run", "--now", NOW, "--format", "json"]);
    command.env("HOME", double.path("home"));
    command.envs(env.iter().copied());
    for (name, text) in files {
        fs::write(double.path("home").join(name), text).unwrap();
    }
    let run = Run::of(command);
    for (name, _) in files {
        fs::remove_file(double.path("home").join(name)).unwrap();
    }
    run
}

#[test]
fn servers_and_keys_come_from_variables_under_both_names_from_a_named_file_or_from_the_home_directory()
 {
    let double = Double::with_tasks(&[task("a", &[])]);
    let (api, files) = (double.api.as_str(), double.files.as_str());
    let conf = format!(
        "api {{\n  # the servers\n  api_server: {api}/\n  files_server: \"{files}\"\n  credentials {{\n    \
         \"access_key\" = \"${{MY_KEY}}\"  // not a reference\n  }}\n}}\n\
         api.credentials.access_key = ${{MY_KEY}}\napi.credentials.secret_key = s3cret\n"
    );
    let wrong = conf.replace(api, "http://127.0.0.1:1");
    let key = ("MY_KEY", "key");
    let named = double.path("other.conf");
    fs::write(&named, &conf).unwrap();
    let new = [
        ("CLEARML_API_HOST", api),
        ("CLEARML_FILES_HOST", files),
        ("CLEARML_API_ACCESS_KEY", "key"),
        ("CLEARML_API_SECRET_KEY", "s3cret"),
    ];
    let old: Vec<(String, &str)> =
        new.iter().map(|(name, value)| (name.replace("CLEARML", "TRAINS"), *value)).collect();
    let old: Vec<(&str, &str)> = old.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for (env, homes) in [
        (&new[..], &[][..]),
        (&old, &[]),
        (&[key], &[("clearml.conf", conf.as_str())]),
        (&[key], &[("trains.conf", conf.as_str())]),
        (&[key], &[("trains.conf", wrong.as_str()), ("clearml.conf", &conf)]),
        (&[key, ("CLEARML_CONFIG_FILE", named.to_str().unwrap())], &[("clearml.conf", &wrong)]),
        (&[key, new[0]], &[("clearml.conf", &wrong)]),
    ] {
        let run = dry_run(&double, env, homes);
        assert_eq!(removed(&run.exits(0).json()).0, 1, "{env:?}");
    }
}

#[test]
fn without_a_server_or_keys_nothing_is_asked_and_the_hosted_service_is_never_guessed() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let host = ("CLEARML_API_HOST", double.api.as_str());
    let key = ("CLEARML_API_ACCESS_KEY", "key");
    let secret = ("CLEARML_API_SECRET_KEY", "s3cret");
    for (env, words) in [
        (&[key, secret][..], "no ClearML server is named"),
        (&[host, key], "there are no keys"),
        (&[host, secret], "there are no keys"),
        (&[("CLEARML_API_HOST", ""), key, secret], "no ClearML server is named"),
    ] {
        let run = dry_run(&double, env, &[]);
        assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
    }
    let broken = dry_run(&double, &[], &[("clearml.conf", "api {\n s3cret")]);
    let text = &broken.exits(2).stderr;
    assert!(text.contains("clearml.conf\", line 2") && !text.contains("s3cret"), "{text}");
    assert!(double.requests().is_empty());
}

#[test]
fn no_key_and_no_token_is_printed_or_written_anywhere() {
    let double = Double::with_tasks(&[task("a", &["s3://b/k"])]);
    let mut command = double.command(&["run", "-v", "--now", NOW, "--object-stores", "nobody"]);
    command.env("SWEEPER_LOG_FORMAT", "json");
    let run = Run::of(command);
    let config = Run::of({
        let mut command = sweeper(&["config"]);
        command.env("CLEARML_API_SECRET_KEY", "s3cret").env("HOME", "/root");
        command
    });
    let state = double.path("home/.local/state/sweeper/clearml/journal.jsonl");
    let journal = fs::read_to_string(state).unwrap();
    for text in [&run.stdout, &run.stderr, &config.stdout, &config.stderr, &journal] {
        assert!(
            !text.contains("s3cret") && !text.contains("Bearer") && !text.contains("eyJ"),
            "{text}"
        );
    }
}

#[test]
fn an_unreachable_server_and_a_busy_one_are_named_and_end_the_run() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let mut command = double.command(&["run", "--now", NOW]);
    command.env("CLEARML_API_HOST", "http://127.0.0.1:1");
    let run = Run::of(command);
    assert!(
        run.exits(4).stderr.contains("cannot be reached: Connection refused"),
        "{}",
        run.stderr
    );
    double.faults(json!([{"match": "*", "do": "status", "status": 503}]));
    let run = double.run(&[]);
    assert!(run.exits(4).stderr.contains("status 503 (5 tries)"), "{}", run.stderr);
    double.faults(json!([{"match": "*", "do": "status", "status": 502, "times": 2}]));
    assert_eq!(removed(&double.run(&[]).exits(0).json()).0, 1);
    let all: Vec<Value> = double.requests();
    assert!(all.len() < 40, "{} requests", all.len());
}

#[test]
fn an_older_address_of_the_file_server_that_is_not_used_is_warned_about() {
    let double = Double::with_tasks(&[]);
    let many: Vec<String> = (0..8).map(|n| format!("http://old{n}:8081")).collect();
    let list = format!("\"files.example:8081\", \"http://u:s3cret@h\", {}", many.join(", "));
    let conf = format!("sdk.storage.http.legacy_fileservers = [{list}]");
    let home = double.path("home");
    fs::write(home.join("clearml.conf"), &conf).unwrap();
    let said = double.run(&[]).exits(0).stderr.clone();
    for words in [
        "address 1 of sdk.storage.http.legacy_fileservers",
        "address 2 of sdk.storage.http.legacy_fileservers",
        "address 10 of sdk.storage.http.legacy_fileservers",
        "clearml.conf",
        "there are at most 8 file servers",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("address 9 ") && !said.contains("s3cret"), "{said}");
    fs::write(home.join("clearml.conf"), "sdk.storage.http.legacy_fileservers = x").unwrap();
    let said = double.run(&[]).exits(2).stderr.clone();
    assert!(said.contains("legacy_fileservers is not a list"), "{said}");
}
