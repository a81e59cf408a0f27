//! How much space a removal frees.
//!
//! This module must not look at a file.

use crate::rules::{Bytes, FileId, Metadata};

/// What a removal gives back to the file system.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Freed {
    /// Space of files without other links.
    pub bytes: Bytes,
    /// Files with other links: their space is freed with the last of these.
    pub linked: Vec<Linked>,
}

/// A file with several hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// The file.
    pub id: FileId,
    /// How many links it has.
    pub links: u64,
    /// Its space.
    pub allocated: Bytes,
}

impl Freed {
    /// Adds one file or directory.
    pub fn add(&mut self, metadata: &Metadata) {
        let Metadata { id, links, allocated, .. } = *metadata;
        if metadata.has_other_names() {
            self.linked.push(Linked { id, links, allocated });
        } else {
            self.bytes += allocated;
        }
    }

    /// The space of everything that is removed, files with other links included: each file counts once, however
    /// many of its links are among it.
    pub fn size(&self) -> Bytes {
        self.bytes + self.files().map(|(file, _)| file.allocated).sum()
    }

    /// Whether most of its space stays in use: it is that of files with links elsewhere.
    pub fn is_mostly_shared(&self) -> bool {
        let (all, elsewhere) =
            self.files().fold((self.bytes, Bytes(0)), |(all, sum), (file, links)| {
                let is_elsewhere = links < file.links;
                (all + file.allocated, if is_elsewhere { sum + file.allocated } else { sum })
            });
        elsewhere.0 > all.0 / 2
    }

    /// The files with other links in the order of their ids, each with how many of its links are removed.
    pub fn files(&self) -> impl Iterator<Item = (Linked, u64)> {
        let mut sorted = self.linked.clone();
        sorted.sort_unstable_by_key(|linked| linked.id);
        let files: Vec<(Linked, u64)> = sorted
            .chunk_by(|one, other| one.id == other.id)
            .filter_map(|names| Some((*names.first()?, names.len() as u64)))
            .collect();
        files.into_iter()
    }

    /// Takes back one file that was added and still exists, under whatever name.
    pub fn take_back(&mut self, metadata: &Metadata) {
        if metadata.links <= 1 {
            self.bytes = Bytes(self.bytes.0.saturating_sub(metadata.allocated.0));
        }
    }

    /// Adds what another removal gives back.
    pub fn append(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.linked.extend(other.linked);
    }
}
