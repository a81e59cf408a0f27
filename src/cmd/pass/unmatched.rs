//! Globs of `--exclude` that matched nothing and are probably wrong.
//!
//! It must not complain about a pass that has not looked at everything.

use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::protocol::Summary;
use crate::rules::{Exclude, Zone};

/// Whether every entry of all zones was looked at.
pub(super) fn is_complete(command: &str, config: &Config, summary: &Summary) -> bool {
    let Config { zones, shard, from0, .. } = config;
    let is_part = shard.is_some() || from0.is_some() || summary.stopped.is_some();
    let all = command == "run" && summary.zones.len() == zones.len();
    all && !is_part && summary.zones.iter().all(|zone| zone.no_lock.is_none())
}

/// Notes each glob of `--exclude` that has matched nothing, in the first zone whose entries it could match.
pub(super) fn note(exclude: &Exclude, zones: &[Arc<Zone>], summary: &mut Summary) {
    for glob in exclude.unmatched() {
        let can_match =
            |zone: &Arc<Zone>| Exclude::new(&[glob.to_owned()], &[&zone.location]).is_ok();
        let Some(at) = zones.iter().position(can_match) else { continue };
        let is_root = |zone: &&Arc<Zone>| {
            zone.location
                .roots
                .iter()
                .any(|root| root.as_path() == Path::new(glob.trim_matches('/')))
        };
        let hint = zones.iter().find(is_root).map(|zone| {
            format!(
                ": it is compared with the names in {glob}; --zones without {} leaves it alone",
                zone.name
            )
        });
        let note = format!("--exclude {glob:?} matched no entry{}", hint.unwrap_or_default());
        summary.zones[at].notes.push(note);
    }
}
