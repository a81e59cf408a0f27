//! Reports: fields, bytes, how much is said, and progress.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::start::{Start, written};
use crate::world::{
    DAY, HOUR, NOW, Run, World, assert_counts, export_name, is_shown, sweeper, zone,
};

#[test]
fn the_report_has_the_fields_of_schema_1() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let report = world.run(&["run", "--format", "json"]).exits(0).json();
    let mut top: Vec<String> = report.as_object().unwrap().keys().cloned().collect();
    top.sort();
    assert_eq!(
        top,
        [
            "command",
            "data_root",
            "dry_run",
            "elapsed_s",
            "exit",
            "failures",
            "now",
            "schema",
            "stopped",
            "totals",
            "zones"
        ]
    );
    assert_eq!(report["schema"], 1);
    assert_eq!(report["command"], "run");
    assert_eq!(report["dry_run"], false);
    assert_eq!(report["now"], NOW);
    assert_eq!(report["data_root"], world.root.to_str().unwrap());
    assert_eq!(report["exit"], 0);
    assert_eq!(report["failures"], Value::Array(vec![]));
    let export = zone(&report, "export");
    for key in [
        "zone",
        "path",
        "seen",
        "removed",
        "kept",
        "skipped",
        "failed",
        "kept_by",
        "skipped_by",
        "freed_bytes",
        "notes",
    ] {
        assert!(!export[key].is_null(), "{key}");
    }
    for key in ["fresh", "unrecognized", "not_a_file", "excluded", "mount_point"] {
        assert_eq!(export["kept_by"][key], 0, "{key}");
    }
    for key in ["locked", "in_use", "used", "replaced", "gone", "mount_point"] {
        assert_eq!(export["skipped_by"][key], 0, "{key}");
    }
    assert_eq!(export["path"], world.path("cache/export").to_str().unwrap());
    for key in ["seen", "removed", "kept", "skipped", "failed", "freed_bytes"] {
        assert_eq!(report["totals"][key], export[key]);
    }
}

#[test]
fn jsonl_has_a_line_for_each_entry_and_the_summary_last() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(2)), 2 * DAY);
    world.file(Path::new("cache/export").join(export_name(3)), HOUR);
    for (dry, outcome) in [(&["--dry-run"][..], "would_remove"), (&[], "removed")] {
        let run = world.run(&[&["run", "--format", "jsonl"], dry].concat());
        let lines: Vec<Value> =
            run.exits(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "kept entries only with -v");
        let line = &lines[0];
        assert_eq!(line["zone"], "export");
        assert_eq!(line["outcome"], outcome);
        assert_eq!(line["reason"], "expired");
        assert_eq!(line["age_s"], 2 * DAY);
        assert_eq!(line["ttl_s"], DAY);
        assert!(line["bytes"].as_u64().unwrap() >= 512, "allocated blocks: {line}");
        assert!(line["path"].as_str().unwrap().ends_with(&export_name(2)));
        assert!(line.get("path_hex").is_none());
        assert_eq!(lines[1]["schema"], 1);
        assert_eq!(lines[1]["dry_run"], !dry.is_empty());
    }
}

#[test]
fn freed_bytes_are_blocks_and_a_hard_link_counts_once() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let whole = world.file_of("tmp/whole", 20 * DAY, &vec![7; 100_000]);
    let sparse = world.file_of("tmp/sparse", 20 * DAY, b"");
    // As TUS makes its uploads: one byte at the end.
    let open = || std::fs::OpenOptions::new().write(true).open(&sparse);
    written(|| std::os::unix::fs::FileExt::write_at(&open()?, b"x", 25 << 30)).unwrap();
    crate::world::set_age(&sparse, 20 * DAY);
    let blocks = |path: &Path| path.metadata().unwrap().blocks() * 512;
    let expected = blocks(&whole) + blocks(&sparse);
    assert!(expected < 1 << 20, "{expected}");
    // Three names of one file, one of them in a tree.
    std::fs::create_dir_all(world.path("tmp/tree")).unwrap();
    let linked = world.file_of("tmp/linked", 20 * DAY, &vec![7; 50_000]);
    let tree_blocks = blocks(&world.path("tmp/tree"));
    std::fs::hard_link(&linked, world.path("tmp/second")).unwrap();
    std::fs::hard_link(&linked, world.path("tmp/tree/third")).unwrap();
    // And a file whose other name stays.
    let shared = world.file_of("tmp/shared", 20 * DAY, &vec![7; 90_000]);
    std::fs::hard_link(&shared, world.path("stays")).unwrap();
    world.age_dirs("tmp", 20 * DAY);
    let expected = expected + blocks(&linked) + tree_blocks;
    for args in [&["--dry-run"][..], &[]] {
        let run = world.run(&[&["run", "--zones", "tmp", "--format", "json"], args].concat());
        assert_counts(&run.exits(0).json(), "tmp", &[("removed", 6), ("freed_bytes", expected)]);
    }
}

#[test]
fn the_text_report_is_a_table_with_reasons_and_totals() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    world.file(Path::new("cache/export").join(export_name(2)), HOUR);
    world.file("cache/export/notes.txt", 2 * DAY);
    for (dry, removed, freed, did, end) in [
        (&["--dry-run"][..], "would remove", "would free", "would free ", "; nothing was removed"),
        (&[], "removed", "freed", "freed ", ""),
    ] {
        let run = world.run(&[&["run"], dry].concat());
        let text = &run.exits(0).stdout;
        let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
        let columns: Vec<&str> =
            first.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
        assert_eq!(columns, ["zone", "seen", removed, "kept", "skipped", "failed", freed]);
        assert!(text.contains("\nexport: kept: 1 fresh, 1 unrecognized\n"), "{text}");
        let (shown, rest) = last[1..].split_once("\": ").unwrap();
        assert!(is_shown(shown, &world.root), "{last}");
        assert!(rest.starts_with(&format!("{removed} 1 of 3 entries, {did}")), "{last}");
        assert!(last.contains(&format!("{end}; done in ")) && last.ends_with(" s"), "{last}");
    }
}

#[test]
fn quiet_prints_nothing_unless_there_is_a_problem() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let run = world.run(&["run", "-q", "--lock", "flock"]);
    assert_eq!((run.exits(0).stdout.as_str(), run.stderr.as_str()), ("", ""));
    assert!(!world.has("tmp/old"));
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/older", 20 * DAY);
    let run = world.run(&["run", "-q", "--max-removals", "1"]);
    assert!(run.exits(3).stdout.contains("stopped"), "{}", run.stdout);
}

#[test]
fn quiet_hides_no_warning_of_a_command_that_sweeps() {
    let world = World::new();
    for command in ["run", "serve", "plan", "legacy"] {
        let mut quiet = world.command(&[command, "-q"]);
        match command {
            "plan" => drop(quiet.arg("-o").arg(world.root.with_file_name("plan"))),
            // It ends at once, after the warnings.
            "serve" => drop(quiet.args(["--listen", "192.0.2.1:1"])),
            _ => {}
        }
        quiet.env("CVAT_REDIS_INMEN_HOST", "x");
        let run = Run::of(quiet);
        assert!(run.stderr.contains("CVAT_REDIS_INMEM_HOST"), "{command}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{command}");
    }
    // That an important lock is not taken is a warning, too, and what the user wants is none.
    let run = world.run(&["run", "-q"]);
    let warning = "export: CVAT's lock in Redis is not taken";
    assert!(run.exits(0).stderr.contains(warning), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    assert!(world.run(&["run"]).exits(0).stdout.contains("export: warning: CVAT's lock"));
    for lock in ["flock", "none"] {
        let run = world.run(&["run", "--lock", lock]);
        assert!(run.exits(0).stdout.contains("export: note: CVAT's lock"), "{}", run.stdout);
        assert_eq!(world.run(&["run", "-q", "--lock", lock]).exits(0).stderr, "");
    }
    // Other commands are quiet.
    let mut config = world.command(&["config", "-q"]);
    config.env("CVAT_REDIS_INMEN_HOST", "x");
    assert_eq!(Run::of(config).exits(0).stderr, "");
}

#[test]
fn verbose_names_every_entry_and_says_why() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/new", HOUR);
    let run = world.run(&["run", "-v"]);
    run.exits(0);
    for (outcome, words) in [
        ("removed", "tmp/old\": last used 20d ago, ttl 14d, "),
        ("kept", "tmp/new\": last used 1h ago, ttl 14d, fresh"),
    ] {
        let line = run.stderr.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{words}: {}", run.stderr));
        assert!(line.contains(&format!("tmp: {outcome} ")), "{line}");
    }
}

#[test]
fn progress_is_drawn_on_a_terminal_only_and_never_on_stdout() {
    let world = World::new();
    world.file("tmp/old", 20 * DAY);
    let plain = world.run(&["run"]);
    assert_eq!(plain.exits(0).stderr, "");
    world.file("tmp/old", 20 * DAY);
    let lines = world.run(&["run", "--progress", "always"]);
    assert!(lines.exits(0).stderr.contains("tmp: started\n"), "{}", lines.stderr);
    let end = lines.stderr.lines().find(|line| line.starts_with("tmp: 1 checked, 1 removed, "));
    assert!(end.is_some_and(|line| line.ends_with(" freed")), "{}", lines.stderr);
    assert!(!lines.stderr.contains('\x1b') && !lines.stderr.contains('\r'));
    assert!(!lines.stdout.contains("checked"), "{}", lines.stdout);
    // `script` gives it a terminal.
    world.file("projects/1/export_cache/x", DAY);
    let inner = world.command(&["legacy"]);
    let drawn = at_a_terminal(&inner);
    assert!(drawn.exits(0).stdout.contains("projects: 1 checked"), "{:?}", drawn.stdout);
    assert!(drawn.stdout.contains('\x1b') || drawn.stdout.contains('\r'));
}

/// The command with a terminal to print to.
fn at_a_terminal(inner: &Command) -> Run {
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    Run::from(script.finish().unwrap())
}

#[test]
fn json_is_one_line_for_a_program_and_several_for_a_person() {
    let world = World::new();
    let plan = world.root.with_extension("plan");
    let report = world.root.with_extension("json");
    world.run(&["plan", "-o", plan.to_str().unwrap()]).exits(0);
    std::fs::write(&report, &world.run(&["run", "--format", "json"]).stdout).unwrap();
    let mut merge = sweeper(&["merge", "--format", "json"]);
    merge.arg(&report);
    let mut config = sweeper(&["config", "--format", "json"]);
    config.arg("--data").arg(&world.root);
    let mut why = world.command(&["why", "--format", "json"]);
    why.arg(world.path("tmp"));
    for command in [
        world.command(&["run", "--format", "json"]),
        world.command(&["run", "--dry-run", "--format", "json"]),
        world.command(&["legacy", "--format", "json"]),
        world.command(&["apply", plan.to_str().unwrap(), "--format", "json"]),
        world.command(&["usage", "--format", "json"]),
        merge,
        config,
        why,
    ] {
        let shown = format!("{command:?}");
        let drawn = at_a_terminal(&command);
        let run = Run::of(command);
        assert_eq!(run.stdout.lines().count(), 1, "{shown}: {}", run.stdout);
        assert!(run.stdout.ends_with("}\n") && run.json().is_object(), "{shown}");
        let text = drawn.exits(0).stdout.replace("\r\n", "\n");
        assert!(text.contains("{\n  \"") && text.ends_with("\n}\n"), "{shown}: {text}");
    }
}
