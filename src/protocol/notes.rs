//! What the user should know about a zone besides the counts.
//!
//! This module must not decide what is worth a note; each note is kept once. Other users can create what some notes are
//! about, so their number is limited.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::rules::ZoneName;

/// How many notes a zone may have. The others are counted.
const MOST: usize = 100;

/// The notes of a pass, by zone, in the order in which they came up.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<OfZone>>);

/// The notes of a zone.
#[derive(Debug)]
struct OfZone {
    zone: ZoneName,
    notes: Vec<Cow<'static, str>>,
    /// How many more there were.
    more: usize,
}

impl Notes {
    /// The note on directories whose reading cannot be hidden.
    pub const MOVES_ATIME: &str = "some directories belong to another user and the process has no \
                                   CAP_FOWNER: reading them may have moved their atimes";

    /// The note on directories whose server ignores that a reader asks for their atime to stay.
    pub const SERVER_MOVES_ATIME: &str = "the file system is on a server, which may move the atimes \
        of directories when they are read, even in a dry run: only --tmp-age entry looks at those";

    /// The note on files whose use the system does not tell.
    pub const IN_USE_UNKNOWN: &str = "the system does not say whether some of the files are open \
                                      (files of another user without CAP_LEASE, or a network file \
                                      system): age and locks decided";

    /// The note of a dry run on a server.
    pub const CLOCK_NOT_COMPARED: &str = "the file system is on a server, and a dry run writes nothing there, so \
                                          the clocks are not compared: a real run leaves the zone alone if \
                                          they differ by more than an hour";

    /// The note on times that do not count.
    pub const WRONG_TIMES: &str = "some times are more than 24 h in the future and do not count: \
                                   other times of these entries decided";

    /// Adds a note, unless the zone has it already.
    pub fn add(&self, zone: &ZoneName, note: impl Into<Cow<'static, str>>) {
        let note = note.into();
        self.add_after(zone, |_| note);
    }

    /// Adds a note that depends on those that the zone has. No other comes between.
    pub fn add_after(
        &self,
        zone: &ZoneName,
        note: impl FnOnce(&[Cow<'static, str>]) -> Cow<'static, str>,
    ) {
        let mut zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = zones.iter().position(|of| of.zone == *zone).unwrap_or_else(|| {
            zones.push(OfZone { zone: zone.clone(), notes: Vec::new(), more: 0 });
            zones.len() - 1
        });
        let of = &mut zones[at];
        let note = note(&of.notes);
        if of.notes.contains(&note) {
            return;
        }
        if of.notes.len() < MOST {
            of.notes.push(note);
        } else {
            of.more += 1;
        }
    }

    /// The notes of a zone.
    pub fn of(&self, zone: &ZoneName) -> Vec<String> {
        let zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = zones.iter().find(|of| of.zone == *zone) else { return Vec::new() };
        let notes = of.notes.iter().map(|note| note.clone().into_owned());
        let more = (of.more > 0).then(|| format!("{} more notes are not listed", of.more));
        notes.chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_kept_once_and_a_flood_is_counted() {
        let (notes, zone, other) =
            (Notes::default(), ZoneName::new("tmp"), ZoneName::new("export"));
        for number in 0..20_000 {
            notes.add(&zone, format!("note {number}"));
            notes.add(&zone, "note 7");
        }
        notes.add(&other, Notes::MOVES_ATIME);
        let listed = notes.of(&zone);
        assert_eq!(listed.len(), MOST + 1);
        assert_eq!(listed[MOST], "19900 more notes are not listed");
        assert_eq!(notes.of(&other), [Notes::MOVES_ATIME]);
    }
}
