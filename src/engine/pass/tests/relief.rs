//! Tests of the relief with a file system that answers as each test says.

use std::collections::VecDeque;
use std::io;

use super::*;
use crate::engine::{ReliefPlan, ReliefZone};
use crate::protocol::{ReliefEnd, Volume};
use crate::rules::pressure::Arrival;
use crate::rules::select::Order;
use crate::rules::{Amount, KeptReason, MinAge, Pressure, Space};

/// A file system of 10,000 bytes. Each answer says how much of what was removed so far has not appeared.
#[derive(Debug)]
struct Slow {
    used: Mutex<u64>,
    hidden: Mutex<VecDeque<u64>>,
}

fn space(bytes_used: u64) -> Space {
    Space {
        bytes: 10_000,
        bytes_used,
        bytes_available: 10_000 - bytes_used,
        inodes: 0,
        inodes_used: 0,
    }
}

impl Volume for Slow {
    fn space_after(&self, freed: Amount, _: &dyn Fn(&Space) -> Arrival) -> io::Result<Space> {
        let mut used = self.used.lock().unwrap();
        // What is only asked about again was freed before.
        let mut hidden = self.hidden.lock().unwrap();
        if freed.inodes > 0 {
            *used -= freed.bytes;
        }
        Ok(space(*used + hidden.pop_front().unwrap_or(0)))
    }
}

/// `count` entries of 10 bytes that have not expired, the oldest first, on a file system that is to have `free`
/// bytes. How it ended, and the numbers of those that are gone.
fn relieve(count: usize, free: u64, hidden: &[u64], limits: &Limits) -> (Summary, Vec<usize>) {
    let zone = zone("z");
    let entries: Vec<(&'static str, i64, bool)> = (0..count)
        .map(|number| {
            let name: &'static str = Box::leak(format!("entry-{number:03}").into_boxed_str());
            (name, 100 - i64::try_from(number / 4).unwrap(), false)
        })
        .collect();
    let (disposer, told, setup) = (FakeDisposer::default(), Told::default(), Setup::default());
    let source = FakeSource::new(&zone, &entries);
    let pass = Pass {
        live: &Live::default(),
        source: &source,
        locks: &setup.locks,
        inspector: &FakeInspector,
        disposer: &disposer,
        select: &All,
        exclude: &Exclude::default(),
        data_root: Path::new("/data"),
        notes: &Notes::default(),
        now: NOW,
        limits,
        workers: &Workers::one(),
        lock_wait: Duration::ZERO,
    };
    let swept = pass.run(&[Arc::clone(&zone)], &told);
    // The same entries are there once more.
    source.next.store(0, Ordering::SeqCst);
    let used = 10_000 - free + 1000;
    let volume =
        Slow { used: Mutex::new(used), hidden: Mutex::new(hidden.iter().copied().collect()) };
    let summary = pass.relieve(
        &ReliefPlan {
            zones: &[ReliefZone { zone, order: Order::OldestUse, swept: NOW }],
            pressure: Pressure { keep_free: Some(Bytes(free)), ..Pressure::default() },
            min_age: MinAge::from_duration(Duration::from_secs(10)),
            volume: &volume,
            path: Path::new("/data"),
            device: 1,
            freed: Amount::default(),
        },
        swept,
        &told,
    );
    let removed = disposer.0.into_inner().unwrap();
    let number = |name: &String| name.trim_start_matches("entry-").parse().unwrap();
    (summary, removed.iter().map(number).collect())
}

#[test]
fn entries_go_in_order_until_enough_is_free_and_have_one_outcome_each() {
    let (summary, gone) = relieve(150, 2000, &[], &Limits::default());
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
    let (summary, gone) = relieve(150, 2000, &[0, 60, 0], &Limits::default());
    assert_eq!((gone.len(), &summary.relief[0].end), (100, &ReliefEnd::Relieved));
    // They are not: others have written as much.
    let (summary, gone) = relieve(150, 2000, &[0, 60, 60, 60, 0], &Limits::default());
    assert_eq!((gone.len(), &summary.relief[0].end), (106, &ReliefEnd::Relieved));
}

#[test]
fn space_that_does_not_appear_ends_the_relief() {
    let (summary, gone) = relieve(150, 2000, &[0, 501], &Limits::default());
    let missing = Amount { bytes: 501, inodes: 0 };
    assert_eq!((gone.len(), &summary.relief[0].end), (100, &ReliefEnd::NotFreed(missing)));
    assert_eq!(ExitCode::of(&summary), ExitCode::SomeFailed);
}

#[test]
fn a_relief_without_enough_entries_is_a_failure() {
    let (summary, gone) = relieve(50, 2000, &[], &Limits::default());
    assert_eq!(gone.len(), 50);
    assert!(matches!(&summary.relief[0].end, ReliefEnd::NothingLeft(_)));
    assert_eq!(ExitCode::of(&summary), ExitCode::SomeFailed);
}

#[test]
fn a_guard_ends_the_relief() {
    let limits = Limits::new(Arc::default(), 7, None);
    let (summary, gone) = relieve(150, 2000, &[], &limits);
    assert_eq!(gone, (0..7).collect::<Vec<_>>());
    assert_eq!(summary.relief[0].end, ReliefEnd::Stopped);
    assert_eq!(ExitCode::of(&summary), ExitCode::Stopped);
}
