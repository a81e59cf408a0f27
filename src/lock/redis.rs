//! CVAT's exporter lock: the Redis lock that the Python library pottery takes for every export,
//! download and cleanup (pottery 3.0.1, one master; CVAT 2.14.1 on).
//!
//! It must not remove a key that holds another's token, set one that does not expire, or wait. Key
//! and algorithm are CVAT's: `SET redlock:export_lock:<path> <token> NX PX <ttl>`, given back by a
//! script that compares the token before it deletes. What differs is the price: the claims of a batch
//! go out together, in a few scripts whose answers are worked on as they come, and the releases in one
//! more, where pottery makes several round trips and a new connection for each file. The claims of a
//! batch share a token, which is as good as one for each: it is compared key by key, and never used
//! for another batch. (Scripts rather than a pipeline of plain commands: a pass over 100,000 files under
//! this lock cost 1.9 times one under `flock` with the one, 1.3 to 1.5 times with the other.)
//!
//! A lease lasts for its TTL less pottery's own drift (1 % and 2 ms) less a reserve, by our monotonic
//! clock from before the request was sent. A lease that has run out is let go: the removal looks at
//! the clock as its last act before the unlink. **The window:** a process that is stopped between that
//! look and the unlink, for longer than the reserve, unlinks a file whose lock another may hold by
//! then. Redis locks have no fencing token and Linux no conditional unlink, so the window can be kept
//! small and not closed.
//!
//! **The other window:** a server that is restarted forgets all locks, ours and the exporters'. No
//! claim is acted upon more than a tenth of a second (`TRUST`) after the server last said that we hold
//! it, without asking again; within that time we would not know. `tests/model.rs` shows both windows,
//! and that there is no other.

mod keys;
mod wire;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use keys::{CvatPath, Prefix};
use wire::{Release, Wire};
pub use wire::{Server, Trouble};

use crate::condemn::{Lasting, Off, Reprieve, Spared, Stale};
use crate::retention::Moment;

/// How many locks are asked for at once.
const BATCH: usize = 1024;

/// How many of them are one question: the first are worked on while the server sees to the others.
const QUESTION: usize = 128;

/// For how long after the server's last word its answer is taken to hold.
const TRUST: Duration = Duration::from_millis(100);

/// How far our clock may be off the server's before it is said, and before the zone is refused.
const CLOCK_NOTED: i64 = 60;
const CLOCK_REFUSED: i64 = 3600;

/// Takes CVAT's exporter locks.
#[derive(Debug)]
pub struct ExporterLocks {
    server: Server,
    prefix: Prefix,
    /// For how long a lock is asked.
    ttl: Duration,
    /// Our real clock when the pass began, to compare with the server's.
    clock: Moment,
    started: Instant,
    /// Connections that no worker is using.
    idle: Mutex<Vec<Wire>>,
    /// Why the locks cannot be had, once that is known.
    trouble: Mutex<Option<Trouble>>,
    notes: Mutex<Vec<String>>,
}

/// A stale entry with the lease that covers it, or the reason why it has none.
pub(super) type Leased = Result<(Stale, Box<dyn Lasting>), Reprieve>;

/// A lock that we hold. It is given back with the rest of its batch, when the last of that was seen to.
#[derive(Debug)]
struct Lease {
    until: Instant,
}

impl Lasting for Lease {
    fn lasts(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The part of a TTL for which a lease may be acted upon: less pottery's drift, less a reserve of a
/// twentieth, at most a second, for what may come between the last look and the unlink.
fn usable(ttl: Duration) -> Duration {
    let drift = ttl / 100 + Duration::from_millis(2);
    let reserve = (ttl / 20).min(Duration::from_secs(1));
    ttl.saturating_sub(drift + reserve)
}

impl ExporterLocks {
    /// Locks on `server` for paths as CVAT sees them. `clock` is the present.
    pub fn new(server: Server, prefix: Prefix, ttl: Duration, clock: Moment) -> Self {
        Self {
            server,
            prefix,
            ttl,
            clock,
            started: Instant::now(),
            idle: Mutex::default(),
            trouble: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Asks once, before a pass, whether the locks can be had.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Trouble> {
        let (mut wire, theirs) = self.with_wire(Wire::time)?;
        let elapsed = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(0);
        let off = self.clock.unix_secs() + elapsed - theirs;
        if off.abs() > CLOCK_REFUSED {
            return Err(self.remember(Trouble::Clock(off)));
        }
        if off.abs() > CLOCK_NOTED {
            let ahead = if off > 0 { "ahead of" } else { "behind" };
            self.note(format!("our clock is {} s {ahead} the Redis server's", off.abs()));
        }
        if self.prefix.is_guess() {
            self.note(format!(
                "CVAT's locks are taken as if it had the volume at {}, as we do: with --cvat-data it is \
                 certain",
                self.prefix.shown()
            ));
        }
        if !self.prefix.is_known() {
            self.compare_prefixes(&mut wire)?;
        }
        self.put_back(wire);
        Ok(())
    }

    /// Live locks show how CVAT sees the paths. None of them under our prefix means that ours is wrong.
    fn compare_prefixes(&self, wire: &mut Wire) -> Result<(), Trouble> {
        // A server that does not let us look is no reason to go without its locks.
        let live = match wire.live_locks() {
            Err(trouble @ (Trouble::Unreachable(_) | Trouble::Silent)) => return Err(trouble),
            looked => looked.unwrap_or_default(),
        };
        if let Some(theirs) = self.prefix.contradicted_by(&live) {
            self.note(format!(
                "CVAT's live locks are for paths in {theirs}, ours would be for paths in {}: with \
                 a wrong prefix nobody is kept out; give CVAT's with --cvat-data",
                self.prefix.shown()
            ));
        }
        Ok(())
    }

    /// What there is to know about these locks.
    pub fn notes(&self) -> Vec<String> {
        let late: usize = self.settle().iter_mut().map(Wire::take_late).sum();
        if late > 0 {
            self.note(format!("{late} locks had run out before they were given back"));
        }
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what the server has still to say on idle connections.
    fn settle(&self) -> std::sync::MutexGuard<'_, Vec<Wire>> {
        let mut is_well = self.known_trouble().is_none();
        let idle = std::mem::take(&mut *self.idle());
        for mut wire in idle {
            // One that does not answer speaks for all of them.
            match is_well.then(|| wire.catch_up()) {
                Some(Ok(())) => self.put_back(wire),
                Some(Err(Trouble::Unreachable(_))) => {
                    self.give_back_anyway(wire.into_unanswered());
                }
                Some(Err(_)) => is_well = false,
                None => {}
            }
        }
        self.idle()
    }

    fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Takes the locks of a batch and hands each over with what it covers.
    pub fn claim(&self, batch: Vec<Stale>, each: &mut dyn FnMut(Leased)) {
        let mut batch = batch.into_iter();
        loop {
            let part: Vec<Stale> = batch.by_ref().take(BATCH).collect();
            if part.is_empty() {
                return;
            }
            if let Err((trouble, rest)) = self.claim_part(part, each) {
                for stale in rest.into_iter().chain(batch) {
                    each(Err(Reprieve::of(stale, Off::NoLock(trouble.to_string()))));
                }
                return;
            }
        }
    }

    /// One batch: the claims go out together, and are worked on as their answers come in; then the
    /// releases go out together.
    fn claim_part(
        &self,
        part: Vec<Stale>,
        each: &mut dyn FnMut(Leased),
    ) -> Result<(), (Trouble, Vec<Stale>)> {
        let token = keys::token();
        let keys: Vec<Vec<u8>> =
            part.iter().map(|stale| self.prefix.key(&stale.place().dir, stale.name())).collect();
        let until = Instant::now() + usable(self.ttl);
        // What the server says was true when it said it, which was after this.
        let mut heard = Instant::now();
        let asked = self.with_wire(|wire| {
            let mut questions = keys.chunks(QUESTION);
            questions.try_for_each(|keys| wire.ask_for(keys, &token, self.ttl))?;
            wire.hear_taken(keys.len().min(QUESTION))
        });
        let (mut wire, mut are_ours) = match asked {
            Ok(asked) => asked,
            Err(trouble) => {
                self.give_back_anyway(vec![Release { keys, token }]);
                return Err((trouble, part));
            }
        };
        let mut is_lost = false;
        let mut part = part.into_iter();
        for (at, key) in keys.iter().enumerate() {
            let is_late = heard.elapsed() > TRUST;
            while !is_lost && (at >= are_ours.len() || (is_late && are_ours.len() < keys.len())) {
                match wire.hear_taken((keys.len() - are_ours.len()).min(QUESTION)) {
                    Ok(more) => are_ours.extend(more),
                    Err(Trouble::Unreachable(_)) => is_lost = true,
                    Err(trouble) => {
                        self.give_back_anyway(vec![Release { keys, token }]);
                        return Err((trouble, part.collect()));
                    }
                }
            }
            let is_ours = !is_lost && are_ours[at];
            if is_ours && is_late {
                // The server may have gone, or been restarted, and all locks with it.
                let asked = Instant::now();
                is_lost = !wire.still_ours(key, &token).unwrap_or(false);
                heard = asked;
            }
            let Some(stale) = part.next() else { break };
            if is_ours && !is_lost {
                each(Ok((stale, Box::new(Lease { until }))));
            } else {
                // Busy, or not removed under a lock that we may not hold: tried again at the end.
                each(Err(Reprieve::of(stale, Off::Spared(Spared::Busy))));
            }
        }
        if is_lost {
            // The one reconnect. If it cannot be made, the next claim says so.
            let mut releases = wire.into_unanswered();
            releases.push(Release { keys, token });
            self.give_back_anyway(releases);
            return Ok(());
        }
        let is_ours = |(key, is_ours): (Vec<u8>, bool)| is_ours.then_some(key);
        let ours: Vec<Vec<u8>> = keys.into_iter().zip(are_ours).filter_map(is_ours).collect();
        // What cannot be given back runs out by itself.
        match wire.give_back(Release { keys: ours, token }) {
            Ok(()) => self.put_back(wire),
            Err(_) => self.give_back_anyway(wire.into_unanswered()),
        }
        Ok(())
    }

    /// After trouble in the middle of a batch: some of it may have been granted, and is given back on a
    /// new connection if there is one to be had.
    fn give_back_anyway(&self, releases: Vec<Release>) {
        let is_away = matches!(
            self.known_trouble(),
            Some(Trouble::Unreachable(_) | Trouble::Silent | Trouble::Denied(_))
        );
        if !is_away
            && let Ok(mut wire) = Wire::connect(&self.server)
            && releases.into_iter().try_for_each(|release| wire.give_back(release)).is_ok()
            && wire.catch_up().is_ok()
        {
            self.put_back(wire);
        }
    }

    /// Trouble that would only be met again, at the price of waiting for it.
    fn known_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, trouble: Trouble) -> Trouble {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(trouble).clone()
    }

    /// Asks on an idle connection, or on a new one; once more on a new one if the first is dead.
    fn with_wire<T>(
        &self,
        ask: impl Fn(&mut Wire) -> Result<T, Trouble>,
    ) -> Result<(Wire, T), Trouble> {
        if let Some(trouble) = self.known_trouble() {
            return Err(trouble);
        }
        let idle = self.idle().pop();
        if let Some(mut wire) = idle {
            match ask(&mut wire) {
                Ok(answer) => return Ok((wire, answer)),
                // The connection is dead; the server may not be.
                Err(Trouble::Unreachable(_)) => self.give_back_anyway(wire.into_unanswered()),
                Err(trouble) => return Err(self.remember(trouble)),
            }
        }
        let asked = Wire::connect(&self.server).and_then(|mut wire| {
            let answer = ask(&mut wire)?;
            Ok((wire, answer))
        });
        asked.map_err(|trouble| self.remember(trouble))
    }

    fn put_back(&self, wire: Wire) {
        self.idle().push(wire);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Wire>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how much longer somebody holds the lock of a path (relative to the volume), if anybody does.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn holder(&self, path: &CvatPath) -> Result<Option<Holder>, Trouble> {
        let key = self.prefix.key_of(path);
        let (wire, holder) = self.with_wire(|wire| wire.holder(&key))?;
        self.put_back(wire);
        Ok(holder)
    }
}

impl Drop for ExporterLocks {
    fn drop(&mut self) {
        drop(self.settle());
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The holder's token.
    pub token: String,
    /// For how much longer; `None` for a lock without an end, which nobody but a human has set.
    pub left: Option<Duration>,
}

impl Holder {
    /// Whether it is a sweeper; else it is CVAT, whose tokens are UUIDs.
    pub fn is_sweeper(&self) -> bool {
        self.token.starts_with(keys::OURS)
    }
}

/// A lock for as long as a command runs, for `sweeper hold`.
#[derive(Debug)]
pub struct Hold {
    locks: ExporterLocks,
    key: [Vec<u8>; 1],
    token: String,
    wire: Wire,
    is_held: bool,
}

impl Hold {
    /// Takes the lock of a path (relative to the volume), trying for at most `wait`.
    ///
    /// # Errors
    /// The server cannot be asked; `Ok(None)`: somebody else holds it.
    pub fn take(
        locks: ExporterLocks,
        path: &CvatPath,
        wait: Duration,
    ) -> Result<Option<Self>, Trouble> {
        let start = Instant::now();
        let key = [locks.prefix.key_of(path)];
        let mut wire = Wire::connect(&locks.server)?;
        loop {
            let token = keys::token();
            wire.ask_for(&key, &token, locks.ttl)?;
            if wire.hear_taken(1)? == [true] {
                return Ok(Some(Self { locks, key, token, wire, is_held: true }));
            }
            if start.elapsed() >= wait {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50).min(wait));
        }
    }

    /// How often it has to be extended.
    pub fn pulse(&self) -> Duration {
        self.locks.ttl / 3
    }

    /// Extends it for another TTL; false when it was lost.
    pub fn extend(&mut self) -> bool {
        let mut extended = self.wire.extend(&self.key, &self.token, self.locks.ttl);
        if matches!(extended, Err(Trouble::Unreachable(_)))
            && let Ok(wire) = Wire::connect(&self.locks.server)
        {
            self.wire = wire;
            extended = self.wire.extend(&self.key, &self.token, self.locks.ttl);
        }
        self.is_held = matches!(extended, Ok(true));
        self.is_held
    }

    /// Gives it back.
    pub fn give_back(mut self) {
        if !self.is_held {
            return;
        }
        // Where that fails it runs out by itself.
        let release = Release { keys: self.key.to_vec(), token: self.token };
        let given = self.wire.give_back(release);
        let _ = given.and_then(|()| self.wire.catch_up());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_may_be_acted_upon_for_less_than_it_lasts() {
        for secs in [1, 2, 30, 55, 3600] {
            let ttl = Duration::from_secs(secs);
            let pottery = ttl.saturating_sub(ttl / 100 + Duration::from_millis(2));
            assert!(usable(ttl) < pottery && usable(ttl) > ttl / 2, "{secs}");
        }
        assert_eq!(usable(Duration::from_millis(1)), Duration::ZERO);
    }
}
