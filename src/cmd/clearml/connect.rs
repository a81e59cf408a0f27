//! Finds the servers, and makes a client for them.
//!
//! This module must not connect: the first request does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::clearml::client::{Client, ClientOptions};
use crate::clearml::discover;
use crate::clearml::pool::RequestPool;
use crate::clearml::tools::Tools;
use crate::cmd::Refusal;
use crate::cmd::data_root::absolute;
use crate::cmd::pass::on_hangup;
use crate::config::{ClearmlConfig, Config};
use crate::os::{clock, signals};

/// A flag that a signal raises to end a command that deletes nothing.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Refusal> {
    let stop = service_flag()?;
    signals::end_on_hangup(&stop).map_err(Refusal::Start)?;
    Ok(stop)
}

/// Two flags: one that a signal raises to end the command, and one that says that the audit log was rotated.
pub(super) fn flags(config: &Config) -> Result<(Arc<AtomicBool>, Arc<AtomicBool>), Refusal> {
    let stop = service_flag()?;
    let is_rotated = on_hangup(config, &stop)?;
    Ok((stop, is_rotated))
}

/// The first of them for a service, which reads its settings again at SIGHUP.
pub(super) fn service_flag() -> Result<Arc<AtomicBool>, Refusal> {
    let stop = Arc::<AtomicBool>::default();
    signals::end_on_signals(&stop, || {}).map_err(Refusal::Start)?;
    Ok(stop)
}

/// A client for the server that the environment and `clearml.conf` name. It has not connected yet. The time until the
/// deadline begins here.
pub(super) fn tools(
    config: &Config,
    options: &ClearmlConfig,
    stop: &Arc<AtomicBool>,
) -> Result<Tools, Refusal> {
    let deadline = config.deadline.and_then(|after| Instant::now().checked_add(after));
    let home = options.home();
    let sources = discover::Sources {
        env: &|name| options.environment.get(name).map(str::to_owned),
        read: &read,
        home: home.as_deref(),
    };
    let mut server = discover::find(&sources).map_err(Refusal::Start)?;
    for root in options.fileserver_root.iter().chain(&options.local_roots) {
        // Tasks may name it by another path, through a link.
        server.roots.extend(root.canonicalize());
        server.roots.push(absolute(root));
    }
    let pool = RequestPool::start(options.connections, Arc::clone(stop)).map_err(Refusal::Start)?;
    let client = ClientOptions {
        timeout: options.request_timeout,
        connections: options.connections,
        stop: Arc::clone(stop),
        clock: clock::now,
    };
    Ok(Tools { client: Arc::new(Client::new(server, client)), pool, deadline })
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
pub(super) fn now(config: &Config) -> crate::rules::Moment {
    config.now.unwrap_or_else(clock::now)
}
