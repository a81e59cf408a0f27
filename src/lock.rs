//! Which lock backend a pass uses, and claims in batches.
//!
//! It must not look at ages or remove anything: it turns a stale entry into a claim, or says why not.
//! The lock of an entry is derived from the entry itself, so lock A never covers file B.

pub mod flock;

use crate::condemn::{Claim, Guard, Locks, Reprieve, Stale};
use crate::retention::Zone;

/// The backends that a pass can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// An advisory lock on the object itself.
    Flock,
    /// No lock: age and the in-use probe alone decide. Only when asked for.
    Unlocked,
}

impl Locks for Backend {
    fn claim(&self, batch: Vec<Stale>, each: &mut dyn FnMut(Result<Claim, Reprieve>)) {
        for stale in batch {
            each(match self {
                Self::Flock => flock::claim(stale),
                Self::Unlocked => flock::open_unlocked(stale),
            });
        }
    }

    fn notes(&self, zone: Zone) -> Vec<String> {
        match (self, zone) {
            (Self::Unlocked, _) => {
                vec!["no locks were taken (--lock none): nobody was kept out".to_owned()]
            }
            (Self::Flock, Zone::Export) => vec![
                "CVAT's own exporters are not excluded, only file locks are (no Redis lock)"
                    .to_owned(),
            ],
            (Self::Flock, Zone::Tmp | Zone::InstanceTmp | Zone::Legacy) => Vec::new(),
        }
    }
}

/// For links, FIFOs, sockets and devices: nobody can hold a lock on one.
fn without_lock(stale: Stale) -> Claim {
    Claim::new(stale, Guard::of_nothing())
}
