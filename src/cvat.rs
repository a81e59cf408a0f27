//! CVAT as data: the only folder that knows CVAT's names, variables, schedule and layouts.
//!
//! This module must not read settings, the environment or the file system: what others need is a table or a
//! function here. The facts are those of CVAT 1.0 to 2.73.
//!
//! - [`areas`]: what is in a data root besides the zones.
//! - [`names`]: the names that CVAT gives to exports.
//! - [`uploads`]: the names of uploads, and zones that nothing reads any more.
//! - [`variables`]: CVAT's environment variables.
//! - [`zones`]: CVAT's zones, and what is never touched.

pub mod areas;
pub mod names;
pub mod uploads;
pub mod variables;
pub mod zones;

use std::path::{Path, PathBuf};

/// A data root has at least two of these directories; if the user names it, the first is enough.
pub const MARKS: [&str; 5] = ["cache/export", "projects", "tasks", "jobs", "tmp"];

/// What every CVAT makes in its data root beside the [`MARKS`].
pub const MEDIA: &str = "data";

/// Whether a directory that has these of the [`MARKS`] and [`MEDIA`] is plainly a data root, wherever it is. Others,
/// too, have `projects` and `jobs`, or `projects` and `tmp`.
pub fn is_data_root(found: &[&str]) -> bool {
    let of_instances = |mark: &&&str| ["projects", "tasks", "jobs"].contains(*mark);
    let has_instances = found.iter().filter(of_instances).count() >= 2;
    (found.contains(&MARKS[0]) && found.len() >= 2) || (has_instances && found.contains(&MEDIA))
}

/// Names of CVAT's management command that removes old export caches: the one in CVAT, and the one that
/// it had in review. A link to this program with one of these names is `sweeper legacy`.
pub const COMMANDS: [&str; 2] = ["exportcachecleanup", "cleanuplegacyexportcache"];

/// CVAT's periodic jobs, by the zone that each one sweeps. Their ids are accepted as names of zones.
const JOBS: [(&str, &str); 3] = [
    ("cron_export_cache_directory_cleanup", zones::EXPORT),
    ("cron_tmp_directory_cleanup", zones::TMP),
    // After CVAT 2.73: the name of its function, as no release has an id for it.
    ("cleanup_instance_tmp_directories", zones::INSTANCE_TMP),
];

/// The name of the zone that `word` means: a job's id means the zone that the job sweeps.
pub fn zone_of_job(word: &str) -> &str {
    JOBS.iter().find(|(job, _)| *job == word).map_or(word, |(_, zone)| zone)
}

/// The schedule of a zone, as a cron expression: half an hour after CVAT's own job (0:00 and 12:00 for exports,
/// 18:00 for temporary files). CVAT logs a traceback for each file that is removed while its job is at work.
/// `instance-tmp` has no job in CVAT up to 2.73, so it is swept with `tmp`.
pub fn schedule(zone: &str) -> Option<&'static str> {
    match zone {
        zones::EXPORT => Some("30 0,12 * * *"),
        zones::TMP | zones::INSTANCE_TMP => Some("30 18 * * *"),
        _ => None,
    }
}

/// The data root in CVAT's images.
const DATA_IN_IMAGES: &str = "/home/django/data";

/// Where a data root may be, the first choice first. `base` is the value of [`variables::BASE_DIR`].
pub fn data_roots(base: Option<&str>) -> Vec<PathBuf> {
    let usual = ["./data", DATA_IN_IMAGES].map(PathBuf::from);
    below(base).into_iter().chain(usual).collect()
}

/// The paths at which CVAT itself sees its data root, as far as they are known.
pub fn own_data_roots(base: Option<&str>) -> Vec<PathBuf> {
    below(base).into_iter().chain([PathBuf::from(DATA_IN_IMAGES)]).collect()
}

fn below(base: Option<&str>) -> Option<PathBuf> {
    base.map(|base| Path::new(base).join("data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_ids_of_cvat_mean_the_zones_that_they_sweep() {
        assert_eq!(zone_of_job("cron_export_cache_directory_cleanup"), "export");
        assert_eq!(zone_of_job("cron_tmp_directory_cleanup"), "tmp");
        assert_eq!(zone_of_job("cleanup_instance_tmp_directories"), "instance-tmp");
        for other in ["export", "instance-tmp", "clean_up_sessions", ""] {
            assert_eq!(zone_of_job(other), other);
        }
    }

    #[test]
    fn no_pass_starts_when_a_job_of_cvat_does() {
        // The jobs of CVAT 2.26 to 2.73.
        for (zone, of_cvat) in [
            (zones::EXPORT, "0 0,12 * * *"),
            (zones::TMP, "0 18 * * *"),
            (zones::INSTANCE_TMP, "0 18 * * *"),
        ] {
            let ours = schedule(zone).unwrap();
            let (our_minute, our_rest) = ours.split_once(' ').unwrap();
            let (minute, rest) = of_cvat.split_once(' ').unwrap();
            assert_eq!((our_minute, minute, our_rest), ("30", "0", rest), "{zone}");
        }
        assert_eq!(schedule("own"), None);
    }

    #[test]
    fn a_data_root_is_recognized_by_what_others_do_not_have() {
        for (found, is_it) in [
            (&["cache/export", "tmp"][..], true),
            (&["projects", "tasks", "data"], true),
            (&["projects", "jobs"], false),
            (&["projects", "data"], false),
            (&["projects", "tmp"], false),
            (&["cache/export"], false),
            (&[], false),
        ] {
            assert_eq!(is_data_root(found), is_it, "{found:?}");
        }
    }

    #[test]
    fn data_roots_are_looked_for_where_cvat_puts_them() {
        let text = |base| -> Vec<String> {
            data_roots(base).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(text(Some("/opt/cvat")), ["/opt/cvat/data", "./data", "/home/django/data"]);
        assert_eq!(text(None), ["./data", "/home/django/data"]);
        let own = ["/opt/cvat/data", "/home/django/data"].map(PathBuf::from);
        assert_eq!(own_data_roots(Some("/opt/cvat")), own);
    }
}
