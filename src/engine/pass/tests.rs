//! Tests of the pass with small fakes: no file is touched.

mod relief;
mod returned;
mod stops;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::protocol::{
    Claimed, Content, Directory, Entry, ExitCode, Failure, Guard, Outcome, Removed, ScanBatch,
    Storage, Tally, Verified,
};
use crate::rules::select::All;
use crate::rules::verdict::tests::{self as plain, metadata};
use crate::rules::{
    Action, EntryKind, Expiry, FileId, LastUse, Location, Metadata, Names, Ttl, ZoneName,
};

const NOW: Moment = Moment::from_unix(1_000_000, 0);

fn zone(name: &str) -> Arc<Zone> {
    let expiry = Expiry::After(Ttl::from_secs(100));
    let zone = plain::zone(EntryKind::Any, Names::Any, LastUse::Mtime, expiry);
    Arc::new(Zone { name: ZoneName::new(name), location: Location::flat(name), ..zone })
}

/// Entries by name: an age in seconds, and whether each is a directory. A name that begins with `!` cannot
/// be looked at.
struct FakeSource {
    directory: Arc<Directory>,
    entries: Vec<(&'static str, i64, bool)>,
    next: AtomicUsize,
}

impl FakeSource {
    fn new(zone: &Arc<Zone>, entries: &[(&'static str, i64, bool)]) -> Self {
        let handle = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (path, dir) = ("/data/z".into(), "z".into());
        let id = FileId { dev: 1, ino: 1 };
        let directory = Arc::new(Directory {
            zone: Arc::clone(zone),
            path,
            dir,
            handle,
            id,
            mount: 1,
            listed: None,
            storage: Storage::default(),
        });
        Self { directory, entries: entries.to_vec(), next: AtomicUsize::new(0) }
    }

    fn metadata(&self, at: usize) -> Metadata {
        let (_, age, is_dir) = self.entries[at];
        let kind = if is_dir { FileKind::Dir } else { FileKind::File };
        let id = FileId { dev: 1, ino: at as u64 + 2 };
        Metadata { id, allocated: Bytes(10), ..metadata(kind, age) }
    }
}

impl Source for FakeSource {
    type Scan = ();

    fn open(&self, _zone: &Arc<Zone>) -> Result<Option<()>, Failure> {
        Ok(Some(()))
    }

    fn next_batch<'s>(
        &self,
        _scan: &'s (),
        _buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Found<'_>),
    ) -> ScanBatch<'s> {
        let at = self.next.fetch_add(1, Ordering::SeqCst);
        let Some((name, ..)) = self.entries.get(at) else {
            return ScanBatch { has_more: false, root: None, names: 0, is_cold: false };
        };
        let name_c = CString::new(*name).unwrap();
        if name.starts_with('!') {
            let error = std::io::Error::from_raw_os_error(5);
            let zone = &self.directory.zone.name;
            let failure = Failure::new(zone, Action::Stat, (*name).into(), error, None);
            each(Found::Failed(&self.directory, Some(&name_c), failure));
        } else {
            let metadata = self.metadata(at);
            let (zone, dir) = (&*self.directory.zone, self.directory.dir.as_path());
            let directory = &self.directory;
            each(Found::Entry(&Entry { zone, directory, dir, name: &name_c, metadata }));
        }
        ScanBatch { has_more: true, root: None, names: 1, is_cold: false }
    }

    fn enter(&self, _zone: &Arc<Zone>, _dir: &Path) -> Result<Arc<Directory>, Failure> {
        Ok(Arc::clone(&self.directory))
    }

    fn look(&self, directory: &Arc<Directory>, name: &CStr, each: &mut dyn FnMut(Found<'_>)) {
        let known = |(known, ..): &(&str, i64, bool)| known.as_bytes() == name.to_bytes();
        let Some(at) = self.entries.iter().position(known) else { return };
        let (zone, dir) = (&*directory.zone, directory.dir.as_path());
        let metadata = self.metadata(at);
        each(Found::Entry(&Entry { zone, directory, dir, name, metadata }));
    }
}

/// Locks that are free, but for names that begin with `locked`, and files that were removed in use: those are held
/// for so many tries. Then the latter are gone.
struct FakeLocks {
    tries: AtomicU64,
    refusal: Option<&'static str>,
}

impl Locks for FakeLocks {
    fn ready(&self, _zone: &Zone) -> Result<(), String> {
        self.refusal.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    fn claim(
        &self,
        batch: Vec<Expired>,
        is_stopped: &dyn Fn() -> bool,
        each: &mut dyn FnMut(Result<Claimed, Rejected>),
    ) {
        for expired in batch {
            if is_stopped() {
                each(Err(Rejected::new(expired, Rejection::Unreached)));
                continue;
            }
            let is_removed_in_use = is_removed_in_use(expired.name().to_bytes());
            let is_locked = (is_removed_in_use || expired.name().to_bytes().starts_with(b"locked"))
                && self
                    .tries
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok();
            each(if is_locked {
                Err(Rejected::new(expired, Rejection::Skipped(Skipped::Locked)))
            } else if is_removed_in_use {
                Err(Rejected::new(expired, Rejection::Skipped(Skipped::Gone)))
            } else if expired.name().to_bytes().starts_with(b"nolock") {
                Err(Rejected::new(expired, Rejection::NoLock("unreachable".to_owned())))
            } else {
                Ok(Claimed::new(expired, Guard::new(None, None)))
            });
        }
    }

    fn notes(&self, _zone: &Zone) -> Vec<String> {
        vec!["a note".to_owned()]
    }
}

/// Sees what the source saw; names that begin with `used` were used meanwhile.
struct FakeInspector;

impl Inspector for FakeInspector {
    fn inspect(&self, claimed: Claimed, now: Moment) -> Result<Verified, Rejected> {
        let mut metadata = *claimed.expired().metadata();
        if claimed.expired().name().to_bytes().starts_with(b"used") {
            metadata.mtime = now;
        }
        claimed.recheck(metadata, now)?.verify(Content::default(), now)
    }
}

/// Removes everything but names that begin with `fails`; of those with `in-part`, an empty file.
#[derive(Default)]
struct FakeDisposer(Mutex<Vec<String>>);

impl Disposer for FakeDisposer {
    fn dispose(&self, verified: Verified, _now: Moment) -> Result<Removed, Rejected> {
        let name = verified.expired().name().to_str().unwrap().to_owned();
        if name.starts_with("fails") || name == "in-part" {
            let error = std::io::Error::from_raw_os_error(13);
            let zone = &verified.expired().directory().zone.name;
            let failure = Failure::new(zone, Action::Unlink, (&*name).into(), error, None);
            let freed = (name == "in-part").then_some(Bytes(0));
            return Err(verified.reject(Rejection::Failed(failure), freed));
        }
        self.0.lock().unwrap().push(name);
        Ok(verified.removed(Bytes(10)))
    }
}

/// Counts outcomes by name.
#[derive(Default)]
struct Told {
    times: Mutex<BTreeMap<String, usize>>,
    not_kept: bool,
}

impl Observer for Told {
    fn on_zone(&self, _zone: &ZoneName) {}
    fn on_outcome(&self, outcome: &Outcome<'_>) {
        let name = outcome.name.unwrap().to_str().unwrap().to_owned();
        *self.times.lock().unwrap().entry(name).or_default() += 1;
    }
    fn wants_kept(&self) -> bool {
        !self.not_kept
    }
    fn on_progress(&self, _root: &Directory, _names: u64, _counts: &Tally) {}
}

/// What the passes of these tests have in common.
struct Shared {
    live: Live,
    exclude: Exclude,
    notes: Notes,
    workers: Workers,
}

impl Shared {
    fn new(jobs: usize) -> Self {
        let (live, exclude, notes) = (Live::default(), Exclude::default(), Notes::default());
        Self { live, exclude, notes, workers: Workers::several(jobs, |_| {}) }
    }

    fn pass<'a, Q>(
        &'a self,
        source: &'a FakeSource,
        locks: &'a FakeLocks,
        limits: &'a Limits,
        disposer: &'a FakeDisposer,
        select: &'a Q,
    ) -> Pass<'a, FakeSource, FakeLocks, FakeInspector, Q> {
        let Self { live, exclude, notes, workers } = self;
        Pass {
            source,
            locks,
            inspector: &FakeInspector,
            disposer,
            select,
            exclude,
            data_root: Path::new("/data"),
            notes,
            is_planned: false,
            now: NOW,
            limits,
            workers,
            live,
            lock_wait: Duration::ZERO,
        }
    }
}

struct Setup {
    locks: FakeLocks,
    limits: Limits,
    jobs: usize,
    lock_wait: Duration,
    not_kept: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let locks = FakeLocks { tries: AtomicU64::new(u64::MAX), refusal: None };
        let (limits, lock_wait) = (Limits::default(), Duration::ZERO);
        Self { locks, limits, jobs: 1, lock_wait, not_kept: false }
    }
}

impl Setup {
    /// The summary, what was removed, and how often each name was told.
    fn run(
        &self,
        entries: &[(&'static str, i64, bool)],
    ) -> (Summary, Vec<String>, BTreeMap<String, usize>) {
        let zone = zone("z");
        let (disposer, told) = (FakeDisposer::default(), Told::default());
        let told = Told { not_kept: self.not_kept, ..told };
        let shared = Shared::new(self.jobs);
        let source = FakeSource::new(&zone, entries);
        let pass = shared.pass(&source, &self.locks, &self.limits, &disposer, &All);
        let pass = Pass { lock_wait: self.lock_wait, ..pass };
        let summary = pass.run(&[zone], &told);
        let mut removed = disposer.0.into_inner().unwrap();
        removed.sort();
        (summary, removed, told.times.into_inner().unwrap())
    }
}

const MIXED: [(&str, i64, bool); 8] = [
    ("old", 101, false),
    ("old-tree", 101, true),
    ("fresh", 99, false),
    ("locked", 101, false),
    ("used", 101, false),
    ("fails", 101, false),
    ("!bad", 0, false),
    ("lost+found", 101, true),
];

#[test]
fn every_entry_has_exactly_one_outcome() {
    for jobs in [1, 4] {
        let setup = Setup { jobs, ..Setup::default() };
        let (summary, removed, told) = setup.run(&MIXED);
        let tally = &summary.zones[0].tally;
        assert_eq!(removed, ["old", "old-tree"]);
        assert_eq!(told.len(), MIXED.len());
        assert!(told.values().all(|times| *times == 1), "{told:?}");
        assert_eq!(
            (tally.seen, tally.removed, tally.kept(), tally.skipped(), tally.failed),
            (8, 2, 2, 2, 2)
        );
        assert_eq!(tally.freed, Bytes(20));
        assert_eq!(tally.skipped_by[Skipped::Locked as usize], 1);
        assert_eq!(tally.skipped_by[Skipped::Used as usize], 1);
        assert_eq!(ExitCode::of(&summary), ExitCode::SomeFailed);
        assert_eq!(summary.zones[0].path, Path::new("/data/z"));
        assert_eq!(summary.zones[0].notes, ["a note"]);
    }
}

#[test]
fn what_is_kept_is_counted_without_a_word_to_one_that_does_not_want_to_hear_of_it() {
    let setup = Setup { not_kept: true, ..Setup::default() };
    let (summary, _, told) = setup.run(&MIXED);
    let (all, _, _) = Setup::default().run(&MIXED);
    assert_eq!(summary.zones[0].tally.kept_by, all.zones[0].tally.kept_by);
    assert_eq!(summary.zones[0].tally.seen, MIXED.len() as u64);
    assert!(!told.contains_key("fresh") && told.len() == MIXED.len() - 2, "{told:?}");
}

#[test]
fn a_locked_entry_is_tried_again_until_the_wait_is_over() {
    let locks = FakeLocks { tries: AtomicU64::new(3), refusal: None };
    let setup = Setup { locks, lock_wait: Duration::from_secs(3600), ..Setup::default() };
    assert_eq!(setup.run(&[("locked", 101, false)]).1, ["locked"]);
}

/// The process that has it open and locked ends during the pass.
#[test]
fn a_file_removed_in_use_that_is_locked_at_first_and_then_gone_is_no_entry() {
    let locks = FakeLocks { tries: AtomicU64::new(1), refusal: None };
    let setup = Setup { locks, lock_wait: Duration::from_secs(3600), ..Setup::default() };
    let silly = concat!(".nfs", "0000000000000007", "00000001");
    let (summary, removed, told) = setup.run(&[(silly, 101, false), ("old", 101, false)]);
    assert_eq!((removed.len(), told.len(), summary.zones[0].tally.seen), (1, 1, 1), "{told:?}");
}

#[test]
fn a_zone_whose_locks_cannot_be_taken_is_left_alone() {
    let locks = FakeLocks { tries: AtomicU64::new(0), refusal: Some("no server") };
    let (summary, removed, told) = Setup { locks, ..Setup::default() }.run(&MIXED);
    assert!(removed.is_empty() && told.is_empty());
    assert_eq!(summary.zones[0].no_lock.as_deref(), Some("no server"));
    assert_eq!(ExitCode::of(&summary), ExitCode::NoLock);
}

#[test]
fn a_lock_server_that_fails_during_the_pass_ends_the_zone() {
    let entries = [("nolock", 101, false), ("old", 101, false)];
    let (summary, removed, _) = Setup::default().run(&entries);
    assert!(removed.is_empty(), "{removed:?}");
    assert_eq!(summary.zones[0].no_lock.as_deref(), Some("unreachable"));
    assert_eq!(summary.zones[0].tally.unreached, 1);
}

/// Removes names in the first half of the alphabet.
#[derive(Debug)]
struct FirstHalf;

impl Select for FirstHalf {
    fn set_aside<D>(
        &self,
        batch: &mut Vec<crate::rules::Expired<D>>,
    ) -> Vec<crate::rules::Expired<D>> {
        let (now, later) =
            std::mem::take(batch).into_iter().partition(|e| e.name().to_bytes()[0] < b'n');
        *batch = now;
        later
    }
}

#[test]
fn an_entry_that_is_not_selected_is_not_touched_and_not_reported() {
    let zone = zone("z");
    let (disposer, told) = (FakeDisposer::default(), Told::default());
    let (shared, setup) = (Shared::new(1), Setup::default());
    let source = FakeSource::new(&zone, &[("a", 101, false), ("z", 101, false)]);
    let pass = shared.pass(&source, &setup.locks, &setup.limits, &disposer, &FirstHalf);
    let summary = pass.run(&[zone], &told);
    assert_eq!(disposer.0.into_inner().unwrap(), ["a"]);
    assert_eq!((summary.zones[0].tally.unreached, summary.zones[0].tally.reported()), (1, 1));
}
