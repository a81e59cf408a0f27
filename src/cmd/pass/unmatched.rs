//! Globs of `--exclude` that matched nothing and are probably wrong.
//!
//! This module must not complain about a pass that has not looked at everything, nor about globs for zones of other
//! passes.

use super::request::PassRequest;
use crate::config::Config;
use crate::protocol::Summary;
use crate::rules::Exclude;
use crate::rules::exclude::{all_in, bearing, is_name};

/// Whether every entry of all zones was looked at.
pub(super) fn is_complete(request: &PassRequest<'_>, summary: &Summary) -> bool {
    let Config { zones, shard, from0, .. } = request.config;
    let is_part = shard.is_some() || from0.is_some() || summary.stopped.is_some();
    let all = match request.command {
        "run" | "plan" => summary.zones.len() == zones.len(),
        "legacy" => summary.zones.len() == request.zones.len(),
        _ => false,
    };
    all && !is_part && summary.zones.iter().all(|zone| zone.no_lock.is_none())
}

/// Notes each glob of `--exclude` that has matched nothing, in the first zone whose entries it could match, or that
/// has its entries in a directory that it matches.
pub(super) fn note(exclude: &Exclude, request: &PassRequest<'_>, summary: &mut Summary) {
    let (zones, known) = (request.zones, &request.config.all_zones);
    let is_typed = request.config.setting("exclude").is_some_and(|row| row.origin.is_flag());
    for glob in exclude.unmatched() {
        let bearings: Vec<_> = zones.iter().map(|zone| bearing(glob, zone)).collect();
        let above = bearings.iter().position(|bearing| bearing.is_above);
        let can_match = bearings.iter().position(|bearing| bearing.can_match);
        // One for a zone that is not swept now is none of this pass. A name that was typed is.
        let is_of_pass = is_typed && is_name(glob);
        let is_elsewhere = || !is_of_pass && known.iter().any(|zone| bearing(glob, zone).can_match);
        let Some(at) = can_match.or(above).or_else(|| (!is_elsewhere()).then_some(0)) else {
            continue;
        };
        let hint = above.map(|at| {
            let (zone, all) = (&zones[at].name, all_in(glob, &zones[at]));
            format!(
                ": it matches a directory of zone {zone}, and not what is in it; write {all:?} to keep that"
            )
        });
        let note = format!("--exclude {glob:?} matched no entry{}", hint.unwrap_or_default());
        summary.zones[at].notes.push(note);
    }
}
