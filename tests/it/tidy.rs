//! Keeps the house plan true: which module may use which, which crate has which door, which file may
//! delete. A new file needs a row here.

use std::path::{Path, PathBuf};

/// Module by module: what else of this crate it may use. Files below a module follow its row.
const MAY_USE: [(&str, &[&str]); 24] = [
    ("retention", &[]),
    ("condemn", &["retention"]),
    ("stop", &[]),
    ("workers", &[]),
    ("kindness", &[]),
    ("sweep", &["condemn", "retention", "stop", "workers"]),
    ("look", &["condemn", "retention"]),
    ("volume", &["condemn", "look", "retention"]),
    ("disk", &["condemn", "look", "retention", "stop", "volume", "workers"]),
    ("lock", &["condemn", "look", "retention", "volume"]),
    ("listen", &[]),
    ("metrics", &["condemn", "report", "retention", "sweep", "volume"]),
    ("service", &["exit", "retention", "units"]),
    ("report", &["condemn", "config", "exit", "retention", "stop", "sweep", "units"]),
    ("units", &["retention"]),
    ("exit", &["sweep"]),
    ("config", &["disk", "lock", "report", "retention", "service", "units", "volume"]),
    ("cli", &["config"]),
    ("hold", &["exit", "lock", "units"]),
    ("why", &["condemn", "disk", "lock", "retention", "units", "volume"]),
    (
        "demo",
        &[
            "condemn",
            "disk",
            "lock",
            "report",
            "retention",
            "stop",
            "sweep",
            "units",
            "volume",
            "why",
            "workers",
        ],
    ),
    ("lib", &[]),
    ("main", &["*"]),
    ("serve", &["*"]),
];

/// Each crate and the only files that may use it. `tracing`, `thiserror` and the derives of `serde`
/// have no door, and none of them but `thiserror` is in the core.
const DOORS: [(&str, &[&str]); 24] = [
    ("clap", &["cli.rs"]),
    ("clap_complete", &["cli.rs"]),
    ("clap_mangen", &["cli.rs"]),
    ("croner", &["service/schedule.rs"]),
    ("filetime", &["demo.rs"]),
    ("fs2", &["lock/flock.rs"]),
    ("ioprio", &["kindness.rs"]),
    ("globset", &["retention/policy.rs"]),
    ("humantime", &["units.rs"]),
    ("redis", &["lock/redis/wire.rs"]),
    ("indicatif", &["report/progress.rs"]),
    ("jiff", &["service/schedule.rs"]),
    ("libc", &["disk/in_use.rs"]),
    ("prometheus", &["metrics.rs"]),
    ("rayon", &["workers.rs"]),
    ("regex", &["retention/name.rs"]),
    (
        "rustix",
        &[
            "look.rs",
            "volume.rs",
            "disk.rs",
            "disk/in_use.rs",
            "disk/instances.rs",
            "disk/remove.rs",
            "disk/scan.rs",
            "disk/survey.rs",
            "disk/tree.rs",
            "disk/tree/inside.rs",
            "disk/tree/recall.rs",
            "lock/flock.rs",
            "hold.rs",
            "kindness.rs",
            "lock/guard.rs",
            "lock/redis/keys.rs",
            "service.rs",
            "service/notify.rs",
        ],
    ),
    ("serde_json", &["report/json.rs"]),
    ("signal_hook", &["main.rs", "serve.rs", "hold.rs"]),
    ("tempfile", &["demo.rs", "metrics.rs"]),
    ("tiny_http", &["listen.rs"]),
    ("toml", &["config/values.rs"]),
    ("tracing_subscriber", &["main.rs"]),
    ("walkdir", &["demo.rs"]),
];

/// Words that stand in one file alone.
const ONLY_IN: [(&str, &str); 8] = [
    ("unlinkat(", "disk/remove.rs"),
    ("futimens(", "disk/remove.rs"),
    ("unsafe {", "disk/in_use.rs"),
    ("SystemTime::now", "main.rs"),
    ("env::vars_os", "config.rs"),
    ("Condemned {", "condemn.rs"),
    ("Ok(Stale {", "retention/policy.rs"),
    ("Rehearsal::of(", "main.rs"),
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let path: PathBuf = entry.path().strip_prefix(&root).unwrap().to_owned();
            all.push((
                path.to_str().unwrap().to_owned(),
                std::fs::read_to_string(entry.path()).unwrap(),
            ));
        }
    }
    assert!(all.len() > 20, "not the sources");
    all
}

/// The code of a file: no comments, and nothing from its unit tests on.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// The names that follow `prefix` in `text`, as in `crate::NAME` or `crate::{NAME, NAME::..}`.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        assert!(
            prefix != "crate::" || !rest.starts_with('{'),
            "one `use {prefix}` a module, please"
        );
        names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
    }
    names
}

#[test]
fn every_module_uses_only_what_its_row_allows() {
    for (file, text) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        let row = MAY_USE.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("src/{file} has no row in tidy.rs"));
        for used in names_after(&code(&text), "crate::") {
            assert!(
                used == module || allowed.contains(&used.as_str()) || *allowed == ["*"],
                "src/{file} uses {used}, which its row does not allow"
            );
        }
        if module == "retention" {
            for word in ["std::fs", "std::io", "std::env", "std::time::System", "tracing"] {
                assert!(!code(&text).contains(word), "src/{file}: {word} in the pure core");
            }
        }
    }
}

#[test]
fn every_crate_has_one_door() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let free = ["serde", "thiserror", "tracing"];
    for line in dependencies.lines().filter(|line| line.contains(" = ")) {
        let name = line.split(' ').next().unwrap().replace('-', "_");
        // Optional ones only turn on a feature of another.
        if free.contains(&name.as_str()) || line.contains("optional = true") {
            continue;
        }
        let (_, doors) = DOORS
            .iter()
            .find(|(crate_name, _)| *crate_name == name)
            .unwrap_or_else(|| panic!("{name} has no row in tidy.rs"));
        let mut used = false;
        for (file, text) in sources() {
            let prefix = format!("{name}::");
            if !names_after(&code(&text), &prefix).is_empty() {
                assert!(doors.contains(&file.as_str()), "src/{file} uses {name}");
                used = true;
            }
        }
        assert!(used, "{name} is not used");
        assert!(line.contains('#'), "{name}: say in Cargo.toml what it is for");
    }
}

#[test]
fn what_is_dangerous_stands_in_one_file() {
    let sources = sources();
    for (word, home) in ONLY_IN {
        let mut found = false;
        for (file, text) in &sources {
            if code(text).contains(word) {
                assert_eq!(file, home, "{word:?} stands in src/{file}");
                found = true;
            }
        }
        assert!(found, "{word:?} stands nowhere: this check has gone blind");
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_small() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "src/{file} does not say what it is");
        let lines = code(&text).lines().count();
        assert!(lines <= 450, "src/{file} has {lines} lines of code: is it still one idea?");
        if !["lib.rs", "retention.rs"].contains(&file.as_str()) {
            let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            assert!(doc.contains("not "), "src/{file} does not say what it may not do");
        }
    }
}

#[test]
fn tests_start_programs_while_nobody_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && !entry.path().ends_with("start.rs") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            for raw in ["spawn", "output", "status"] {
                let call = format!(".{raw}()");
                assert!(!text.contains(&call), "{call} in {:?}: see start.rs", entry.path());
            }
        }
    }
}
