//! Tests of the relief with a file system that answers as each test says.

use std::collections::VecDeque;
use std::io;

use super::*;
use crate::engine::limits::tests::of_removals;
use crate::engine::{Outcomes, ReliefPlan, ReliefZone, Remembering};
use crate::protocol::{ReliefEnd, Volume};
use crate::rules::pressure::Arrival;
use crate::rules::select::Order;
use crate::rules::{Amount, KeptReason, MinAge, Pressure, Space};

/// A file system of 10,000 bytes. Each answer after a step says how much of what was removed has not appeared.
#[derive(Debug, Default)]
struct Slow {
    used: Mutex<u64>,
    hidden: Mutex<VecDeque<u64>>,
    last_hidden: Mutex<u64>,
    /// How often it was waited for.
    waits: AtomicUsize,
    /// Nothing that is removed is ever free.
    is_held: bool,
    /// Its entries are directories, whose inodes are not counted.
    are_trees: bool,
    /// What other processes write before each step, and while a step is waited for.
    written: (u64, u64),
}

fn space(bytes_used: u64) -> Space {
    crate::rules::space::tests::space(10_000, bytes_used)
}

impl Volume for Slow {
    fn space(&self) -> io::Result<Space> {
        let mut used = self.used.lock().unwrap();
        *used += self.written.0;
        Ok(space(*used + *self.last_hidden.lock().unwrap()))
    }

    fn holds(&self, directory: &Directory) -> bool {
        directory.id.dev == 1
    }

    fn space_after(&self, freed: Amount, arrival: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let mut used = self.used.lock().unwrap();
        self.waits.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last_hidden.lock().unwrap();
        // What is only asked about again was freed before.
        if (freed.inodes > 0 || self.are_trees) && !self.is_held {
            *used -= freed.bytes;
        }
        *last = self.hidden.lock().unwrap().pop_front().unwrap_or(0);
        if !freed.is_zero() && arrival(&space(*used + *last)) != Arrival::Whole {
            *used += self.written.1;
        }
        Ok(space(*used + *last))
    }
}

/// A relief of a file system that is to have `free` bytes, by `count` entries of 10 bytes that have not expired,
/// the oldest first.
struct Case<'a> {
    count: usize,
    free: u64,
    /// How much is missing to that.
    missing: u64,
    hidden: &'a [u64],
    limits: Limits,
    is_held: bool,
    are_trees: bool,
    written: (u64, u64),
    is_dry: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        let (limits, hidden) = (Limits::default(), &[][..]);
        Self {
            count: 150,
            free: 2000,
            missing: 1000,
            hidden,
            limits,
            is_held: false,
            are_trees: false,
            written: (0, 0),
            is_dry: false,
        }
    }
}

impl Case<'_> {
    /// How it ended, and the numbers of the entries that are gone.
    fn relieve(&self) -> (Summary, Vec<usize>) {
        let entries: Vec<(&'static str, i64, bool)> = (0..self.count)
            .map(|number| {
                let name: &'static str = Box::leak(format!("entry-{number:03}").into_boxed_str());
                (name, 100 - i64::try_from(number / 4).unwrap(), self.are_trees)
            })
            .collect();
        let zone = zone("z");
        // The same entries are there twice.
        let sources = [(); 2].map(|()| FakeSource::new(&zone, &entries));
        let (locks, told) = (Setup::default().locks, Told::default());
        let (summary, gone) = self.relieve_from(&zone, &sources, &locks, &told);
        let number = |name: &String| name.trim_start_matches("entry-").parse().unwrap();
        (summary, gone.iter().map(number).collect())
    }

    /// How it ended, and the names of the entries that are gone. The pass sees the first of `sources`, and each of
    /// the others is seen by a relief.
    fn relieve_from(
        &self,
        zone: &Arc<Zone>,
        sources: &[FakeSource],
        locks: &FakeLocks,
        told: &Told,
    ) -> (Summary, Vec<String>) {
        let disposer = FakeDisposer::default();
        let shared = Shared::new(1);
        let (source, later) = sources.split_first().unwrap();
        let pass = shared.pass(source, locks, &self.limits, &disposer, &All);
        let outcomes = Outcomes::new(self.is_dry);
        let observer = Remembering { outcomes: Some(&outcomes), observer: told };
        let mut summary = pass.run(&[Arc::clone(zone)], &observer);
        for source in later {
            let pass = shared.pass(source, locks, &self.limits, &disposer, &All);
            summary = self.relieve_once(&pass, zone, summary, (&outcomes, &observer));
        }
        (summary, disposer.0.into_inner().unwrap())
    }

    fn relieve_once(
        &self,
        pass: &Pass<'_, FakeSource, FakeLocks, FakeInspector, All>,
        zone: &Arc<Zone>,
        summary: Summary,
        (outcomes, observer): (&Outcomes, &dyn Observer),
    ) -> Summary {
        let used = Mutex::new(10_000 - self.free + self.missing);
        let hidden = Mutex::new(self.hidden.iter().copied().collect());
        let Case { is_held, are_trees, written, .. } = *self;
        let volume = Slow { used, hidden, is_held, are_trees, written, ..Slow::default() };
        let zones = &[ReliefZone { zone: Arc::clone(zone), order: Order::OldestUse, swept: NOW }];
        let plan = ReliefPlan {
            zones,
            pressure: Pressure { keep_free: Some(Bytes(self.free)), ..Pressure::default() },
            min_age: MinAge::from_duration(Duration::from_secs(10)),
            volume: &volume,
            path: Path::new("/data"),
            freed: Amount::default(),
            outcomes,
        };
        let summary = pass.relieve(&plan, summary, observer);
        let waits = volume.waits.load(Ordering::SeqCst);
        assert!(waits < 10, "what entries have freed is compared with what is free {waits} times");
        summary
    }
}

#[test]
fn entries_go_in_order_until_enough_is_free_and_have_one_outcome_each() {
    let (summary, gone) = Case::default().relieve();
    assert_eq!(gone, (0..100).collect::<Vec<_>>());
    let (relief, tally) = (&summary.relief[0], &summary.zones[0].tally);
    assert_eq!(
        (relief.removed, relief.freed, &relief.end),
        (100, Bytes(1000), &ReliefEnd::Relieved)
    );
    assert_eq!((tally.seen, tally.removed), (150, 100));
    assert_eq!(tally.kept_by[KeptReason::Fresh as usize], 50);
    assert_eq!(ExitCode::of(&summary), ExitCode::Done);
}

#[test]
fn what_appears_a_little_later_makes_no_more_entries_go() {
    // 60 of the 1,000 bytes are missing at first, and there when it is asked again.
    let (summary, gone) = Case { hidden: &[0, 60, 0], ..Case::default() }.relieve();
    assert_eq!((gone.len(), &summary.relief[0].end), (100, &ReliefEnd::Relieved));
    // They are not: others have written as much.
    let (summary, gone) = Case { hidden: &[0, 60, 60, 60, 0], ..Case::default() }.relieve();
    assert_eq!((gone.len(), &summary.relief[0].end), (106, &ReliefEnd::Relieved));
}

#[test]
fn space_that_never_appears_ends_the_relief_after_a_few_small_steps() {
    // 10 bytes are to be freed, so an entry is a step.
    for missing in [10, 500] {
        let (summary, gone) = Case { missing, is_held: true, ..Case::default() }.relieve();
        let few = 3 * usize::try_from(missing / 10).unwrap();
        let missing = Amount { bytes: missing, inodes: 0 };
        assert_eq!((gone.len(), &summary.relief[0].end), (few, &ReliefEnd::NotFreed(missing)));
        assert_eq!(ExitCode::of(&summary), ExitCode::SomeFailed);
    }
}

/// Writes by other processes, while an entry is removed and its space is waited for, hide what it has freed. That
/// must not end the relief.
#[test]
fn a_small_entry_whose_space_others_take_at_once_does_not_end_the_relief() {
    // Before a step, because finding what may be removed takes time.
    let (summary, gone) = Case { missing: 10, written: (5, 0), ..Case::default() }.relieve();
    assert_eq!((gone.len(), &summary.relief[0].end), (2, &ReliefEnd::Relieved));
    // During it: the first answer shows that more is in use than before.
    let hidden = &[12, 0];
    let (summary, gone) =
        Case { missing: 10, hidden, written: (0, 20), ..Case::default() }.relieve();
    assert!(gone.len() > 1, "{gone:?}");
    assert_eq!(summary.relief[0].end, ReliefEnd::Relieved);
}

/// A step is waited for until all of it is free. Others fill meanwhile what has appeared of it, and the wait must not
/// end the relief.
#[test]
fn space_that_has_appeared_and_is_filled_while_the_rest_is_waited_for_does_not_end_the_relief() {
    let case = Case { count: 300, hidden: &[0, 300], written: (0, 600), ..Case::default() };
    let (summary, gone) = case.relieve();
    assert_eq!(summary.relief[0].end, ReliefEnd::Relieved, "{:?}", summary.relief);
    // 1,000 bytes that were missing, 600 that others wrote, and the rest that came too late to be counted.
    assert_eq!(gone.len(), 190);
}

/// The size of a tree is known when it is gone: it needs no step of its own, which others could hide by what they
/// write.
#[test]
fn trees_go_together_and_not_one_too_many() {
    let (summary, gone) = Case { are_trees: true, ..Case::default() }.relieve();
    assert_eq!(gone, (0..100).collect::<Vec<_>>());
    assert_eq!(summary.relief[0].end, ReliefEnd::Relieved);
}

/// An entry that the pass has skipped, for whatever reason but a young member, keeps that outcome: two outcomes of
/// one entry would break the sums.
#[test]
fn what_the_pass_has_skipped_stays_although_it_could_go_now() {
    let zone = zone("z");
    let before = [("locked", 101, false), ("fails", 101, false), ("old", 90, false)];
    // Something sets their times back a little: they have not expired any more.
    let after = [("locked", 95, false), ("fails", 95, false), ("old", 90, false)];
    let sources = [&before, &after].map(|entries| FakeSource::new(&zone, entries));
    let locks = FakeLocks { tries: AtomicU64::new(2), refusal: None };
    let told = Told::default();
    let (summary, gone) =
        Case { free: 9_000, ..Case::default() }.relieve_from(&zone, &sources, &locks, &told);
    assert_eq!(gone, ["old"]);
    let tally = &summary.zones[0].tally;
    assert_eq!((tally.seen, tally.removed, tally.skipped(), tally.failed), (3, 1, 1, 1));
    let ReliefEnd::NothingLeft(way) = &summary.relief[0].end else { unreachable!() };
    assert_eq!(way.left, 2, "{way:?}");
    let told = told.times.into_inner().unwrap();
    assert_eq!(told.get("locked"), Some(&1), "{told:?}");
}

/// What came between the pass and the relief, with an old time, is one entry more: none that was kept as fresh has
/// another outcome because of it.
#[test]
fn what_came_after_the_pass_takes_no_outcome_of_another_entry() {
    let zone = zone("z");
    let before = [("a", 90, false), ("young", 5, false)];
    let after = [("a", 90, false), ("young", 5, false), ("new", 95, false)];
    let sources = [&before[..], &after].map(|entries| FakeSource::new(&zone, entries));
    let (locks, told) = (Setup::default().locks, Told::default());
    let case = Case { free: 9_000, ..Case::default() };
    let (summary, gone) = case.relieve_from(&zone, &sources, &locks, &told);
    assert_eq!(gone, ["new", "a"]);
    let tally = &summary.zones[0].tally;
    let fresh = tally.kept_by[KeptReason::Fresh as usize];
    assert_eq!((tally.seen, tally.removed, fresh), (3, 2, 1), "{tally:?}");
}

/// A file system and a quota on it are relieved one after the other. In a dry run all entries are still there for the
/// second, and for a pass that removes, one that came again meanwhile is another entry.
#[test]
fn in_two_reliefs_an_entry_has_one_outcome_and_one_that_comes_again_is_another() {
    let zone = zone("z");
    let (first, second) = ("first", "second");
    let all = [(first, 95, false), (second, 90, false)];
    let told = |is_dry: bool| {
        let sources = [(); 3].map(|()| FakeSource::new(&zone, &all));
        let (locks, told) = (Setup::default().locks, Told::default());
        let case = Case { free: 9_000, missing: 10, is_dry, ..Case::default() };
        let (summary, gone) = case.relieve_from(&zone, &sources, &locks, &told);
        let Tally { seen, removed, .. } = summary.zones[0].tally;
        (gone, seen, removed)
    };
    assert_eq!(told(true), (vec![first.to_owned(), second.to_owned()], 2, 2));
    assert_eq!(told(false), (vec![first.to_owned(), first.to_owned()], 3, 2));
}

#[test]
fn a_relief_without_enough_entries_is_a_failure() {
    let (summary, gone) = Case { count: 50, ..Case::default() }.relieve();
    assert_eq!(gone.len(), 50);
    assert!(matches!(&summary.relief[0].end, ReliefEnd::NothingLeft(_)));
    assert_eq!(ExitCode::of(&summary), ExitCode::SomeFailed);
}

#[test]
fn a_guard_ends_the_relief() {
    let limits = of_removals(7, None);
    let (summary, gone) = Case { limits, ..Case::default() }.relieve();
    assert_eq!(gone, (0..7).collect::<Vec<_>>());
    assert_eq!(summary.relief[0].end, ReliefEnd::Stopped);
    assert_eq!(ExitCode::of(&summary), ExitCode::Stopped);
}
