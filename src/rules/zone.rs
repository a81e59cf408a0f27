//! A zone as data: where entries are, what an entry is, and which rule judges it.
//!
//! This module must not know any application: CVAT's zones are values in `cvat`, and the settings file adds more.

mod last_use;
mod location;

use std::fmt;
use std::sync::Arc;

use super::age::Ttl;
use super::names::Names;

pub use last_use::{LastUse, MOST_AHEAD};
pub use location::{EntryPath, Location, Shape, Step};

/// The name of a zone, as people and scripts use it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(Arc<str>);

impl ZoneName {
    /// From text.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A set of directories whose entries are judged by one rule.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its name in reports, metrics and settings.
    pub name: ZoneName,
    /// Where its entries are.
    pub location: Location,
    /// What an entry is.
    pub entry: EntryKind,
    /// Which names are recognized.
    pub names: Names,
    /// Which time is the last use.
    pub last_use: LastUse,
    /// When entries expire, by the [`super::Class`] of their name. A class without a value is kept.
    pub ttls: Vec<Expiry>,
    /// Which locks are taken.
    pub lock: LockKind,
    /// What a name says, for people; `None` where there is nothing to say.
    pub describe_name: fn(&[u8]) -> Option<String>,
}

/// What an entry of a zone is. Everything else in the zone is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory with everything in it.
    Tree,
    /// Either of them, a link, or a special file.
    Any,
}

/// When an entry expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// At once, whatever its age.
    AtOnce,
    /// When it was last used longer ago than this.
    After(Ttl),
}

impl Expiry {
    /// The time to live, if there is one.
    pub const fn ttl(self) -> Option<Ttl> {
        match self {
            Self::AtOnce => None,
            Self::After(ttl) => Some(ttl),
        }
    }
}

/// Which locks are taken before an entry of the zone is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// None.
    Unlocked,
    /// `flock` on the entry.
    Flock,
    /// The lock of the application that writes the entries, then `flock`.
    Application,
}
