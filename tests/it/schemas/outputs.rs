//! The outputs of the program on one data root that has some of everything.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::clearml::double::Double;
use crate::clearml::seeds::{path, task, url};
use crate::company::has_tool;
use crate::start::Start;
use crate::world::{DAY, HOUR, NOW, Run, World, export_name};

/// What one command printed, or wrote to a file.
pub(super) struct Output {
    pub(super) name: &'static str,
    /// The schema that describes each document.
    pub(super) schema: &'static str,
    /// Objects, or the lines of a file.
    pub(super) documents: Vec<Value>,
}

/// Each output and its schema.
pub(super) const NAMES: [(&str, &str); 16] = [
    ("dry-run.jsonl", "jsonl"),
    ("plan.json", "report"),
    ("plan.plan", "plan"),
    ("usage.json", "usage"),
    ("why.json", "why"),
    ("config.json", "config"),
    ("shard-0.json", "report"),
    ("merge.json", "report"),
    ("no-lock.json", "report"),
    ("guard.json", "report"),
    ("legacy.json", "report"),
    ("run.json", "report"),
    ("audit.jsonl", "audit"),
    ("not-removed.jsonl", "audit"),
    ("clearml.jsonl", "jsonl"),
    ("clearml-audit.jsonl", "audit"),
];

fn export(number: u32) -> PathBuf {
    Path::new("cache/export").join(export_name(number))
}

/// Exports and temporary entries of every kind that a report tells apart.
fn world() -> World {
    let world = World::new();
    for number in 0..4 {
        world.file(export(number), 2 * DAY);
    }
    world.file(export(9), HOUR);
    world.file("cache/export/notes.txt", 2 * DAY);
    world.link("cache/export/link", "nowhere", 2 * DAY);
    world.file("tmp/tree/sub/file", 20 * DAY);
    world.file("tmp/young", HOUR);
    world.file("tmp/excluded", 20 * DAY);
    world.file(Path::new("tmp").join(OsStr::from_bytes(b"not-utf-8-\xff")), 20 * DAY);
    world.file("projects/1/export_cache/x", 2 * DAY);
    world.file("tasks/7/tmp/old", 20 * DAY);
    world.file("data/1/original/images.zip", 40 * DAY);
    world.age_dirs("tmp", 20 * DAY);
    world
}

/// The JSON values in a text, one after the other, with the data root of the test called `/data`.
fn documents(text: &str, root: &Path) -> Vec<Value> {
    let text = text.replace(root.to_str().unwrap(), "/data");
    let all = serde_json::Deserializer::from_str(&text).into_iter();
    all.map(|value| value.unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

/// Collects outputs by name.
struct Collected(Vec<Output>);

impl Collected {
    fn add(&mut self, name: &str, text: &str, root: &Path) {
        let (name, schema) = NAMES.into_iter().find(|(known, _)| *known == name).unwrap();
        let documents = documents(text, root);
        assert!(!documents.is_empty(), "{name} is empty");
        self.0.push(Output { name, schema, documents });
    }
}

/// Every output, made once; `None` where a tool for one of them is missing.
pub(super) fn outputs() -> Option<&'static [Output]> {
    static ALL: LazyLock<Option<Vec<Output>>> = LazyLock::new(make);
    ALL.as_deref()
}

fn make() -> Option<Vec<Output>> {
    if !has_tool("strace", "the line of an entry that stays after all") {
        return None;
    }
    let mut all = Collected(Vec::new());
    let world = world();
    look(&world, &mut all);
    remove(&world, &mut all);
    not_removed(&mut all);
    clearml(&mut all);
    assert_eq!(all.0.len(), NAMES.len());
    Some(all.0)
}

/// The commands that change nothing.
fn look(world: &World, all: &mut Collected) {
    let root = &world.root;
    let print = |args: &[&str], code: i32| {
        let run = world.run(args);
        run.exits(code).stdout.clone()
    };
    let held = fs::File::open(world.path(export(3))).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let args = ["run", "--dry-run", "-v", "--format", "jsonl", "--exclude", "excluded"];
    all.add("dry-run.jsonl", &print(&args, 0), root);
    drop(held);
    let plan = root.with_extension("plan");
    let args = ["plan", "-o", plan.to_str().unwrap(), "--format", "json"];
    all.add("plan.json", &print(&args, 0), root);
    all.add("plan.plan", &fs::read_to_string(&plan).unwrap(), root);
    all.add("usage.json", &print(&["usage", "--format", "json"], 0), root);
    let paths: Vec<String> = [export(0), "tmp/young".into(), "data/1".into(), "nothing".into()]
        .iter()
        .map(|path| world.path(path).to_str().unwrap().to_owned())
        .collect();
    let paths = paths.iter().map(String::as_str);
    let args: Vec<&str> = ["why", "--format", "json"].into_iter().chain(paths).collect();
    all.add("why.json", &Run::of(world.command(&args)).stdout, root);
    let mut config = crate::world::sweeper(&["config", "--format", "json", "--data"]);
    config.arg(root);
    all.add("config.json", &Run::of(config).exits(0).stdout, root);
    let shards: Vec<String> = ["0/2", "1/2"]
        .map(|shard| print(&["run", "--dry-run", "--format", "json", "--shard", shard], 0))
        .into();
    all.add("shard-0.json", &shards[0], root);
    let files = ["0", "1"].map(|name| root.with_extension(name));
    for (file, shard) in files.iter().zip(&shards) {
        fs::write(file, shard).unwrap();
    }
    let mut merge = crate::world::sweeper(&["merge", "--format", "json"]);
    merge.args(&files);
    all.add("merge.json", &Run::of(merge).exits(0).stdout, root);
    let args = ["run", "--dry-run", "--format", "json", "--redis", "redis://127.0.0.1:1"];
    all.add("no-lock.json", &print(&args, 4), root);
    let args = ["run", "--format", "json", "--max-removals", "1"];
    all.add("guard.json", &print(&args, 3), root);
}

/// The commands that remove. One path of a list is refused, which is a failure.
fn remove(world: &World, all: &mut Collected) {
    let root = &world.root;
    all.add("legacy.json", &world.run(&["legacy", "--format", "json"]).exits(0).stdout, root);
    let list = root.with_extension("list");
    let paths = [world.path(export(0)), world.path(export(1)), world.path("tmp/tree"), "/x".into()];
    let paths = paths.map(|path| path.into_os_string().into_encoded_bytes());
    fs::write(&list, paths.join(&0)).unwrap();
    let log = root.with_extension("audit");
    let files = ["--from0", list.to_str().unwrap(), "--audit-log", log.to_str().unwrap()];
    let run = world.run(&[&["run", "--format", "json"], &files[..]].concat());
    all.add("run.json", &run.exits(1).stdout, root);
    all.add("audit.jsonl", &fs::read_to_string(&log).unwrap(), root);
}

/// The system refuses a removal at the last moment.
fn not_removed(all: &mut Collected) {
    let world = World::new();
    world.file("tmp/file", 20 * DAY);
    let log = world.root.with_extension("audit");
    let plain = world.command(&["run", "--jobs", "1", "--audit-log", log.to_str().unwrap()]);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:error=EBUSY"]);
    command.arg(plain.get_program()).args(plain.get_args()).env_clear().current_dir("/");
    let _ = command.finish().unwrap();
    all.add("not-removed.jsonl", &fs::read_to_string(&log).unwrap(), &world.root);
}

/// A cleanup of a ClearML server.
fn clearml(all: &mut Collected) {
    let file = path("a", "artifacts/x/x.bin");
    let double = Double::with_tasks(&[task("a", &[&url(&file)])]);
    double.file(&file);
    let log = double.path("audit.log");
    let args = ["run", "--now", NOW, "--format", "jsonl", "--audit-log", log.to_str().unwrap()];
    let run = Run::of(double.command(&args));
    all.add("clearml.jsonl", &run.exits(0).stdout, &double.path("files"));
    all.add("clearml-audit.jsonl", &fs::read_to_string(&log).unwrap(), &double.path("files"));
}
