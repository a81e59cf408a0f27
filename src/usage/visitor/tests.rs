//! Tests of what a visitor counts, without a walk.

use std::sync::atomic::AtomicU64;

use super::super::links::Links;
use super::super::places::Places;
use super::super::shared::Progress;
use super::super::uploads::Uploads;
use super::*;
use crate::rules::verdict::tests::{metadata, zone};
use crate::rules::{EntryKind, Exclude, Expiry, FileId, Labels, LastUse, Moment, Names, Ttl};

/// Both names of each file are in the zone. What is remembered has expired with both of them. Of the other nobody
/// knows whether both have, so its space is in the total, and nothing is promised of it.
#[test]
fn a_file_with_several_names_that_is_not_remembered_never_counts_as_expired() {
    let expiry = Expiry::After(Ttl::from_secs(100));
    let zone = zone(EntryKind::Any, Names::Any, LastUse::Mtime, expiry);
    let (zones, exclude) = ([Arc::new(zone)], Exclude::default());
    let (inodes, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    for (age, expired, soon) in [(200, 13, 0), (50, 0, 3)] {
        let shared = Shared {
            places: Places::new(&zones, &[], None, |_| false),
            zones: &zones,
            labels: &Labels::NONE,
            exclude: &exclude,
            now: Moment::from_unix(1_000_000, 0),
            mount: 1,
            base: Path::new("").into(),
            links: Links::of(1),
            uploads: Uploads::default(),
            progress: Progress { inodes: &inodes, bytes: &bytes, tell: &|_, _| () },
        };
        let mut visitor = Visitor::new(&shared, 1);
        let mut entry = |name: &CStr, ino, links, allocated| {
            let id = FileId { dev: 1, ino };
            let found = metadata(FileKind::File, age);
            let found = Metadata { id, links, allocated: Bytes(allocated), ..found };
            visitor.entry(0, Path::new("z"), name, &found);
        };
        entry(c"alone", 1, 1, 3);
        for name in [c"a", c"b"] {
            entry(name, 2, 2, 10);
            entry(name, 3, 2, 100);
        }
        let mut tally = visitor.tally;
        shared.links.into_files().0.for_each(|file| tally.linked(&file));
        let area = &tally.areas[0];
        assert_eq!((area.inodes, area.allocated), (3, Bytes(113)));
        assert_eq!((area.expired, area.forecast[0]), (Bytes(expired), Bytes(soon)));
    }
}
