//! The settings of pressure: when a file system is so full that entries are removed before they
//! expire.
//!
//! This module must not ask how full one is.

use std::sync::Arc;

use super::origin::{ConfigError, Origin};
use super::values::Values;
use super::words::Profile;
use super::zones::Zones;
use crate::cvat::zones::EXPORT;
use crate::rules::select::Order;
use crate::rules::{Bytes, MinAge, Pressure, Share, Zone};
use crate::units;

/// What is wrong with a mark of 0%.
pub(super) const NEVER_MET: &str =
    "no disk is ever 0% full, so a pass would remove everything it may: write a higher mark";

/// What is wrong with a size of 0.
pub(super) const NOTHING_FREE: &str = "it keeps nothing free: write a size like 50GiB";

/// When entries go before they expire, and which.
#[derive(Debug, Clone)]
pub struct PressureSettings {
    /// When a file system is relieved, and how far.
    pub pressure: Pressure,
    /// Only older entries are removed.
    pub min_age: MinAge,
    /// The zones whose entries may be removed, and in which order.
    pub zones: Vec<(Arc<Zone>, Order)>,
}

impl PressureSettings {
    pub(super) fn resolve(
        values: &mut Values<'_>,
        zones: &Zones,
    ) -> Result<Option<Self>, ConfigError> {
        let mut share = |key: &'static str| {
            let share = values.optional(key, units::share)?;
            if let Some(share) = share {
                values.show(key, share.to_string());
            }
            Ok::<_, ConfigError>(share)
        };
        let (mark, relieve) = (share("pressure")?, share("relieve")?);
        let keep_free = values.size("keep_free")?;
        let min_age = MinAge::from_duration(values.duration("min_age")?);
        let names = values.texts("pressure_zones").to_vec();
        check_shares(values, mark, relieve)?;
        if keep_free == Some(Bytes(0)) {
            return Err(values.wrong("keep_free", NOTHING_FREE));
        }
        if mark.is_none() && keep_free.is_none() {
            let given = |key: &&str| values.origin(key) != Origin::Default;
            return match ["min_age", "pressure_zones"].into_iter().find(given) {
                Some(key) => Err(values.wrong(key, "it needs --pressure or --keep-free")),
                None => Ok(None),
            };
        }
        let key = if mark.is_some() { "pressure" } else { "keep_free" };
        for part in ["from0", "shard"] {
            if values.text(part).is_some() {
                let flag = part.replace('_', "-");
                let why = format!(
                    "with --{flag} a pass looks at only a part of the entries, and cannot know \
                     which are the oldest of all: leave out one of the two"
                );
                return Err(values.wrong(key, why));
            }
        }
        let zones = pressed(values, zones, &names, key)?;
        if let (Some(mark), None) = (mark, relieve) {
            values.show("relieve", mark.to_string());
        }
        let pressure = Pressure { mark, relieve, keep_free };
        Ok(Some(Self { pressure, min_age, zones }))
    }
}

fn check_shares(
    values: &Values<'_>,
    mark: Option<Share>,
    relieve: Option<Share>,
) -> Result<(), ConfigError> {
    match (mark, relieve) {
        (None, Some(_)) => Err(values.wrong("relieve", "it needs --pressure")),
        (Some(mark), _) if mark == Share::percent(0) => Err(values.wrong("pressure", NEVER_MET)),
        (_, Some(low)) if low == Share::percent(0) => Err(values.wrong("relieve", NEVER_MET)),
        (Some(mark), Some(low)) if low > mark => {
            Err(values.wrong("relieve", format!("it is more than --pressure {mark}")))
        }
        (Some(mark), _) if mark == Share::percent(100) => {
            Err(values.wrong("pressure", "no file system is fuller than 100%: write a lower mark"))
        }
        _ => Ok(()),
    }
}

/// The zones whose entries may be removed: the exports first, then those that are named.
fn pressed(
    values: &Values<'_>,
    zones: &Zones,
    names: &[String],
    key: &'static str,
) -> Result<Vec<(Arc<Zone>, Order)>, ConfigError> {
    let is_export =
        |zone: &&Arc<Zone>| values.profile != Profile::None && zone.name.as_str() == EXPORT;
    let mut pressed: Vec<(Arc<Zone>, Order)> = zones
        .swept
        .iter()
        .filter(is_export)
        .map(|zone| (Arc::clone(zone), Order::OldestUse))
        .collect();
    for name in names {
        let wrong = |why| values.wrong_text("pressure_zones", name, why);
        let zone = Zones::find(values, &zones.known, name).map_err(wrong)?;
        if !zones.swept.iter().any(|swept| swept.name == zone.name) {
            let why = "the zone is not swept: name it in --zones too";
            return Err(values.wrong_text("pressure_zones", name, why));
        }
        if !pressed.iter().any(|(known, _)| known.name == zone.name) {
            pressed.push((zone, Order::SoonestExpiry));
        }
    }
    if pressed.is_empty() {
        let why = match values.profile {
            Profile::Cvat => {
                "no exports are swept that could be removed early: sweep zone export, or name other \
                 zones in --pressure-zones"
            }
            Profile::None => {
                "with profile none there are no exports: name zones in --pressure-zones"
            }
        };
        return Err(values.wrong(key, why));
    }
    Ok(pressed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, raw};
    use super::*;

    fn resolved(
        flags: &[(&'static str, &'static str)],
    ) -> Result<Option<PressureSettings>, String> {
        config(&raw(flags, &[])).unwrap().pressure.map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_mark_nothing_goes_early_and_with_one_exports_do() {
        assert!(resolved(&[]).unwrap().is_none());
        let settings = resolved(&[("pressure", "85 %"), ("relieve", "80%")]).unwrap().unwrap();
        assert_eq!(settings.pressure.mark, Some(Share::percent(85)));
        assert_eq!(settings.pressure.relieve, Some(Share::percent(80)));
        assert_eq!(settings.min_age.ttl().as_secs(), 3600);
        let names: Vec<&str> = settings.zones.iter().map(|(zone, _)| zone.name.as_str()).collect();
        assert_eq!(names, ["export"]);
        let flags = [("keep_free", "50GiB"), ("pressure_zones", "tmp"), ("min_age", "2h")];
        let settings = resolved(&flags).unwrap().unwrap();
        assert_eq!(settings.pressure.keep_free, Some(Bytes(50 << 30)));
        let zones: Vec<_> =
            settings.zones.iter().map(|(zone, order)| (zone.name.as_str(), *order)).collect();
        assert_eq!(zones, [("export", Order::OldestUse), ("tmp", Order::SoonestExpiry)]);
    }

    #[test]
    fn what_has_no_effect_or_no_sense_is_refused() {
        for (flags, words) in [
            (&[("relieve", "80%")][..], "--pressure"),
            (&[("min_age", "2h")], "--pressure or --keep-free"),
            (&[("pressure_zones", "tmp")], "--pressure or --keep-free"),
            (&[("pressure", "80%"), ("relieve", "81%")], "more than --pressure 80%"),
            (&[("pressure", "100%")], "lower mark"),
            (&[("pressure", "0%")], "higher mark"),
            (&[("pressure", "85%"), ("relieve", "0%")], "higher mark"),
            (&[("keep_free", "0B")], "keeps nothing free"),
            (&[("pressure", "85%"), ("from0", "-")], "--from0"),
            (&[("keep_free", "1GiB"), ("shard", "0/2")], "--shard"),
            (&[("pressure", "85%"), ("zones", "tmp")], "--pressure-zones"),
            (&[("pressure", "85%"), ("pressure_zones", "instance-tmp")], "--zones"),
            (&[("pressure", "85%"), ("pressure_zones", "tpm")], "did you mean tmp"),
            (&[("pressure", "85")], "write 85%"),
            (&[("keep_free", "50")], "50"),
        ] {
            let error = resolved(flags).unwrap_err();
            assert!(error.contains(words), "{flags:?}: {error}");
        }
    }
}
