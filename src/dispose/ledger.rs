//! Counts the space of a file with several hard links once: with the last of them.
//!
//! This module must not look at the file system: a dry run, in which link counts never fall, and a pass with several
//! workers must come to the same sum. Its memory grows with the number of hard-linked files that are
//! removed, and with nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::protocol::{Freed, Linked};
use crate::rules::{Bytes, FileId};

#[derive(Debug)]
struct Account {
    links: u64,
    removed: u64,
    is_paid: bool,
}

/// The files with several links that lost some of them in this pass.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<HashMap<FileId, Account>>);

impl Ledger {
    /// The space that these removals freed.
    pub(super) fn charge(&self, freed: &Freed) -> Bytes {
        let shared = freed.linked.iter().map(|linked| self.charge_linked(linked)).sum();
        freed.bytes + shared
    }

    fn charge_linked(&self, linked: &Linked) -> Bytes {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account =
            accounts.entry(linked.id).or_insert(Account { links: 0, removed: 0, is_paid: false });
        // The greatest link count that was seen is right: others are less by the links removed in this pass.
        account.links = account.links.max(linked.links);
        account.removed += 1;
        if account.removed < account.links || account.is_paid {
            return Bytes(0);
        }
        account.is_paid = true;
        linked.allocated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_three_links_frees_its_space_with_the_third() {
        let ledger = Ledger::default();
        let with = |links| Freed {
            bytes: Bytes(1),
            linked: vec![Linked { id: FileId { dev: 1, ino: 2 }, links, allocated: Bytes(4096) }],
        };
        let sums: Vec<u64> = [3, 2, 1].map(|links| ledger.charge(&with(links)).0).into();
        assert_eq!(sums, [1, 1, 4097], "link counts fall in a pass");
        let ledger = Ledger::default();
        let sums: Vec<u64> = [3, 3, 3].map(|links| ledger.charge(&with(links)).0).into();
        assert_eq!(sums, [1, 1, 4097], "and stay in a dry run");
        let ledger = Ledger::default();
        let sums: Vec<u64> = [2, 3].map(|links| ledger.charge(&with(links)).0).into();
        assert_eq!(sums, [1, 1], "two workers at once, and one name stays");
        let ledger = Ledger::default();
        let sums: Vec<u64> = [1, 2].map(|links| ledger.charge(&with(links)).0).into();
        assert_eq!(sums, [4097, 1], "two workers at once, and none stays");
    }
}
