//! Which locks a pass takes, and how it takes them for a batch of entries.
//!
//! This module must not look at ages or remove anything: it turns an [`Expired`] into a [`Claimed`], or says why
//! not. A lock is always derived from the entry itself, so the lock of one entry never covers another.
//!
//! - [`flock`]: the advisory lock on the entry.
//! - [`redis`]: the lock of the application that writes the entries.
//! - [`exclusive`]: one sweeper at a time.

pub mod exclusive;
pub mod flock;
pub mod redis;
#[cfg(test)]
mod testing;

use self::exclusive::ExclusiveLock;
pub use self::flock::FileLocks;
use self::redis::ExporterLocks;
use crate::protocol::{Claimed, Expired, Locks, Rejected, Rejection};
use crate::rules::{LockKind, Zone};

/// The note where exports are swept without the lock of those who write them, because no server is named.
const NO_SERVER: &str = "warning: CVAT's lock in Redis is not taken: only age and the check for open files \
    protect files that CVAT is using. To take the lock, name the server: --redis redis://HOST:6379 or \
    CVAT_REDIS_INMEM_HOST";

/// The locks that a pass takes.
#[derive(Debug)]
pub struct Backend {
    /// On the entries.
    pub files: FileLocks,
    /// Those of the application, taken before the one on the entry; `None` when they are not configured.
    pub application: Option<ExporterLocks>,
    /// Whether the user wants none of those.
    pub is_application_unwanted: bool,
    /// Against other sweepers: a zone that one of them is sweeping is left alone.
    pub exclusive: ExclusiveLock,
}

impl Backend {
    /// `flock` alone.
    pub fn flock() -> Self {
        Self {
            files: FileLocks::Flock,
            application: None,
            is_application_unwanted: false,
            exclusive: ExclusiveLock::none(),
        }
    }

    /// The note where the user wants no lock of the application.
    fn unwanted(&self) -> String {
        let lock = if self.files == FileLocks::Unlocked { "none" } else { "flock" };
        format!(
            "CVAT's lock in Redis is not taken, because lock = {lock}: only age and the check for open files protect \
             files that CVAT is using"
        )
    }

    /// The application's locks, if they are taken in `zone`.
    fn application_of(&self, zone: &Zone) -> Option<&ExporterLocks> {
        self.application.as_ref().filter(|_| zone.lock == LockKind::Application)
    }
}

impl Locks for Backend {
    fn ready(&self, zone: &Zone) -> Result<(), String> {
        if let Some(why) = self.exclusive.refusal(&zone.name) {
            return Err(why.to_owned());
        }
        match self.application_of(zone) {
            Some(application) => application.ready().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    fn claim(
        &self,
        batch: Vec<Expired>,
        is_stopped: &dyn Fn() -> bool,
        each: &mut dyn FnMut(Result<Claimed, Rejected>),
    ) {
        let Some(first) = batch.first() else { return };
        let zone = &first.directory().zone;
        let files = self.files.of(zone);
        if is_stopped() {
            for expired in batch {
                each(Err(Rejected::new(expired, Rejection::Unreached)));
            }
            return;
        }
        // On a slow server the claims of a batch take long.
        let claim = |expired, lease| {
            if is_stopped() {
                return Err(Rejected::new(expired, Rejection::Unreached));
            }
            flock::claim(expired, files, lease)
        };
        match self.application_of(zone) {
            Some(application) => application.claim(batch, &mut |leased| {
                each(leased.and_then(|(expired, lease)| claim(expired, Some(lease))));
            }),
            None => batch.into_iter().for_each(|expired| each(claim(expired, None))),
        }
    }

    fn notes(&self, zone: &Zone) -> Vec<String> {
        let mut notes = Vec::new();
        if zone.lock == LockKind::Application {
            match &self.application {
                Some(application) => notes.extend(application.notes()),
                None if self.is_application_unwanted => notes.push(self.unwanted()),
                None => notes.push(NO_SERVER.to_owned()),
            }
        }
        if self.files == FileLocks::Unlocked {
            notes.push(without_file_locks("--lock none"));
        } else if zone.lock == LockKind::Unlocked {
            notes.push(without_file_locks("the zone has lock = \"none\""));
        }
        notes
    }
}

/// The note where the user wants no file locks. Those of the question are held until the entry is removed or left.
fn without_file_locks(setting: &str) -> String {
    format!("no file locks are taken ({setting}), except to see whether an entry is in use")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::exclusive::Sharing;
    use super::redis::{Prefix, Server, Timing};
    use super::testing::TestZone;
    use super::*;
    use crate::protocol::Skipped;
    use crate::rules::{FileKind, Moment};

    /// What became of each claim: `None` for one that succeeded.
    fn claim(backend: &Backend, batch: Vec<Expired>) -> Vec<Option<Rejection>> {
        claim_until(backend, batch, &|| false)
    }

    /// The same for a pass that is stopped when `is_stopped` says so.
    fn claim_until(
        backend: &Backend,
        batch: Vec<Expired>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Vec<Option<Rejection>> {
        let mut ends = Vec::new();
        let mut each = |end: Result<_, Rejected>| ends.push(end.err().map(|rejected| rejected.why));
        backend.claim(batch, is_stopped, &mut each);
        ends
    }

    fn with_unreachable_server() -> Backend {
        let server = Server::from_url("unix:///nonexistent/redis.sock").unwrap();
        let prefix = Prefix::given(Path::new("/data"));
        let ttl = Duration::from_secs(30);
        let (clock, timing) = (Moment::from_unix(0, 0), Timing::new(Duration::default));
        let application = ExporterLocks::new(server, prefix, ttl, clock, timing);
        Backend { application: Some(application), ..Backend::flock() }
    }

    #[test]
    fn the_zone_and_the_setting_decide_whether_files_are_locked() {
        let unlocked = Backend { files: FileLocks::Unlocked, ..Backend::flock() };
        for (backend, lock, is_locked) in [
            (&Backend::flock(), LockKind::Flock, true),
            (&Backend::flock(), LockKind::Application, true),
            (&Backend::flock(), LockKind::Unlocked, false),
            (&unlocked, LockKind::Flock, false),
            (&unlocked, LockKind::Application, false),
            (&unlocked, LockKind::Unlocked, false),
        ] {
            let zone = TestZone::new(lock);
            zone.file("held");
            zone.file("free");
            let _held = zone.hold("held");
            let batch = vec![zone.expired(c"held"), zone.expired(c"free")];
            let ends = claim(backend, batch);
            let held = matches!(ends[0], Some(Rejection::Skipped(Skipped::Locked)));
            assert_eq!((ends.len(), held, ends[1].is_none()), (2, is_locked, true), "{lock:?}");
        }
        assert!(claim(&unlocked, Vec::new()).is_empty());
    }

    #[test]
    fn nothing_is_locked_any_more_when_the_pass_is_stopped() {
        let zone = TestZone::new(LockKind::Flock);
        for name in ["first", "held", "free"] {
            zone.file(name);
        }
        let _held = zone.hold("held");
        let batch = [c"first", c"held", c"free"].map(|name| zone.expired(name)).into();
        let asked = std::cell::Cell::new(0);
        let is_stopped = || asked.replace(asked.get() + 1) > 1;
        let ends = claim_until(&Backend::flock(), batch, &is_stopped);
        let [None, Some(Rejection::Unreached), Some(Rejection::Unreached)] = &ends[..] else {
            panic!("{ends:?}");
        };
    }

    #[test]
    fn an_application_lock_that_cannot_be_taken_leaves_only_its_own_zone_alone() {
        let backend = with_unreachable_server();
        let zone = TestZone::new(LockKind::Application);
        zone.file("a");
        zone.file("b");
        let error = backend.ready(&zone.zone()).unwrap_err();
        let words = ["cannot be reached", "; check its address, and whether it is running"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        let ends = claim(&backend, vec![zone.expired(c"a"), zone.expired(c"b")]);
        assert_eq!(ends.len(), 2);
        assert!(ends.iter().all(|end| matches!(end, Some(Rejection::NoLock(_)))), "{ends:?}");
        for lock in [LockKind::Flock, LockKind::Unlocked] {
            let other = TestZone::new(lock);
            other.file("a");
            assert!(backend.ready(&other.zone()).is_ok());
            assert!(matches!(claim(&backend, vec![other.expired(c"a")])[..], [None]));
        }
    }

    #[test]
    fn a_zone_of_another_sweeper_is_not_ready() {
        let zone = TestZone::new(LockKind::Flock);
        let root = || vec![(zone.zone().name.clone(), zone.open())];
        let lock = || ExclusiveLock::of_pass(root(), Sharing::Alone);
        let _other = lock();
        let backend = Backend { exclusive: lock(), ..Backend::flock() };
        let error = backend.ready(&zone.zone()).unwrap_err();
        assert!(error.contains("holds the lock on the directory"), "{error}");
        assert!(Backend::flock().ready(&zone.zone()).is_ok());
    }

    #[test]
    fn notes_say_which_locks_are_not_taken() {
        let unlocked = Backend { files: FileLocks::Unlocked, ..Backend::flock() };
        let notes = |backend: &Backend, lock| backend.notes(&TestZone::new(lock).zone()).join("\n");
        assert_eq!(notes(&Backend::flock(), LockKind::Flock), "");
        let application = notes(&Backend::flock(), LockKind::Application);
        assert!(application.contains("CVAT's lock in Redis is not taken"), "{application}");
        assert!(application.contains("name the server: --redis"), "{application}");
        let unwanted = Backend { is_application_unwanted: true, ..Backend::flock() };
        let unwanted = notes(&unwanted, LockKind::Application);
        assert!(unwanted.contains("because lock = flock: "), "{unwanted}");
        assert!(!unwanted.contains("--redis"), "{unwanted}");
        assert!(notes(&Backend::flock(), LockKind::Unlocked).contains("lock = \"none\""));
        for lock in [LockKind::Flock, LockKind::Unlocked, LockKind::Application] {
            assert!(notes(&unlocked, lock).contains("--lock none"), "{lock:?}");
        }
    }

    #[test]
    fn what_cannot_be_locked_is_claimed_without_a_file_lock() {
        let zone = TestZone::new(LockKind::Flock);
        std::os::unix::fs::symlink("nowhere", zone.path("link")).unwrap();
        let link = zone.expired(c"link");
        assert_eq!(link.metadata().kind, FileKind::Symlink);
        assert!(matches!(claim(&Backend::flock(), vec![link])[..], [None]));
    }
}
