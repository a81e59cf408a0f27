//! Which of the expired entries are removed now: the step between the verdict and the lock.
//!
//! This module must not do I/O or judge again. A pass removes all that has expired; other selections choose fewer,
//! and none can add an entry, since only [`super::verdict`] makes an [`Expired`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ffi::{CStr, CString};
use std::fmt;

use super::age::Moment;
use super::metadata::FileId;
use super::verdict::Expired;

/// Chooses from batches of expired entries. Shared by all workers of a pass.
pub trait Select: Sync + fmt::Debug {
    /// Moves the entries of `batch` that are not removed now to the returned list; the order stays.
    fn set_aside<D>(&self, batch: &mut Vec<Expired<D>>) -> Vec<Expired<D>>;
}

/// Removes every expired entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct All;

impl Select for All {
    fn set_aside<D>(&self, _batch: &mut Vec<Expired<D>>) -> Vec<Expired<D>> {
        Vec::new()
    }
}

/// How the entries of a zone that are removed early are ordered. Those of the first kind are removed before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// The least recently used entry is removed first.
    OldestUse,
    /// The entry that expires soonest is removed first.
    SoonestExpiry,
}

/// The place of an entry in the order of removal: the least is first. Directory and name decide between equal
/// moments, so that the order is the same each time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    order: Order,
    moment: Moment,
    directory: FileId,
    name: CString,
}

impl Place {
    /// Of an entry in `directory`. A directory that is not walked yet may turn out to have a later one.
    pub fn of<D>(expired: &Expired<D>, order: Order, directory: FileId, now: Moment) -> Self {
        let used = expired.last_used(now);
        let moment = match (order, expired.rule().expiry.ttl()) {
            (Order::OldestUse, _) | (Order::SoonestExpiry, None) => used,
            (Order::SoonestExpiry, Some(ttl)) => used.plus(ttl),
        };
        Self { order, moment, directory, name: <CStr>::to_owned(expired.name()) }
    }

    /// The directory that the entry is in.
    pub const fn directory(&self) -> FileId {
        self.directory
    }

    /// Its name there.
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

/// The first of the entries that are removed early, as many as are kept in memory. When they are gone, the next ones are
/// looked for, from the least that was left out on. An entry is known by what it is kept as, a `T`: its directory
/// need not be open.
#[derive(Debug)]
pub struct First<T> {
    /// How many are kept in memory.
    most: usize,
    /// The entries before it had their turn.
    from: Option<Place>,
    /// The least that was left out. All entries in the heap are before it.
    end: Option<Place>,
    heap: BinaryHeap<Placed<T>>,
}

#[derive(Debug)]
struct Placed<T> {
    place: Place,
    entry: T,
}

impl<T> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<T> Eq for Placed<T> {}

impl<T> PartialOrd for Placed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Placed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl<T> First<T> {
    /// Keeps the first `most` entries that are not before `from`.
    pub const fn new(most: usize, from: Option<Place>) -> Self {
        Self { most, from, end: None, heap: BinaryHeap::new() }
    }

    /// Whether there is a place for it, or for an entry that comes later in the same order and is not walked yet.
    pub fn has_place(&self, place: &Place) -> bool {
        self.end.as_ref().is_none_or(|end| place < end)
    }

    /// Takes an entry, if it is among the first. If there are too many then, the last one is left out.
    pub fn offer(&mut self, place: Place, entry: T) {
        if self.from.as_ref().is_some_and(|from| place < *from) || !self.has_place(&place) {
            return;
        }
        self.heap.push(Placed { place, entry });
        if self.heap.len() > self.most {
            self.end = self.heap.pop().map(|last| last.place);
        }
    }

    /// The entries in their order, and from where on to look for the next ones, if there are any.
    pub fn into_parts(self) -> (Vec<(Place, T)>, Option<Place>) {
        let sorted = self.heap.into_sorted_vec().into_iter();
        (sorted.map(|placed| (placed.place, placed.entry)).collect(), self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::verdict::evaluate_early;
    use super::super::verdict::tests::{NOW, metadata, zone};
    use super::super::{Entry, EntryKind, Exclude, Expiry, FileKind, LastUse, MinAge, Names, Ttl};
    use super::*;

    /// An entry of this age, in this directory, that expires after `ttl` seconds.
    fn placed(order: Order, age: i64, ttl: u64, dir: u64, name: &CStr) -> (Place, Expired<u64>) {
        let expiry = Expiry::After(Ttl::from_secs(ttl));
        let zone = zone(EntryKind::Any, Names::Any, LastUse::Mtime, expiry);
        let metadata = metadata(FileKind::File, age);
        let entry = Entry { zone: &zone, directory: &dir, dir: Path::new("z"), name, metadata };
        let expired = evaluate_early(
            &entry,
            &Exclude::default(),
            MinAge::from_duration(std::time::Duration::ZERO),
            NOW,
            NOW,
        )
        .unwrap();
        (Place::of(&expired, order, FileId { dev: 1, ino: dir }, NOW), expired)
    }

    fn names(entries: &[(Place, Expired<u64>)]) -> Vec<&str> {
        entries.iter().map(|(place, _)| place.name().to_str().unwrap()).collect()
    }

    #[test]
    fn the_first_kind_goes_before_the_second_and_each_in_its_own_order() {
        let mut first = First::new(9, None);
        for (order, age, ttl, name) in [
            (Order::SoonestExpiry, 90, 100, c"sooner"),
            (Order::SoonestExpiry, 95, 200, c"later"),
            (Order::OldestUse, 5, 10, c"young"),
            (Order::OldestUse, 9, 1000, c"old"),
            (Order::OldestUse, 9, 10, c"equal"),
        ] {
            let (place, expired) = placed(order, age, ttl, 1, name);
            first.offer(place, expired);
        }
        let (entries, end) = first.into_parts();
        assert_eq!(names(&entries), ["equal", "old", "young", "sooner", "later"]);
        assert_eq!(end, None);
    }

    /// All entries, a few at a time: every one has its turn once, in the order of a plain sort.
    #[test]
    fn refills_go_through_all_entries_in_order_whatever_fits_into_memory() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut all: Vec<(i64, u64, CString)> = (0..500)
            .map(|number| {
                let age = i64::try_from(random(40)).unwrap() + 1;
                (age, random(12), CString::new(format!("{number:03}")).unwrap())
            })
            .collect();
        for most in [1, 7, 64, 1000] {
            let (mut gone, mut from, mut rounds) = (Vec::new(), None, 0);
            loop {
                let mut first = First::new(most, from);
                for (age, dir, name) in &all {
                    let (place, expired) = placed(Order::OldestUse, *age, 1000, *dir, name);
                    first.offer(place, expired);
                }
                let (entries, end) = first.into_parts();
                assert!(entries.len() <= most);
                gone.extend(entries.iter().map(|(place, _)| place.name().to_owned()));
                from = end;
                rounds += 1;
                if from.is_none() {
                    break;
                }
            }
            all.sort_by_key(|(age, dir, name)| (-age, *dir, name.clone()));
            let expected: Vec<CString> = all.iter().map(|(_, _, name)| name.clone()).collect();
            assert_eq!(gone, expected, "{most}");
            assert_eq!(
                rounds,
                all.len().div_ceil(most),
                "{most}: whatever directories they are in"
            );
        }
    }
}
