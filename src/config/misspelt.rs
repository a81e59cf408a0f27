//! Variables with a name that is nearly one of those that are read.
//!
//! This module must not refuse any: a variable of another program may have such a name by chance.

use super::closest::edits;
use super::raw::RawSettings;
use super::settings::{self, PREFIX, Setting};
use super::words::Profile;
use crate::clearml::discover;
use crate::cvat::variables;
use crate::units::quoted;

/// A name that is shorter may have one mistake, others two.
const SHORT: usize = 16;

/// A warning about each variable that has no effect and is probably a misspelt one.
pub(super) fn warnings(raw: &RawSettings, profile: Profile) -> Vec<String> {
    let mut known: Vec<String> = settings::all().filter_map(Setting::variable).collect();
    known.extend(discover::VARIABLES.map(str::to_owned));
    if profile == Profile::Cvat {
        known.extend(variables::names().map(str::to_owned));
    }
    // Those with our prefix are errors.
    let foreign = raw.env.iter().filter(|(name, value)| {
        !value.is_empty() && !name.starts_with(PREFIX) && !known.contains(name)
    });
    let warning = |name: &String| {
        let plain = name.to_ascii_uppercase().replace('-', "_");
        let meant = known.iter().find(|known| is_near(&plain, known))?;
        let name = quoted(name.as_ref());
        Some(format!("environment {name}: it is not read; did you mean {meant}?"))
    };
    foreign.filter_map(|(name, _)| warning(name)).collect()
}

/// Whether `plain` is `known` with few mistakes.
fn is_near(plain: &str, known: &str) -> bool {
    let most = if known.starts_with(PREFIX) || known.len() >= SHORT { 2 } else { 1 };
    if plain.len().abs_diff(known.len()) > most {
        return false;
    }
    // Of three parts of a name, two mistakes leave one as it is, and move it by no more than two characters. This is
    // much quicker than to count them, and every variable of the environment is compared with every known one.
    let (plain_bytes, known_bytes) = (plain.as_bytes(), known.as_bytes());
    let third = known.len() / 3;
    let parts = [0..third, third..2 * third, 2 * third..known.len()];
    let stays = parts.into_iter().any(|part| {
        let (at, part) = (part.start, &known_bytes[part]);
        (at.saturating_sub(most)..=at + most).any(|at| {
            let rest = plain_bytes.get(at..).unwrap_or_default();
            rest.first() == part.first() && rest.starts_with(part)
        })
    });
    stays && edits(plain, known) <= most
}

#[cfg(test)]
mod tests {
    use super::super::tests::raw;
    use super::*;

    fn warned(name: &str, profile: Profile) -> String {
        warnings(&raw(&[], &[(name, "1")]), profile).concat()
    }

    #[test]
    fn a_misspelt_prefix_or_name_of_another_program_is_warned_about() {
        for (name, meant) in [
            ("SWEEPR_TTL", "SWEEPER_TTL"),
            ("SWEEPER-TTL", "SWEEPER_TTL"),
            ("sweeper_ttl", "SWEEPER_TTL"),
            ("SWEPER_DRYRUN", "SWEEPER_DRY_RUN"),
            ("WEEPER_DATA", "SWEEPER_DATA"),
            ("CVAT_REDIS_INMEN_HOST", "CVAT_REDIS_INMEM_HOST"),
            ("CVAT_EXPORT_CACH_TTL", "CVAT_EXPORT_CACHE_TTL"),
            ("TMP_FILES_OR_DIR_RETENTION_DAYS", "TMP_FILE_OR_DIR_RETENTION_DAYS"),
            ("CLEARML_API_ACCES_KEY", "CLEARML_API_ACCESS_KEY"),
        ] {
            let said = warned(name, Profile::Cvat);
            assert!(said.contains(&format!("\"{name}\": it is not read")), "{name}: {said}");
            assert!(said.ends_with(&format!("did you mean {meant}?")), "{name}: {said}");
        }
    }

    #[test]
    fn the_quick_comparison_misses_no_name_with_few_mistakes() {
        let known = "SWEEPER_MIN_FREE";
        let mut near: Vec<String> = vec![known.to_owned()];
        // Each way to leave out, add or change a character, and each two of them.
        for _ in 0..2 {
            let change = |name: &String| {
                let each = |at: usize| {
                    let (before, rest) = name.split_at(at);
                    let after = rest.get(1..).unwrap_or_default();
                    [
                        before.to_owned() + after,
                        before.to_owned() + "Q" + rest,
                        before.to_owned() + "Q" + after,
                    ]
                };
                (0..=name.len()).flat_map(each).collect::<Vec<_>>()
            };
            near.extend(near.iter().flat_map(change).collect::<Vec<_>>());
        }
        for name in &near {
            assert!(is_near(name, known), "{name}");
        }
    }

    #[test]
    fn variables_of_other_programs_pass_without_a_word() {
        for name in [
            "PATH",
            "HOME",
            "SWEEPERS",
            "SLEEPER_MODE",
            "CVAT_REDIS_ONDISK_HOST",
            "CVAT_REDIS_ONDISK_PASSWORD",
            "CVAT_DATA_DIR",
            "CVAT_POSTGRES_HOST",
            "CVAT_EXPORT_CACHE_TTL",
            "CLEARML_WEB_HOST",
            "CLEARML_API_HOST",
            "CVAT_REDIS_INMEM_SERVICE_HOST",
        ] {
            assert_eq!(warned(name, Profile::Cvat), "", "{name}");
        }
        assert_eq!(warned("CVAT_REDIS_INMEN_HOST", Profile::None), "", "CVAT's are not read");
        let empty = raw(&[], &[("SWEEPR_TTL", "")]);
        assert!(warnings(&empty, Profile::Cvat).is_empty(), "Compose sets missing ones so");
    }
}
