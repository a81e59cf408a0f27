//! Keeps the plan of the house: which room may use which, which crate has which door, what stands in one file
//! alone, and which words are used.
//!
//! A new room needs a row in [`ROOMS`], a new crate one in [`DOORS`]. The checks are functions in `checks`,
//! `graph` and `prose`, with tests that show how each of them fails.

mod checks;
mod graph;
mod lexer;
mod prose;

use std::path::Path;
use std::sync::LazyLock;

use checks::Row;
use graph::{Crate, Source};

/// What each room may use, from the bottom up: a row names rows above it only.
///
/// Where this differs from the plain "engine uses protocol and rules":
/// - `control` is a trait without any use of its own. `fs`, `source` and the rest ask it whether to stop, so
///   that they need not know `engine`, which implements it.
/// - `config` makes typed values of the rooms that they are for: a server of `lock`, a format of `report`, a
///   schedule of `service`.
/// - `report` appends to the audit log (`fs`).
/// - `service` reads how full the disk is (`fs`), for its metrics.
/// - `units` has the words for an error of the system, so rooms with such errors use it.
/// - `cvat` is data and uses `rules` alone. `clearml` asks servers and knows no file system, but opens its journal
///   (`fs`). The rooms that may know it are those at the end.
const ROOMS: [Row; 21] = [
    ("rules", &[]),
    ("control", &[]),
    ("units", &["rules"]),
    ("protocol", &["rules", "units"]),
    ("fs", &["rules", "control", "units"]),
    ("engine", &["protocol", "rules", "control", "units"]),
    ("source", &["protocol", "fs", "rules", "control", "units"]),
    ("inspect", &["protocol", "fs", "rules", "control"]),
    ("dispose", &["protocol", "fs", "rules", "control", "units"]),
    ("lock", &["protocol", "fs", "rules", "units"]),
    ("usage", &["protocol", "fs", "rules", "control", "units"]),
    ("report", &["protocol", "fs", "rules", "units", "usage"]),
    ("service", &["protocol", "fs", "rules", "units"]),
    ("os", &["rules", "units"]),
    ("cvat", &["rules"]),
    ("clearml", &["protocol", "fs", "rules", "units"]),
    ("config", &["clearml", "cvat", "lock", "report", "service", "rules", "units"]),
    ("cli", &["config", "cvat"]),
    ("cmd", &["*"]),
    ("lib", &[]),
    ("main", &["cmd"]),
];

/// Rooms without I/O, and what would be I/O there.
const PURE: [&str; 3] = ["rules", "control", "cvat"];
const IO: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix",
    "tracing",
];

/// Rooms that handle open files and errors of the system, but make no call of their own.
const PASSIVE: [&str; 2] = ["protocol", "units"];
const CALLS: [&str; 8] = [
    "std::env",
    "std::net",
    "std::process::Command",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix",
    "tracing",
];

/// Each crate and the files that use it.
const DOORS: [Row; 29] = [
    ("clap", &["cli.rs", "cli/clearml.rs", "cli/elsewhere.rs", "cli/man.rs", "cli/options.rs"]),
    ("clap_complete", &["cli.rs"]),
    ("clap_mangen", &["cli/man.rs"]),
    ("croner", &["service/schedule.rs"]),
    ("filetime", &["cmd/demo.rs"]),
    ("fs2", &["lock/flock.rs"]),
    ("globset", &["rules/exclude.rs"]),
    ("humantime", &["units.rs", "units/durations.rs"]),
    ("hyper", &["service/http.rs"]),
    ("hyper_util", &["service/http.rs"]),
    ("indicatif", &["report/progress.rs"]),
    ("ioprio", &["os/priority.rs"]),
    ("jiff", &["service/schedule.rs"]),
    ("libc", &["fs/lease.rs"]),
    ("prometheus", &["service/metrics.rs"]),
    ("rayon", &["engine/workers.rs"]),
    ("regex", &["cvat/names.rs", "rules/names.rs"]),
    (
        "rustix",
        &[
            "cmd/hold.rs",
            "dispose/quarantine.rs",
            "dispose/quarantine/adopt.rs",
            "dispose/quarantine/ended.rs",
            "dispose/quarantine/errors.rs",
            "dispose/quarantine/names.rs",
            "dispose/quarantine/owner.rs",
            "dispose/quarantine/rename.rs",
            "dispose/quarantine/served.rs",
            "dispose/recover.rs",
            "dispose/recover/foresee.rs",
            "dispose/recover/tree.rs",
            "dispose/single.rs",
            "dispose/tree.rs",
            "dispose/tree_remover.rs",
            "dispose/unlink.rs",
            "fs/append.rs",
            "fs/error.rs",
            "fs/file_system.rs",
            "fs/lease.rs",
            "fs/lease/breaks.rs",
            "fs/lease/locks.rs",
            "fs/lease/room.rs",
            "fs/open.rs",
            "fs/reserve.rs",
            "fs/rights.rs",
            "fs/root.rs",
            "fs/space.rs",
            "fs/stat.rs",
            "fs/walk.rs",
            "fs/walk/frame.rs",
            "fs/walk/gone.rs",
            "fs/walk/inside.rs",
            "fs/walk/parts.rs",
            "lock/exclusive.rs",
            "lock/flock.rs",
            "lock/redis/keys.rs",
            "lock/redis/stream.rs",
            "os/clock.rs",
            "os/priority.rs",
            "os/signals.rs",
            "os/terminal.rs",
            "service/metrics/file.rs",
            "service/notify.rs",
            "source.rs",
            "source/cold.rs",
            "source/directory.rs",
            "source/enter.rs",
            "source/instances.rs",
            "source/leftovers.rs",
            "source/list.rs",
        ],
    ),
    ("rustls", &["clearml/http.rs", "lock/redis/stream.rs"]),
    ("rustls_native_certs", &["clearml/http.rs", "lock/redis/stream.rs"]),
    (
        "serde_json",
        &[
            "clearml/client.rs",
            "clearml/collect.rs",
            "clearml/datasets.rs",
            "clearml/delete.rs",
            "clearml/explain.rs",
            "clearml/fileserver.rs",
            "clearml/hocon/read.rs",
            "clearml/journal.rs",
            "clearml/limits.rs",
            "clearml/models.rs",
            "clearml/needs.rs",
            "clearml/projects.rs",
            "clearml/references.rs",
            "clearml/select.rs",
            "clearml/token.rs",
            "clearml/tools.rs",
            "report/json.rs",
            "report/json/visible.rs",
        ],
    ),
    ("nix", &["os/signals.rs"]),
    ("signal_hook", &["cmd/hold.rs", "os/signals.rs"]),
    (
        "tempfile",
        &[
            "clearml/journal.rs",
            "cmd/apply.rs",
            "cmd/demo.rs",
            "cmd/new_file.rs",
            "cmd/pass/lists.rs",
            "service/metrics/file.rs",
        ],
    ),
    ("tokio", &["service/http.rs", "service/http/measure.rs"]),
    ("toml", &["config/file.rs"]),
    ("tracing_subscriber", &["os/logging.rs"]),
    ("ureq", &["clearml/http.rs", "clearml/names.rs"]),
    ("walkdir", &["cmd/demo.rs"]),
];

/// Crates without a door: derives, and log lines.
const EVERYWHERE: [&str; 3] = ["serde", "thiserror", "tracing"];

/// What is dangerous, or is made in one place, and the files that it stands in.
const PLACES: [Row; 17] = [
    ("unlinkat(", &["dispose/unlink.rs"]),
    // Only an entry that is taken out of reach, or comes back, is renamed.
    ("renameat_with(", &["dispose/quarantine/rename.rs"]),
    ("unsafe {", &["fs/lease.rs"]),
    ("SystemTime::now", &["os/clock.rs"]),
    ("env::vars_os", &["config/raw.rs"]),
    ("env::var", &[]),
    // Each token is made in the file that defines it.
    ("Ok(Expired {", &["rules/verdict.rs", "rules/verdict/early.rs"]),
    ("Ok(Self { metadata, age", &["rules/verdict.rs"]),
    ("Claimed {", &["protocol/tokens.rs"]),
    ("Rechecked {", &["protocol/tokens.rs"]),
    ("Verified {", &["protocol/tokens.rs"]),
    ("Removed {", &["protocol/tokens.rs"]),
    ("Claimed::new(", &["lock/flock.rs"]),
    // Whether a pass removes anything is decided once, and no flag is handed down.
    (
        "DryRun::new(",
        &["cmd/clearml/seams.rs", "cmd/pass/execute.rs", "cmd/why.rs", "cmd/why/interrupted.rs"],
    ),
    ("Unlink::new(", &["cmd/clearml/seams.rs", "cmd/demo.rs", "cmd/pass/execute.rs"]),
    ("dry_run: bool", &["config.rs", "report/json.rs", "report/merge.rs"]),
    ("too_many_lines", &[]),
];

/// The applications, and the rooms that may know their names.
const APPLICATIONS: [&str; 2] = ["cvat", "clearml"];
const KNOWING: [&str; 6] = ["clearml", "cvat", "config", "cli", "cmd", "lib"];

/// What only an application calls a zone or a directory.
const LITERALS: [&str; 8] = [
    "export",
    "tmp",
    "instance-tmp",
    "cache/export",
    "export_cache",
    "projects",
    "tasks",
    "/home/django/data",
];

/// The longest file.
const MOST_LINES: usize = 400;

/// The files below a directory of the repository, with their paths from there.
fn files_below(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            // A picture is no text, and has no words to check.
            let bytes = std::fs::read(entry.path()).unwrap();
            files.push((path, String::from_utf8(bytes).unwrap_or_default()));
        }
    }
    files
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let sources = files_below("src");
    assert!(sources.len() > 100, "these are not the sources");
    sources
});

static CODE: LazyLock<Crate<'static>> = LazyLock::new(|| Crate::read(&SOURCES));

/// Fails with all problems, if there are any.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_file_belongs_to_a_room_that_uses_what_its_row_allows() {
    assert_none(&CODE.problems());
    assert_none(&checks::check_rows(&ROOMS));
    assert_none(&checks::check_rooms(&SOURCES, &CODE.uses(), &ROOMS));
    assert_none(&checks::check_pure(&CODE, &PURE, &IO));
    assert_none(&checks::check_pure(&CODE, &PASSIVE, &CALLS));
}

#[test]
fn no_two_rooms_and_no_two_files_use_each_other() {
    let uses = CODE.uses();
    assert!(uses.len() > 300, "only {} uses were found", uses.len());
    assert_none(&graph::circles(&uses, checks::room_of));
    assert_none(&graph::circles(&uses, str::to_owned));
}

#[test]
fn every_crate_has_one_door() {
    assert_none(&checks::check_doors(&CODE, &read("Cargo.toml"), &DOORS, &EVERYWHERE));
}

#[test]
fn what_is_dangerous_or_decided_once_stands_in_one_file() {
    assert_none(&checks::check_places(&CODE, &PLACES));
}

#[test]
fn applications_are_known_to_their_own_folders() {
    assert_none(&checks::check_applications(&CODE, &APPLICATIONS, &LITERALS, &KNOWING));
}

#[test]
fn every_file_says_what_it_is_and_stays_small() {
    assert_none(&checks::check_docs(&CODE, &SOURCES, &["lib.rs"]));
    let files = ["src", "tests", "benches"].into_iter().flat_map(|dir| {
        let named = move |(path, text)| (format!("{dir}/{path}"), text);
        files_below(dir).into_iter().map(named)
    });
    assert_none(&checks::check_sizes(&files.collect::<Vec<_>>(), MOST_LINES));
    let main = SOURCES.iter().find(|(path, _)| path == "main.rs").unwrap();
    assert_none(&checks::check_sizes(std::slice::from_ref(main), 60));
    assert!(read(".clippy.toml").contains("\ntoo-many-lines-threshold = 60\n"));
}

#[test]
fn no_script_goes_on_after_a_condition_that_is_false() {
    for dir in ["tests", "benches", "deploy", "docs"] {
        assert_none(&checks::check_conditions(&files_below(dir)));
    }
}

#[test]
fn no_word_is_odd() {
    let mut problems = Vec::new();
    let mut check = |file: &str, text: &str| {
        for (line, word) in prose::odd_words(text) {
            problems.push(format!("{file}:{line}: {word}"));
        }
    };
    for dir in ["src", "tests", "benches", "docs", "deploy", "fixtures"] {
        for (path, text) in files_below(dir) {
            let file = format!("{dir}/{path}");
            // The list of these words.
            if file != "tests/it/tidy/prose.rs" {
                check(&file, &path);
                check(&file, &text);
            }
        }
    }
    for file in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".clippy.toml"] {
        check(file, &read(file));
    }
    check("Cargo.toml", &read("Cargo.toml"));
    assert_none(&problems);
}

#[test]
fn tests_start_programs_through_start_rs() {
    let calls: [Row; 3] =
        [(".spawn()", &["start.rs"]), (".output()", &["start.rs"]), (".status()", &["start.rs"])];
    for (path, text) in files_below("tests/it") {
        let code = lexer::tokens(&text);
        for (call, files) in calls.iter().filter(|(_, files)| !files.contains(&path.as_str())) {
            let line = lexer::find(&code, call);
            assert!(line.is_none(), "tests/it/{path}:{line:?}: {call} belongs in {files:?}");
        }
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
