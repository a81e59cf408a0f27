//! Says that something has the name of a private directory and is not one of this user.
//!
//! This module must not fill the notes of a zone: who may write in a directory can make very many of these.

use std::ffi::CStr;

use crate::protocol::{Directory, Notes};

/// Notes why `name` in `directory` is left alone: by its path the first time. `verb` is `was` or `would be`.
pub(super) fn note_foreign(
    notes: &Notes,
    directory: &Directory,
    name: &CStr,
    verb: &str,
    why: &str,
) {
    let zone = &directory.zone.name;
    let end = format!("{verb} left alone: {why}");
    // Several workers may find one at the same time, and one of them is the first.
    notes.add_after(zone, |others| {
        if !others.iter().any(|note| note.ends_with(&end)) {
            return format!("{:?} {end}", directory.path_of(name)).into();
        }
        let verb = if verb == "was" { "were" } else { verb };
        format!("others like it {verb} left alone, too: {why}").into()
    });
}
