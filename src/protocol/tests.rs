//! The tokens and the counts, with entries that exist only here.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::rules::verdict::{self, evaluate};
use crate::rules::{
    Action, Bytes, EntryKind, Exclude, Expiry, FileId, FileKind, Kept, KeptReason, LastUse,
    Location, LockKind, Metadata, Moment, Names, Ttl, Zone, ZoneName,
};

const NOW: Moment = Moment::from_unix(1_000_000, 0);

fn directory() -> Arc<Directory> {
    let zone = Arc::new(Zone {
        name: ZoneName::new("z"),
        location: Location::flat("z"),
        entry: EntryKind::Any,
        names: Names::Any,
        last_use: LastUse::Tree,
        ttls: vec![Expiry::After(Ttl::from_secs(100))],
        lock: LockKind::Flock,
        describe_name: |_| None,
    });
    let handle = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (path, dir, id) = ("/data/z".into(), "z".into(), FileId { dev: 1, ino: 1 });
    Arc::new(Directory {
        zone,
        path,
        dir,
        handle,
        id,
        mount: 1,
        listed: None,
        storage: Storage::default(),
    })
}

fn metadata(age: i64) -> Metadata {
    let id = FileId { dev: 1, ino: 2 };
    Metadata { id, links: 2, allocated: Bytes(10), ..verdict::tests::metadata(FileKind::Dir, age) }
}

fn claimed() -> Claimed {
    let directory = directory();
    let (zone, dir) = (&*directory.zone, Path::new("z"));
    let entry = Entry { zone, directory: &directory, dir, name: c"tree", metadata: metadata(101) };
    let expired = evaluate(&entry, &Exclude::default(), NOW).unwrap();
    Claimed::new(expired, Guard::new(None, None))
}

fn why<T: std::fmt::Debug>(result: Result<T, Rejected>) -> Skipped {
    match result.unwrap_err().why {
        Rejection::Skipped(why) => why,
        other @ (Rejection::Failed(_)
        | Rejection::NotWritten(_)
        | Rejection::Unreached
        | Rejection::NoLock(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn the_second_look_refuses_another_file_and_a_later_use() {
    assert!(claimed().recheck(metadata(101), NOW).is_ok());
    let other = Metadata { id: FileId { dev: 1, ino: 3 }, ..metadata(101) };
    assert_eq!(why(claimed().recheck(other, NOW)), Skipped::Replaced);
    let other = Metadata { kind: FileKind::Symlink, ..metadata(101) };
    assert_eq!(why(claimed().recheck(other, NOW)), Skipped::Replaced);
    assert_eq!(why(claimed().recheck(metadata(99), NOW)), Skipped::Used);
    let mounted = Metadata { is_mount_point: true, ..metadata(101) };
    assert_eq!(why(claimed().recheck(mounted, NOW)), Skipped::MountPoint);
}

#[test]
fn the_content_of_an_entry_can_keep_it_from_removal() {
    let rechecked = || claimed().recheck(metadata(101), NOW).unwrap();
    assert!(rechecked().verify(Content::default(), NOW).is_ok());
    let fresh = Content { newest: Some(Moment::from_unix(999_950, 0)), ..Content::default() };
    assert_eq!(why(rechecked().verify(fresh, NOW)), Skipped::Used);
    for skipped in Skipped::ALL {
        let content = Content { skipped: Some(skipped), ..Content::default() };
        assert_eq!(why(rechecked().verify(content, NOW)), skipped);
    }
}

/// A lease that is over.
#[derive(Debug)]
struct Over;

impl Lease for Over {
    fn is_valid(&self) -> bool {
        false
    }
}

#[test]
fn a_token_knows_whether_its_lock_is_still_held() {
    let verified = |guard| {
        let directory = directory();
        let (zone, dir) = (&*directory.zone, Path::new("z"));
        let entry =
            Entry { zone, directory: &directory, dir, name: c"tree", metadata: metadata(101) };
        let expired = evaluate(&entry, &Exclude::default(), NOW).unwrap();
        let claimed = Claimed::new(expired, guard);
        claimed.recheck(metadata(101), NOW).unwrap().verify(Content::default(), NOW).unwrap()
    };
    assert!(verified(Guard::new(None, None)).is_valid());
    assert!(!verified(Guard::new(None, Some(Box::new(Over)))).is_valid());
}

#[test]
fn counts_are_made_of_outcomes_and_balance() {
    let directory = directory();
    let failure = Failure::new(
        &directory.zone.name,
        Action::Unlink,
        "/x".into(),
        std::io::Error::other("no"),
        None,
    );
    let mut tally = Tally::default();
    let kinds = [
        OutcomeKind::Removed,
        OutcomeKind::Kept(Kept { why: KeptReason::Fresh, age: None, rule: None }),
        OutcomeKind::Skipped(Skipped::InUse),
        OutcomeKind::Failed(&failure),
    ];
    for kind in kinds {
        tally.seen += 1;
        let freed = Bytes(5);
        let outcome = Outcome {
            zone: &directory.zone.name,
            dir: &directory.path,
            device: directory.id.dev,
            name: None,
            kind,
            age: None,
            ttl: None,
            freed,
            is_early: false,
        };
        tally.count(&outcome);
    }
    assert!(tally.is_conserved() && tally.reported() == 4);
    assert_eq!((tally.removed, tally.kept(), tally.skipped(), tally.failed), (1, 1, 1, 1));
    assert_eq!((tally.freed, tally.failures.len()), (Bytes(20), 1));
    let mut sum = Tally { seen: 1, unreached: 1, ..Tally::default() };
    sum.add(tally);
    assert!(sum.is_conserved() && sum.seen == 5);
    sum.seen += 1;
    assert!(!sum.is_conserved());
}

#[test]
fn the_highest_exit_code_applies() {
    let zone = |failed, no_lock: Option<&str>| ZoneSummary {
        zone: ZoneName::new("z"),
        path: "/data/z".into(),
        tally: Tally { seen: failed, failed, ..Tally::default() },
        notes: Vec::new(),
        no_lock: no_lock.map(str::to_owned),
    };
    let code = |zones, stopped| ExitCode::of(&Summary { zones, stopped, relief: Vec::new() });
    assert_eq!(code(vec![zone(0, None)], None), ExitCode::Done);
    assert_eq!(code(vec![zone(0, None), zone(1, None)], None), ExitCode::SomeFailed);
    assert_eq!(code(vec![zone(1, None)], Some(StopReason::Deadline)), ExitCode::Stopped);
    let all = vec![zone(1, None), zone(0, Some("why"))];
    assert_eq!(code(all, Some(StopReason::Signal)), ExitCode::NoLock);
    assert_eq!(zone(2, None).problem(None).unwrap(), "2 entries failed");
    assert_eq!(zone(1, None).problem(None).unwrap(), "1 entry failed");
    assert_eq!(zone(0, None).problem(None), None);
}
