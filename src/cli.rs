//! The command line.
//!
//! This module must not check values or read the environment: settings come out as text by their key, and `config`
//! does the rest. Flags are made from the table of settings. It is the only user of `clap`.

mod clearml;
mod elsewhere;
mod man;
mod options;
mod texts;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgGroup, ArgMatches, value_parser};

use crate::config::settings::{Setting, Use};
use crate::config::{Flags, Verbosity};
use crate::cvat;
pub use clearml::{Clearml, JournalAction};
use options::{Look, flags, sweep, verbosity, with_negative_values, with_settings};

/// The command line, read.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub command: Command,
    /// The settings that were given as flags.
    pub flags: Flags,
    /// How much to print.
    pub verbosity: Verbosity,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// One pass.
    Run,
    /// A plan of one pass, in this file.
    Plan(PathBuf),
    /// The removal of what is in this plan.
    Apply(PathBuf),
    /// Passes on a schedule.
    Serve,
    /// The removal of old export caches.
    Legacy,
    /// What takes up space in a data root.
    Usage,
    /// Which rule applies to each of these paths.
    Why(Vec<PathBuf>),
    /// The sum of these reports.
    Merge(Vec<PathBuf>),
    /// Whether a service or the passes of a timer are well.
    Health {
        /// The page to ask.
        url: Option<String>,
        /// How old a success in a metrics file may be.
        max_age: Option<String>,
    },
    /// The settings and their origins.
    Config,
    /// What this program does, on sample data.
    Demo,
    /// Run a command with the lock of a path held.
    Hold {
        /// The path.
        path: PathBuf,
        /// The command and its arguments.
        command: Vec<OsString>,
    },
    /// ClearML's cleanup.
    Clearml(Clearml),
    /// Completions for a shell.
    Completions(clap_complete::Shell),
    /// The manual page.
    Man,
}

/// Reads the command line. Under one of the names of CVAT's own command it is that of `sweeper legacy`, and under the
/// name of ClearML's script that of `sweeper clearml serve`.
///
/// # Errors
/// What `clap` prints: an error, or the help or version that was asked for.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    read(&with_negative_values(args)).map_err(elsewhere::with_near_alone)
}

fn read(args: &[OsString]) -> Result<Args, clap::Error> {
    let name = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    if let Some(name) = name.and_then(|name| cvat::COMMANDS.iter().find(|own| **own == name)) {
        let command = legacy(name, Look::Help).bin_name(*name).version(env!("CARGO_PKG_VERSION"));
        let matches = command.try_get_matches_from(args)?;
        let (flags, verbosity) = (flags(&matches), verbosity(&matches));
        return Ok(Args { command: Command::Legacy, flags, verbosity });
    }
    let is_script = |args: &&[OsString]| args.first().is_some_and(|name| name == clearml::SCRIPT);
    let script =
        if name == Some(clearml::SCRIPT) { Some(args) } else { args.get(1..).filter(is_script) };
    if let Some(args) = script {
        let matches = clearml::script(Look::Help).try_get_matches_from(args)?;
        let mut flags = flags(&matches);
        // The script prints its own lines.
        flags.insert(clearml::COMPAT, vec![String::new()]);
        let command = Command::Clearml(Clearml::Serve);
        return Ok(Args { command, flags, verbosity: verbosity(&matches) });
    }
    if let Some(error) = clearml::of_data_roots(args) {
        return Err(error);
    }
    let matches = sweeper_for(args).try_get_matches_from(args);
    let matches = matches.map_err(|error| elsewhere::explain(error, args))?;
    let (name, matches) = matches.subcommand().unwrap_or(("", &matches));
    if name == "clearml" {
        let (command, matches) = clearml::read(matches);
        let (flags, verbosity) = (flags(matches), verbosity(matches));
        return Ok(Args { command: Command::Clearml(command), flags, verbosity });
    }
    let command = command_of(name, matches);
    Ok(Args { command, flags: flags(matches), verbosity: verbosity(matches) })
}

fn command_of(name: &str, matches: &ArgMatches) -> Command {
    let paths = || matches.get_many("path").into_iter().flatten().cloned().collect();
    let text = |id| matches.get_one::<String>(id).cloned();
    let one_path = || matches.get_one::<PathBuf>("path").cloned().unwrap_or_default();
    match name {
        "plan" => Command::Plan(one_path()),
        "apply" => Command::Apply(one_path()),
        "serve" => Command::Serve,
        "legacy" => Command::Legacy,
        "usage" => Command::Usage,
        "why" => Command::Why(paths()),
        "merge" => Command::Merge(paths()),
        "config" => Command::Config,
        "health" => Command::Health { url: text("url"), max_age: text("max_age") },
        "demo" => Command::Demo,
        "hold" => Command::Hold {
            path: one_path(),
            command: matches.get_many("command").into_iter().flatten().cloned().collect(),
        },
        "completions" => {
            let shell = matches.get_one("shell").copied();
            Command::Completions(shell.unwrap_or(clap_complete::Shell::Bash))
        }
        "man" => Command::Man,
        _ => Command::Run,
    }
}

/// Defines a command.
type Define = fn(Look) -> clap::Command;

/// Each command and what defines it, in the order of the help.
const COMMANDS: [(&str, Define); 15] = [
    ("run", run),
    ("serve", serve),
    ("plan", plan),
    ("apply", apply),
    ("legacy", legacy_with_names),
    ("usage", usage),
    ("why", why),
    ("config", config),
    ("health", health),
    ("hold", hold),
    ("clearml", clearml::command),
    ("merge", merge),
    ("demo", demo),
    ("completions", completions_of_shells),
    ("man", manual),
];

/// The whole command line.
fn sweeper(look: Look) -> clap::Command {
    program().subcommands(COMMANDS.map(|(_, define)| define(look)))
}

/// As much of it as is needed to read these arguments. Most of the work of a short run would be the definition of all
/// other commands.
fn sweeper_for(args: &[OsString]) -> clap::Command {
    match COMMANDS.iter().find(|(name, _)| args.get(1).is_some_and(|first| first == name)) {
        Some((_, define)) => program().subcommand(define(Look::Help)),
        // Help, another name, or an error.
        None => sweeper(Look::Help),
    }
}

fn program() -> clap::Command {
    clap::Command::new("sweeper")
        .bin_name("sweeper")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(texts::HINT)
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .arg_required_else_help(true)
}

fn run(look: Look) -> clap::Command {
    sweep("run", "Sweep the zones of a data root once", Use::Run, look)
        .after_help(texts::exit_codes(true))
}

fn serve(look: Look) -> clap::Command {
    sweep("serve", "Sweep on a schedule until told to stop", Use::Serve, look)
        .after_help(texts::exit_codes(true))
}

fn legacy_with_names(look: Look) -> clap::Command {
    legacy("legacy", look).visible_aliases(cvat::COMMANDS)
}

fn usage(look: Look) -> clap::Command {
    with_settings("usage", texts::USAGE, look, |setting| setting.applies_to(Use::Usage))
        .after_help(texts::USAGE_CODES)
}

fn why(look: Look) -> clap::Command {
    with_settings("why", texts::WHY, look, |setting| setting.applies_to(Use::Why))
        .arg(path("PATH").num_args(1..).help("The paths to explain"))
        .after_help(texts::WHY_CODES)
}

fn config(look: Look) -> clap::Command {
    with_settings("config", texts::CONFIG, look, has_own_flag).after_help(texts::DURATIONS)
}

fn merge(look: Look) -> clap::Command {
    let reports = path("REPORT").num_args(1..);
    with_settings("merge", texts::MERGE, look, |setting| setting.applies_to(Use::Merge))
        .arg(reports.help("Reports of --format json or jsonl (-: standard input)"))
        .after_help(texts::MERGE_CODES)
}

fn demo(_: Look) -> clap::Command {
    clap::Command::new("demo").about(texts::DEMO)
}

fn completions_of_shells(_: Look) -> clap::Command {
    clap::Command::new("completions").about("Print completions for a shell").arg(
        Arg::new("shell")
            .value_name("SHELL")
            .value_parser(value_parser!(clap_complete::Shell))
            .hide_possible_values(true)
            .help("One of bash, elvish, fish, powershell and zsh")
            .required(true),
    )
}

fn manual(_: Look) -> clap::Command {
    clap::Command::new("man").about("Print the manual page")
}

fn legacy(name: &'static str, look: Look) -> clap::Command {
    sweep(name, texts::LEGACY, Use::Legacy, look).after_help(texts::exit_codes(false))
}

fn plan(look: Look) -> clap::Command {
    sweep("plan", "Write down what a pass would remove, and remove nothing", Use::Plan, look)
        .arg(
            path("FILE")
                .short('o')
                .long("output")
                .help("Where to write the plan; only an earlier plan is replaced"),
        )
        .after_help(texts::exit_codes(false))
}

fn apply(look: Look) -> clap::Command {
    sweep("apply", "Remove the entries of a plan that have not changed since", Use::Apply, look)
        .arg(path("FILE").help("The plan; - for stdin"))
        .after_help(texts::exit_codes(false))
}

/// Whether a flag of `config` can only mean this setting. Those of ClearML come second.
fn has_own_flag(setting: &Setting) -> bool {
    setting.key_in_table().is_none() || !setting.shares_flag()
}

fn health(look: Look) -> clap::Command {
    with_settings("health", texts::HEALTH, look, |setting| setting.applies_to(Use::Health))
        .mut_arg("listen", |listen| listen.help("Ask the service on this address or port"))
        .mut_arg("metrics_file", |file| file.help("Look into this metrics file of single runs"))
        .arg(Arg::new("url").value_name("URL").help(
            "The health page to ask, such as http://127.0.0.1:9108/healthz; the path / means /healthz [default: the \
             service at --listen]",
        ))
        .arg(
            Arg::new("max_age")
                .long("max-age")
                .value_name("DUR")
                .conflicts_with_all(["url", "listen"])
                .help("How old the last success in a metrics file may be [default: 2d]"),
        )
        .group(ArgGroup::new("what").args(["url", "listen", "metrics_file"]))
        .after_help(texts::HEALTH_CODES)
}

fn hold(look: Look) -> clap::Command {
    with_settings("hold", texts::HOLD, look, |setting| setting.applies_to(Use::Hold))
        .mut_arg("lock_wait", |wait| wait.help("Wait for the lock for this long [default: 5s]"))
        .arg(path("PATH").help("An existing file or directory"))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command and its arguments")
                .value_parser(value_parser!(OsString))
                .num_args(1..)
                .last(true)
                .required(true),
        )
        .after_help(texts::HOLD_CODES)
}

fn path(name: &'static str) -> Arg {
    Arg::new("path").value_name(name).value_parser(value_parser!(PathBuf)).required(true)
}

/// Writes completions for a shell.
///
/// # Errors
/// Writing fails.
pub fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> io::Result<()> {
    // The generator panics if it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut sweeper(Look::Help), "sweeper", &mut text);
    out.write_all(&text)
}

/// Writes the manual page.
///
/// # Errors
/// Writing fails.
pub fn man(out: &mut impl Write) -> io::Result<()> {
    out.write_all(man::page(sweeper(Look::Manual))?.as_bytes())
}

#[cfg(test)]
mod tests;
