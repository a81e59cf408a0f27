//! Measures what takes up space in a data root: by zone and other area, by what it belongs to, and by age.
//!
//! This module must not change anything, and must not print: it makes a [`Usage`], from which `report` writes text and
//! JSON. Every file is looked at once, by the walk that a pass uses too.
//!
//! - [`model`]: the result, as plain data.
//! - `places`: which zone or area a path is in.
//! - `judge`: whether an entry has expired, and when it will.
//! - `tally`, `links`: what is counted, and files with several names.
//! - `sum`: what was found in one entry.
//! - `shared`: what the parts of a walk share.
//! - `visitor`: what is done with each file of the walk.
//! - [`uploads`]: what is left of abandoned uploads.
//! - [`measure`]: the walks over the data root and over zones outside of it.

mod judge;
mod links;
pub mod measure;
pub mod model;
mod places;
mod shared;
mod sum;
mod tally;
pub mod uploads;
mod visitor;

pub use measure::{Measurement, Subject, Top};
pub use model::{
    AreaUsage, KindUsage, OwnerUsage, RemovedBy, Totals, Unreached, UnreachedUsage, Usage,
};
