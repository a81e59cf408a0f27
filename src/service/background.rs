//! Does slow work on request, in a thread of its own: not too often, and never during a pass.
//!
//! This module must not keep anything waiting: a caller gets the last result, and a pass waits at most a second for
//! running work to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::units;

/// How long a pass waits until what is being made has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something that is made in the background.
#[derive(Debug)]
pub struct Background<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    latest: Option<Arc<T>>,
    is_wanted: bool,
    is_paused: bool,
    /// Raised to end what is being made.
    making: Option<Arc<AtomicBool>>,
    last_start: Option<Instant>,
}

impl<T> State<T> {
    /// When something is to be made; `None` until something has changed.
    fn due_in(&self, pause: Duration) -> Option<Duration> {
        let since = self.last_start.map_or(pause, |start| start.elapsed());
        (self.is_wanted && !self.is_paused).then(|| pause.saturating_sub(since))
    }
}

impl<T: Send + Sync + 'static> Background<T> {
    /// Starts the thread, which lives as long as the process. `make` ends early when its flag is raised, and returns
    /// `None` then.
    ///
    /// # Errors
    /// The system refused the thread, for people.
    pub fn start(
        pause: Duration,
        make: impl Fn(&Arc<AtomicBool>) -> Option<T> + Send + 'static,
    ) -> Result<Arc<Self>, String> {
        let (latest, making, last_start) = (None, None, None);
        let state = State { latest, is_wanted: false, is_paused: false, making, last_start };
        let background = Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() });
        let own = Arc::clone(&background);
        let serve = move || {
            loop {
                let stop = own.wait_until_due(pause);
                own.keep(make(&stop));
            }
        };
        let thread = std::thread::Builder::new().name("usage".to_owned()).spawn(serve);
        thread.map_err(|error| {
            format!(
                "cannot start a thread that measures the data root: {}",
                units::no_thread(&error)
            )
        })?;
        Ok(background)
    }

    /// What was made last, if anything was. A new one will be made.
    pub fn latest(&self) -> Option<Arc<T>> {
        let mut state = self.state();
        state.is_wanted = true;
        self.changed.notify_all();
        state.latest.clone()
    }

    /// Whether nothing is made now because a pass is running.
    pub fn is_paused(&self) -> bool {
        self.state().is_paused
    }

    /// A pass begins: what is being made ends, and nothing is made until [`Self::resume`].
    pub fn pause(&self) {
        let mut state = self.state();
        state.is_paused = true;
        if let Some(making) = &state.making {
            making.store(true, Ordering::Relaxed);
        }
        // A file system that hangs must not keep the pass waiting.
        let is_making = |state: &mut State<T>| state.making.is_some();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, is_making);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The pass has ended.
    pub fn resume(&self) {
        self.state().is_paused = false;
        self.changed.notify_all();
    }

    /// Waits until something is wanted, allowed, and not made too recently.
    fn wait_until_due(&self, pause: Duration) -> Arc<AtomicBool> {
        let mut state = self.state();
        loop {
            state = match state.due_in(pause) {
                Some(Duration::ZERO) => {
                    let stop = Arc::<AtomicBool>::default();
                    state.making = Some(Arc::clone(&stop));
                    state.last_start = Some(Instant::now());
                    return stop;
                }
                Some(wait) => {
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn keep(&self, made: Option<T>) {
        let mut state = self.state();
        state.making = None;
        if let Some(made) = made {
            state.latest = Some(Arc::new(made));
            state.is_wanted = false;
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_secs(60);

    /// Asks until something with this number is there.
    fn wait_for(background: &Background<u32>, number: u32) {
        let start = Instant::now();
        while background.latest().as_deref() != Some(&number) {
            assert!(start.elapsed() < SOON, "{number}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Something that is numbered, and a channel that tells when each is begun.
    fn numbered(pause: Duration) -> (Arc<Background<u32>>, mpsc::Receiver<u32>) {
        let (tell, begun) = mpsc::channel();
        let number = Mutex::new(0);
        let make = move |_: &Arc<AtomicBool>| {
            let mut number = number.lock().unwrap();
            *number += 1;
            tell.send(*number).unwrap();
            Some(*number)
        };
        (Background::start(pause, make).unwrap(), begun)
    }

    #[test]
    fn nothing_is_made_before_it_is_asked_for_nor_again_before_its_time() {
        let (background, begun) = numbered(LONG);
        assert!(begun.try_recv().is_err());
        wait_for(&background, 1);
        for _ in 0..100 {
            assert_eq!(background.latest().as_deref(), Some(&1));
        }
        assert_eq!(begun.try_iter().count(), 1);
        let (background, _begun) = numbered(Duration::ZERO);
        wait_for(&background, 3);
    }

    #[test]
    fn nothing_is_made_during_a_pass() {
        let state = |is_wanted, is_paused, last_start| {
            let (latest, making) = (None::<Arc<u32>>, None);
            State { latest, is_wanted, is_paused, making, last_start }
        };
        assert_eq!(state(true, false, None).due_in(LONG), Some(Duration::ZERO));
        assert_eq!(state(true, true, None).due_in(LONG), None);
        assert_eq!(state(false, false, None).due_in(LONG), None);
        let wait = state(true, false, Some(Instant::now())).due_in(LONG);
        assert!(wait.is_some_and(|wait| wait > Duration::ZERO && wait <= LONG));
        let (background, begun) = numbered(Duration::ZERO);
        background.pause();
        for _ in 0..100 {
            assert_eq!(background.latest(), None);
        }
        assert!(begun.try_recv().is_err());
        background.resume();
        assert_eq!(begun.recv_timeout(SOON), Ok(1));
    }

    #[test]
    fn what_is_being_made_ends_when_a_pass_begins() {
        let (tell, begun) = mpsc::channel();
        let make = move |stop: &Arc<AtomicBool>| -> Option<u32> {
            tell.send(()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            None
        };
        let background = Background::start(Duration::ZERO, make).unwrap();
        background.latest();
        begun.recv_timeout(SOON).unwrap();
        background.pause();
        assert!(background.state().making.is_none(), "the pass begins after its end");
        assert_eq!(background.latest(), None, "half of it is nothing");
        background.resume();
        begun.recv_timeout(SOON).unwrap();
    }
}
