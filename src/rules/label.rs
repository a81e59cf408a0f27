//! What the name of an entry says about it: what it belongs to, and what it holds.
//!
//! This module must not know any application: an application gives labels by functions of names.

/// What an entry belongs to, such as task 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its kind, in one word.
    pub kind: &'static str,
    /// Its number.
    pub id: u64,
}

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// What the entry belongs to, if it belongs to one thing.
    pub owner: Option<Owner>,
    /// What it holds, in one word; `None` if it holds several things.
    pub content: Option<&'static str>,
}

/// The label of an entry of a zone, from the names of the directories above it and its own.
pub type LabelOfEntry = fn(zone: &str, above: &[&[u8]], name: &[u8]) -> Option<Label>;

/// How an application labels what is in its zones.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// The label of an entry.
    pub entry: LabelOfEntry,
    /// What a file in an entry holds, by its name, where the entry holds several things.
    pub member: fn(name: &[u8]) -> Option<&'static str>,
    /// The upload that a file is a part of, by its name.
    pub upload: fn(name: &[u8]) -> Option<Upload>,
    /// Zones of which the application uses nothing any more.
    pub out_of_use: &'static [&'static str],
}

/// A file that an application writes while it receives an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Which upload: the same for its content and its record.
    pub id: u128,
    /// Whether this is the record of how far it is; otherwise it is the content.
    pub is_record: bool,
}

impl Labels {
    /// No entry has a label.
    pub const NONE: Self =
        Self { entry: |_, _, _| None, member: |_| None, upload: |_| None, out_of_use: &[] };
}

/// A part of a data root that is no zone: nothing in it is ever removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Its name.
    pub name: &'static str,
    /// What is in it, in a few words.
    pub about: &'static str,
    /// Where it is, relative to the data root.
    pub paths: &'static [&'static str],
}
