//! The threads of a pass, and who of them has nothing to do.
//!
//! It must not know what they work on. There is one loop a thread, which the caller brings; a task that
//! is halved while another thread is idle is shared with it, and otherwise costs one look at a counter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a thread that finds nothing to do waits for others to find something.
const IDLE: Duration = Duration::from_micros(100);

/// Threads, and how many of them are at work.
#[derive(Debug)]
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
    idle: AtomicUsize,
}

impl Workers {
    /// One: the caller's own thread. With a second thread in the process, even one that only waits,
    /// every call on a descriptor costs two atomic operations more (3 of 100 parts of a pass in which
    /// everything is fresh).
    pub const fn one() -> Self {
        Self { pool: None, idle: AtomicUsize::new(0) }
    }

    /// So many.
    ///
    /// # Errors
    /// What keeps them from starting.
    pub fn start(jobs: usize) -> Result<Self, String> {
        if jobs <= 1 {
            return Ok(Self::one());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
        let pool = pool.map_err(|error| format!("{jobs} workers: {error}"))?;
        Ok(Self { pool: Some(pool), ..Self::one() })
    }

    /// Whether there is more than one.
    pub const fn are_several(&self) -> bool {
        self.pool.is_some()
    }

    /// Runs `each` on every one of them, and returns when all have.
    pub fn all(&self, each: impl Fn() + Sync) {
        match &self.pool {
            None => each(),
            Some(pool) => {
                pool.broadcast(|_| each());
            }
        }
    }

    /// Passes a moment in which the calling worker has nothing to do: it helps another with a half of
    /// its task, if there is one to be had.
    pub fn idle(&self) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            return;
        }
        self.idle.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(IDLE);
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any of them has nothing to do just now.
    pub fn are_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Does both halves of a task, side by side on these workers. For when some of them are idle.
    pub fn halves<L: Send, R: Send>(
        &self,
        left: impl FnOnce() -> L + Send,
        right: impl FnOnce() -> R + Send,
    ) -> (L, R) {
        if rayon::current_thread_index().is_some() {
            rayon::join(left, right)
        } else {
            (left(), right())
        }
    }
}
