//! The pure core: decides, from what was seen of a path, whether it has expired.
//!
//! It promises to be a function of its arguments alone. It must not do I/O, read a clock, log, or
//! know how anything is removed; nothing else of this crate is imported here.
//!
//! - [`name`]: what a file name in the export cache says.
//! - [`age`]: moments, ages and times to live.
//! - [`shard`]: which of several sweepers an entry belongs to.
//! - [`sighting`]: what was seen of one path at one moment.
//! - [`policy`]: the rules, and [`Policy::judge`], the only maker of a [`Stale`].

pub mod age;
pub mod name;
pub mod policy;
pub mod shard;
pub mod sighting;

pub use age::{Age, Moment, Ttl};
pub use name::{Class, ExportName, LegacyName, NameError};
pub use policy::{Exclude, ExportTtls, Kept, KeptBy, Policy, Stale, TmpAge};
pub use shard::Shard;
pub use sighting::{Bytes, Facts, FileId, Kind, Sighting, Zone};
