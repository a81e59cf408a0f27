//! `sweeper serve`: the service, with everything that it tells and is told, plugged together.
//!
//! It must not decide when to run, which is the service's own affair, nor sweep: a pass is `main`'s.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};

use retention_sweeper::cli::Verbosity;
use retention_sweeper::config::service::ServiceConfig;
use retention_sweeper::config::{Config, Given};
use retention_sweeper::exit::ExitCode;
use retention_sweeper::listen::{self, Page};
use retention_sweeper::lock::guard::{Guard, IfRunning};
use retention_sweeper::metrics::{self, Metrics};
use retention_sweeper::retention::Zone;
use retention_sweeper::service::agenda::{Agenda, Reading};
use retention_sweeper::service::board::Board;
use retention_sweeper::service::notify::Notify;
use retention_sweeper::service::{self, Call, Ended, Service};
use retention_sweeper::volume::{Space, Volume};

use super::{Refusal, end_on_signals, locks, now, open, settings, sharing, sweep, takes_guard};

/// Passes on a schedule, until told to stop.
pub(crate) fn serve(verbosity: Verbosity, given: &Given) -> Result<ExitCode, Refusal> {
    let config = settings(given)?;
    let to_do = ServiceConfig::resolve(given)?;
    if config.from0.is_some() {
        return Err(Refusal::Start("a list (from0) is for one pass, not for a service".to_owned()));
    }
    let stop = Arc::<AtomicBool>::default();
    end_on_signals(&stop)?;
    let calls = calls()?;
    let volume = open(&config)?;
    locks(&config, &volume)?;
    let begin = || Agenda::new(to_do.plan.clone(), service::seed(), reading(), to_do.first);
    let board = Arc::new(Board::of(&begin()));
    let metrics = Arc::new(Metrics::of(&config.zones).map_err(Refusal::Start)?);
    if let Some(address) = to_do.listen {
        let (metrics, board) = (Arc::clone(&metrics), Arc::clone(&board));
        let root = volume.path().to_owned();
        let pages = move |path: &str| page(path, &metrics, &board, &root);
        let address = listen::listen(address, pages).map_err(Refusal::Start)?;
        service::tell(&format!("http://{address}/metrics and http://{address}/healthz"));
    }
    let tell = || Notify::to(to_do.notify_socket.as_deref());
    let notify = tell().unwrap_or_else(|error| {
        tracing::warn!("nobody is told how the service is, NOTIFY_SOCKET leads nowhere: {error}");
        Notify::default()
    });
    if let (Some(limit), Ok(notify)) = (to_do.watchdog, tell()) {
        let board = Arc::clone(&board);
        notify.watch(limit, move || board.is_alive());
    }
    let presence = match presence(&config, &volume, &notify, &board, &stop) {
        Ok(presence) => presence,
        Err(holder) => {
            tracing::error!("{holder} serves {:?} already", volume.path());
            return Ok(ExitCode::NoLock);
        }
    };
    let agenda = begin();
    board.plan(&agenda);
    let config = RefCell::new(config);
    let pass = |zones: &[Zone]| {
        let config = config.borrow();
        let if_running = config.if_running.unwrap_or(IfRunning::Wait);
        match sweep("run", &config, zones, verbosity, Arc::clone(&stop), if_running) {
            Ok(swept) => {
                swept.count(&metrics);
                swept.ended()
            }
            Err(refusal) => {
                tracing::error!("no pass was made: {refusal}");
                let troubled = |zone: &Zone| (*zone, Some(format!("no pass was made: {refusal}")));
                let zones = zones.iter().map(troubled).collect();
                Ended { code: ExitCode::Usage, at: now(None), zones, was_stopped: false }
            }
        }
    };
    let reload = || {
        let new = settings(given).map_err(|error| error.to_string())?;
        let to_do_now = ServiceConfig::resolve(given).map_err(|error| error.to_string())?;
        let found = open(&new).map_err(|error| error.to_string())?;
        locks(&new, &found).map_err(|error| error.to_string())?;
        if found.path() != volume.path() || to_do_now.listen != to_do.listen {
            return Err("data and listen only change with a restart".to_owned());
        }
        config.replace(new);
        Ok(to_do_now.plan)
    };
    let code = Service { agenda, calls: &calls, board: &board, notify: &notify }
        .run(reading, pass, reload);
    drop(presence);
    Ok(code)
}

/// The one service of a volume: others wait until it ends, or leave it to that one, as told.
fn presence(
    config: &Config,
    volume: &Volume,
    notify: &Notify,
    board: &Board,
    stop: &AtomicBool,
) -> Result<Guard, String> {
    if !takes_guard(config) {
        return Ok(Guard::none());
    }
    let sharing = sharing(config);
    let if_running = config.if_running.unwrap_or(IfRunning::Wait);
    let is_stopped = || stop.load(Ordering::Relaxed);
    match Guard::of_service(volume, sharing, IfRunning::Exit, &is_stopped) {
        Err(holder) if if_running == IfRunning::Wait => {
            notify.ready(&format!("standing by: {holder} serves this volume"));
            board.stand_by(|| Guard::of_service(volume, sharing, if_running, &is_stopped))
        }
        Err(_) if if_running == IfRunning::Share => Ok(Guard::none()),
        taken => taken,
    }
}

/// What is shown over HTTP.
fn page(path: &str, metrics: &Metrics, board: &Board, root: &Path) -> Option<Page> {
    match path {
        "/metrics" => {
            if let Ok(space) = Space::of(root) {
                metrics.volume(&space);
            }
            Some(Page { status: 200, kind: metrics::KIND, text: metrics.text() })
        }
        "/healthz" => Some(match board.health(now(None)) {
            Ok(text) => Page::of_words(200, text),
            Err(text) => Page::of_words(503, text),
        }),
        _ => None,
    }
}

/// Both clocks of a service.
fn reading() -> Reading {
    Reading { wall: now(None), steady: service::steady() }
}

/// What signals ask of a service. The flag that stops a pass is raised beside this.
fn calls() -> Result<Receiver<Call>, Refusal> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let (call, calls) = mpsc::channel();
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| Refusal::Start(format!("signals: {error}")))?;
    let pass_on = move || {
        for signal in signals.forever() {
            let _ = call.send(if signal == SIGHUP { Call::Reload } else { Call::Stop });
        }
    };
    let thread = std::thread::Builder::new().spawn(pass_on);
    thread.map_err(|error| Refusal::Start(format!("a thread for signals: {error}")))?;
    Ok(calls)
}
