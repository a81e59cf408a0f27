//! Guards: a pass that would exceed one does not begin.
//!
//! This module must not remove anything: it judges the counts of a pass that has removed nothing.

use crate::config::GuardSettings;
use crate::engine::{Budget, Limits};
use crate::protocol::{Excess, Guards, MaxShare, Relief, RunMode, StopReason, Summary};
use crate::rules::{Share, ZoneName};

/// What guards the first pass of a service over a zone, unless another share is set. A zone with few entries
/// is often expired as a whole.
const FIRST_PASS: MaxShare = MaxShare { share: Share::percent(90), from_entries: 10 };

/// The guards of a pass over `zones`. Those in `first` were not swept by this service before.
pub(super) fn guards(settings: GuardSettings, zones: &[ZoneName], first: &[ZoneName]) -> Guards {
    let share = |zone: &ZoneName| match settings.share {
        Some(share) => Some(MaxShare { share, from_entries: 0 }),
        None => first.contains(zone).then_some(FIRST_PASS),
    };
    let shares = zones.iter().filter_map(|zone| Some((zone.clone(), share(zone)?))).collect();
    Guards { max_removals: settings.removals, max_bytes: settings.bytes, shares }
}

/// Compares what was counted with the guards. The summary of a pass that must not begin, if it must not;
/// else `limits` end the pass when it finds more than was counted.
pub(super) fn stopped_by(
    guards: &Guards,
    mut counted: Summary,
    limits: &Limits,
) -> Option<Summary> {
    let exceeded = guards.exceeded_by(&counted);
    if counted.stopped.is_none() && exceeded.is_empty() {
        limits.set_budget(Budget::new(guards, &counted));
        return None;
    }
    if counted.stopped.is_none() {
        report(&mut counted, &exceeded, RunMode::Real);
    }
    for zone in &mut counted.zones {
        zone.tally.withhold();
    }
    counted.relief.iter_mut().for_each(Relief::withhold);
    Some(counted)
}

/// Adds what a dry run says about the guards.
pub(super) fn foretell(guards: &Guards, counted: &mut Summary) {
    if counted.stopped.is_none() {
        let exceeded = guards.exceeded_by(counted);
        report(counted, &exceeded, RunMode::DryRun);
    }
}

fn report(summary: &mut Summary, exceeded: &[Excess], mode: RunMode) {
    summary.stopped = exceeded.first().map(|excess| excess.guard);
    for excess in exceeded {
        if let Some(zone) = summary.zones.iter_mut().find(|zone| zone.zone == excess.zone) {
            zone.notes.push(excess.note(mode));
        }
    }
}

/// Adds a note where a guard has ended a pass that had begun. A tree that is removed in part takes as much of the guards
/// as a whole one, and is a failure in the counts before.
pub(super) fn explain(summary: &mut Summary) {
    let is_guard =
        |why| matches!(why, StopReason::MaxRemovals | StopReason::MaxBytes | StopReason::MaxShare);
    if let Some(why) = summary.stopped.filter(|why| is_guard(*why))
        && let Some(zone) = summary.zones.first_mut()
    {
        let flag = why.key().replace('_', "-");
        zone.notes.push(format!(
            "more has expired than when the pass began, or a tree could be removed only in part, so it was \
             stopped where it reached --{flag}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_setting_only_the_first_pass_of_a_service_is_guarded() {
        let zones = [ZoneName::new("export"), ZoneName::new("tmp")];
        let none = GuardSettings::default();
        assert!(guards(none, &zones, &[]).is_empty());
        let first = &zones[1..];
        assert_eq!(guards(none, &zones, first).shares, [(zones[1].clone(), FIRST_PASS)]);
        let all = GuardSettings { share: Some(Share::percent(50)), ..none };
        let shares = guards(all, &zones, first).shares;
        assert_eq!(shares.len(), 2, "in every pass and zone");
        assert!(shares.iter().all(|(_, share)| share.from_entries == 0), "{shares:?}");
    }
}
