//! The threads of a pass, and which of them are idle.
//!
//! This module must not know what they work on. Each thread runs one loop of the caller's. A thread that finds nothing
//! to do waits on a condition variable, and is woken when there is more work or when another thread offers
//! half of its task. The threads are started when there is work for several: a small pass is done before that.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc};

use crate::units;

thread_local! {
    /// Whether this thread has done its half of a task, and counts as idle.
    static RESTS: Cell<bool> = const { Cell::new(false) };
}

/// Threads, and how many of them are idle.
#[derive(Debug)]
pub struct Workers {
    /// How many there are to be.
    jobs: usize,
    /// They, once they are started; `None` if they are not several.
    pool: OnceLock<Option<rayon::ThreadPool>>,
    /// Is told why there are fewer, if there are.
    on_refusal: fn(&str),
    idle: AtomicUsize,
    /// Counts the changes that an idle thread may wait for.
    changes: AtomicU64,
    /// Held while a thread decides to wait and while waiting threads are woken, so that no change is missed.
    gate: Mutex<()>,
    changed: Condvar,
}

/// The state that a thread saw before it looked for work.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(u64);

impl Workers {
    /// One: the caller's own thread. A second thread, even one that only waits, would make every call on a
    /// descriptor slower.
    pub const fn one() -> Self {
        Self::several(1, |_| {})
    }

    /// Up to `jobs` threads. They are started when [`Self::all`] is called; if the system grants fewer,
    /// `on_refusal` is told so, for people.
    pub const fn several(jobs: usize, on_refusal: fn(&str)) -> Self {
        Self {
            jobs,
            pool: OnceLock::new(),
            on_refusal,
            idle: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            gate: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// The threads, started now at the latest; `None` if they are not several.
    fn pool(&self) -> Option<&rayon::ThreadPool> {
        let start = || {
            let (pool, refused) = start(self.jobs);
            if let Some(refused) = refused {
                (self.on_refusal)(&refused);
            }
            pool
        };
        if self.jobs <= 1 { None } else { self.pool.get_or_init(start).as_ref() }
    }

    /// Whether there is more than one, or will be as far as is known.
    pub fn are_several(&self) -> bool {
        self.jobs > 1 && self.pool.get().is_none_or(Option::is_some)
    }

    /// Runs `each` on every one of them, and returns when all have returned.
    pub fn all(&self, each: impl Fn() + Sync) {
        match self.pool() {
            None => each(),
            Some(pool) => {
                pool.broadcast(|_| each());
            }
        }
    }

    /// Gives each of `tasks` to `run` on a thread that is free, and returns when all are done. Threads that
    /// have no task help those that have one.
    pub fn each<T: Send>(&self, tasks: Vec<T>, run: impl Fn(T) + Sync) {
        let unfinished = AtomicUsize::new(tasks.len());
        let tasks = Mutex::new(tasks);
        self.all(|| {
            loop {
                let ticket = self.ticket();
                let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if let Some(task) = task {
                    let _unfinished = Counted::one_of(&unfinished, self);
                    run(task);
                } else if unfinished.load(Ordering::SeqCst) == 0 {
                    return;
                } else {
                    self.wait(ticket);
                }
            }
        });
    }

    /// To be taken before looking for work, and given to [`Self::wait`] when there was none.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.changes.load(Ordering::SeqCst))
    }

    /// Says that there is more work, or that there will be no more.
    pub fn notify(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.idle.load(Ordering::SeqCst) > 0 {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Waits until something has changed since the ticket was taken. Helps another thread with half of its
    /// task instead, if one is offered.
    pub fn wait(&self, ticket: Ticket) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            return;
        }
        self.idle.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while self.changes.load(Ordering::SeqCst) == ticket.0 {
            gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        drop(gate);
        self.idle.fetch_sub(1, Ordering::SeqCst);
        rayon::yield_now();
    }

    /// Whether any of them is idle right now.
    pub fn are_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Runs both halves of a task, in parallel if another thread is idle.
    pub fn join<L: Send, R: Send>(
        &self,
        left: impl FnOnce() -> L + Send,
        right: impl FnOnce() -> R + Send,
    ) -> (L, R) {
        if rayon::current_thread_index().is_none() {
            return (left(), right());
        }
        let offer_then_left = || {
            // The other half is in this thread's queue by now.
            self.notify();
            let done = left();
            self.rest();
            done
        };
        let right = || {
            let was_resting = self.end_rest();
            let done = right();
            if was_resting {
                self.rest();
            }
            done
        };
        let halves = rayon::join(offer_then_left, right);
        self.end_rest();
        halves
    }

    /// This thread has done its half and waits for the other one: until that is done, it takes what others offer.
    fn rest(&self) {
        if !RESTS.replace(true) {
            self.idle.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// This thread has something to do again. Whether it had nothing.
    fn end_rest(&self) -> bool {
        let was_resting = RESTS.replace(false);
        if was_resting {
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
        was_resting
    }
}

/// Starts `jobs` threads, or as many as the system grants. Why there are fewer, for people, if there are.
fn start(jobs: usize) -> (Option<rayon::ThreadPool>, Option<String>) {
    // A pool fails as a whole, so it is only made when its threads are there.
    let (give, take) = mpsc::channel::<rayon::ThreadBuilder>();
    let take = Arc::new(Mutex::new(take));
    let mut refused = None;
    let mut started = 0;
    while started < jobs && refused.is_none() {
        let take = Arc::clone(&take);
        let work = move || {
            let own = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
            // Without a pool this thread has nothing to do.
            if let Ok(own) = own {
                drop(take);
                own.run();
            }
        };
        match std::thread::Builder::new().spawn(work) {
            Ok(_) => started += 1,
            Err(error) => refused = Some(units::no_thread(&error)),
        }
    }
    let refused = refused.map(|why| format!("{} of {jobs} worker threads: {why}", jobs - started));
    if started <= 1 {
        return (None, refused);
    }
    let hand_over = |own| give.send(own).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(started).spawn_handler(hand_over);
    match pool.build() {
        Ok(pool) => (Some(pool), refused),
        Err(error) => (None, Some(format!("{jobs} worker threads: {error}"))),
    }
}

/// A task that is not done yet, or a worker that looks for work. If it panics, that ends too, so that the others do not
/// wait for it.
pub(super) struct Counted<'a> {
    count: &'a AtomicUsize,
    workers: &'a Workers,
}

impl<'a> Counted<'a> {
    /// One that is in `count` already.
    fn one_of(count: &'a AtomicUsize, workers: &'a Workers) -> Self {
        Self { count, workers }
    }

    /// One more.
    pub(super) fn one_more(count: &'a AtomicUsize, workers: &'a Workers) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self::one_of(count, workers)
    }

    /// How many others there are.
    pub(super) fn end(self) -> usize {
        let others = self.count.fetch_sub(1, Ordering::SeqCst) - 1;
        std::mem::forget(self);
        others
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.workers.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    #[test]
    fn a_task_that_panics_leaves_no_worker_waiting() {
        for jobs in [1, 4] {
            let workers = Workers::several(jobs, |_| {});
            let one_fails = |task: u32| assert_ne!(task, 0, "a task");
            let run = std::panic::AssertUnwindSafe(|| workers.each((0..8).collect(), one_fails));
            assert!(std::panic::catch_unwind(run).is_err(), "{jobs}");
        }
    }

    /// The loop of a pass: take a task, or wait until there is one or all is done.
    fn run(workers: &Workers, tasks: u64, split: impl Fn(u64, &Workers) -> u64 + Sync) -> u64 {
        let queue = Mutex::new((1..=tasks).collect::<VecDeque<u64>>());
        let (busy, sum) = (AtomicUsize::new(0), AtomicU64::new(0));
        workers.all(|| {
            loop {
                let ticket = workers.ticket();
                busy.fetch_add(1, Ordering::SeqCst);
                let task = queue.lock().unwrap().pop_front();
                if let Some(task) = task {
                    sum.fetch_add(split(task, workers), Ordering::SeqCst);
                }
                let others = busy.fetch_sub(1, Ordering::SeqCst) - 1;
                if task.is_none() && others == 0 {
                    workers.notify();
                    return;
                }
                if task.is_none() {
                    workers.wait(ticket);
                } else {
                    workers.notify();
                }
            }
        });
        sum.into_inner()
    }

    #[test]
    fn every_task_is_done_once_and_the_workers_end() {
        for jobs in [1, 2, 8] {
            let workers = Workers::several(jobs, |_| {});
            for tasks in [0, 1, 3, 1000] {
                assert_eq!(run(&workers, tasks, |task, _| task), tasks * (tasks + 1) / 2);
            }
        }
    }

    #[test]
    fn each_task_of_a_list_is_done_once() {
        for jobs in [1, 2, 8] {
            let (workers, sum) = (Workers::several(jobs, |_| {}), AtomicU64::new(0));
            for tasks in [0, 1, 100] {
                workers.each((1..=tasks).collect(), |task: u64| {
                    sum.fetch_add(task, Ordering::SeqCst);
                });
                assert_eq!(sum.swap(0, Ordering::SeqCst), tasks * (tasks + 1) / 2);
            }
        }
    }

    #[test]
    fn a_worker_that_waits_for_the_other_half_of_its_task_counts_as_idle() {
        let (workers, is_helped) = (Workers::several(2, |_| {}), AtomicBool::new(false));
        workers.each(vec![()], |()| {
            let (start, is_taken) = (Instant::now(), AtomicBool::new(false));
            // A worker that panics would leave the other one waiting.
            let comes_true = |is_true: &dyn Fn() -> bool| {
                while !is_true() && start.elapsed() < Duration::from_secs(60) {
                    std::thread::yield_now();
                }
                is_true()
            };
            comes_true(&|| workers.are_idle());
            let left = || comes_true(&|| is_taken.load(Ordering::SeqCst));
            let right = || {
                is_taken.store(true, Ordering::SeqCst);
                is_helped.store(comes_true(&|| workers.are_idle()), Ordering::SeqCst);
            };
            workers.join(left, right);
        });
        assert!(is_helped.into_inner(), "the worker that has done its half counts as busy");
        assert!(!workers.are_idle(), "all have ended");
    }

    #[test]
    fn a_task_that_is_halved_is_done_by_several() {
        fn halve(
            from: u64,
            to: u64,
            workers: &Workers,
            by: &Mutex<Vec<std::thread::ThreadId>>,
        ) -> u64 {
            if to - from == 1 {
                let id = std::thread::current().id();
                let mut by = by.lock().unwrap();
                if !by.contains(&id) {
                    by.push(id);
                }
                return 1;
            }
            let middle = u64::midpoint(from, to);
            let (left, right) = workers
                .join(|| halve(from, middle, workers, by), || halve(middle, to, workers, by));
            left + right
        }
        let workers = Workers::several(3, |_| {});
        let by = Mutex::new(Vec::new());
        // Until another worker has taken a half: how soon is up to the machine.
        while by.lock().unwrap().len() < 2 {
            assert_eq!(run(&workers, 1, |_, workers| halve(0, 1024, workers, &by)), 1024);
        }
    }
}
