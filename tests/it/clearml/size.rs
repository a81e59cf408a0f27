//! Memory and requests do not grow with the number of tasks.

use std::process::Command;

use serde_json::{Value, json};

use super::double::Double;
use super::seeds::{id, path, sample, task, url};
use crate::start::Start;
use crate::world::{NOW, is_present};

/// The memory that a cleanup of this many tasks takes at most, in KiB, and how many requests it makes.
fn cost(tasks: usize) -> (u64, usize) {
    let (mut records, mut events) = (Vec::new(), json!({}));
    for n in 0..tasks {
        let name = format!("task {n}");
        let artifacts: Vec<String> =
            (0..5).map(|k| url(&path(&name, &format!("artifacts/a{k}/a{k}.bin")))).collect();
        records.push(task(&name, &artifacts.iter().map(String::as_str).collect::<Vec<_>>()));
        let images = (0..20).map(|k| sample(&url(&path(&name, &format!("metrics/m/v/{k}.jpeg")))));
        events[id(&name)] = images.collect::<Vec<Value>>().into();
    }
    let double = Double::new(json!({"tasks": records, "events": events}));
    let plain = double.command(&["run", "--now", NOW, "-q"]);
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%M"]).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(plain.get_envs().map(|(name, value)| (name, value.unwrap())));
    let output = command.finish().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(double.left("tasks").is_empty());
    (text.trim().parse().unwrap(), double.requests().len())
}

#[test]
fn memory_does_not_grow_with_the_number_of_tasks() {
    if !is_present(std::path::Path::new("/usr/bin/time").exists(), "/usr/bin/time") {
        return;
    }
    let (few, few_requests) = cost(100);
    let (many, many_requests) = cost(1500);
    assert!(many < few + 16 * 1024 && many < 64 * 1024, "{few} KiB for 100, {many} KiB for 1500");
    // Two listings of events for each task, each with a page that is empty; the rest is in batches.
    assert!(many_requests < few_requests * 15, "{few_requests} for 100, {many_requests} for 1500");
    assert!(many_requests < 1500 * 5, "{many_requests}");
}
