//! Signals: SIGINT and SIGTERM ask the program to end, SIGHUP asks a service to reload.
//!
//! This module must not end a pass itself: it raises a flag, or calls a function in a thread of its own. The handlers
//! run in that thread alone: a thread that waits for an unreachable server runs none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Number};
use rustix::event::pause;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, iterator};

use crate::units;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload.
    Hangup,
    /// SIGINT or SIGTERM: end.
    Terminate,
}

/// How long after the first signal a second one means the same. `timeout` and others send each signal twice.
const SAME: Duration = Duration::from_secs(1);

/// Makes an error of a write out of the signal that the system sends if a file becomes larger than this process may make
/// one (`ulimit -f`). To be called by the first thread before it starts others, and not by a process that becomes
/// another program, which would inherit this.
pub fn survive_size_limit() {
    let _ = SigSet::from(Number::SIGXFSZ).thread_block();
}

/// Raises `flag` at the first SIGINT or SIGTERM. One that comes more than a second later ends the process at once.
/// To be called before other threads are started: they inherit that these signals are not for them. The thread that
/// receives them calls `begin` first, which has returned when this returns.
///
/// # Errors
/// The system refused the handlers, for people.
pub fn end_on_signals(flag: &Arc<AtomicBool>, begin: fn()) -> Result<(), String> {
    let is_impatient = Arc::<AtomicBool>::default();
    // One that comes before there are all handlers and the thread waits for them.
    let is_blocked = ending().thread_block().is_ok();
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(flag))
            .and_then(|_| flag::register_conditional_default(signal, Arc::clone(&is_impatient)))
            .map_err(|error| format!("signal handlers: {}", units::error(&error)))?;
    }
    let (told, then) = (Arc::clone(flag), Arc::clone(&is_impatient));
    let (ready, is_ready) = mpsc::channel::<()>();
    let wait = move || {
        begin();
        drop(ready);
        receive_until(&told);
        std::thread::sleep(SAME);
        then.store(true, Ordering::Relaxed);
    };
    if is_blocked && receive_in_own_thread(wait) {
        let _ = is_ready.recv();
    } else {
        is_impatient.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Raises `flag` at every SIGHUP, which then does not end the process. To be called before other threads are
/// started, too.
///
/// # Errors
/// The system refused the handler, for people.
pub fn note_hangups(flag: &Arc<AtomicBool>) -> Result<(), String> {
    let hangup = SigSet::from(Number::SIGHUP);
    let _ = hangup.thread_block();
    flag::register(SIGHUP, Arc::clone(flag))
        .map_err(|error| format!("signal handlers: {error}"))?;
    // The thread of the other signals receives it too.
    if !HAS_THREAD.load(Ordering::Relaxed) {
        let _ = hangup.thread_unblock();
    }
    Ok(())
}

/// Raises `flag` at SIGHUP too, which a terminal sends when it is closed, unless the process was started to ignore it
/// (`nohup`). To be called before other threads are started.
///
/// # Errors
/// The system refused the handler, for people.
pub fn end_on_hangup(flag: &Arc<AtomicBool>) -> Result<(), String> {
    if is_hangup_ignored() { Ok(()) } else { note_hangups(flag) }
}

/// Whether this process ignores SIGHUP, or that is not known.
fn is_hangup_ignored() -> bool {
    ignored().is_none_or(|signals| signals & bit(SIGHUP) != 0)
}

/// The signals that this process ignores, each as its [`bit`]; `None` if that is not known.
pub fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(ignored.trim(), 16).ok()
}

/// What stands for a signal in a set of them.
pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether there is a thread that receives the signals.
static HAS_THREAD: AtomicBool = AtomicBool::new(false);

/// What asks the program to end.
fn ending() -> SigSet {
    [Number::SIGINT, Number::SIGTERM].into_iter().collect()
}

/// What that thread receives.
fn received() -> SigSet {
    [Number::SIGINT, Number::SIGTERM, Number::SIGHUP].into_iter().collect()
}

/// Handles signals in this thread until the flag is raised, and goes on handling them. None comes between a look at the
/// flag and the wait for the next one.
fn receive_until(flag: &AtomicBool) {
    let _ = received().thread_block();
    let mut open = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
    for signal in &received() {
        open.remove(signal);
    }
    while !flag.load(Ordering::Relaxed) {
        let _ = open.suspend();
    }
    let _ = received().thread_unblock();
}

/// Starts a thread that handles signals, which this one has blocked. It calls `wait` first.
/// `false`: no thread can be started, and this one handles them.
fn receive_in_own_thread(wait: impl FnOnce() + Send + 'static) -> bool {
    let receive = move || {
        wait();
        loop {
            pause();
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(receive);
    if thread.is_err() {
        let _ = ending().thread_unblock();
    }
    HAS_THREAD.store(thread.is_ok(), Ordering::Relaxed);
    thread.is_ok()
}

/// Calls `on_signal` at every SIGHUP, SIGINT and SIGTERM, from a thread that lives as long as the process. If `ended`,
/// the flag of [`end_on_signals`], is raised by now, such a signal has come already.
///
/// # Errors
/// The system refused the handlers or the thread, for people.
pub fn listen(
    ended: &AtomicBool,
    on_signal: impl Fn(Signal) + Send + 'static,
) -> Result<(), String> {
    let mut signals = iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("signal handlers: {}", units::error(&error)))?;
    if ended.load(Ordering::Relaxed) {
        on_signal(Signal::Terminate);
    }
    let pass_on = move || {
        // The handlers may run here: this thread waits for them.
        let _ = received().thread_unblock();
        for signal in signals.forever() {
            on_signal(if signal == SIGHUP { Signal::Hangup } else { Signal::Terminate });
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(pass_on);
    let failed = |error| format!("cannot start a thread for signals: {}", units::no_thread(&error));
    thread.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};
    use std::sync::mpsc;

    // The only test of this process that raises SIGTERM: a second one would end the process.
    #[test]
    fn signals_raise_the_flag_and_are_passed_on() {
        let flag = Arc::<AtomicBool>::default();
        let (sender, received) = mpsc::channel();
        end_on_signals(&flag, || {}).unwrap();
        listen(&flag, move |signal| sender.send(signal).unwrap()).unwrap();
        for (signal, expected, is_raised) in
            [(Number::HUP, Signal::Hangup, false), (Number::TERM, Signal::Terminate, true)]
        {
            // `raise` would be for this thread alone.
            kill_process(getpid(), signal).unwrap();
            assert_eq!(received.recv_timeout(Duration::from_secs(60)), Ok(expected));
            assert_eq!(flag.load(Ordering::Relaxed), is_raised);
        }
    }
}
