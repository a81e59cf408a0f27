//! The rules against a second, dumb oracle: exhaustive over zone, kind, name, age and settings.
//!
//! The oracle is written from the contract, with plain comparisons of seconds, and shares no code
//! with the policy.

use std::path::Path;

use retention_sweeper::retention::{
    Bytes, Exclude, ExportTtls, Facts, FileId, KeptBy, Kind, Moment, Policy, Sighting, TmpAge, Ttl,
    Zone,
};

const NOW: i64 = 1_767_323_045;
const TTLS: [(&str, i64); 4] = [("project", 100), ("task", 200), ("job", 300), ("events", 400)];
const RETENTION: i64 = 1000;
const OLDER_THAN: i64 = 2000;

const NAMES: [&std::ffi::CStr; 7] = [
    c"project-1-dataset-instance1.5-x.zip",
    c"task-1-backup-instance1.5.zip",
    c"job-1-annotations-instance1.5-x.tsv",
    c"events-abc.csv",
    c"export_cache",
    c".hidden",
    c"task-1-dataset-instance1.5-x.zip.part",
];

/// Around every limit, and the ends of what a file system can hold.
fn ages() -> Vec<i64> {
    let mut ages = vec![i64::MIN / 2, -86_400, -1, 0, 1, i64::MAX / 2];
    for limit in [100, 200, 300, 400, RETENTION, OLDER_THAN] {
        ages.extend([limit - 1, limit, limit + 1]);
    }
    ages
}

/// What the contract says, in seconds.
#[expect(clippy::too_many_arguments, reason = "an oracle is told everything, plainly")]
fn expected(
    zone: Zone,
    kind: Kind,
    mounted: bool,
    name: &str,
    atime_age: i64,
    mtime_age: i64,
    by_entry: bool,
    older_than: bool,
) -> &'static str {
    if mounted {
        return "mounted";
    }
    match zone {
        Zone::Export => {
            if kind != Kind::File {
                return "not_a_file";
            }
            if name.contains(".part") || name.starts_with('.') || name == "export_cache" {
                return "unrecognized";
            }
            let ttl = TTLS.iter().find(|(word, _)| name.starts_with(word)).unwrap().1;
            if mtime_age > ttl { "stale" } else { "fresh" }
        }
        Zone::Tmp | Zone::InstanceTmp => {
            let age = match (by_entry, kind) {
                (true, _) => atime_age,
                (false, Kind::Dir) => mtime_age,
                (false, _) => atime_age.min(mtime_age),
            };
            if age > RETENTION { "stale" } else { "fresh" }
        }
        Zone::Legacy => {
            if kind != Kind::Dir {
                return "unrecognized";
            }
            if !older_than || mtime_age > OLDER_THAN { "stale" } else { "fresh" }
        }
    }
}

fn policy(by_entry: bool, older_than: bool) -> Policy {
    let ttl = |at: usize| Ttl::from_secs(TTLS[at].1.unsigned_abs());
    Policy {
        export: ExportTtls { project: ttl(0), task: ttl(1), job: ttl(2), events: ttl(3) },
        retention: Ttl::from_secs(RETENTION.unsigned_abs()),
        tmp_age: if by_entry { TmpAge::Entry } else { TmpAge::Tree },
        older_than: older_than.then(|| Ttl::from_secs(OLDER_THAN.unsigned_abs())),
        exclude: Exclude::default(),
    }
}

#[test]
fn the_policy_agrees_with_a_dumb_oracle_on_every_combination() {
    let now = Moment::from_unix(NOW, 0);
    let at = |age: i64| Moment::from_unix(NOW.saturating_sub(age), 0);
    let long_ago = at(1_000_000_000);
    let mut seen = std::collections::BTreeMap::new();
    for (by_entry, older_than) in [(false, false), (true, false), (false, true), (true, true)] {
        let policy = policy(by_entry, older_than);
        for zone in Zone::ALL {
            for kind in [Kind::File, Kind::Dir, Kind::Symlink, Kind::Special] {
                for name in NAMES {
                    for mounted in [false, true] {
                        for atime_age in ages() {
                            for mtime_age in ages() {
                                let facts = Facts {
                                    kind,
                                    id: FileId { dev: 1, ino: 1 },
                                    mounted,
                                    atime: at(atime_age),
                                    mtime: at(mtime_age),
                                    ctime: Moment::from_unix(0, 0),
                                    links: 1,
                                    allocated: Bytes(0),
                                    newest_inside: None,
                                };
                                let dir = Path::new("tmp");
                                let sighting = Sighting { zone, place: &(), dir, name, facts };
                                let verdict = match policy.judge(&sighting, now) {
                                    Ok(_) => "stale",
                                    Err(kept) => kept.why.key(),
                                };
                                let word = name.to_str().unwrap();
                                let wanted = expected(
                                    zone, kind, mounted, word, atime_age, mtime_age, by_entry,
                                    older_than,
                                );
                                assert_eq!(
                                    verdict, wanted,
                                    "{zone:?} {kind:?} {word} atime {atime_age} mtime {mtime_age}"
                                );
                                // Judged again after it was found stale, it gets the same verdict.
                                let once = Facts { atime: long_ago, mtime: long_ago, ..facts };
                                let once = Facts { mounted: false, ..once };
                                let sighting = Sighting { facts: once, ..sighting };
                                if let Ok(stale) = policy.judge(&sighting, now) {
                                    let verdict = match stale.judge_again(facts, now) {
                                        Ok(_) => "stale",
                                        Err((_, why)) => why.key(),
                                    };
                                    assert_eq!(verdict, wanted, "again: {zone:?} {kind:?} {word}");
                                }
                                *seen.entry(wanted).or_insert(0_u64) += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    for verdict in ["stale", "fresh", "unrecognized", "not_a_file", "mounted"] {
        assert!(seen.get(verdict).is_some_and(|count| *count > 100), "{verdict}: {seen:?}");
    }
}

#[test]
fn the_newest_use_inside_a_directory_counts_and_only_by_the_tree_rule() {
    let now = Moment::from_unix(NOW, 0);
    let old = Moment::from_unix(NOW - RETENTION - 1, 0);
    let facts = |newest_inside| Facts {
        kind: Kind::Dir,
        id: FileId { dev: 1, ino: 1 },
        mounted: false,
        atime: old,
        mtime: old,
        ctime: Moment::from_unix(0, 0),
        links: 2,
        allocated: Bytes(0),
        newest_inside,
    };
    let verdict = |by_entry, newest| {
        let dir = Path::new("tmp");
        let name = c"x";
        let facts = facts(newest);
        let sighting = Sighting { zone: Zone::Tmp, place: &(), dir, name, facts };
        policy(by_entry, false).judge(&sighting, now).map(drop).map_err(|kept| kept.why)
    };
    let fresh = Some(Moment::from_unix(NOW - RETENTION, 0));
    assert_eq!(verdict(false, fresh), Err(KeptBy::Fresh));
    assert_eq!(verdict(false, Some(old)), Ok(()));
    assert_eq!(verdict(true, fresh), Ok(()));
}

#[test]
fn excluded_says_what_would_have_gone_but_for_the_glob() {
    let now = Moment::from_unix(NOW, 0);
    let mut policy = policy(false, false);
    policy.exclude = Exclude::of(&["keep-*".to_owned(), "tasks/*/tmp/y/".to_owned()]).unwrap();
    let verdict = |dir: &str, name: &std::ffi::CStr, age: i64| {
        let then = Moment::from_unix(NOW - age, 0);
        let facts = Facts {
            kind: Kind::File,
            id: FileId { dev: 1, ino: 1 },
            mounted: false,
            atime: then,
            mtime: then,
            ctime: Moment::from_unix(0, 0),
            links: 1,
            allocated: Bytes(0),
            newest_inside: None,
        };
        let dir = Path::new(dir);
        let sighting = Sighting { zone: Zone::InstanceTmp, place: &(), dir, name, facts };
        policy.judge(&sighting, now).map(drop).map_err(|kept| kept.why)
    };
    assert_eq!(verdict("tasks/7/tmp", c"keep-me", 5000), Err(KeptBy::Excluded));
    assert_eq!(verdict("tasks/7/tmp", c"y", 5000), Err(KeptBy::Excluded));
    assert_eq!(verdict("jobs/7/tmp", c"y", 5000), Ok(()));
    assert_eq!(verdict("tasks/7/tmp", c"keep-me", 5), Err(KeptBy::Fresh));
}
