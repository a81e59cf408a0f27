//! A disk that is too full: exports go before they expire, the oldest first, and nothing that is not safe.
//!
//! The disks are images of real file systems. What must go is worked out here from `stat` and `statvfs` alone.

mod accounts;
mod disk;
mod file_systems;
mod never;
mod places;
mod service;
mod told;
mod unknown;
mod zones;
