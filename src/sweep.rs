//! The line: sightings are judged, what is stale is claimed, looked at again and removed.
//!
//! It must not touch a disk or a lock itself: it is generic over [`Disk`] and [`Locks`], and whether
//! anything is really removed is the disk's affair. Every entry seen takes this line and yields
//! exactly one [`Outcome`]; totals are counted from outcomes and from nothing else.
//!
//! Workers take handfuls of names from the same directory, so one huge directory keeps all of them
//! busy. Stale trees are left to whoever has time, one by one, and a walk through a big one forks for
//! those who have nothing else to do. What is busy is put aside and tried again when everything else is
//! done.

pub mod tally;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::condemn::{Disk, Fate, Locks, More, Off, Place, Reprieve, Seen, Spared, Stale};
use crate::retention::{Age, Bytes, Kind, Moment, Policy, Ttl, Zone};
use crate::stop::{Stop, Stopped};
use crate::workers::Workers;
pub use tally::Tally;

/// How many stale entries are claimed together: enough that a round trip to a lock server does not
/// show, few enough that its locks outlive the batch.
const BATCH: usize = 1024;

/// How many directories the entries of a batch may lie in: each of them is open.
const BATCH_PLACES: usize = 16;

/// How many busy entries are put aside for a second try, and how many directories they may lie in.
/// More are spared at once: a volume on which so many are locked is being worked on.
const MAX_BUSY: usize = 10_000;
const BUSY_PLACES: usize = 64;

/// How many trees may wait for a worker at once.
const MAX_WAITING: usize = 64;

/// Between two tries at what is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What became of one entry.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// Where it was seen.
    pub place: &'a Place,
    /// Its name there; none when the place itself could not be read.
    pub name: Option<&'a CStr>,
    /// What became of it.
    pub fate: Fate<'a>,
    /// How long it had been unused, where its rule asks.
    pub age: Option<Age>,
    /// How long it might have been.
    pub ttl: Option<Ttl>,
    /// What the disk got back, even if the entry is not gone as a whole.
    pub freed: Bytes,
}

/// Who is told what happens, from several workers at once.
pub trait Audience: Sync {
    /// A zone is about to be swept.
    fn begins(&self, zone: Zone);
    /// An entry has met its fate.
    fn tell(&self, outcome: &Outcome<'_>);
    /// A worker has settled `names` names from `root`, which came to this.
    fn so_far(&self, root: &Place, names: u64, handful: &Tally);
}

/// What a pass did in one zone.
#[derive(Debug)]
pub struct ZoneSummary {
    /// Which.
    pub zone: Zone,
    /// Its counts.
    pub tally: Tally,
    /// What the user should know beside them.
    pub notes: Vec<String>,
    /// Why it was left alone, if its lock could not be had.
    pub no_lock: Option<String>,
}

/// What a pass did.
#[derive(Debug)]
pub struct Summary {
    /// Each zone's part, in the order they were swept.
    pub zones: Vec<ZoneSummary>,
    /// Why the pass ended before its end, if it did.
    pub stopped: Option<Stopped>,
}

/// One run over some zones at one `now`.
pub struct Pass<'a, D, L> {
    /// The volume.
    pub disk: &'a D,
    /// The locks.
    pub locks: &'a L,
    /// The rules.
    pub policy: &'a Policy,
    /// The moment that everything is judged at.
    pub now: Moment,
    /// When to end early.
    pub stop: &'a Stop,
    /// The workers.
    pub workers: &'a Workers,
    /// For how long in all to try again at what is busy.
    pub lock_wait: Duration,
}

/// A zone while it is swept.
struct Going {
    zone: Zone,
    total: Mutex<Tally>,
    /// Trees that wait for a worker.
    trees: Mutex<VecDeque<Stale>>,
    /// Workers that are at work, and may find more trees or want help with one.
    working: AtomicUsize,
    busy: Mutex<Batch>,
    no_lock: Mutex<Option<String>>,
}

impl<D: Disk, L: Locks> Pass<'_, D, L> {
    /// Sweeps `zones` one after the other.
    pub fn sweep(&self, zones: &[Zone], audience: &impl Audience) -> Summary {
        let going: Vec<Going> = zones.iter().map(|zone| self.begin(*zone, audience)).collect();
        while self.disk.another_round() == More::Yes {
            for going in &going {
                self.sweep_zone(going, audience);
            }
        }
        self.try_busy_again(&going, audience);
        let zones = going.into_iter().map(|going| self.sum_up(going)).collect();
        Summary { zones, stopped: self.stop.reason() }
    }

    fn begin(&self, zone: Zone, audience: &impl Audience) -> Going {
        let going = Going {
            zone,
            total: Mutex::default(),
            trees: Mutex::default(),
            working: AtomicUsize::new(0),
            busy: Mutex::default(),
            no_lock: Mutex::default(),
        };
        audience.begins(zone);
        if let Err(why) = self.locks.ready(zone) {
            *locked(&going.no_lock) = Some(why);
        }
        self.sweep_zone(&going, audience);
        going
    }

    /// Sweeps what the disk has to show of a zone.
    fn sweep_zone(&self, going: &Going, audience: &impl Audience) {
        if locked(&going.no_lock).is_some() {
            return;
        }
        match self.disk.open_zone(going.zone) {
            Ok(Some(scan)) => {
                let scan = &scan;
                self.workers.all(|| self.work(scan, going, audience));
            }
            Ok(None) => {}
            // The data root itself is gone: one entry that failed.
            Err(failure) => {
                let mut total = locked(&going.total);
                total.seen += 1;
                total.count_failure(&failure);
            }
        }
    }

    /// What one worker does until nothing is left to do: trees that wait, or else more names.
    fn work(&self, scan: &D::Scan, going: &Going, audience: &impl Audience) {
        let mut buffer = Vec::new();
        let mut more = More::Yes;
        loop {
            going.working.fetch_add(1, Ordering::AcqRel);
            let tree = locked(&going.trees).pop_front();
            let had_work = tree.is_some() || more == More::Yes;
            if let Some(tree) = tree {
                self.settle_tree(tree, going, audience);
            } else if more == More::Yes {
                more = self.read(scan, &mut buffer, going, audience);
            }
            let others = going.working.fetch_sub(1, Ordering::AcqRel) - 1;
            if !had_work && others == 0 {
                return;
            }
            if !had_work {
                self.workers.idle();
            }
        }
    }

    /// One handful of names: judged, and what is stale settled or, if it is a tree, left to whoever
    /// has time for it.
    fn read(
        &self,
        scan: &D::Scan,
        buffer: &mut Vec<u8>,
        going: &Going,
        audience: &impl Audience,
    ) -> More {
        let mut handful = Handful { going, audience, tally: Tally::default() };
        let mut batch = Batch::default();
        let step = self.disk.sight(scan, buffer, &mut |seen| {
            handful.tally.seen += 1;
            match seen {
                Seen::Entry(sighting) => match self.policy.judge(&sighting, self.now) {
                    Ok(tree) if tree.facts().kind == Kind::Dir => {
                        match self.leave(tree, going) {
                            // Counted where it is settled.
                            None => handful.tally.seen -= 1,
                            Some(tree) => self.settle(vec![tree], &mut handful, PutAside::Yes),
                        }
                    }
                    Ok(found) => {
                        batch.push(found);
                        if batch.stale.len() == BATCH || batch.places == BATCH_PLACES {
                            self.settle(batch.take(), &mut handful, PutAside::Yes);
                        }
                    }
                    Err(kept) => handful.told(&Outcome {
                        place: sighting.place,
                        name: Some(sighting.name),
                        fate: Fate::Kept(kept),
                        age: kept.age,
                        ttl: kept.limit.and_then(|limit| limit.ttl),
                        freed: Bytes(0),
                    }),
                },
                Seen::Gone(place, name) => {
                    handful.told(&bare(place, Some(name), Fate::Spared(Spared::Gone)));
                }
                Seen::Failed(place, name, failure) => {
                    handful.told(&bare(place, name, Fate::Failed(&failure)));
                }
            }
        });
        self.settle(batch.take(), &mut handful, PutAside::Yes);
        if let Some(root) = step.root {
            audience.so_far(root, step.names, &handful.tally);
        }
        handful.close();
        if self.stop.is_raised() || locked(&going.no_lock).is_some() { More::No } else { step.more }
    }

    /// Leaves a tree to whoever has time for it, unless nobody will or too many wait already.
    fn leave(&self, tree: Stale, going: &Going) -> Option<Stale> {
        let mut trees = locked(&going.trees);
        if !self.workers.are_several() || trees.len() >= MAX_WAITING {
            return Some(tree);
        }
        trees.push_back(tree);
        None
    }

    /// Takes one tree to its end.
    fn settle_tree(&self, tree: Stale, going: &Going, audience: &impl Audience) {
        let mut handful = Handful { going, audience, tally: Tally::default() };
        handful.tally.seen = 1;
        let place = Arc::clone(tree.place());
        self.settle(vec![tree], &mut handful, PutAside::Yes);
        audience.so_far(&place, 0, &handful.tally);
        handful.close();
    }

    /// Settles what is stale, no faster than the user wants it.
    fn settle(
        &self,
        mut stale: Vec<Stale>,
        handful: &mut Handful<'_, impl Audience>,
        put_aside: PutAside,
    ) {
        let at_once = self.stop.at_once();
        while stale.len() > at_once {
            let rest = stale.split_off(at_once);
            self.settle_at_once(stale, handful, put_aside);
            stale = rest;
        }
        self.settle_at_once(stale, handful, put_aside);
    }

    /// Claims what is stale and takes each claim to its end.
    fn settle_at_once(
        &self,
        stale: Vec<Stale>,
        handful: &mut Handful<'_, impl Audience>,
        put_aside: PutAside,
    ) {
        // Before the locks are taken. What is in a tree is waited for file by file.
        self.stop.pace(stale.iter().filter(|stale| stale.facts().kind != Kind::Dir).count());
        self.locks.claim(stale, &mut |claim| {
            let reprieve = match claim {
                Ok(claim) if self.stop.is_raised() => Reprieve::of(claim.give_up(), Off::Unreached),
                Ok(claim) => match self.finish(claim) {
                    Ok(removed) => {
                        return handful.told(&of(&removed.stale, Fate::Removed, removed.freed));
                    }
                    Err(reprieve) => reprieve,
                },
                Err(reprieve) => reprieve,
            };
            let Reprieve { stale, why, freed, .. } = reprieve;
            match why {
                Off::Spared(Spared::Busy) if put_aside == PutAside::Yes => {
                    let mut busy = locked(&handful.going.busy);
                    if busy.stale.len() < MAX_BUSY && busy.places < BUSY_PLACES {
                        busy.push(stale);
                    } else {
                        drop(busy);
                        handful.told(&of(&stale, Fate::Spared(Spared::Busy), freed));
                    }
                }
                Off::Spared(why) => handful.told(&of(&stale, Fate::Spared(why), freed)),
                Off::Failed(failure) => handful.told(&of(&stale, Fate::Failed(&failure), freed)),
                Off::Unreached => handful.tally.unreached += 1,
                Off::NoLock(why) => {
                    handful.tally.unreached += 1;
                    locked(&handful.going.no_lock).get_or_insert(why);
                }
            }
        });
    }

    /// The second half of the line: look again, then remove.
    fn finish(&self, claim: crate::condemn::Claim) -> Result<crate::condemn::Removed, Reprieve> {
        let condemned = self.disk.look_again(claim, self.now)?;
        if !self.stop.allow_removal() {
            return Err(condemned.not_removed(Off::Unreached, Bytes(0)));
        }
        // The last act before the removal. A lock that has run out is let go, and asked for again.
        if !condemned.lasts() {
            self.stop.return_removal();
            return Err(condemned.not_removed(Off::Spared(Spared::Busy), Bytes(0)));
        }
        self.disk.remove(condemned, self.now).inspect_err(|_| self.stop.return_removal())
    }

    /// Tries what was busy again, round by round, until the time for it is over.
    fn try_busy_again(&self, zones: &[Going], audience: &impl Audience) {
        let start = Instant::now();
        loop {
            let last = start.elapsed() >= self.lock_wait || self.stop.is_raised();
            let mut waiting = 0;
            for going in zones {
                let busy = locked(&going.busy).take();
                let mut handful = Handful { going, audience, tally: Tally::default() };
                let put_aside = if last { PutAside::No } else { PutAside::Yes };
                self.settle(busy, &mut handful, put_aside);
                handful.close();
                waiting += locked(&going.busy).stale.len();
            }
            if waiting == 0 {
                return;
            }
            std::thread::sleep(BUSY_PAUSE.min(self.lock_wait));
        }
    }

    fn sum_up(&self, going: Going) -> ZoneSummary {
        let Going { zone, total, no_lock, .. } = going;
        let tally = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(tally.is_conserved(), "an entry of {} has no outcome: {tally:?}", zone.name());
        let mut notes = self.disk.notes(zone);
        notes.extend(self.locks.notes(zone));
        let no_lock = no_lock.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &no_lock {
            notes.push(format!("left alone, its lock cannot be had: {why}"));
        }
        ZoneSummary { zone, tally, notes, no_lock }
    }
}

/// Stale entries, and how many directories they lie in.
#[derive(Debug, Default)]
struct Batch {
    stale: Vec<Stale>,
    places: usize,
}

impl Batch {
    fn push(&mut self, stale: Stale) {
        let is_new = |last: &Stale| !Arc::ptr_eq(last.place(), stale.place());
        if self.stale.last().is_none_or(is_new) {
            self.places += 1;
        }
        self.stale.push(stale);
    }

    fn take(&mut self) -> Vec<Stale> {
        self.places = 0;
        std::mem::take(&mut self.stale)
    }
}

/// What to do with what is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PutAside {
    /// Try it again later.
    Yes,
    /// Spare it.
    No,
}

/// The outcomes of one handful of names, counted without asking anybody.
struct Handful<'a, A> {
    going: &'a Going,
    audience: &'a A,
    tally: Tally,
}

impl<A: Audience> Handful<'_, A> {
    fn told(&mut self, outcome: &Outcome<'_>) {
        self.tally.count(outcome);
        self.audience.tell(outcome);
    }

    fn close(self) {
        locked(&self.going.total).add(self.tally);
    }
}

fn of<'a>(stale: &'a Stale, fate: Fate<'a>, freed: Bytes) -> Outcome<'a> {
    Outcome {
        place: stale.place(),
        name: Some(stale.name()),
        fate,
        age: Some(stale.age()),
        ttl: stale.limit().ttl,
        freed,
    }
}

fn bare<'a>(place: &'a Place, name: Option<&'a CStr>, fate: Fate<'a>) -> Outcome<'a> {
    Outcome { place, name, fate, age: None, ttl: None, freed: Bytes(0) }
}

/// A worker that panicked has not left half a count behind: each is added whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
