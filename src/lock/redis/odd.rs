//! Keys with the name of a lock that no program would set like this: without an expiry, or with
//! another type.
//!
//! This module must not grow with the number of keys. An entry is claimed again while it is locked, so the keys are
//! told apart by their hashes.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::error::printable;
use super::scripts::Grant;

/// How many keys of a kind are told apart.
const MOST: usize = 10_000;

/// The odd keys that were met.
#[derive(Debug, Default)]
pub(super) struct OddKeys {
    endless: Kind,
    not_a_lock: Kind,
}

/// Keys that are odd in the same way.
#[derive(Debug, Default)]
struct Kind {
    seen: BTreeSet<u64>,
    example: Option<String>,
}

impl Kind {
    fn add(&mut self, key: &[u8]) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        if self.seen.len() < MOST {
            self.seen.insert(hasher.finish());
        }
        self.example.get_or_insert_with(|| printable(key));
    }

    /// How many there are, an example, and whether it is the only one.
    fn counted(&self) -> Option<(String, &str, bool)> {
        let example = self.example.as_deref()?;
        let count = self.seen.len();
        let or_more = if count == MOST { " or more" } else { "" };
        Some((format!("{count}{or_more}"), example, count == 1))
    }
}

impl OddKeys {
    pub(super) fn add(&mut self, grant: Grant, key: &[u8]) {
        match grant {
            Grant::Endless => self.endless.add(key),
            Grant::NotALock => self.not_a_lock.add(key),
            Grant::Ours | Grant::Locked => {}
        }
    }

    /// What the user should know about them.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let endless = self.endless.counted().map(|(count, example, is_one)| {
            if is_one {
                format!(
                    "the lock {example} in Redis has no expiry, so it never ends: its export is skipped; \
                     delete the key if no program holds it"
                )
            } else {
                format!(
                    "{count} locks in Redis, such as {example}, have no expiry, so they never end: their \
                     exports are skipped; delete the keys if no program holds them"
                )
            }
        });
        let not_a_lock = self.not_a_lock.counted().map(|(count, example, is_one)| {
            if is_one {
                format!(
                    "the key {example} in Redis has the wrong type, so it is not a lock: its export \
                     is skipped; delete the key"
                )
            } else {
                format!(
                    "{count} keys in Redis, such as {example}, have the wrong type, so they are not \
                     locks: their exports are skipped; delete the keys"
                )
            }
        });
        endless.into_iter().chain(not_a_lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_once_however_often_they_are_met() {
        let mut odd = OddKeys::default();
        assert_eq!(odd.notes().count(), 0);
        for _ in 0..3 {
            odd.add(Grant::Endless, b"k\x1b1");
            odd.add(Grant::Endless, b"k2");
            odd.add(Grant::NotALock, b"k3");
            odd.add(Grant::Locked, b"k4");
        }
        let notes: Vec<String> = odd.notes().collect();
        assert!(notes[0].starts_with("2 locks in Redis, such as k\\u{1b}1, "), "{notes:?}");
        assert!(notes[1].starts_with("the key k3 in Redis "), "{notes:?}");
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            odd.add(Grant::Endless, &number.to_ne_bytes());
        }
        assert!(odd.notes().next().unwrap().starts_with("10000 or more locks"));
    }
}
