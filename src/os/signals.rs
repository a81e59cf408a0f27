//! Signals: SIGINT and SIGTERM ask the program to end, SIGHUP asks a service to reload.
//!
//! It must not end a pass itself: it raises a flag, or calls a function in a thread of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, iterator};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload.
    Hangup,
    /// SIGINT or SIGTERM: end.
    Terminate,
}

/// Raises `flag` at the first SIGINT or SIGTERM. A second one ends the process at once.
///
/// # Errors
/// The system refused the handlers, for people.
pub fn end_on_signals(flag: &Arc<AtomicBool>) -> Result<(), String> {
    for signal in [SIGINT, SIGTERM] {
        // The order matters: at the first signal the first handler finds the flag down, and the second
        // one raises it.
        flag::register_conditional_default(signal, Arc::clone(flag))
            .and_then(|_| flag::register(signal, Arc::clone(flag)))
            .map_err(|error| format!("signal handlers: {error}"))?;
    }
    Ok(())
}

/// Raises `flag` at every SIGHUP, which then does not end the process.
///
/// # Errors
/// The system refused the handler, for people.
pub fn note_hangups(flag: &Arc<AtomicBool>) -> Result<(), String> {
    let noted = flag::register(SIGHUP, Arc::clone(flag));
    noted.map(drop).map_err(|error| format!("signal handlers: {error}"))
}

/// Calls `on_signal` at every SIGHUP, SIGINT and SIGTERM, from a thread that lives as long as the process.
///
/// # Errors
/// The system refused the handlers or the thread, for people.
pub fn listen(on_signal: impl Fn(Signal) + Send + 'static) -> Result<(), String> {
    let mut signals = iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("signal handlers: {error}"))?;
    let pass_on = move || {
        for signal in signals.forever() {
            on_signal(if signal == SIGHUP { Signal::Hangup } else { Signal::Terminate });
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(pass_on);
    thread.map(drop).map_err(|error| format!("a thread for signals: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    // The only test of this process that raises SIGTERM: a second one would end the process.
    #[test]
    fn signals_raise_the_flag_and_are_passed_on() {
        let flag = Arc::<AtomicBool>::default();
        let (sender, received) = mpsc::channel();
        end_on_signals(&flag).unwrap();
        listen(move |signal| sender.send(signal).unwrap()).unwrap();
        for (signal, expected, is_raised) in
            [(SIGHUP, Signal::Hangup, false), (SIGTERM, Signal::Terminate, true)]
        {
            raise(signal).unwrap();
            assert_eq!(received.recv_timeout(Duration::from_secs(60)), Ok(expected));
            assert_eq!(flag.load(Ordering::Relaxed), is_raised);
        }
    }
}
