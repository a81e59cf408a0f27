//! Compares the clock of a server with ours: the times of files are its own, and `now` is ours.
//!
//! This module must not be asked on a local file system, whose clock is ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::quarantine::Quarantines;
use crate::protocol::{Directory, Notes};
use crate::rules::{CLOCK_NOTED, CLOCK_REFUSED, Moment, Ttl};
use crate::units;

/// What a difference between the clocks means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// They agree.
    Agree,
    /// The server's is ahead by so many seconds (or behind): worth a note.
    Differ(i64),
    /// By so many that nothing can be judged by its age.
    TooFar(i64),
}

impl Clocks {
    /// From the server's time of a file that was made between two moments of this machine's clock.
    pub(super) fn compare(made: Moment, before: Moment, after: Moment) -> Self {
        let ahead = -made.age_at(after).as_secs();
        let off = if ahead > 0 { ahead } else { -seconds_behind(made, before) };
        match off.unsigned_abs() {
            CLOCK_REFUSED.. => Self::TooFar(off),
            CLOCK_NOTED.. => Self::Differ(off),
            _ => Self::Agree,
        }
    }
}

/// By how many seconds the clock of a server is behind, at most, if a file was made after `before` and has this time.
fn seconds_behind(made: Moment, before: Moment) -> i64 {
    made.age_at(before).as_secs().max(0)
}

/// What is known about the clocks of servers, by the mount.
#[derive(Debug, Default)]
pub(super) struct ServerClocks {
    /// Our clock. Without it none is compared.
    now: Option<fn() -> Moment>,
    /// By how much the clock of a mount is behind at most, or why the mount is left alone.
    known: Mutex<HashMap<u64, Result<Ttl, String>>>,
}

impl ServerClocks {
    pub(super) fn compared_with(now: fn() -> Moment) -> Self {
        Self { now: Some(now), known: Mutex::default() }
    }

    /// The time by this machine's clock.
    pub(super) fn now(&self) -> Option<Moment> {
        self.now.map(|now| now())
    }

    /// Compares the clock of the server that keeps a directory with ours, once for each mount. By how much it is
    /// behind at most: what was used so much longer ago than a limit may be younger than that.
    ///
    /// # Errors
    /// It is so wrong that nothing can be judged by its age.
    pub(super) fn check(
        &self,
        directory: &Arc<Directory>,
        quarantines: &Quarantines,
        notes: &Notes,
    ) -> Result<Ttl, String> {
        let Some(now) = self.now.filter(|_| directory.storage.file_system.is_served()) else {
            return Ok(Ttl::from_secs(0));
        };
        // Held during the comparison, so that it is made once.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&directory.mount) {
            return known.clone();
        }
        let found = compare(directory, quarantines, notes, now);
        known.insert(directory.mount, found.clone());
        found
    }
}

fn compare(
    directory: &Arc<Directory>,
    quarantines: &Quarantines,
    notes: &Notes,
    now: fn() -> Moment,
) -> Result<Ttl, String> {
    let zone = &directory.zone.name;
    let listed = directory.listed.as_ref().unwrap_or(directory);
    let before = now();
    let made = match quarantines.of(listed) {
        Ok(quarantine) => quarantine.made(),
        Err(error) => Err(error.into_error()),
    };
    let made = match made {
        Ok(Some(made)) => made,
        Ok(None) => return Ok(Ttl::from_secs(0)),
        Err(error) => {
            let note = "the clock of the file server could not be compared with this machine's";
            notes.add(zone, format!("{note}: {}", units::error(&error)));
            // As far behind as it may be without being refused.
            return Ok(Ttl::from_secs(CLOCK_REFUSED));
        }
    };
    let behind = u64::try_from(seconds_behind(made, before)).map(Ttl::from_secs);
    let behind = behind.unwrap_or(Ttl::from_secs(0));
    match Clocks::compare(made, before, now()) {
        Clocks::Agree => Ok(behind),
        Clocks::Differ(off) => {
            notes.add(zone, describe(off));
            Ok(behind)
        }
        Clocks::TooFar(off) => Err(format!("{}: correct the wrong one", describe(off))),
    }
}

/// A difference for people: which clock it is, and by how much.
pub(super) fn describe(off: i64) -> String {
    let way = if off > 0 { "ahead of" } else { "behind" };
    format!("the clock of the file server is {} s {way} this machine's", off.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::control::Unlimited;
    use crate::dispose::Unlink;
    use crate::fs::lease::InUseProbe;
    use crate::fs::stat;
    use crate::inspect::FileInspector;
    use crate::inspect::tests::Setup;
    use crate::protocol::{Claimed, Disposer, Guard, Inspector, Recovered, Recovery, Storage};
    use crate::rules::{FileSystem, LastUse, MinAge};

    #[test]
    fn what_was_interrupted_may_take_long_to_complete_without_a_word_about_the_clock() {
        static LATER: AtomicI64 = AtomicI64::new(0);
        fn now() -> Moment {
            let made = tempfile::tempfile().unwrap().metadata().unwrap();
            Moment::from_unix(made.mtime() + LATER.load(Ordering::Relaxed), 0)
        }
        let mut setup = Setup::new(LastUse::Mtime);
        std::fs::write(setup.path("file"), "x").unwrap();
        let least = MinAge::from_duration(Duration::from_secs(1));
        let expired = setup.early_on_server(c"file", least);
        let (directory, notes) = (Arc::clone(expired.directory()), Notes::default());
        let unlink = Unlink::new(&Unlimited, &notes, InUseProbe::Off).with_clock(now);
        let mut each = |_: Recovered<'_>| {};
        let mut recovery = Recovery::alone(&|_| unreachable!(), &mut each);
        unlink.recover(&directory, c".sweeper-gone", setup.now, &mut recovery);
        LATER.store(2 * 3600, Ordering::Relaxed);
        let guard = Guard::new(File::open(setup.path("file")).ok(), None);
        let inspector = FileInspector::new(&Unlimited, &notes, InUseProbe::Off);
        let verified = inspector.inspect(Claimed::new(expired, guard), setup.now).unwrap();
        let removed = unlink.dispose(verified, setup.now);
        assert!(removed.is_ok(), "{removed:?}");
        assert!(notes.of(&directory.zone.name).is_empty());
    }

    #[test]
    fn a_clock_is_off_by_what_the_time_in_between_does_not_explain() {
        let at = |secs: i64| Moment::from_unix(1_000_000 + secs, 0);
        let compare = |made| Clocks::compare(at(made), at(0), at(5));
        for fine in [-59, -1, 0, 3, 5, 64] {
            assert_eq!(compare(fine), Clocks::Agree, "{fine}");
        }
        assert_eq!(compare(65), Clocks::Differ(60));
        assert_eq!(compare(-60), Clocks::Differ(-60));
        assert_eq!(compare(3604), Clocks::Differ(3599));
        assert_eq!(compare(3605), Clocks::TooFar(3600));
        assert_eq!(compare(-3600), Clocks::TooFar(-3600));
        // A file system that keeps no times.
        assert_eq!(compare(-1_000_000), Clocks::TooFar(-1_000_000));
        assert!(describe(-61).contains("61 s behind"));
    }

    #[test]
    fn a_clock_that_cannot_be_compared_is_noted_in_words() {
        // Nothing can be made in a directory that is gone.
        let gone = tempfile::tempdir().unwrap();
        let handle = OwnedFd::from(File::open(gone.path()).unwrap());
        let path = gone.path().to_owned();
        drop(gone);
        let (id, mount) = stat::id_and_mount(&handle).unwrap();
        let zone = Arc::clone(&Setup::new(LastUse::Tree).expired(c".").directory().zone);
        let (dir, listed, storage) = ("z".into(), None, Storage::on(FileSystem::Nfs));
        let directory = Directory { zone, path, dir, handle, id, mount, listed, storage };
        let (notes, clocks) =
            (Notes::default(), ServerClocks::compared_with(|| Moment::from_unix(0, 0)));
        let directory = Arc::new(directory);
        let behind = clocks.check(&directory, &Quarantines::new(), &notes);
        assert_eq!(behind, Ok(Ttl::from_secs(CLOCK_REFUSED)), "as far as may be");
        let notes = notes.of(&directory.zone.name).join(" ");
        assert!(
            notes.ends_with("could not be compared with this machine's: No such file or directory"),
            "{notes}"
        );
    }
}
