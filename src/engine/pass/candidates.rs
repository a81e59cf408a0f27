//! What may go early: the first entries of all zones, in the order in which they go.
//!
//! It must not remove anything. A directory is as old as what is in it, so it is walked, under its lock. What is
//! kept in memory is bounded, whatever the number of entries.

use std::sync::{Mutex, PoisonError};

use super::Pass;
use super::relieve::{MOST, ReliefPlan, ReliefRun, ReliefZone};
use super::zone_run::lock;
use crate::protocol::{Expired, Found, InTheWay, Inspector, Locks, Rejection, Source};
use crate::rules::select::{First, Place, Select};
use crate::rules::verdict::{NotEarly, evaluate_early};
use crate::rules::{FileKind, LastUse, Metadata};

/// What is found, by all workers.
struct Finding {
    first: First<std::sync::Arc<crate::protocol::Directory>>,
    in_the_way: InTheWay,
}

impl<S: Source, L: Locks, I: Inspector, Q: Select> Pass<'_, S, L, I, Q> {
    /// The next entries to go, where to look for more, and what stays.
    pub(super) fn candidates(
        &self,
        plan: &ReliefPlan<'_>,
        runs: &[ReliefRun<'_>],
        from: Option<Place>,
    ) -> (Vec<Expired>, Option<Place>, InTheWay) {
        let first = First::new(MOST, from);
        let finding = Mutex::new(Finding { first, in_the_way: InTheWay::default() });
        for run in runs {
            if lock(&run.run.no_lock).is_some() || self.limits.is_stopped() {
                continue;
            }
            // A zone that cannot be opened was reported by the pass.
            if let Ok(Some(scan)) = self.source.open(&run.zone.zone) {
                self.workers.all(|| self.find(&scan, plan, run.zone, &finding));
            }
        }
        let finding = finding.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (entries, end) = finding.first.into_parts();
        (entries, end, finding.in_the_way)
    }

    /// What one worker does: looks at names until there are no more.
    fn find(
        &self,
        scan: &S::Scan,
        plan: &ReliefPlan<'_>,
        zone: &ReliefZone,
        finding: &Mutex<Finding>,
    ) {
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        loop {
            let mut in_the_way = InTheWay::default();
            // Behind a pointer: for a type of its own, the program would have another copy of the source.
            let mut each: &mut dyn FnMut(Found<'_>) = &mut |name| {
                let Found::Entry(entry) = name else { return };
                // A zone can reach into another file system, where nothing is to be gained for this one.
                if entry.directory.id.dev != plan.device {
                    return;
                }
                match evaluate_early(entry, self.exclude, plan.min_age, zone.swept, self.now) {
                    Ok(expired) if frees_nothing(expired.metadata()) => in_the_way.linked += 1,
                    Ok(expired) => found.push(expired),
                    Err(why) => count(&mut in_the_way, why),
                }
            };
            let scanned = self.source.next_batch(scan, &mut buffer, &mut each);
            for expired in found.drain(..) {
                self.offer(expired, zone, finding, &mut in_the_way);
            }
            lock(finding).in_the_way.add(in_the_way);
            if !scanned.has_more || self.limits.is_stopped() {
                return;
            }
        }
    }

    /// Offers an entry for the places that there are.
    fn offer(
        &self,
        expired: Expired,
        zone: &ReliefZone,
        finding: &Mutex<Finding>,
        in_the_way: &mut InTheWay,
    ) {
        let place =
            |expired: &Expired| Place::of(expired, zone.order, expired.directory().id, self.now);
        let at = place(&expired);
        let is_walked =
            expired.metadata().kind == FileKind::Dir && expired.rule().last_use != LastUse::Entry;
        if !is_walked {
            return lock(finding).first.offer(at, expired);
        }
        if !lock(finding).first.has_place(&at) {
            return;
        }
        let Some(expired) = self.walk(expired, in_the_way) else { return };
        if expired.is_early(zone.swept) {
            lock(finding).first.offer(place(&expired), expired);
        } else {
            in_the_way.left += 1;
        }
    }

    /// Looks into a directory under its lock; what is known of it then.
    fn walk(&self, expired: Expired, in_the_way: &mut InTheWay) -> Option<Expired> {
        let mut walked = None;
        self.locks.claim(vec![expired], &mut |claimed| match claimed
            .and_then(|claimed| self.inspector.inspect(claimed, self.now))
        {
            Ok(verified) => walked = Some(verified.release()),
            Err(rejected) => match rejected.why {
                Rejection::Skipped(crate::protocol::Skipped::Used) => in_the_way.young += 1,
                Rejection::Skipped(why) => in_the_way.skipped_by[why as usize] += 1,
                Rejection::Failed(_) | Rejection::NotWritten(_) => in_the_way.failed += 1,
                Rejection::Unreached | Rejection::NoLock(_) => {}
            },
        });
        walked
    }
}

/// Whether the space of a file stays in use when this name of it is gone, because it has another one.
fn frees_nothing(metadata: &Metadata) -> bool {
    metadata.kind != FileKind::Dir && metadata.links > 1
}

fn count(in_the_way: &mut InTheWay, why: NotEarly) {
    match why {
        NotEarly::Young => in_the_way.young += 1,
        NotEarly::Left => in_the_way.left += 1,
        NotEarly::Kept(why) => in_the_way.kept_by[why as usize] += 1,
    }
}
