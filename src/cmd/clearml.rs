//! `sweeper clearml`: the commands that clean up a ClearML server.
//!
//! It must not delete anything itself: it connects what is in [`crate::clearml`] with the settings, the report and
//! the mounted directories.

mod explain;
mod journal;
mod mount;
mod orphans;
mod pass;
mod place;
pub(super) mod serve;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Refusal, settings};
use crate::clearml::client::{Client, ClientOptions};
use crate::clearml::crew::Crew;
use crate::clearml::discover;
use crate::clearml::tools::Tools;
use crate::cli::Clearml;
use crate::config::{ClearmlConfig, Config, RawSettings, Verbosity};
use crate::os::{clock, signals};
use crate::protocol::ExitCode;

/// Runs one of the commands.
pub(super) fn clearml(
    command: &Clearml,
    raw: &RawSettings,
    verbosity: Verbosity,
    out: &mut (impl Write + Send),
) -> Result<ExitCode, Refusal> {
    let config = settings(raw)?;
    let options = config.clearml.clone()?;
    let is_service = match command {
        Clearml::Run => options.run_as_service.unwrap_or(false),
        Clearml::Serve => options.run_as_service.unwrap_or(true),
        Clearml::Orphans | Clearml::Journal(_) | Clearml::Why(_) => false,
    };
    match command {
        Clearml::Run | Clearml::Serve if is_service => serve::serve(raw, verbosity),
        Clearml::Run | Clearml::Serve => serve::once(&config, &options, verbosity),
        Clearml::Orphans => orphans::orphans(&config, &options, verbosity),
        Clearml::Journal(action) => journal::journal(&config, &options, *action, verbosity, out),
        Clearml::Why(tasks) => explain::why(&config, &options, tasks, out),
    }
}

/// A flag that a signal raises.
fn stop_flag() -> Result<Arc<AtomicBool>, Refusal> {
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop).map_err(Refusal::Start)?;
    Ok(stop)
}

/// A client for the server that the environment and `clearml.conf` name. It has not connected yet.
fn tools(options: &ClearmlConfig, stop: &Arc<AtomicBool>) -> Result<Tools, Refusal> {
    let home = options.home();
    let around = discover::Surroundings {
        env: &|name| options.environment.get(name).cloned(),
        read: &read,
        home: home.as_deref(),
    };
    let server = discover::find(&around).map_err(Refusal::Start)?;
    let crew = Crew::start(options.connections, Arc::clone(stop)).map_err(Refusal::Start)?;
    let client = ClientOptions {
        timeout: options.request_timeout,
        connections: options.connections,
        stop: Arc::clone(stop),
        clock: clock::now,
    };
    Ok(Tools { client: Arc::new(Client::new(server, client)), crew })
}

/// Reads a configuration file, if there is one.
fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{path:?} cannot be read: {}", crate::units::error(&error))),
    }
}

/// The moment to judge at.
fn now(config: &Config) -> crate::rules::Moment {
    config.now.unwrap_or_else(clock::now)
}
