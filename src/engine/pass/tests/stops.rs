//! Passes that a guard or a signal ends.
//!
//! This module must not read the clock.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use super::*;
use crate::engine::limits::tests::of_removals;

#[test]
fn no_more_is_removed_than_allowed_and_nothing_after_a_stop() {
    let entries = [("a", 101, false), ("b", 101, false), ("c", 101, false)];
    let limits = of_removals(2, None);
    let (summary, removed, told) = Setup { limits, ..Setup::default() }.run(&entries);
    assert_eq!((removed.len(), told.len()), (2, 2));
    assert_eq!(ExitCode::of(&summary), ExitCode::Stopped);
    for (name, left) in [("fails", 0), ("in-part", 1)] {
        let entries = [&[(name, 102, false)], &entries[..2]].concat();
        let setup = Setup { limits: of_removals(2, None), ..Setup::default() };
        assert_eq!(setup.run(&entries).1.len(), 2 - left, "{name}");
    }
    let limits = Limits::default();
    limits.signal_flag().store(true, Ordering::Relaxed);
    let (summary, removed, _) = Setup { limits, ..Setup::default() }.run(&entries);
    assert!(removed.is_empty());
    assert_eq!(summary.stopped, Some(crate::protocol::StopReason::Signal));
}

/// A wait for each of them would take an hour.
#[test]
fn nothing_waits_for_its_rate_any_more_after_a_stop() {
    let limits = of_removals(0, NonZeroU32::new(1));
    let entries = vec![("a", 101, false); 3600];
    let (summary, removed, _) = Setup { limits, ..Setup::default() }.run(&entries);
    assert_eq!((removed.len(), summary.zones[0].tally.unreached), (0, summary.zones[0].tally.seen));
}
