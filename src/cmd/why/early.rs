//! Whether an entry may be removed before it expires, when the disk is full.
//!
//! This module must not ask how full the disk is: that changes until the next pass.

use crate::config::{Config, PressureSettings};
use crate::protocol::Entry;
use crate::rules::verdict::{NotEarly, evaluate_early};
use crate::rules::{FileKind, Moment, Pressure, Rule};
use crate::units;

/// When an entry that has not expired is removed anyway; `None` if no setting asks for that.
pub(super) fn describe(config: &Config, found: &Entry<'_>, now: Moment) -> Option<String> {
    let Ok(Some(PressureSettings { pressure, min_age, zones })) = &config.pressure else {
        return None;
    };
    let Entry { zone, name, metadata, .. } = found;
    let when = condition(pressure);
    if !zones.iter().any(|(pressed, _)| pressed.name == zone.name) {
        return Some(format!("stays when {when}: zone {} is not in --pressure-zones", zone.name));
    }
    if metadata.has_other_names() {
        let why = "it has another name, so its space would stay in use";
        return Some(format!("stays when {when}: {why}"));
    }
    let inside =
        if metadata.kind == FileKind::Dir { ", if nothing in it was used since" } else { "" };
    let rule = Rule::of(zone, name, metadata).ok()?;
    let from = units::rfc3339(rule.last_use.read(metadata, now).plus(min_age.ttl()));
    match evaluate_early(found, &config.exclude, *min_age, now, now) {
        Ok(_) => Some(format!("may be removed before that when {when}{inside}")),
        Err(NotEarly::Young) => {
            Some(format!("may be removed before that, from {from} on, when {when}{inside}"))
        }
        Err(NotEarly::Kept(why)) => {
            Some(format!("stays when {when}: {}", super::describe_kept(why)))
        }
        Err(NotEarly::Left) => None,
    }
}

/// When a disk is too full.
fn condition(pressure: &Pressure) -> String {
    let share = pressure.mark.map(|mark| format!("more than {mark} of the disk is in use"));
    let free = pressure.keep_free.map(|free| format!("less than {free} is free"));
    let both: Vec<String> = share.into_iter().chain(free).collect();
    both.join(" or ")
}
