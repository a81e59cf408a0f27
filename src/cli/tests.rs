//! The command line: names, options, help.

use super::*;

fn read(args: &[&str]) -> Result<Args, String> {
    parse(args.iter().map(OsString::from)).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_consistent() {
    for look in [Look::Help, Look::Manual] {
        sweeper(look).debug_assert();
        legacy("exportcachecleanup", look).debug_assert();
    }
}

#[test]
fn flags_come_out_by_the_key_of_their_setting() {
    let args = read(&[
        "sweeper",
        "run",
        "--data",
        "/data",
        "--exclude",
        "a",
        "--exclude",
        "b",
        "--dry-run",
        "-v",
    ])
    .unwrap();
    assert_eq!((args.command, args.verbosity), (Command::Run, Verbosity::Verbose));
    assert_eq!(args.flags["data"], ["/data"]);
    assert_eq!(args.flags["exclude"], ["a", "b"]);
    assert_eq!(args.flags["dry_run"], [""]);
    assert_eq!(args.flags.len(), 3);
    let hold = read(&["sweeper", "hold", "/data/tmp/x", "--", "tar", "-c", "x"]).unwrap();
    let command = ["tar", "-c", "x"].map(OsString::from).to_vec();
    assert_eq!(hold.command, Command::Hold { path: "/data/tmp/x".into(), command });
    let why = read(&["sweeper", "why", "a", "b"]).unwrap();
    assert_eq!(why.command, Command::Why(vec!["a".into(), "b".into()]));
}

#[test]
fn each_command_offers_only_what_applies_to_it() {
    for (args, is_offered) in [
        (&["run", "--ttl", "1h"][..], true),
        (&["run", "--listen", "1"], false),
        (&["serve", "--listen", "1"], true),
        (&["serve", "--from0", "-"], false),
        (&["legacy", "--older-than", "1d"], true),
        (&["legacy", "--ttl", "1h"], false),
        (&["legacy", "--redis", "redis://r"], false),
        (&["why", "--dry-run", "x"], false),
        (&["why", "--jobs", "2", "x"], false),
        (&["why", "--older-than", "1d", "x"], true),
        (&["why", "--format", "json", "x"], true),
        (&["why", "--format", "jsonl", "x"], false),
        (&["run", "--format", "jsonl"], true),
        (&["exportcachecleanup", "--format", "jsonl"], true),
        (&["hold", "--ttl", "1h", "x", "--", "y"], false),
        (&["hold", "--lock-wait", "1h", "x", "--", "y"], true),
        (&["merge", "--format", "json", "x"], true),
        (&["merge", "--data", "/data", "x"], false),
        (&["config", "--listen", "1", "--from0", "x", "--ttl", "1h"], true),
        (&["config", "-v"], false),
        (&["demo", "--data", "/data"], false),
        (&["run", "--in-use", "spare"], false),
        (&["run", "--profile", "none"], true),
        (&["nonsense"], false),
        (&[], false),
    ] {
        let args = [&["sweeper"], args].concat();
        assert_eq!(read(&args).is_ok(), is_offered, "{args:?}");
    }
}

#[test]
fn a_misplaced_argument_gets_a_tip() {
    for (args, tip) in [
        (
            &["run", "--older-than", "3d"][..],
            "tip: '--older-than' is an option of legacy, why, usage",
        ),
        (&["legacy", "--ttl", "3d"], "tip: '--ttl' is an option of run, plan,"),
        (&["serve", "--from0", "-"], "tip: '--from0' is an option of run, plan, legacy"),
        (&["run", "/data"], "tip: a data root is named with --data"),
        (&["run", "--zones", "export", "tmp"], "tip: the items of a list are separated by commas"),
        (&["run", "--exclude", "a", "b"], "tip: repeat the flag for each glob: --exclude b"),
        (&["run", "--nice", "10"], "tip: --nice takes no value"),
        (&["run", "dry-run"], "tip: did you mean --dry-run?"),
    ] {
        let error = read(&[&["sweeper"], args].concat()).unwrap_err();
        assert!(error.contains(tip), "{args:?}: {error}");
    }
    let hold = read(&["sweeper", "hold", "x", "true"]).unwrap_err();
    assert!(!hold.contains("--data") && hold.contains("<PATH> -- <COMMAND>"), "{hold}");
    let hidden = read(&["sweeper", "merge", "--now", "x", "r"]).unwrap_err();
    assert!(!hidden.contains("is an option of"), "{hidden}");
}

#[test]
fn no_tip_points_at_something_that_only_looks_alike() {
    let pass = "tip: a pass is sweeper run; look first with sweeper run --dry-run";
    for (args, tip) in [
        (&["clean"][..], pass),
        (&["cleanup"], pass),
        (&["sweep"], pass),
        (&["delete"], pass),
        (&["purge"], pass),
        (&["remove"], pass),
        (&["rn"], pass),
        (&["orphans"], "tip: sweeper clearml orphans\n"),
        (&["journal"], "tip: sweeper clearml journal\n"),
        (&["run", "--free", "20GiB"], "tip: --keep-free SIZE\n"),
        (
            &["run", "\u{2013}dry-run"],
            "tip: this begins with a dash that is not a hyphen: --dry-run\n",
        ),
        (&["run", "\u{2014}v"], "tip: this begins with a dash that is not a hyphen: -v\n"),
        (&["\u{2013}help"], "tip: this begins with a dash that is not a hyphen: --help\n"),
        (&["run", "--keepfree", "1GiB"], "tip: a similar argument exists: '--keep-free'"),
        (&["run", "--dryrun"], "tip: a similar argument exists: '--dry-run'"),
        (&["usge"], "tip: a similar subcommand exists: 'usage'"),
    ] {
        let error = read(&[&["sweeper"], args].concat()).unwrap_err();
        assert!(error.contains(tip), "{args:?}: {error}");
        assert_eq!(error.matches("tip:").count(), 1, "{args:?}: {error}");
    }
    for args in [
        &["run", "--delete"][..],
        &["run", "--force"],
        &["run", "--in-use", "no"],
        &["clearml", "start"],
        &["merg-all"],
    ] {
        let error = read(&[&["sweeper"], args].concat()).unwrap_err();
        assert!(!error.contains("tip:"), "{args:?}: {error}");
        assert!(!error.contains("--relieve") && !error.contains("--format"), "{error}");
    }
}

#[test]
fn under_the_names_of_cvat_it_is_the_command_of_cvat() {
    for name in cvat::COMMANDS {
        let path = format!("/usr/local/bin/{name}");
        let args = read(&[&path, "--dry-run"]).unwrap();
        assert_eq!((args.command, args.flags.contains_key("dry_run")), (Command::Legacy, true));
        let help = read(&[&path, "--help"]).unwrap_err();
        assert!(help.contains(&format!("Usage: {name} [OPTIONS]\n")), "{help}");
        assert!(!help.contains("sweeper legacy") && help.contains("Exit codes"), "{help}");
        let error = read(&[&path, "--zones", "tmp"]).unwrap_err();
        assert!(error.contains(&format!("Usage: {name} [OPTIONS]")), "{error}");
        assert!(read(&[&path, "--version"]).unwrap_err().starts_with(&format!("{name} ")));
        assert_eq!(read(&["sweeper", name]).unwrap().command, Command::Legacy);
    }
    let help = read(&["/opt/renamed", "run", "--help"]).unwrap_err();
    assert!(help.contains("Usage: sweeper run [OPTIONS]"), "{help}");
}

#[test]
fn the_name_of_the_script_of_clearml_is_a_command_too() {
    let by_name = read(&["/usr/local/bin/cleanup_service", "--dry-run"]).unwrap();
    let as_command = read(&["sweeper", "cleanup_service", "--dry-run"]).unwrap();
    assert_eq!(as_command.command, Command::Clearml(Clearml::Serve));
    assert_eq!(as_command.command, by_name.command);
    assert_eq!(as_command.flags, by_name.flags);
    let help = read(&["sweeper", "cleanup_service", "--help"]).unwrap_err();
    assert!(help.contains("Usage: cleanup_service [OPTIONS]"), "{help}");
    assert!(read(&["sweeper", "run", "cleanup_service"]).is_err());
}

#[test]
fn help_names_every_command_and_hides_what_is_for_tests() {
    let help = read(&["sweeper", "--help"]).unwrap_err();
    for name in sweeper(Look::Help).get_subcommands().map(clap::Command::get_name) {
        assert!(help.contains(name), "{name}");
    }
    let help = read(&["sweeper", "run", "--help"]).unwrap_err();
    assert!(help.contains("Exit codes") && !help.contains("--now"), "{help}");
    assert!(read(&["sweeper", "run", "--now", "2026-01-01T00:00:00Z"]).is_ok());
}

#[test]
fn a_command_is_read_and_explains_itself_as_if_all_commands_were_defined() {
    for name in sweeper(Look::Help).get_subcommands().map(|command| command.get_name().to_owned()) {
        assert!(COMMANDS.iter().any(|(known, _)| *known == name), "{name}");
        for last in ["--help", "-h", "--nonsense", "--dry-rum", "--version"] {
            let args = ["sweeper", &name, last].map(OsString::from);
            let whole = sweeper(Look::Help).try_get_matches_from(args.clone()).unwrap_err();
            let whole = elsewhere::with_near_alone(whole);
            let error = parse(args).unwrap_err();
            assert_eq!(error.to_string(), whole.to_string(), "{name} {last}");
        }
        let only = sweeper_for(&["sweeper", &name].map(OsString::from));
        assert_eq!(only.get_subcommands().count(), 1, "{name}");
    }
    for first in ["help", "--help", "", "exportcachecleanup"] {
        let all = sweeper_for(&["sweeper", first].map(OsString::from));
        assert_eq!(all.get_subcommands().count(), COMMANDS.len(), "{first}");
    }
}

#[test]
fn a_flag_of_other_commands_is_refused_by_naming_them() {
    let refused = |args: &[&str]| read(args).unwrap_err();
    let error = refused(&["sweeper", "plan", "-o", "plan", "--max-removals", "5"]);
    let words = "tip: '--max-removals' is an option of run, apply, serve, legacy\n";
    assert!(error.contains(words), "{error}");
    let error = refused(&["sweeper", "plan", "-o", "plan", "--pressure=85%"]);
    assert!(error.contains("a plan has no such entries"), "{error}");
    assert!(error.contains("`sweeper run --pressure ... --dry-run` shows them"), "{error}");
    assert!(refused(&["sweeper", "plan", "--presure"]).contains("unexpected argument"));
}

#[test]
fn completions_and_manual_cover_every_command() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(completions(clap_complete::Shell::Bash, &mut Full).is_err(), "no panic");
    assert!(man(&mut Full).is_err());
    let mut page = Vec::new();
    man(&mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    for line in page.lines() {
        assert!(line.len() <= 80 && !line.ends_with(' '), "{line}");
    }
    for command in sweeper(Look::Manual).get_subcommands() {
        assert!(page.contains(&format!(".SS \"sweeper {}\"", command.get_name())));
    }
    assert!(page.contains("EXIT STATUS") && !page.contains("\\-\\-now"));
}
