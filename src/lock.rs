//! Which lock backend a pass uses, and claims in batches.
//!
//! It must not look at ages or remove anything: it turns a stale entry into a claim, or says why not.
//! The lock of an entry is derived from the entry itself, so lock A never covers file B.

pub mod flock;
pub mod guard;
pub mod redis;

use self::guard::Guard;
use self::redis::ExporterLocks;
use crate::condemn::{Claim, Locks, Reprieve, Stale};
use crate::retention::Zone;

/// Whether objects themselves are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLocks {
    /// By `flock`.
    Flock,
    /// Not at all. Only when asked for.
    Unlocked,
}

/// The locks that a pass takes: on the object itself, and for exports CVAT's own before it.
#[derive(Debug)]
pub struct Backend {
    /// On the object.
    pub files: FileLocks,
    /// CVAT's.
    pub exporter: Option<ExporterLocks>,
    /// Against other sweepers: zones that they have are not ours.
    pub guard: Guard,
}

impl Backend {
    /// File locks alone.
    pub fn flock() -> Self {
        Self { files: FileLocks::Flock, exporter: None, guard: Guard::none() }
    }
}

impl Locks for Backend {
    fn ready(&self, zone: Zone) -> Result<(), String> {
        if let Some(why) = self.guard.refusal(zone) {
            return Err(why.clone());
        }
        match (&self.exporter, zone) {
            (Some(exporter), Zone::Export) => {
                exporter.ready().map_err(|trouble| trouble.to_string())
            }
            _ => Ok(()),
        }
    }

    fn claim(&self, batch: Vec<Stale>, each: &mut dyn FnMut(Result<Claim, Reprieve>)) {
        let exports = batch.first().is_some_and(|stale| stale.zone() == Zone::Export);
        match &self.exporter {
            Some(exporter) if exports => exporter.claim(batch, &mut |leased| {
                each(
                    leased.and_then(|(stale, lease)| flock::claim(stale, self.files, Some(lease))),
                );
            }),
            _ => {
                for stale in batch {
                    each(flock::claim(stale, self.files, None));
                }
            }
        }
    }

    fn notes(&self, zone: Zone) -> Vec<String> {
        let mut notes = Vec::new();
        if zone == Zone::Export {
            match &self.exporter {
                Some(exporter) => notes.extend(exporter.notes()),
                None => notes.push(
                    "CVAT's own exporters are not excluded, only file locks are (no Redis lock)"
                        .to_owned(),
                ),
            }
        }
        if self.files == FileLocks::Unlocked {
            notes.push("no file locks were taken (--lock none)".to_owned());
        }
        notes
    }
}
