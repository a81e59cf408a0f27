//! Directory listings.
//!
//! This module must not look at the files that are listed.

use std::ffi::CStr;

/// Whether a name is `.` or `..`, which every listing has.
pub fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
