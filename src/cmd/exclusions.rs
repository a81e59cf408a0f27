//! Globs of `--exclude` that keep less in a pass than they seem to, said before it removes anything.
//!
//! This module must not judge an entry. What can match no entry of any zone is refused with the settings.

use std::sync::Arc;

use super::Refusal;
use crate::config::{Config, ConfigError};
use crate::rules::Zone;
use crate::rules::exclude::{all_in, bearing, is_name, is_plain_name, no_entry};

/// Warns about each glob that matches a directory of one of `zones`, or that `sweeper legacy` cannot use.
///
/// # Errors
/// One that was typed for this pass can match no entry of it.
pub(super) fn check(config: &Config, command: &str, zones: &[Arc<Zone>]) -> Result<(), Refusal> {
    let Some(row) = config.setting("exclude") else { return Ok(()) };
    for glob in config.exclude.globs() {
        let is_typed = row.origin.is_flag();
        // In a settings file that is usual.
        let of_other = || of_other_zone(glob, config, zones).filter(|_| is_typed);
        let weakness = weakness(glob, command, zones);
        let Some((why, is_useless)) = weakness.or_else(|| of_other().map(|why| (why, false)))
        else {
            continue;
        };
        let (key, value, origin) = (row.key.clone(), glob.clone(), row.origin.clone());
        let error = ConfigError::Value { key, value, origin, why };
        if is_useless && is_typed {
            return Err(error.into());
        }
        tracing::warn!("{error}");
    }
    Ok(())
}

/// Says of a glob that it only matches entries of a zone that is not swept, if so.
fn of_other_zone(glob: &str, config: &Config, zones: &[Arc<Zone>]) -> Option<String> {
    let can_match = |zone: &&Arc<Zone>| bearing(glob, zone).can_match;
    if is_name(glob) || zones.iter().any(|zone| can_match(&zone)) {
        return None;
    }
    let zone = config.all_zones.iter().find(can_match)?;
    Some(format!("it only matches entries of zone {}, which is not swept now", zone.name))
}

/// What is wrong with a glob, if it is probably not what is meant, and whether it is of no use in this pass.
fn weakness(glob: &str, command: &str, zones: &[Arc<Zone>]) -> Option<(String, bool)> {
    let can_match = zones.iter().any(|zone| bearing(glob, zone).can_match);
    if command == "legacy" && !can_match && is_name(glob) {
        let why = "in sweeper legacy every entry is called export_cache, so this glob matches none: \
                   exclude a path, such as \"tasks/7/**\"";
        return Some((why.to_owned(), true));
    }
    // `project*` is about exports, and not about `projects`.
    if is_name(glob) && !is_plain_name(glob) {
        return None;
    }
    let zone = zones.iter().find(|zone| bearing(glob, zone).is_above)?;
    if !can_match && !is_name(glob) {
        return Some((no_entry(glob, zone), true));
    }
    let (name, all) = (&zone.name, all_in(glob, zone));
    let why = format!(
        "it matches a directory of zone {name}, and does not keep what is in it: to keep that, exclude {all:?}"
    );
    Some((why, false))
}
