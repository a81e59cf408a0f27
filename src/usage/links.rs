//! Files with several names, each of which counts once.
//!
//! This module must not remember files with one name, nor more than a fixed number of others. Of a file that is not
//! remembered, it is not known whether it was counted. So of those with two names every second name counts, and
//! so on. If all of their names are in the walk, that gives their exact number.
//!
//! Removing a name frees nothing while another is left. So such a file counts in the area that comes last of
//! those that have a name of it: the zones come first and what is never removed comes last. Its space is
//! expired when all of its names are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::rules::{Bytes, FileId, Label};

/// How many files are remembered.
const MOST: usize = 100_000;

/// How many numbers of names are told apart, of files that are not remembered.
const MOST_NUMBERS: usize = 1000;

/// A file with several names.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkedFile {
    /// How many names it has.
    links: u32,
    /// How many of its names are in expired entries.
    expired: u32,
    /// Its space.
    pub(super) allocated: Bytes,
    /// The area that it counts in.
    area: u32,
    /// The range of ages that it is in.
    age_range: u32,
    /// What that name says about it.
    pub(super) label: Option<Label>,
}

/// How a name of a file with several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// At the end, where the file is remembered.
    Later,
    /// As a file with this name alone.
    Here,
    /// Not: another one does.
    Elsewhere,
}

impl LinkedFile {
    /// One name of a file.
    pub(super) fn new(links: u64, allocated: Bytes, area: usize, age_range: usize) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (area, age_range) = (small(area), small(age_range));
        let links = u32::try_from(links).unwrap_or(u32::MAX);
        Self { links, expired: 0, allocated, area, age_range, label: None }
    }

    /// The area that it counts in.
    pub(super) const fn area(&self) -> usize {
        self.area as usize
    }

    /// The range of ages that it is in.
    pub(super) const fn age_range(&self) -> usize {
        self.age_range as usize
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
#[derive(Debug)]
pub(super) struct Links {
    /// How many files are remembered.
    most: usize,
    known: Mutex<Known>,
}

impl Default for Links {
    fn default() -> Self {
        Self::of(MOST)
    }
}

#[derive(Debug, Default)]
struct Known {
    files: HashMap<FileId, LinkedFile>,
    /// How many names were found of files that are not remembered, by the number of names that such a file has.
    others: BTreeMap<u32, u32>,
}

impl Links {
    /// Those that remember so many files.
    pub(super) fn of(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// A name was found.
    pub(super) fn add(&self, id: FileId, name: LinkedFile) -> Counts {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.files.len() >= self.most && !known.files.contains_key(&id) {
            return known.other(name.links);
        }
        let file = known.files.entry(id).or_insert(name);
        // Names are found in any order, and the result must not depend on it.
        if (name.area, name.label) > (file.area, file.label) {
            *file = LinkedFile { expired: file.expired, ..name };
        }
        Counts::Later
    }

    /// So many names of each of these files are in an expired entry.
    pub(super) fn expire(&self, names: &HashMap<FileId, u32>) {
        if names.is_empty() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, count) in names {
            if let Some(file) = known.files.get_mut(id) {
                file.expired = file.expired.saturating_add(*count);
            }
        }
    }

    /// All that are remembered, at the end, and whether there are others.
    pub(super) fn into_files(self) -> (impl Iterator<Item = LinkedFile>, bool) {
        let known = self.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        (known.files.into_values(), !known.others.is_empty())
    }
}

impl Known {
    /// A name of a file that is not remembered, and that has so many.
    fn other(&mut self, links: u32) -> Counts {
        let most = self.others.last_key_value().map_or(links, |(most, _)| *most);
        let has_room = self.others.len() < MOST_NUMBERS || self.others.contains_key(&links);
        let links = if has_room { links } else { most };
        let names = self.others.entry(links).or_default();
        *names += 1;
        if *names < links {
            return Counts::Elsewhere;
        }
        *names = 0;
        Counts::Here
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
            links.expire(&HashMap::from([(id, 2)]));
            let files: Vec<LinkedFile> = links.into_files().0.collect();
            assert_eq!((files.len(), files[0].area(), files[0].is_expired()), (1, 2, false));
        }
    }

    #[test]
    fn a_file_has_expired_when_all_of_its_names_have() {
        let (id, links) = (FileId { dev: 1, ino: 2 }, Links::default());
        for _ in 0..2 {
            links.add(id, LinkedFile::new(2, Bytes(4096), 0, 0));
            links.expire(&HashMap::from([(id, 1)]));
        }
        assert!(links.into_files().0.all(|file| file.is_expired()));
    }

    /// Files beyond the limit are counted once, too, and take no memory.
    #[test]
    fn however_many_files_have_several_names_memory_is_bounded_and_each_counts_once() {
        let (links, mut here) = (Links::default(), 0);
        let (more, names) = (5000, 3);
        for _ in 0..names {
            for ino in 0..u64::try_from(MOST).unwrap() + more {
                let name = LinkedFile::new(names, Bytes(4096), 0, 0);
                let counts = links.add(FileId { dev: 1, ino }, name);
                assert_eq!(counts == Counts::Later, ino < MOST as u64, "{ino}");
                here += u64::from(counts == Counts::Here);
            }
        }
        assert_eq!(here, more);
        let (files, has_more) = links.into_files();
        assert_eq!((files.count(), has_more), (MOST, true));
    }

    #[test]
    fn numbers_of_names_without_end_take_bounded_memory_in_any_order() {
        let most_kept = |numbers: &mut dyn Iterator<Item = u32>| {
            let mut known = Known::default();
            let here = numbers.filter(|links| known.other(*links) == Counts::Here).count();
            (known.others.len(), here)
        };
        let (kept, here) = most_kept(&mut (2..200_000));
        assert!(kept <= MOST_NUMBERS && here > 0, "{kept} {here}");
        let (kept, _) = most_kept(&mut (2..200_000).rev());
        assert!(kept <= MOST_NUMBERS, "{kept}");
    }
}
