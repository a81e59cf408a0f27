//! Settings that have no effect beside the others.
//!
//! A flag that another flag makes useless is refused. It must not refuse what comes from a variable or the settings
//! file: several commands share them.

use std::sync::Arc;

use super::origin::{ConfigError, EffectiveSetting, Origin};
use super::settings::Setting;
use super::values::Values;
use super::words::Profile;
use crate::cvat::zones::SETTINGS_OF_ZONES;
use crate::rules::Zone;

/// Warns of the settings that have no effect.
///
/// # Errors
/// A flag has no effect because of another flag.
pub(super) fn check(values: &Values<'_>, swept: &[Arc<Zone>]) -> Result<Vec<String>, ConfigError> {
    if values.profile == Profile::None {
        return Ok(of_another_profile(values));
    }
    let is_flag = |key: &str| values.raw.flags.contains_key(key);
    let mut warnings = Vec::new();
    for (key, zones) in SETTINGS_OF_ZONES.into_iter().filter(|(key, _)| is_flag(key)) {
        if let Some(why) = without_lock(key, values) {
            if is_flag("lock") {
                return Err(values.wrong(key, why));
            }
            warnings.push(format!(
                "{key} ({}): {why} ({})",
                values.origin(key),
                values.origin("lock")
            ));
        }
        if let Some(why) = not_used(key, zones, swept).filter(|_| is_flag("zones")) {
            return Err(values.wrong(key, why));
        }
    }
    Ok(warnings)
}

/// Which flags have no effect on the zones that are swept. A command that only looks at entries looks at others, too.
pub fn useless_flags(settings: &[EffectiveSetting], swept: &[Arc<Zone>]) -> Vec<String> {
    let useless = |(key, zones): (&str, &[&str])| {
        let row = settings.iter().find(|row| row.key == key)?;
        // Not one that follows another.
        let is_flag = row.origin == Origin::Flag(Setting::find(key)?.flag());
        let why = not_used(key, zones, swept).filter(|_| is_flag)?;
        Some(format!("{key} ({}): {why}", row.origin))
    };
    SETTINGS_OF_ZONES.into_iter().filter_map(useless).collect()
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

/// Why a setting that these zones use has no effect on those that are swept.
fn not_used(key: &str, zones: &[&str], swept: &[Arc<Zone>]) -> Option<String> {
    let names: Vec<&str> = swept.iter().map(|zone| zone.name.as_str()).collect();
    if zones.iter().any(|zone| names.contains(zone)) {
        return None;
    }
    let uses = |key: &str| {
        let used_by = SETTINGS_OF_ZONES.iter().find(|(other, _)| *other == key);
        used_by.is_some_and(|(_, zones)| zones.iter().any(|zone| names.contains(zone)))
    };
    let hint = match key {
        "retention" if uses("ttl") => "; for these, set --ttl",
        _ if key.starts_with("ttl") && uses("retention") => "; for these, set --retention",
        _ => "",
    };
    let (zones, names) = (zones.join(", "), names.join(", "));
    Some(format!("it has no effect: it is for {zones}, and the zones are {names}{hint}"))
}

#[cfg(test)]
mod tests {
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
            ([("zones", "chunk-cache"), ("tmp_age", "entry")], "it is for tmp, instance-tmp, and"),
            ([("zones", "tmp"), ("redis", "redis://host")], "it is for export, and"),
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
        let env = raw(&[("zones", "tmp")], &[("SWEEPER_TTL", "2d")]);
        assert_eq!(config(&env).unwrap().warnings, Vec::<String>::new());
        let file = with_file(raw(&[("ttl", "2d")], &[]), "zones = ['tmp']");
        let found = config(&file).unwrap();
        let useless = useless_flags(&found.settings, &found.zones);
        let [why] = &useless[..] else { panic!("{useless:?}") };
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
