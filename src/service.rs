//! When to run a pass: on a schedule, until told to stop.
//!
//! It must not judge, lock or remove anything: a pass is a closure that `main` hands in, and so is the
//! reading of the settings. One thread looks at the [`agenda`] and runs what is due, so passes never
//! overlap. It wakes at least every twenty seconds, since a clock may be set and a machine may sleep.
//!
//! [`schedule`] reads the rules, [`agenda`] applies them and is pure, [`board`] knows how the service is,
//! [`notify`] tells systemd.

pub mod agenda;
pub mod board;
pub mod notify;
pub mod schedule;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::exit::ExitCode;
use crate::retention::{Moment, Zone};
use crate::units;
use agenda::{Agenda, Next, Plan, Reading};
use board::Board;
use notify::Notify;

/// What a signal asks of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// End.
    Stop,
    /// Read the settings again.
    Reload,
}

/// How a pass ended.
#[derive(Debug)]
pub struct Ended {
    /// With which code.
    pub code: ExitCode,
    /// When.
    pub at: Moment,
    /// Each zone, and what was wrong if anything was.
    pub zones: Vec<(Zone, Option<String>)>,
    /// Whether it was told to stop.
    pub was_stopped: bool,
}

/// A service, ready to run.
#[derive(Debug)]
pub struct Service<'a> {
    /// What is to be done when.
    pub agenda: Agenda,
    /// What it is asked.
    pub calls: &'a Receiver<Call>,
    /// Where it says how it is.
    pub board: &'a Board,
    /// Where it says so to systemd.
    pub notify: &'a Notify,
}

impl Service<'_> {
    /// Runs passes until told to stop; then says how that went: well, or with the code of the pass that
    /// was stopped in its middle.
    pub fn run(
        mut self,
        clock: impl Fn() -> Reading,
        mut pass: impl FnMut(&[Zone]) -> Ended,
        mut reload: impl FnMut() -> Result<Plan, String>,
    ) -> ExitCode {
        self.notify.ready(&self.outlook());
        tracing::info!("serving; {}", self.outlook());
        loop {
            self.board.looks();
            let wait = match self.agenda.look(clock()) {
                Next::In(wait) => wait.min(board::TICK),
                Next::Due(zones) => {
                    let names: Vec<&str> = zones.iter().map(|zone| zone.name()).collect();
                    self.notify.status(&format!("a pass over {}", names.join(", ")));
                    self.board.begins();
                    let ended = pass(&zones);
                    self.board.ends(ended.at, &ended.zones);
                    if ended.was_stopped {
                        return self.stop(ended.code);
                    }
                    self.notify.status(&self.outlook());
                    Duration::ZERO
                }
            };
            match self.calls.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return self.stop(ExitCode::Done);
                }
                Ok(Call::Reload) => {
                    self.notify.reloading();
                    let status = match reload() {
                        Ok(plan) => {
                            self.agenda.replan(plan, clock());
                            self.board.plan(&self.agenda);
                            let status = format!("settings read again; {}", self.outlook());
                            tracing::info!("{status}");
                            status
                        }
                        Err(why) => {
                            tracing::error!("the settings are refused, the old ones stay: {why}");
                            // One line, whatever a settings file has in it.
                            let why = why.replace(char::is_control, " ");
                            format!("settings refused ({why}); {}", self.outlook())
                        }
                    };
                    self.notify.ready(&status);
                }
            }
        }
    }

    fn stop(&self, code: ExitCode) -> ExitCode {
        self.notify.stopping();
        tracing::info!("told to stop");
        code
    }

    /// What comes next, in words.
    fn outlook(&self) -> String {
        let upcoming: Vec<String> = self
            .agenda
            .upcoming()
            .map(|(zone, _, begins)| format!("{} at {}", zone.name(), units::rfc3339(begins)))
            .collect();
        format!("next: {}", upcoming.join(", "))
    }
}

/// Says something that whoever runs a service wants to know.
pub fn tell(what: &str) {
    tracing::info!("{what}");
}

/// The steady clock: it counts while the machine sleeps, and is never set.
pub fn steady() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A number that differs from machine to machine and from start to start.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without a source of randomness the delays are the same everywhere, and no worse than none.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}
