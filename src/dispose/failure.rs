//! Failures of operations on an entry and in a tree.
//!
//! This module must not decide what happens to the entry.

use std::ffi::CStr;
use std::io;

use crate::fs::PathError;
use crate::fs::error::hint;
use crate::protocol::{Expired, Failure, Rejection};
use crate::rules::{Action, ZoneName};

/// The failure of an operation on an entry.
pub(super) fn failure(expired: &Expired, action: Action, error: io::Error) -> Failure {
    let directory = expired.directory();
    let hint = hint(&directory.handle, Some(expired.name()), action, &error);
    directory.failure(action, Some(expired.name()), error, hint)
}

/// The failure of an operation at a path.
pub(super) fn at_path(zone: &ZoneName, error: PathError) -> Failure {
    let PathError { action, path, error, hint } = error;
    Failure::new(zone, action, path, error, hint)
}

/// The failure of an operation in a tree that is called `name` at the moment.
pub(super) fn failed_in_tree(expired: &Expired, name: &CStr, error: PathError) -> Rejection {
    let directory = expired.directory();
    let path = match error.path.strip_prefix(directory.path_of(name)) {
        Ok(inside) => directory.path_of(expired.name()).join(inside),
        // A look at an open directory does not know its path.
        Err(_) if error.path.as_os_str().is_empty() => directory.path_of(expired.name()),
        Err(_) => error.path,
    };
    Rejection::Failed(at_path(&directory.zone.name, PathError { path, ..error }))
}
