//! Turns: with cold caches, either all workers look at names, or all remove.
//!
//! This module must not know what is looked at or removed. The kernel locks a directory while a name is removed from
//! it, and a look at a name that is not in memory yet needs that lock, too. A worker that looks and one that removes
//! would wait for each other at every name. So a worker that is done with its batch waits until the others are, too.
//! Names in memory are looked at without the lock: then there are no turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What workers do in one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Look,
    Remove,
}

/// Who does what at the moment.
#[derive(Debug, Default)]
pub(super) struct Turns {
    are_taken: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// Numbers of workers: those that look, and those that remove.
#[derive(Debug, Default)]
struct State {
    at_work: [usize; 2],
    waiting: [usize; 2],
    /// Those that waited when the turn of the others ended.
    admitted: [usize; 2],
}

impl State {
    /// Whether one more may begin. If it joined its own kind while the other kind waits, that might wait forever.
    const fn admits(&self, own: usize, other: usize) -> bool {
        self.at_work[other] == 0
            && self.admitted[other] == 0
            && (self.admitted[own] > 0 || self.at_work[own] == 0 || self.waiting[other] == 0)
    }
}

/// One worker at work.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    work: Work,
}

impl Turns {
    /// Waits until no other worker does the other kind of work. `None` while there are no turns.
    pub(super) fn take(&self, work: Work) -> Option<Turn<'_>> {
        if !self.are_taken.load(Ordering::Relaxed) {
            return None;
        }
        let (own, other) = (work as usize, 1 - work as usize);
        let mut state = self.state();
        state.waiting[own] += 1;
        while !state.admits(own, other) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting[own] -= 1;
        state.admitted[own] = state.admitted[own].saturating_sub(1);
        state.at_work[own] += 1;
        Some(Turn { turns: self, work })
    }

    /// Takes turns from now on, or not, after a batch.
    pub(super) fn adapt(&self, is_cold: bool) {
        self.are_taken.store(is_cold, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (own, other) = (self.work as usize, 1 - self.work as usize);
        let mut state = self.turns.state();
        state.at_work[own] -= 1;
        if state.at_work[own] > 0 {
            return;
        }
        if state.waiting[other] > 0 {
            state.admitted[own] = 0;
            state.admitted[other] = state.waiting[other];
        }
        drop(state);
        self.turns.changed.notify_all();
    }
}

/// The looks of one worker at one batch of names. They pause while it removes.
#[derive(Debug)]
pub(super) struct Looks<'a> {
    turns: &'a Turns,
    turn: Option<Turn<'a>>,
    are_going_on: bool,
}

impl<'a> Looks<'a> {
    /// None yet.
    pub(super) const fn new(turns: &'a Turns) -> Self {
        Self { turns, turn: None, are_going_on: false }
    }

    pub(super) fn resume(&mut self) {
        self.turn = self.turns.take(Work::Look);
        self.are_going_on = true;
    }

    /// Whether they were going on.
    pub(super) fn pause(&mut self) -> bool {
        self.turn = None;
        std::mem::take(&mut self.are_going_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn without_cold_caches_nobody_waits() {
        let turns = Turns::default();
        assert!(turns.take(Work::Look).is_none() && turns.take(Work::Remove).is_none());
        turns.adapt(true);
        let look = turns.take(Work::Look);
        assert!(look.is_some());
        turns.adapt(false);
        assert!(turns.take(Work::Remove).is_none());
    }

    #[test]
    fn looks_pause_only_if_they_were_going_on() {
        let turns = Turns::default();
        turns.adapt(true);
        let mut looks = Looks::new(&turns);
        assert!(!looks.pause());
        looks.resume();
        assert!(looks.pause());
        drop(turns.take(Work::Remove));
        assert!(!looks.pause());
    }

    #[test]
    fn workers_look_or_remove_and_never_both_and_all_come_to_their_end() {
        for workers in [2, 3, 8] {
            let turns = Turns::default();
            turns.adapt(true);
            let at_work = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let work = |kind: Work| {
                let turn = turns.take(kind);
                at_work[kind as usize].fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                let others = at_work[1 - kind as usize].load(Ordering::SeqCst);
                at_work[kind as usize].fetch_sub(1, Ordering::SeqCst);
                drop(turn);
                others
            };
            std::thread::scope(|scope| {
                for worker in 0..workers {
                    let work = &work;
                    scope.spawn(move || {
                        for round in 0..300 {
                            assert_eq!(work(Work::Look), 0);
                            // Some batches have nothing to remove.
                            if (round + worker) % 3 > 0 {
                                assert_eq!(work(Work::Remove), 0);
                            }
                        }
                    });
                }
            });
        }
    }
}
