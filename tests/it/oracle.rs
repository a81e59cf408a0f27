//! The rules against a second implementation: exhaustive over zone, type, name, age and settings.
//!
//! It is written from the contract, with plain comparisons of seconds, and shares no code with the rules.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::Path;

use retention_sweeper::cvat::zones::{self, ExportTtls};
use retention_sweeper::rules::verdict::evaluate;
use retention_sweeper::rules::{
    Bytes, Entry, Exclude, FileId, FileKind, KeptReason, LastUse, Metadata, Moment, Ttl, Zone,
};

const NOW: i64 = 1_767_323_045;
const TTLS: [(&str, i64); 4] = [("project", 100), ("task", 200), ("job", 300), ("events", 400)];
const RETENTION: i64 = 1000;
const OLDER_THAN: i64 = 2000;

const NAMES: [&CStr; 7] = [
    c"project-1-dataset-instance1.5-x.zip",
    c"task-1-backup-instance1.5.zip",
    c"job-1-annotations-instance1.5-x.tsv",
    c"events-abc.csv",
    c"export_cache",
    c".hidden",
    c"task-1-dataset-instance1.5-x.zip.part",
];

/// Around every limit, and the ends of what a file system can store.
fn ages() -> Vec<i64> {
    let mut ages = vec![i64::MIN / 2, -86_401, -86_400, -1, 0, 1, i64::MAX / 2];
    for limit in [100, 200, 300, 400, RETENTION, OLDER_THAN] {
        ages.extend([limit - 1, limit, limit + 1]);
    }
    ages
}

/// One combination, with times in seconds.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    zone: &'a str,
    kind: FileKind,
    is_mount_point: bool,
    name: &'a str,
    atime_age: i64,
    mtime_age: i64,
    by_entry: bool,
    older_than: bool,
}

/// Since when the ctime of an entry stands.
const CTIME_AGE: i64 = NOW;

/// What the contract says: a time that is more than a day ahead does not count, and if no other does, the
/// newest of the others of the entry does.
fn expected(case: &Case<'_>) -> &'static str {
    let Case { zone, kind, name, .. } = *case;
    let counts = |age: &i64| *age >= -86_400;
    let newest = |ages: &[i64]| ages.iter().copied().filter(counts).min();
    let all = newest(&[case.atime_age, case.mtime_age, CTIME_AGE]).unwrap();
    let atime_age = newest(&[case.atime_age]).unwrap_or(all);
    let mtime_age = newest(&[case.mtime_age]).unwrap_or(all);
    if case.is_mount_point {
        return "mount_point";
    }
    match zone {
        "export" => {
            if kind != FileKind::File {
                return "not_a_file";
            }
            if name.contains(".part") || name.starts_with('.') || name == "export_cache" {
                return "unrecognized";
            }
            let ttl = TTLS.iter().find(|(word, _)| name.starts_with(word)).unwrap().1;
            if mtime_age > ttl { "expired" } else { "fresh" }
        }
        "tmp" | "instance-tmp" => {
            let age = match (case.by_entry, kind) {
                (true, _) => atime_age,
                (false, FileKind::Dir) => mtime_age,
                (false, _) => newest(&[case.atime_age, case.mtime_age]).unwrap_or(all),
            };
            if age > RETENTION { "expired" } else { "fresh" }
        }
        "legacy" => {
            if kind != FileKind::Dir {
                return "unrecognized";
            }
            if !case.older_than || mtime_age > OLDER_THAN { "expired" } else { "fresh" }
        }
        other => panic!("no zone {other:?}"),
    }
}

fn all_zones(by_entry: bool, older_than: bool) -> [Zone; 4] {
    let ttl = |at: usize| Ttl::from_secs(TTLS[at].1.unsigned_abs());
    let ttls = ExportTtls { project: ttl(0), task: ttl(1), job: ttl(2), events: ttl(3) };
    let retention = Ttl::from_secs(RETENTION.unsigned_abs());
    let last_use = if by_entry { LastUse::Entry } else { LastUse::Tree };
    [
        zones::export(&ttls),
        zones::tmp(retention, last_use),
        zones::instance_tmp(retention, last_use),
        zones::legacy(older_than.then(|| Ttl::from_secs(OLDER_THAN.unsigned_abs()))),
    ]
}

fn metadata(kind: FileKind, atime: Moment, mtime: Moment) -> Metadata {
    Metadata {
        kind,
        id: FileId { dev: 1, ino: 1 },
        is_mount_point: false,
        atime,
        mtime,
        ctime: Moment::from_unix(0, 0),
        links: 1,
        size: Bytes(0),
        allocated: Bytes(0),
        newest_inside: None,
    }
}

/// Checks one combination on the first look, and on the second look at an entry that had expired.
fn check(case: &Case<'_>, zone: &Zone, name: &CStr) -> &'static str {
    let now = Moment::from_unix(NOW, 0);
    let at = |age: i64| Moment::from_unix(NOW.saturating_sub(age), 0);
    let long_ago = at(1_000_000_000);
    let metadata = metadata(case.kind, at(case.atime_age), at(case.mtime_age));
    let metadata = Metadata { is_mount_point: case.is_mount_point, ..metadata };
    let (dir, exclude) = (Path::new("tmp"), Exclude::default());
    let entry = Entry { zone, directory: &(), dir, name, metadata };
    let verdict = match evaluate(&entry, &exclude, now) {
        Ok(_) => "expired",
        Err(kept) => kept.why.key(),
    };
    let wanted = expected(case);
    assert_eq!(verdict, wanted, "{case:?}");
    let once = Metadata { atime: long_ago, mtime: long_ago, is_mount_point: false, ..metadata };
    if let Ok(expired) = evaluate(&Entry { metadata: once, ..entry }, &exclude, now) {
        let verdict = match expired.evaluate_again(metadata, now) {
            Ok(_) => "expired",
            Err((_, why)) => why.key(),
        };
        assert_eq!(verdict, wanted, "again: {case:?}");
    }
    wanted
}

#[test]
fn the_rules_agree_with_the_contract_on_every_combination() {
    let mut seen = BTreeMap::new();
    for (by_entry, older_than) in [(false, false), (true, false), (false, true), (true, true)] {
        for zone in all_zones(by_entry, older_than) {
            for kind in [FileKind::File, FileKind::Dir, FileKind::Symlink, FileKind::Special] {
                for name in NAMES {
                    for is_mount_point in [false, true] {
                        for atime_age in ages() {
                            for mtime_age in ages() {
                                let case = Case {
                                    zone: zone.name.as_str(),
                                    kind,
                                    is_mount_point,
                                    name: name.to_str().unwrap(),
                                    atime_age,
                                    mtime_age,
                                    by_entry,
                                    older_than,
                                };
                                *seen.entry(check(&case, &zone, name)).or_insert(0_u64) += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    for verdict in ["expired", "fresh", "unrecognized", "not_a_file", "mount_point"] {
        assert!(seen.get(verdict).is_some_and(|count| *count > 100), "{verdict}: {seen:?}");
    }
}

#[test]
fn the_newest_use_inside_a_directory_counts_and_only_by_the_tree_rule() {
    let now = Moment::from_unix(NOW, 0);
    let old = Moment::from_unix(NOW - RETENTION - 1, 0);
    let verdict = |by_entry, newest_inside| {
        let [_, tmp, ..] = all_zones(by_entry, false);
        let metadata = Metadata { links: 2, newest_inside, ..metadata(FileKind::Dir, old, old) };
        let dir = Path::new("tmp");
        let entry = Entry { zone: &tmp, directory: &(), dir, name: c"x", metadata };
        evaluate(&entry, &Exclude::default(), now).map(drop).map_err(|kept| kept.why)
    };
    let fresh = Some(Moment::from_unix(NOW - RETENTION, 0));
    assert_eq!(verdict(false, fresh), Err(KeptReason::Fresh));
    assert_eq!(verdict(false, Some(old)), Ok(()));
    assert_eq!(verdict(true, fresh), Ok(()));
}

#[test]
fn only_what_would_be_removed_without_the_glob_counts_as_excluded() {
    let now = Moment::from_unix(NOW, 0);
    let [_, _, zone, _] = all_zones(false, false);
    let globs = ["keep-*".to_owned(), "tasks/*/tmp/y/".to_owned()];
    let exclude = Exclude::new(&globs, &[&zone]).unwrap();
    let verdict = |dir: &str, name: &CStr, age: i64| {
        let then = Moment::from_unix(NOW - age, 0);
        let metadata = metadata(FileKind::File, then, then);
        let entry = Entry { zone: &zone, directory: &(), dir: Path::new(dir), name, metadata };
        evaluate(&entry, &exclude, now).map(drop).map_err(|kept| kept.why)
    };
    assert_eq!(verdict("tasks/7/tmp", c"keep-me", 5000), Err(KeptReason::Excluded));
    assert_eq!(verdict("tasks/7/tmp", c"y", 5000), Err(KeptReason::Excluded));
    assert_eq!(verdict("jobs/7/tmp", c"y", 5000), Ok(()));
    assert_eq!(verdict("tasks/7/tmp", c"keep-me", 5), Err(KeptReason::Fresh));
}
