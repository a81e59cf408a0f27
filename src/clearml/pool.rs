//! Threads that send requests, so that no signal has to wait for an answer.
//!
//! This module must not know what the work is. A thread that waits for a server is left behind when the run is told to
//! stop: it ends with the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ApiError;

/// How often a wait looks whether the run is told to stop.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// How long requests under way may go on after that.
const GRACE: Duration = Duration::from_millis(400);

type Job = Box<dyn FnOnce() + Send>;

/// The work on an item, and its result.
type Task = Box<dyn FnOnce() -> Done + Send>;
type Done = Box<dyn Any + Send>;

/// Some threads.
#[derive(Debug)]
pub struct RequestPool {
    jobs: Sender<Job>,
    stop: Arc<AtomicBool>,
}

impl RequestPool {
    /// Starts `size` threads, or as many as the system grants. They do nothing more once `stop` is set.
    ///
    /// # Errors
    /// The system refused all of them.
    pub fn start(size: usize, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for started in 0..size.max(1) {
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new().name("request".to_owned());
            match thread.spawn(move || work(&queue)) {
                Err(error) if started == 0 => {
                    let why = crate::units::no_thread(&error);
                    return Err(format!("cannot start a thread that sends requests: {why}"));
                }
                // Fewer requests at the same time.
                Err(_) => break,
                Ok(_) => {}
            }
        }
        Ok(Self { jobs, stop })
    }

    /// Whether the run is told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does one thing in a thread.
    ///
    /// # Errors
    /// The run was told to stop, or the thing itself failed.
    pub fn one<R: Send + 'static, E: From<ApiError> + Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, E> + Send + 'static,
    ) -> Result<R, E> {
        let mut result = None;
        self.each(vec![work], |work| work(), |done| result = Some(done))?;
        result.unwrap_or_else(|| Err(ApiError::Stopped.into()))
    }

    /// Does something with each item, in the threads, and hands each result to `each` here, in any order.
    ///
    /// # Errors
    /// The run was told to stop; some items may be done without a result.
    ///
    /// # Panics
    /// If the work on an item does.
    pub fn each<T: Send + 'static, R: Send + 'static>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> R + Send + Sync + 'static,
        mut each: impl FnMut(R),
    ) -> Result<(), ApiError> {
        let work = Arc::new(work);
        let task = |item| -> Task {
            let work = Arc::clone(&work);
            Box::new(move || Box::new(work(item)))
        };
        let mut take = |done: Done| {
            if let Ok(result) = done.downcast() {
                each(*result);
            }
        };
        self.all(items.into_iter().map(task).collect(), &mut take)
    }

    /// The same, once for all types: a channel for each of them makes the program a good deal larger.
    fn all(&self, tasks: Vec<Task>, take: &mut dyn FnMut(Done)) -> Result<(), ApiError> {
        let mut left = tasks.len();
        let (done, results) = channel();
        for task in tasks {
            let (done, stop) = (done.clone(), Arc::clone(&self.stop));
            let job = move || {
                if !stop.load(Ordering::Relaxed) {
                    // What it panics with is handed on, so it is not lost that something may be half done.
                    let result = catch_unwind(AssertUnwindSafe(task));
                    // No one waits for it after a stop.
                    let _ = done.send(result);
                }
            };
            // The threads live as long as this.
            let _ = self.jobs.send(Box::new(job));
        }
        drop(done);
        let mut until: Option<Instant> = None;
        while left > 0 {
            if self.is_stopped() {
                let until = *until.get_or_insert_with(|| Instant::now() + GRACE);
                if Instant::now() >= until {
                    return Err(ApiError::Stopped);
                }
            }
            match results.recv_timeout(TICK) {
                Ok(Ok(result)) => {
                    take(result);
                    left -= 1;
                }
                Ok(Err(panic)) => resume_unwind(panic),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ApiError::Stopped),
            }
        }
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once() {
        let pool = RequestPool::start(4, Arc::default()).unwrap();
        let mut sum = 0;
        pool.each((1..=100).collect(), |item: u32| item * 2, |double| sum += double).unwrap();
        assert_eq!(sum, 10_100);
        assert_eq!(pool.one(|| Ok::<_, ApiError>(7)), Ok(7));
    }

    #[test]
    #[should_panic(expected = "half done")]
    fn work_that_panics_is_not_taken_for_a_stop() {
        let pool = RequestPool::start(1, Arc::default()).unwrap();
        let _ = pool.one(|| -> Result<(), ApiError> { panic!("half done") });
    }

    #[test]
    fn a_stop_does_not_wait_for_work_that_hangs() {
        let stop = Arc::<AtomicBool>::default();
        let pool = RequestPool::start(1, Arc::clone(&stop)).unwrap();
        let raise = Arc::clone(&stop);
        let hang = move || -> Result<(), ApiError> {
            raise.store(true, Ordering::Relaxed);
            loop {
                thread::park();
            }
        };
        assert_eq!(pool.one(hang), Err(ApiError::Stopped));
    }
}
