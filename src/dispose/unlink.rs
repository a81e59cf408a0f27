//! The only code that deletes.
//!
//! This module must not decide anything: it removes one name in an open directory, for [`super::remove`] and the walk
//! of [`super::tree_remover`], and empty private directories for [`super::quarantine`].

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, unlinkat};

/// Removes anything but a directory.
pub(super) fn remove_file(dir: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    unlinkat(dir, name, AtFlags::empty())
}

/// Removes an empty directory.
pub(super) fn remove_empty_directory(dir: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}
