//! Runs the command that was typed.
//!
//! This module must not do the work of a command.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode as ProcessCode;

use super::{
    Refusal, apply, clearml, config, demo, health, hold, merge, plan, printed, run, serve,
    settings, usage, why,
};
use crate::cli::{self, Args, Clearml, Command, JournalAction};
use crate::config::{Config, LogFormat, RawSettings, ServiceConfig, Verbosity};
use crate::fs::lease::breaks;
use crate::os::{clock, logging, signals, terminal};
use crate::protocol::ExitCode;

/// Runs the program with these arguments.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ProcessCode {
    let args = match cli::parse(args) {
        Ok(args) => args,
        Err(error) => {
            signals::survive_size_limit();
            // Help and version are printed to stdout and are no error.
            let is_error = error.use_stderr();
            let is_printed = error.print().is_ok();
            return match (is_error, is_printed) {
                (true, _) => ExitCode::Usage.into(),
                (false, true) => ExitCode::Done.into(),
                (false, false) => ExitCode::SomeFailed.into(),
            };
        }
    };
    // A program that is run inherits what is blocked.
    if !matches!(args.command, Command::Hold { .. }) {
        breaks::keep_pending();
        signals::survive_size_limit();
    }
    let raw = RawSettings::read(args.flags.clone());
    let detail = match args.verbosity {
        // A warning may be about what protects the files that are removed.
        Verbosity::Quiet if sweeps(&args.command) => logging::Detail::Warnings,
        Verbosity::Quiet => logging::Detail::Quiet,
        Verbosity::Normal => logging::Detail::Normal,
        Verbosity::Verbose => logging::Detail::Verbose,
    };
    let format = match LogFormat::of(&raw) {
        LogFormat::Text => logging::LineFormat::Text,
        LogFormat::Json => logging::LineFormat::Json,
    };
    // What a service says is read later.
    let clock = matches!(args.command, Command::Serve | Command::Clearml(Clearml::Serve)).then(
        || -> logging::Clock {
            let zone = ServiceConfig::log_time(&raw);
            Box::new(move || zone.shown(clock::now()))
        },
    );
    logging::to_stderr(detail, format, clock);
    let is_heard = args.verbosity != Verbosity::Quiet && prints_a_result(&args.command);
    if is_heard && terminal::is_nowhere() {
        tracing::warn!("stdout is closed, or is /dev/null: the output of this command is lost");
    }
    execute(&args, &raw).unwrap_or_else(|refusal| {
        tracing::error!("{refusal}");
        ExitCode::Usage.into()
    })
}

/// Whether a command prints a result to stdout: others print only what is logged, or what another program prints.
const fn prints_a_result(command: &Command) -> bool {
    !matches!(command, Command::Serve | Command::Clearml(Clearml::Serve) | Command::Hold { .. })
}

/// Whether a command removes entries, or says what would be removed.
const fn sweeps(command: &Command) -> bool {
    match command {
        Command::Run
        | Command::Plan(_)
        | Command::Apply(_)
        | Command::Serve
        | Command::Legacy
        | Command::Clearml(
            Clearml::Run
            | Clearml::Serve
            | Clearml::Orphans
            | Clearml::Journal(JournalAction::Retry),
        ) => true,
        Command::Usage
        | Command::Why(_)
        | Command::Merge(_)
        | Command::Health { .. }
        | Command::Config
        | Command::Demo
        | Command::Hold { .. }
        | Command::Clearml(
            Clearml::Journal(JournalAction::List | JournalAction::Forget) | Clearml::Why(_),
        )
        | Command::Completions(_)
        | Command::Man => false,
    }
}

fn execute(args: &Args, raw: &RawSettings) -> Result<ProcessCode, Refusal> {
    let mut out = BufWriter::new(io::stdout());
    let code = match &args.command {
        Command::Run => run::run("run", &settings(raw)?, args.verbosity)?,
        Command::Legacy => run::run("legacy", &settings(raw)?, args.verbosity)?,
        Command::Plan(path) => plan::plan(settings(raw)?, path, args.verbosity)?,
        Command::Apply(path) => apply::apply(settings(raw)?, path, args.verbosity)?,
        Command::Serve => serve::serve(raw, args.verbosity)?,
        Command::Hold { path, command } => return hold::hold(&settings(raw)?, path, command),
        Command::Demo => demo::demo(&mut out)?,
        Command::Usage => usage::usage(&settings(raw)?, args.verbosity, &mut out)?,
        Command::Why(paths) => why::why(&settings(raw)?, paths, &mut out)?,
        Command::Health { url, max_age } => {
            let config = Config::resolve(raw)?;
            health::health(&config, &raw.flags, url.as_deref(), max_age.as_deref(), &mut out)?
        }
        Command::Merge(paths) => merge::merge(&settings(raw)?, paths, args.verbosity, &mut out)?,
        Command::Config => config::config(&settings(raw)?, &mut out)?,
        Command::Clearml(command) => clearml::clearml(command, raw, args.verbosity, &mut out)?,
        Command::Completions(shell) => printed(cli::completions(*shell, &mut out), ExitCode::Done),
        Command::Man => printed(cli::man(&mut out), ExitCode::Done),
    };
    Ok(printed(out.flush(), code).into())
}
