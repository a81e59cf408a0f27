//! Settings that have no effect beside the others.
//!
//! A flag that another flag makes useless is refused. A variable or a line of the settings file must not be refused:
//! several commands share them.

use std::sync::Arc;

use super::origin::{ConfigError, Origin};
use super::values::Values;
use super::words::Profile;
use crate::cvat::zones::SETTINGS_OF_ZONES;
use crate::rules::Zone;

/// What is said about settings that have no effect.
#[derive(Debug, Default)]
pub(super) struct Useless {
    /// By every command.
    pub(super) warnings: Vec<String>,
    /// By those that sweep: flags for other zones. A command that only looks at entries looks at those, too.
    pub(super) flags: Vec<String>,
}

/// Finds the settings that have no effect.
///
/// # Errors
/// A flag has no effect because of another flag.
pub(super) fn check(values: &Values<'_>, swept: &[Arc<Zone>]) -> Result<Useless, ConfigError> {
    let mut useless = Useless::default();
    if values.profile == Profile::None {
        useless.warnings = of_another_profile(values);
        return Ok(useless);
    }
    let is_flag = |key: &str| values.raw.flags.contains_key(key);
    for (key, zones) in SETTINGS_OF_ZONES.into_iter().filter(|(key, _)| is_flag(key)) {
        let (origin, lock) = (values.origin(key), values.origin("lock"));
        match without_lock(key, values) {
            Some(why) if is_flag("lock") => return Err(values.wrong(key, why)),
            Some(why) => useless.warnings.push(format!("{key} ({origin}): {why} ({lock})")),
            None => {}
        }
        // One command line may be for several lists of zones: then it has an age for each.
        let other_age = age_of_others(key);
        if other_age.is_some_and(is_flag) {
            continue;
        }
        let Some(why) = not_used(key, zones, swept) else { continue };
        if !is_flag("zones") {
            useless.flags.push(format!("{key} ({origin}): {why}"));
        } else if other_age.is_some() {
            return Err(values.wrong(key, why));
        } else {
            useless.warnings.push(format!("{key} ({origin}): {why}"));
        }
    }
    Ok(useless)
}

fn of_another_profile(values: &Values<'_>) -> Vec<String> {
    let keys = SETTINGS_OF_ZONES.into_iter().map(|(key, _)| key).chain(["older_than"]);
    keys.filter(|key| values.origin(key) != Origin::Default)
        .map(|key| format!("{key} ({}) has no effect with profile none", values.origin(key)))
        .collect()
}

/// Why a setting of the lock in Redis has no effect.
fn without_lock(key: &str, values: &Values<'_>) -> Option<String> {
    let lock = values.text("lock").filter(|lock| ["flock", "none"].contains(lock))?;
    let is_of_lock = ["redis", "cvat_data", "lock_ttl"].contains(&key);
    is_of_lock.then(|| format!("it has no effect: with lock = {lock} no lock in Redis is taken"))
}

/// The age in place of this one, for other zones.
fn age_of_others(key: &str) -> Option<&'static str> {
    match key {
        "retention" => Some("ttl"),
        _ if key.starts_with("ttl") => Some("retention"),
        _ => None,
    }
}

/// Why a setting that these zones use has no effect on those that are swept.
fn not_used(key: &str, zones: &[&str], swept: &[Arc<Zone>]) -> Option<String> {
    let names: Vec<&str> = swept.iter().map(|zone| zone.name.as_str()).collect();
    if zones.iter().any(|zone| names.contains(zone)) {
        return None;
    }
    let uses = |key: &&str| {
        let used_by = SETTINGS_OF_ZONES.iter().find(|(other, _)| other == key);
        used_by.is_some_and(|(_, zones)| zones.iter().any(|zone| names.contains(zone)))
    };
    let other = age_of_others(key).filter(uses);
    let hint = other.map_or_else(String::new, |other| format!("; for these, set --{other}"));
    let (zones, names) = (zones.join(", "), names.join(", "));
    Some(format!("it has no effect: it is for {zones}, and the zones are {names}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Setting;
    use super::super::tests::{config, error, raw, with_file};
    use super::*;

    #[test]
    fn a_flag_that_another_flag_makes_useless_is_refused() {
        for (flags, why) in [
            (
                [("zones", "tmp"), ("ttl", "2d")],
                "(flag --ttl): it has no effect: it is for export, and the zones are tmp; for these, set --retention",
            ),
            (
                [("zones", "export"), ("retention", "2d")],
                "the zones are export; for these, set --ttl",
            ),
            ([("lock", "flock"), ("redis", "redis://host")], "with lock = flock no lock in Redis"),
            ([("lock", "none"), ("lock_ttl", "1m")], "with lock = none no lock in Redis"),
        ] {
            let refused = error(&raw(&flags, &[]));
            assert!(refused.contains(why), "{refused}");
        }
        for flags in [
            [("zones", "export,tmp"), ("ttl", "2d")],
            [("zones", "instance-tmp"), ("tmp_age", "entry")],
            [("lock", "auto"), ("redis", "redis://host")],
        ] {
            let config = config(&raw(&flags, &[])).unwrap();
            assert_eq!(config.warnings, Vec::<String>::new(), "{flags:?}");
        }
    }

    #[test]
    fn what_several_commands_share_is_not_refused() {
        let both = raw(&[("zones", "tmp"), ("ttl", "2d"), ("retention", "7d")], &[]);
        assert_eq!(config(&both).unwrap().warnings, Vec::<String>::new());
        let lock = config(&raw(&[("zones", "tmp"), ("lock_ttl", "30s")], &[])).unwrap();
        assert!(lock.warnings[0].contains("it is for export, and the zones are tmp"));
        let env = raw(&[("zones", "tmp")], &[("SWEEPER_TTL", "2d")]);
        assert_eq!(config(&env).unwrap().warnings, Vec::<String>::new());
        let file = with_file(raw(&[("ttl", "2d")], &[]), "zones = ['tmp']");
        let found = config(&file).unwrap();
        let [why] = &found.useless_flags[..] else { panic!("{:?}", found.useless_flags) };
        assert!(why.starts_with("ttl (flag --ttl): it has no effect"), "{why}");
        assert_eq!(found.warnings, Vec::<String>::new(), "usage looks at all zones");
        let lock = raw(&[("redis", "redis://host")], &[("SWEEPER_LOCK", "none")]);
        assert!(config(&lock).unwrap().warnings[0].contains("with lock = none"));
    }

    #[test]
    fn every_setting_of_zones_is_a_setting() {
        for (key, _) in SETTINGS_OF_ZONES {
            assert!(Setting::find(key).is_some(), "{key}");
        }
    }
}
