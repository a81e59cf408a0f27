//! The pure core: decides, from what is known about an entry, whether it has expired.
//!
//! Everything here is a function of its arguments. It must not do I/O, read a clock, log, or know how an
//! entry is removed, and it imports nothing else of this crate.
//!
//! - [`action`]: what was being done when an error occurred.
//! - [`age`]: moments, ages and times to live.
//! - [`label`]: what a name says about an entry.
//! - [`metadata`]: what one `statx` says about an entry.
//! - [`names`]: which names a zone recognizes.
//! - [`zone`]: a zone as data.
//! - [`exclude`]: what the user asked to keep.
//! - [`verdict`]: [`verdict::evaluate`] and [`verdict::evaluate_early`], the only makers of an [`Expired`].
//! - [`select`]: which of the expired entries are removed now.
//! - [`share`]: a share in percent.
//! - [`space`]: how full a file system is.
//! - [`pressure`]: when it is so full that entries are removed before they expire.
//! - [`shard`]: which of several sweepers an entry belongs to.

pub mod action;
pub mod age;
pub mod exclude;
pub mod label;
pub mod metadata;
pub mod names;
pub mod pressure;
pub mod select;
pub mod shard;
pub mod share;
pub mod space;
pub mod verdict;
pub mod zone;

pub use action::Action;
pub use age::{Age, CLOCK_NOTED, CLOCK_REFUSED, MinAge, Moment, Ttl};
pub use exclude::Exclude;
pub use label::{Area, Label, Labels, Owner, Upload};
pub use metadata::{Bytes, FileId, FileKind, FileSystem, Metadata};
pub use names::{Class, Names};
pub use pressure::Pressure;
pub use shard::Shard;
pub use share::Share;
pub use space::{Amount, Space};
pub use verdict::{Entry, Expired, Kept, KeptReason, Rule};
pub use zone::{EntryKind, Expiry, LastUse, Location, LockKind, Shape, Zone, ZoneName};
