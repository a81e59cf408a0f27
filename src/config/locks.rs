//! The settings of locks: which ones are taken, and where the server is.
//!
//! This module must not connect. A password is never shown.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::origin::{ConfigError, Origin};
use super::values::{Values, absolute};
use super::words::{FileLocks, Profile};
use crate::cvat::{self, variables};
use crate::lock::redis::Server;
use crate::rules::{LockKind, Zone};
use crate::units;

/// The locks to take.
#[derive(Debug, Clone)]
pub struct LockPlan {
    /// On the entries themselves.
    pub files: FileLocks,
    /// That of the application, for zones that have one. The error: it is required (`--lock redis`), and no server is
    /// named. It matters only where such a zone is locked.
    pub application: Result<Option<ApplicationLock>, ConfigError>,
    /// Whether that one is not to be taken (`--lock flock`, `--lock none`).
    pub is_application_unwanted: bool,
}

/// How to take the application's lock.
#[derive(Debug, Clone)]
pub struct ApplicationLock {
    /// The server.
    pub server: Server,
    /// The data root as the application sees it, if it is set: its lock keys are made from that path.
    pub data_root: Option<PathBuf>,
    /// The paths at which the application is known to see its data root.
    pub own_roots: Vec<PathBuf>,
    /// After this time the server drops a lock.
    pub ttl: Duration,
    /// Whether it is an error to guess the data root (`--lock redis`).
    pub is_required: bool,
}

impl LockPlan {
    /// Whether the zone has the application's lock, and nothing says where it would be found.
    pub fn misses_application_of(&self, zone: &Zone) -> bool {
        zone.lock == LockKind::Application
            && matches!(self.application, Ok(None))
            && !self.is_application_unwanted
    }

    /// Whether it is an error not to take the application's lock.
    pub fn is_application_required(&self) -> bool {
        match &self.application {
            Ok(lock) => lock.as_ref().is_some_and(|lock| lock.is_required),
            Err(_) => true,
        }
    }

    pub(super) fn resolve(values: &mut Values<'_>) -> Result<Self, ConfigError> {
        let backend = values.choice("lock")?.to_owned();
        let server = server(values)?;
        let ttl = lock_ttl(values)?;
        // Keys are compared byte by byte, so there is no directory that a relative path could be in.
        let data_root = values.optional("cvat_data", absolute)?;
        // `//` at the beginning is another directory in a key.
        if data_root.as_ref().is_some_and(|root| !root.as_os_str().as_bytes().starts_with(b"//")) {
            values.path("cvat_data");
        }
        let server = match (backend.as_str(), server) {
            ("redis", _) if values.profile == Profile::None => {
                return Err(values
                    .wrong("lock", "only exports of CVAT have a lock in Redis: use profile cvat"));
            }
            ("redis", None) => {
                let host = variables::REDIS_HOST;
                let why = format!(
                    "no Redis server is named: add --redis redis://HOST:6379, or set {host}"
                );
                Err(values.wrong("lock", why))
            }
            ("auto" | "redis", server) => Ok(server),
            _ => Ok(None),
        };
        let own_roots = cvat::own_data_roots(values.env_of_cvat(variables::BASE_DIR));
        let is_required = backend == "redis";
        let is_application_unwanted = matches!(backend.as_str(), "flock" | "none");
        let files = if backend == "none" { FileLocks::Unlocked } else { FileLocks::Flock };
        if matches!(server, Ok(Some(_))) && data_root.is_none() {
            let own = values.text("data").unwrap_or_default().to_owned();
            values.show("cvat_data", own);
        }
        let to_lock = |server| ApplicationLock { server, data_root, own_roots, ttl, is_required };
        let application = server.map(|server| server.map(to_lock));
        Ok(Self { files, application, is_application_unwanted })
    }
}

/// After which time a lock in Redis expires. CVAT refuses to start unless it waits longer than that for a
/// lock, so such a pair is refused here too.
fn lock_ttl(values: &mut Values<'_>) -> Result<Duration, ConfigError> {
    let ttl = values.duration("lock_ttl")?;
    check_ttl(ttl).map_err(|why| values.wrong("lock_ttl", why))?;
    let set =
        variables::LOCK_WAITS.iter().find_map(|name| Some((*name, values.env_of_cvat(name)?)));
    let Some((name, text)) = set else {
        let wait = variables::DEFAULT_LOCK_WAIT;
        let is_of_cvat = matches!(values.origin("lock_ttl"), Origin::Env(name) if variables::names().any(|own| own == name));
        if !is_of_cvat || wait > ttl {
            return Ok(ttl);
        }
        let (wait, [.., name]) = (units::exact(wait), variables::LOCK_WAITS);
        let why = format!(
            "CVAT waits {wait} for a lock, and refuses to start if that is not longer than the TTL of a lock; if \
             your CVAT waits longer, set {name} here too"
        );
        return Err(values.wrong("lock_ttl", why));
    };
    let why = match variables::seconds(text) {
        Ok(wait) if wait > ttl => return Ok(ttl),
        Ok(_) => format!("it is not longer than the TTL of a lock, {}", units::exact(ttl)),
        Err(why) => why,
    };
    Err(wrong_variable(name, text, why))
}

/// What is wrong with the time after which a lock expires.
pub(super) fn check_ttl(ttl: Duration) -> Result<(), &'static str> {
    match ttl {
        _ if ttl < Duration::from_secs(1) => Err("it is less than a second"),
        _ if ttl > Duration::from_secs(86_400) => Err("it is more than a day"),
        _ => Ok(()),
    }
}

/// The server of the setting, or else of CVAT's own variables. What is shown of it has no password.
fn server(values: &mut Values<'_>) -> Result<Option<Server>, ConfigError> {
    let password = values.env_of_cvat(variables::REDIS_PASSWORD);
    let (server, origin) = if let Some(url) = values.text("redis") {
        let origin = values.origin("redis");
        let server = Server::from_url(url).map_err(|why| values.wrong("redis", why))?;
        if matches!(origin, Origin::Flag(_)) && server.has_password() {
            let why = format!(
                "everyone can see a password on the command line with `ps`: set SWEEPER_REDIS \
                 instead, or {} and a URL without a password",
                variables::REDIS_PASSWORD
            );
            return Err(values.wrong("redis", why));
        }
        (server, origin)
    } else if let Some((server, origin)) = server_of_cvat(values, password)? {
        (server, origin)
    } else {
        return Ok(None);
    };
    let server = server.or_password(password);
    if server.has_user() && !server.has_password() {
        let why =
            "it has a user name and no password: for a password alone write redis://:PASSWORD@HOST";
        return Err(values.wrong("redis", why));
    }
    values.show_from("redis", server.shown(), origin);
    Ok(Some(server))
}

fn server_of_cvat(
    values: &Values<'_>,
    password: Option<&str>,
) -> Result<Option<(Server, Origin)>, ConfigError> {
    let host = values.env_of_cvat(variables::REDIS_HOST);
    let port = values.env_of_cvat(variables::REDIS_PORT);
    let name = match (host, port, password) {
        (Some(_), _, _) => variables::REDIS_HOST,
        (None, Some(_), _) => variables::REDIS_PORT,
        (None, None, Some(_)) => variables::REDIS_PASSWORD,
        (None, None, None) => return Ok(None),
    };
    let number = match port {
        None => variables::DEFAULT_REDIS_PORT,
        Some(text) => text.trim().parse().map_err(|_| {
            wrong_variable(variables::REDIS_PORT, text, "it is not a port".to_owned())
        })?,
    };
    let host = host.unwrap_or(variables::DEFAULT_REDIS_HOST);
    // An IPv6 address has more of them.
    if host.matches(':').count() == 1 {
        let why = format!(
            "it is the name or the address of a host: write the port into {}",
            variables::REDIS_PORT
        );
        return Err(wrong_variable(variables::REDIS_HOST, host, why));
    }
    let server =
        Server::at(host, number).map_err(|why| wrong_variable(variables::REDIS_HOST, host, why))?;
    Ok(Some((server, Origin::Env(name.to_owned()))))
}

fn wrong_variable(name: &str, value: &str, why: String) -> ConfigError {
    let origin = Origin::Env(name.to_owned());
    ConfigError::Value { key: name.to_owned(), value: value.to_owned(), origin, why }
}
