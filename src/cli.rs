//! What was typed.
//!
//! It must not check values or read the environment: settings come out as text, by their key, and
//! `config` does the rest. Flags are made from the table of settings.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::settings::{SETTINGS, Scope, Setting, Takes};

/// Flags by the key of their setting.
pub type Flags = BTreeMap<&'static str, Vec<String>>;

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only; and no report when all went well.
    Quiet,
    /// Warnings.
    Normal,
    /// Every entry.
    Verbose,
}

/// What was typed.
#[derive(Debug)]
pub struct Args {
    /// What to do.
    pub action: Action,
    /// The settings that were given.
    pub flags: Flags,
    /// How much to say.
    pub verbosity: Verbosity,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// One pass.
    Run,
    /// Passes on a schedule.
    Serve,
    /// The migration of old caches.
    Legacy,
    /// Explain these paths.
    Why(Vec<PathBuf>),
    /// Add these reports.
    Merge(Vec<PathBuf>),
    /// Show the settings.
    Config,
    /// Show what this program does.
    Demo,
    /// Hold the lock of a path while a command runs.
    Hold(PathBuf, Vec<OsString>),
    /// Print completions for a shell.
    Completions(clap_complete::Shell),
    /// Print the manual page.
    Man,
}

/// The names of CVAT's management command; a link to this program with one of them is `sweeper legacy`.
const CVAT_NAMES: [&str; 2] = ["exportcachecleanup", "cleanuplegacyexportcache"];

/// Reads the command line.
///
/// # Errors
/// What clap has to say, which may be the help that was asked for.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    if name.is_some_and(|name| CVAT_NAMES.contains(&name)) {
        args.insert(1, "legacy".into());
    }
    let matches = command().try_get_matches_from(args)?;
    let (name, matches) = matches.subcommand().unwrap_or(("", &matches));
    let action = match name {
        "serve" => Action::Serve,
        "legacy" => Action::Legacy,
        "why" => Action::Why(matches.get_many("path").into_iter().flatten().cloned().collect()),
        "merge" => Action::Merge(matches.get_many("path").into_iter().flatten().cloned().collect()),
        "config" => Action::Config,
        "demo" => Action::Demo,
        "hold" => Action::Hold(
            matches.get_one::<PathBuf>("path").cloned().unwrap_or_default(),
            matches.get_many("command").into_iter().flatten().cloned().collect(),
        ),
        "completions" => Action::Completions(
            matches.get_one("shell").copied().unwrap_or(clap_complete::Shell::Bash),
        ),
        "man" => Action::Man,
        _ => Action::Run,
    };
    Ok(Args { action, flags: flags(matches), verbosity: verbosity(matches) })
}

fn flags(matches: &ArgMatches) -> Flags {
    let mut flags = Flags::new();
    for setting in &SETTINGS {
        match setting.takes {
            Takes::Nothing => {
                if let Ok(Some(true)) = matches.try_get_one::<bool>(setting.key) {
                    flags.insert(setting.key, vec![String::new()]);
                }
            }
            Takes::One(_) | Takes::Many(_) => {
                if let Ok(Some(texts)) = matches.try_get_many::<String>(setting.key) {
                    flags.insert(setting.key, texts.cloned().collect());
                }
            }
        }
    }
    flags
}

fn verbosity(matches: &ArgMatches) -> Verbosity {
    let is_set = |id| matches!(matches.try_get_one::<bool>(id), Ok(Some(true)));
    if is_set("quiet") {
        Verbosity::Quiet
    } else if is_set("verbose") {
        Verbosity::Verbose
    } else {
        Verbosity::Normal
    }
}

/// The whole command line.
fn command() -> Command {
    let zones = [Scope::Locks, Scope::Every, Scope::Zones];
    let run = [&zones[..], &[Scope::Sweeps, Scope::Once]].concat();
    let serve = [&zones[..], &[Scope::Sweeps, Scope::Serve]].concat();
    let all = [&run[..], &[Scope::Legacy, Scope::Serve]].concat();
    Command::new("sweeper")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            swept("run", "One pass over the zones of a volume", &run).after_help(EXIT_CODES),
        )
        .subcommand(
            swept("serve", "Passes on a schedule, until told to stop", &serve)
                .after_help(EXIT_CODES),
        )
        .subcommand(
            swept(
                "legacy",
                "Remove the export caches that CVAT before 2.26 kept in each project, task and job",
                &[Scope::Locks, Scope::Every, Scope::Legacy, Scope::Sweeps, Scope::Once],
            )
            .visible_aliases(CVAT_NAMES)
            .after_help(EXIT_CODES),
        )
        .subcommand(
            swept("why", "Say of each path which rule judges it and what a pass would do", &zones)
                .arg(path("PATH").num_args(1..).help("What to explain")),
        )
        .subcommand(
            swept("merge", "Add the reports of shards into the one of the whole pass", &[])
                .args(SETTINGS.iter().filter(|setting| setting.key == "format").map(flag))
                .arg(path("REPORT").num_args(1..).help("Written with --format json (-: stdin)"))
                .after_help(MERGE_CODES),
        )
        .subcommand(swept("config", "Show the settings and where each came from", &all))
        .subcommand(Command::new("demo").about(
            "Build a small sample volume in a temporary directory, sweep it, and explain the rest",
        ))
        .subcommand(
            swept(
                "hold",
                "Run a command while holding the lock that a sweep honors for a path",
                &[Scope::Locks],
            )
            .arg(path("PATH").help("An existing file or directory"))
            .arg(
                Arg::new("command")
                    .value_name("COMMAND")
                    .help("The command and its arguments")
                    .value_parser(clap::value_parser!(OsString))
                    .num_args(1..)
                    .last(true)
                    .required(true),
            )
            .after_help(
                "The exit code is the command's; 126 when it cannot be run, 127 when there is no \
                 such command, 4 when the lock cannot be had, 2 for wrong usage.",
            ),
        )
        .subcommand(
            Command::new("completions").about("Print completions for a shell").arg(
                Arg::new("shell")
                    .value_parser(clap::value_parser!(clap_complete::Shell))
                    .required(true),
            ),
        )
        .subcommand(Command::new("man").about("Print the manual page, all commands in it"))
}

const EXIT_CODES: &str = "DUR is written 36h, 14d or 1h30m, or in plain seconds.\n\nExit codes: 0 the pass ended and nothing failed; 1 some entries failed; \
    2 usage, settings or data root are wrong, nothing was done; 3 stopped before the end; 4 a lock \
    backend could not be used or another sweeper is at work, its zone was left alone. The highest applies.";

const MERGE_CODES: &str = "The exit code is the highest of the reports'; 3 also when a shard has none; 2 when \
    they cannot be read or are not parts of one pass.";

/// A command with the flags of some settings.
fn swept(name: &'static str, about: &'static str, scopes: &[Scope]) -> Command {
    let flags = SETTINGS.iter().filter(|setting| scopes.contains(&setting.scope)).map(flag);
    Command::new(name)
        .about(about)
        .args(flags)
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::SetTrue)
                .conflicts_with("quiet")
                .help("Say what becomes of every entry, kept ones included"),
        )
        .arg(
            Arg::new("quiet")
                .short('q')
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("Say nothing when all went well"),
        )
}

fn flag(setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    if let Some(default) = setting.default {
        help = format!("{help} [default: {default}]");
    }
    let arg =
        Arg::new(setting.key).long(setting.key.replace('_', "-")).hide(setting.hidden).help(help);
    let arg = match setting.takes {
        Takes::Nothing => return arg.action(ArgAction::SetTrue),
        Takes::One(name) => arg.value_name(name).action(ArgAction::Set),
        Takes::Many(name) => arg.value_name(name).action(ArgAction::Append),
    };
    if setting.choices.is_empty() {
        arg
    } else {
        arg.value_parser(PossibleValuesParser::new(setting.choices))
    }
}

fn path(name: &'static str) -> Arg {
    Arg::new("path").value_name(name).value_parser(clap::value_parser!(PathBuf)).required(true)
}

/// Writes completions for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut impl Write) {
    clap_complete::generate(shell, &mut command(), "sweeper", out);
}

/// Writes the manual page: the program, then each command.
///
/// # Errors
/// What `out` says.
pub fn man(out: &mut impl Write) -> io::Result<()> {
    let mut command = command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let page = clap_mangen::Man::new(sub.clone());
        page.render_name_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}
