//! Files with several names, each of which counts once.
//!
//! It must not hold anything about files with one name: only this grows with the number of files.
//!
//! Removing a name frees nothing while another is left. So such a file counts in the area that comes last of
//! those that have a name of it: the zones come first and what is never removed comes last. Its space is
//! expired when all of its names are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::rules::{Bytes, FileId, Label};

/// A file with several names.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkedFile {
    /// How many names it has.
    pub(super) links: u64,
    /// Its space.
    pub(super) allocated: Bytes,
    /// The area that it counts in.
    pub(super) area: usize,
    /// What that name says about it.
    pub(super) label: Option<Label>,
    /// The range of ages that it is in.
    pub(super) age_range: usize,
    /// How many of its names are in expired entries.
    expired: u64,
}

impl LinkedFile {
    /// One name of a file.
    pub(super) const fn new(links: u64, allocated: Bytes, area: usize, age_range: usize) -> Self {
        Self { links, allocated, area, label: None, age_range, expired: 0 }
    }

    /// With what the name says.
    pub(super) const fn labeled(self, label: Option<Label>) -> Self {
        Self { label, ..self }
    }

    /// Whether all of its names are in expired entries.
    pub(super) const fn is_expired(&self) -> bool {
        self.expired >= self.links
    }
}

/// The files with several names of one walk. Shared by its workers.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<FileId, LinkedFile>>);

impl Links {
    /// A name was found.
    pub(super) fn add(&self, id: FileId, name: LinkedFile) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files.entry(id).or_insert(name);
        // Names are found in any order, and the result must not depend on it.
        if (name.area, name.label) > (file.area, file.label) {
            *file = LinkedFile { expired: file.expired, ..name };
        }
    }

    /// Names in an expired entry.
    pub(super) fn expire(&self, names: &[FileId]) {
        if names.is_empty() {
            return;
        }
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in names {
            if let Some(file) = files.get_mut(id) {
                file.expired += 1;
            }
        }
    }

    /// All of them, at the end.
    pub(super) fn into_files(self) -> impl Iterator<Item = LinkedFile> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_in_the_last_of_its_areas_in_any_order() {
        let id = FileId { dev: 1, ino: 2 };
        for order in [[0, 2, 1], [2, 1, 0], [1, 0, 2]] {
            let links = Links::default();
            for area in order {
                links.add(id, LinkedFile::new(3, Bytes(4096), area, 0));
            }
            links.expire(&[id, id]);
            let files: Vec<LinkedFile> = links.into_files().collect();
            assert_eq!((files.len(), files[0].area, files[0].is_expired()), (1, 2, false));
        }
    }

    #[test]
    fn a_file_has_expired_when_all_of_its_names_have() {
        let (id, links) = (FileId { dev: 1, ino: 2 }, Links::default());
        for _ in 0..2 {
            links.add(id, LinkedFile::new(2, Bytes(4096), 0, 0));
            links.expire(&[id]);
        }
        assert!(links.into_files().all(|file| file.is_expired()));
    }
}
