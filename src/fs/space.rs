//! How full a file system is.
//!
//! It must not look at files.

use std::path::Path;

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub bytes: u64,
    /// The bytes in use.
    pub bytes_used: u64,
    /// The number of inodes that it can have; 0 where there is no limit.
    pub inodes: u64,
    /// The number of inodes in use.
    pub inodes_used: u64,
}

impl Space {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let all = rustix::fs::statvfs(path)?;
        Ok(Self {
            bytes: all.f_blocks.saturating_mul(all.f_frsize),
            bytes_used: all.f_blocks.saturating_sub(all.f_bfree).saturating_mul(all.f_frsize),
            inodes: all.f_files,
            inodes_used: all.f_files.saturating_sub(all.f_ffree),
        })
    }
}
