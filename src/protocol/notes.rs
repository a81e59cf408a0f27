//! What the user should know about a zone besides the counts.
//!
//! It must not decide what is worth a note; each note is kept once.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::rules::ZoneName;

/// The notes of a pass, by zone, in the order in which they came up.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<(ZoneName, Cow<'static, str>)>>);

impl Notes {
    /// The note on directories whose reading cannot be hidden.
    pub const MOVES_ATIME: &str = "some directories belong to another user and the process has no \
                                   CAP_FOWNER: reading them may have moved their atimes";

    /// The note on directories whose server ignores that a reader asks for their atime to stay.
    pub const SERVER_MOVES_ATIME: &str = "the file system is on a server, which may move the atimes of \
                                          directories that are read, also in a dry run: only \
                                          --tmp-age entry looks at those";

    /// The note on files whose use the system does not tell.
    pub const IN_USE_UNKNOWN: &str = "the system does not tell whether some of the files are open (files of \
                                      another user without CAP_LEASE, or a network file system): age and \
                                      locks decided";

    /// The note on times that do not count.
    pub const WRONG_TIMES: &str = "some times lie more than 24 h in the future and do not count: other times \
                                   of these entries decided";

    /// Adds a note, unless the zone has it already.
    pub fn add(&self, zone: &ZoneName, note: impl Into<Cow<'static, str>>) {
        let note = note.into();
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.iter().any(|(of, known)| of == zone && *known == note) {
            notes.push((zone.clone(), note));
        }
    }

    /// The notes of a zone.
    pub fn of(&self, zone: &ZoneName) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes
            .iter()
            .filter(|(of, _)| of == zone)
            .map(|(_, note)| note.clone().into_owned())
            .collect()
    }
}
