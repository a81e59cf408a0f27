//! The volume on a real file system: [`RealDisk`], and [`Rehearsal`], which looks the same and
//! removes nothing.
//!
//! It must not decide what is old enough: it hands facts to the rules and does as it is told. Our
//! look is not use: directories are opened with `O_NOATIME` wherever we may, file contents are
//! never read, and what survives has the times it had.

pub mod in_use;
mod instances;
mod ledger;
mod listed;
mod remove;
mod scan;
mod survey;
mod tree;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{StatVfsMountFlags, fstatvfs};

use crate::condemn::{
    Claim, Condemned, Content, Disk, Failure, More, Off, Place, Rechecked, Removed, Reprieve, Seen,
    Sighting, Spared, Step,
};
use crate::look;
use crate::retention::{Bytes, Kind, Moment, Shard, Zone};
use crate::stop::Stop;
use crate::volume::Volume;
use crate::workers::Workers;
use in_use::InUse;
use ledger::Ledger;
pub use listed::Candidates;
use listed::Listing;
use scan::Dirs;
use survey::Survey;
use tree::{Halt, Means};

/// Whether to ask who has a file open before it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUseProbe {
    /// Ask, and spare what is in use.
    On,
    /// Do not ask: age and lock decide.
    Off,
}

/// Something the user should know about how a zone was read. Said once a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Note {
    Missing,
    NoAtime,
    AtimeMoved,
    InUseUnknown,
    MountedZone,
    UsedMeanwhile,
    NotEntered(String),
    ToldElsewhere,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("not there: nothing to sweep"),
            Self::NoAtime => f.write_str(
                "mounted noatime: reads leave no trace, so last use is the last write as far as \
                 anyone can tell",
            ),
            Self::AtimeMoved => f.write_str(
                "some directories belong to another user and we have no CAP_FOWNER: reading them \
                 may have moved their access times",
            ),
            Self::InUseUnknown => f.write_str(
                "the system does not tell us who has some of the files open (another user's files \
                 without CAP_LEASE, or a network file system): age and locks alone decided",
            ),
            Self::UsedMeanwhile => f.write_str(
                "somebody else was at work in a tree that was being removed: it was let be, and part \
                 of it had gone by then",
            ),
            Self::MountedZone => f.write_str("a mount of its own"),
            Self::NotEntered(what) => f.write_str(what),
            Self::ToldElsewhere => f.write_str(
                "not all directories could be read, and this shard's entries in them were left alone; \
                 another shard's report counts and names them",
            ),
        }
    }
}

/// What the disk has to say, each thing once a zone.
#[derive(Debug, Default)]
struct Notes(Mutex<BTreeSet<(Zone, Note)>>);

impl Notes {
    fn say(&self, zone: Zone, note: Note) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((zone, note));
    }

    fn of(&self, zone: Zone) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|(of, _)| *of == zone).map(|(_, note)| note.to_string()).collect()
    }
}

/// Who looks at names: for which shard, until when, and what there is to say beside what is seen.
#[derive(Debug, Clone, Copy)]
struct Onlooker<'a> {
    stop: &'a Stop,
    notes: &'a Notes,
    shard: Option<Shard>,
    /// Others look at the same directories, so names are dealt in helpings.
    shares: bool,
}

impl Onlooker<'_> {
    /// Whether what is called `name` in `dir`, relative to the volume, is ours to look at.
    fn owns(&self, dir: &Path, name: &CStr) -> bool {
        self.shard.is_none_or(|shard| shard.owns(dir, name))
    }

    /// Tells that a directory cannot be read. All shards meet it and only its owner counts it, so that
    /// their reports add up to the report of one; the others say that there is something amiss.
    fn tell_failure(
        &self,
        place: &Place,
        name: Option<&CStr>,
        failure: Failure,
        each: &mut (impl FnMut(Seen<'_>) + ?Sized),
    ) {
        if self.owns(&place.dir, name.unwrap_or(c"")) {
            each(Seen::Failed(place, name, failure));
        } else {
            self.notes.say(place.zone, Note::ToldElsewhere);
        }
    }
}

/// A zone being read.
#[derive(Debug)]
pub struct Scan(Source);

/// Where names come from.
#[derive(Debug)]
enum Source {
    /// All that is there.
    Dirs(Dirs),
    /// A list.
    Listing(Listing),
}

/// A volume whose expired entries are really removed.
#[derive(Debug)]
pub struct RealDisk<'v> {
    volume: &'v Volume,
    stop: &'v Stop,
    workers: &'v Workers,
    probe: InUseProbe,
    shard: Option<Shard>,
    candidates: Option<Candidates>,
    ledger: Ledger,
    notes: Notes,
}

impl<'v> RealDisk<'v> {
    /// The disk under `volume`. Walks through trees end early when `stop` is raised, and are shared
    /// with those of the `workers` that have nothing to do.
    pub fn new(
        volume: &'v Volume,
        probe: InUseProbe,
        stop: &'v Stop,
        workers: &'v Workers,
    ) -> Self {
        if probe == InUseProbe::On {
            in_use::ignore_lease_breaks();
        }
        let (ledger, notes) = (Ledger::default(), Notes::default());
        Self { volume, stop, workers, probe, shard: None, candidates: None, ledger, notes }
    }

    /// The same for one of several sweepers: what belongs to the others is not looked at.
    #[must_use]
    pub fn of_shard(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// The same for what is listed: nothing else is looked at.
    #[must_use]
    pub fn of_list(self, candidates: Option<Candidates>) -> Self {
        Self { candidates, ..self }
    }

    const fn onlooker(&self) -> Onlooker<'_> {
        let shares = self.workers.are_several();
        Onlooker { stop: self.stop, notes: &self.notes, shard: self.shard, shares }
    }

    const fn means(&self) -> Means<'_> {
        Means { stop: self.stop, workers: self.workers }
    }

    /// What the entry's content says: the newest use, what it gives back, and whether it must stay.
    fn content(&self, rechecked: &Rechecked, now: Moment) -> Result<Content, Off> {
        let stale = rechecked.stale();
        let facts = stale.facts();
        match (facts.kind, rechecked.object()) {
            (Kind::Dir, Some(top)) => {
                let survey = Survey::of(stale, top, now, self.probe, self.means());
                let survey = survey.map_err(|halt| match halt {
                    Halt::Failed(failure) => Off::Failed(failure),
                    Halt::Stopped | Halt::Enough | Halt::Elsewhere => Off::Unreached,
                })?;
                if survey.in_use_unknown {
                    self.notes.say(stale.zone(), Note::InUseUnknown);
                }
                if survey.atime_moved {
                    self.notes.say(stale.zone(), Note::AtimeMoved);
                }
                Ok(survey.content)
            }
            (Kind::File, Some(file)) => {
                let mut content = Content::default();
                content.freed.add(facts);
                if self.probe == InUseProbe::On {
                    content.spared = match in_use::probe(file, facts.links) {
                        InUse::Free => None,
                        InUse::Open => Some(Spared::InUse),
                        InUse::Locked => Some(Spared::Busy),
                        InUse::Unknown => {
                            self.notes.say(stale.zone(), Note::InUseUnknown);
                            None
                        }
                    };
                }
                Ok(content)
            }
            // Never opened: there is nothing to ask them.
            (Kind::Symlink | Kind::Special, _) => {
                let mut content = Content::default();
                content.freed.add(facts);
                Ok(content)
            }
            (Kind::Dir | Kind::File, None) => {
                let (place, name) = (stale.place(), Some(stale.name()));
                let error = io::Error::other("it was not opened for its lock");
                Err(Off::Failed(look::failure(place, &place.handle, "look into", name, error)))
            }
        }
    }
}

impl Disk for RealDisk<'_> {
    type Scan = Scan;

    fn open_zone(&self, zone: Zone) -> Result<Option<Scan>, Failure> {
        let dirs = Dirs::open(self.volume, zone, &self.notes)?;
        let on_atime = matches!(zone, Zone::Tmp | Zone::InstanceTmp);
        match &dirs {
            None => self.notes.say(zone, Note::Missing),
            Some(dirs) if on_atime && dirs.places().any(is_noatime) => {
                self.notes.say(zone, Note::NoAtime);
            }
            Some(_) => {}
        }
        if let Some(candidates) = &self.candidates {
            let listing = candidates.open(self.volume, zone)?;
            return Ok(Some(Scan(Source::Listing(listing))));
        }
        Ok(dirs.map(|dirs| Scan(Source::Dirs(dirs))))
    }

    fn sight<'s>(
        &self,
        scan: &'s Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s> {
        match &scan.0 {
            Source::Dirs(dirs) => dirs.next(buffer, self.onlooker(), each),
            Source::Listing(listing) => listing.next(self.volume, self.onlooker(), each),
        }
    }

    fn another_round(&self) -> More {
        self.candidates.as_ref().map_or(More::No, |list| list.another_round(self.onlooker()))
    }

    fn look_again(&self, claim: Claim, now: Moment) -> Result<Condemned, Reprieve> {
        let stale = claim.stale();
        let place = Arc::clone(stale.place());
        let facts =
            match look::at(&place.handle, stale.name(), place.mount, look::Freshness::Synced) {
                Ok(facts) => facts,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(claim.spare(Spared::Gone));
                }
                Err(error) => {
                    let failure =
                        look::failure(&place, &place.handle, "look at", Some(stale.name()), error);
                    return Err(claim.fail(failure));
                }
            };
        let rechecked = claim.recheck(facts, now)?;
        match self.content(&rechecked, now) {
            Ok(content) => rechecked.condemn(content, now),
            Err(Off::Failed(failure)) => Err(rechecked.fail(failure)),
            Err(_) => Err(rechecked.stop()),
        }
    }

    fn remove(&self, condemned: Condemned, now: Moment) -> Result<Removed, Reprieve> {
        remove::remove(condemned, now, self.probe, &self.ledger, &self.notes, self.means())
    }

    fn notes(&self, zone: Zone) -> Vec<String> {
        self.notes.of(zone)
    }
}

/// The same looks at the same volume, and no way to remove anything.
#[derive(Debug)]
pub struct Rehearsal<'v>(RealDisk<'v>);

impl<'v> Rehearsal<'v> {
    /// Rehearses what would be done to `disk`.
    pub const fn of(disk: RealDisk<'v>) -> Self {
        Self(disk)
    }
}

impl Disk for Rehearsal<'_> {
    type Scan = Scan;

    fn open_zone(&self, zone: Zone) -> Result<Option<Scan>, Failure> {
        self.0.open_zone(zone)
    }

    fn sight<'s>(
        &self,
        scan: &'s Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s> {
        self.0.sight(scan, buffer, each)
    }

    fn another_round(&self) -> More {
        self.0.another_round()
    }

    fn look_again(&self, claim: Claim, now: Moment) -> Result<Condemned, Reprieve> {
        self.0.look_again(claim, now)
    }

    fn remove(&self, condemned: Condemned, _now: Moment) -> Result<Removed, Reprieve> {
        let stale = condemned.stale();
        let place = Arc::clone(stale.place());
        // What a real removal would fail at, as far as one can ask.
        if let Err(error) = look::may_change(&place.handle) {
            let name = Some(stale.name());
            let failure = look::failure(&place, &place.handle, "unlink", name, error);
            return Err(condemned.not_removed(Off::Failed(failure), Bytes(0)));
        }
        let freed = self.0.ledger.charge(condemned.freed());
        Ok(condemned.removed(freed))
    }

    fn notes(&self, zone: Zone) -> Vec<String> {
        self.0.notes(zone)
    }
}

/// Sees one entry of an open directory, for those who ask about a single path.
///
/// # Errors
/// It is not there, or cannot be looked at.
pub fn sight<'a>(place: &'a Arc<Place>, name: &'a CStr) -> Result<Sighting<'a>, Failure> {
    let facts = look::at(&place.handle, name, place.mount, look::Freshness::Synced)
        .map_err(|error| look::failure(place, &place.handle, "look at", Some(name), error))?;
    Ok(Sighting { zone: place.zone, place, dir: &place.dir, name, facts })
}

/// The directory at `path` (relative to the volume) as a place of `zone`.
///
/// # Errors
/// A step of the path is not a directory that may be entered.
pub fn place(volume: &Volume, zone: Zone, path: &Path) -> Result<Arc<Place>, Failure> {
    let steps = path.components().map(std::path::Component::as_os_str);
    scan::enter(volume, zone, steps, &Notes::default()).map(Arc::new)
}

fn is_noatime(place: &Place) -> bool {
    fstatvfs(&place.handle).is_ok_and(|vfs| vfs.f_flag.contains(StatVfsMountFlags::NOATIME))
}
