//! The runtime of a service: signals, clocks, systemd and HTTP.
//!
//! This module must not run a pass.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};

use super::Refusal;
use crate::config::ServiceConfig;
use crate::os::{clock, signals};
use crate::service::health::Health;
use crate::service::http::{self, Page, Site};
use crate::service::metrics::Metrics;
use crate::service::notify::Notify;
use crate::service::scheduler::Reading;
use crate::service::{self, Call};
use crate::units;

/// Makes the page at `/`.
pub(super) type Front = Box<dyn Fn(&Health) -> Page + Send + Sync>;

/// Serves the metrics, the health and the front page of a service, if it is to listen. `measure` is called before they are shown.
pub(super) fn show(
    options: &ServiceConfig,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    front: Option<Front>,
    measure: impl Fn() + Send + Sync + 'static,
) -> Result<(), Refusal> {
    let Some(address) = options.listen else { return Ok(()) };
    let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
    let has_front = front.is_some();
    let page = move |path: &str| match (path, &front) {
        ("/", Some(front)) => Some(front(&health)),
        _ => service::page(path, &metrics, &health, clock::now()),
    };
    let site = Site { measure, measured: service::MEASURED, page };
    let address = http::listen(address, site).map_err(Refusal::Start)?;
    let first = if has_front { format!("http://{address}/, ") } else { String::new() };
    service::log(&format!(
        "listening on {first}http://{address}/metrics and http://{address}/healthz"
    ));
    Ok(())
}

/// The connection to systemd.
pub(super) fn notify(options: &ServiceConfig, health: &Arc<Health>) -> Result<Notify, Refusal> {
    let connect = || Notify::connect(options.notify_socket.as_deref());
    let notify = connect().unwrap_or_else(|error| {
        let error = units::error(&error);
        tracing::warn!("NOTIFY_SOCKET cannot be used, so systemd is not notified: {error}");
        Notify::default()
    });
    if let (Some(limit), Ok(watchdog)) = (options.watchdog, connect()) {
        let health = Arc::clone(health);
        watchdog.feed_watchdog(limit, move || health.is_alive()).map_err(Refusal::Start)?;
    }
    Ok(notify)
}

/// Both clocks of a service.
pub(super) fn reading() -> Reading {
    Reading { wall: clock::now(), steady: clock::steady() }
}

/// What signals ask of the service. The flag that stops a pass is raised beside this, and may be by now.
pub(super) fn calls(stop: &AtomicBool) -> Result<Receiver<Call>, Refusal> {
    let (call, calls) = mpsc::channel();
    let pass_on = move |signal| {
        // No one listens once the service has ended.
        let _ = call.send(match signal {
            signals::Signal::Hangup => Call::Reload,
            signals::Signal::Terminate => Call::Stop,
        });
    };
    signals::listen(stop, pass_on).map_err(Refusal::Start)?;
    Ok(calls)
}
