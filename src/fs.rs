//! System calls on files and directories, one component at a time, following no link.
//!
//! This module must not know zones, tokens or settings: it uses the plain data of [`crate::rules`] and is used by
//! `source`, `inspect`, `dispose` and `lock`.
//!
//! - [`append`]: a log that several processes write.
//! - [`stat`], [`open`], [`list`]: looking at things without moving their times.
//! - [`walk`]: whole trees, in bounded memory.
//! - [`lease`]: whether another process has a file open or locked.
//! - [`root`]: the data root, and directories that are never one.
//! - [`rights`]: whether a name may be removed.
//! - [`space`]: how full a file system is.
//! - [`reserve`]: how much of a file system only root can use.
//! - [`file_system`]: whether a server keeps the files.
//! - [`mounts`]: what is mounted, and [`places`]: where that shows a directory.
//! - [`error`]: an error at a path.

pub mod append;
pub mod error;
pub mod file_system;
pub mod lease;
pub mod list;
pub mod mounts;
pub mod open;
pub mod places;
pub mod reserve;
pub mod rights;
pub mod root;
pub mod space;
pub mod stat;
pub mod walk;

pub use crate::rules::Space;
pub use error::PathError;
pub use root::{DataRoot, Forbidden, RootError};
