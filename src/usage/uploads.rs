//! Abandoned uploads: what is left of them, found by names and times.
//!
//! This module must not judge an upload that may still go on: the newest write of its two files decides. An upload is
//! forgotten nowhere before the end of the walk, because its two files are found in any order. So there is a
//! limit to how many are remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::rules::{Bytes, Moment, Ttl, Upload};

/// How long nothing is written before an upload counts as given up. CVAT's own limit is half of this.
pub(super) const STANDS_STILL: Ttl = Ttl::from_secs(86_400);

/// How many uploads are remembered at most.
const MOST: usize = 25_000;

/// What is left of uploads that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remains {
    /// The content and its record: nothing was written for a day.
    NoProgress,
    /// Content without the record: the upload cannot go on.
    NoRecord,
    /// A record without content.
    NoContent,
}

/// Files and their space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) files: u64,
    pub(super) allocated: Bytes,
    /// The space of those that have expired by the rule of their zone.
    pub(super) expired: Bytes,
}

impl Part {
    /// Adds another part.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.allocated += other.allocated;
        self.expired += other.expired;
    }
}

/// An upload, as far as it was found.
#[derive(Debug, Default)]
struct Found {
    content: Part,
    record: Part,
    newest: Option<Moment>,
}

/// The uploads of one walk. Shared by its workers.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By area and upload.
    found: HashMap<(usize, u128), Found>,
    /// Some were not remembered.
    is_partial: bool,
}

impl Uploads {
    /// A file of an upload was found in an area.
    pub(super) fn add(&self, area: usize, upload: Upload, file: Part, mtime: Moment) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (area, upload.id);
        if state.found.len() >= MOST && !state.found.contains_key(&key) {
            state.is_partial = true;
            return;
        }
        let found = state.found.entry(key).or_default();
        let part = if upload.is_record { &mut found.record } else { &mut found.content };
        part.add(file);
        found.newest = found.newest.max(Some(mtime));
    }

    /// What is left of those that were given up, by area; and whether these are not all. In areas where nothing
    /// `is_judged`, a name does not prove that a file is an upload: there it takes a record.
    pub(super) fn given_up(
        self,
        now: Moment,
        is_judged: impl Fn(usize) -> bool,
    ) -> (Vec<(usize, Remains, Part)>, bool) {
        let state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sums: Vec<(usize, Remains, Part)> = Vec::new();
        for ((area, _), Found { content, record, newest }) in state.found {
            if newest.is_none_or(|newest| now <= newest.plus(STANDS_STILL)) {
                continue;
            }
            let remains = match (content.files, record.files) {
                (_, 0) if !is_judged(area) => continue,
                (_, 0) => Remains::NoRecord,
                (0, _) => Remains::NoContent,
                (..) => Remains::NoProgress,
            };
            let mut part = content;
            part.add(record);
            match sums.iter_mut().find(|(at, kind, _)| (*at, *kind) == (area, remains)) {
                Some((.., sum)) => sum.add(part),
                None => sums.push((area, remains, part)),
            }
        }
        sums.sort_by_key(|(area, remains, _)| (*area, *remains));
        (sums, state.is_partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix(1_000_000, 0);

    fn given_up(files: &[(u128, bool, i64)], is_judged: bool) -> Vec<(Remains, u64)> {
        let uploads = Uploads::default();
        for (id, is_record, age) in files {
            let part = Part { files: 1, allocated: Bytes(4096), expired: Bytes(0) };
            let mtime = Moment::from_unix(1_000_000 - age, 0);
            uploads.add(0, Upload { id: *id, is_record: *is_record }, part, mtime);
        }
        let (sums, is_partial) = uploads.given_up(NOW, |_| is_judged);
        assert!(!is_partial);
        sums.into_iter().map(|(_, remains, part)| (remains, part.files)).collect()
    }

    #[test]
    fn an_upload_is_given_up_when_nothing_of_it_was_written_for_a_day() {
        let (fresh, old) = (86_400, 86_401);
        assert_eq!(given_up(&[(1, false, old), (1, true, fresh)], true), []);
        assert_eq!(given_up(&[(1, true, fresh), (2, false, fresh)], true), []);
        let all =
            [(1, true, old), (1, false, old), (2, true, old), (3, false, old), (4, false, old)];
        let found = [(Remains::NoProgress, 2), (Remains::NoRecord, 2), (Remains::NoContent, 1)];
        assert_eq!(given_up(&all, true), found);
        let backwards: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(given_up(&backwards, true), found);
        // Where nothing is judged, a file with such a name may be anything.
        assert_eq!(given_up(&all, false), [found[0], found[2]]);
    }
}
