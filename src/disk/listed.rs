//! Entries that somebody else found: paths from a list, instead of a look at the whole zone.
//!
//! It must not judge or change anything, and a path in a list gives no right to anything: each is the
//! path of a unit of a swept zone or it is refused, and then it takes the line as if it had been found
//! here. So a list can make a pass look at less, and never remove what a pass would not.
//!
//! Lists can be longer than memory. A thread of its own reads them, so that a writer that is slow keeps
//! nobody from being stopped, and a pass makes a round over its zones for each megabyte. A path that is
//! there twice in one is looked at once; farther apart it is met again, and found gone or as it was.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Onlooker;
use super::instances::Layout;
use super::scan::{enter, sight, step_into, volume_place};
use crate::condemn::{Failure, More, Place, Seen, Step};
use crate::look::Across;
use crate::retention::Zone;
use crate::volume::{Unit, Volume};

/// How much of a list a round is made of.
const ROUND: usize = 1024 * 1024;

/// No path is so long.
const TOO_LONG: usize = 64 * 1024;

/// How many entries a worker takes at once.
const HANDFUL: usize = 256;

/// Between two looks at whether the pass was stopped, while the list's writer has nothing for us.
const PATIENCE: Duration = Duration::from_millis(50);

/// A list of paths, NUL-separated.
#[derive(Debug)]
pub struct Candidates {
    zones: Vec<Zone>,
    /// How the data root may be spelled in it.
    roots: Vec<PathBuf>,
    rounds: Mutex<Receiver<io::Result<Vec<u8>>>>,
    /// What the present round has for each zone.
    found: Mutex<BTreeMap<Zone, Vec<Candidate>>>,
}

/// What a path in a list comes to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    /// A unit.
    Unit { dir: PathBuf, name: CString },
    /// It is not looked at, for this reason.
    Refused { path: CString, why: String },
}

impl Candidates {
    /// The paths in `list`, for a pass over `zones`: absolute below the data root, or relative to it.
    ///
    /// # Errors
    /// What keeps the thread from starting that reads it.
    pub fn new(
        list: impl Read + Send + 'static,
        volume: &Volume,
        zones: &[Zone],
    ) -> io::Result<Self> {
        let given = volume.path().to_owned();
        let spelled = [std::path::absolute(&given), given.canonicalize()];
        let mut roots: Vec<PathBuf> = spelled.into_iter().flatten().chain([given]).collect();
        roots.dedup();
        let (to, rounds) = sync_channel(1);
        let reader = move || read(BufReader::with_capacity(64 * 1024, list), &to);
        std::thread::Builder::new().spawn(reader)?;
        let (zones, rounds, found) = (zones.to_owned(), Mutex::new(rounds), Mutex::default());
        Ok(Self { zones, roots, rounds, found })
    }

    /// Waits for the next round's paths, unless the pass is stopped.
    pub(super) fn another_round(&self, onlooker: Onlooker<'_>) -> More {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        while !onlooker.stop.is_raised() {
            match rounds.recv_timeout(PATIENCE) {
                Ok(round) => {
                    let found = self.sort(round, onlooker);
                    *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
                    return More::Yes;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return More::No,
            }
        }
        More::No
    }

    /// Sorts paths by the zone that they are units of. What is none is told of in the zone that it lies
    /// in, or else in the first.
    fn sort(
        &self,
        round: io::Result<Vec<u8>>,
        onlooker: Onlooker<'_>,
    ) -> BTreeMap<Zone, Vec<Candidate>> {
        let mut found: BTreeMap<Zone, Vec<Candidate>> = BTreeMap::new();
        let first = self.zones.first().copied().unwrap_or(Zone::Export);
        match round {
            Ok(bytes) => {
                for path in bytes.split_inclusive(|byte| *byte == 0) {
                    let path = path.strip_suffix(b"\0").unwrap_or(path);
                    let (zone, candidate) = self.read(path, first);
                    let is_ours = match &candidate {
                        Candidate::Unit { dir, name } => onlooker.owns(dir, name),
                        Candidate::Refused { path, .. } => onlooker.owns("".as_ref(), path),
                    };
                    if is_ours {
                        found.entry(zone).or_default().push(candidate);
                    }
                }
            }
            Err(error) => {
                let why = format!("the list broke off: {error}");
                found.insert(first, vec![Candidate::Refused { path: CString::default(), why }]);
            }
        }
        for candidates in found.values_mut() {
            // Those of one directory together: it is opened once.
            candidates.sort_unstable();
            candidates.dedup();
        }
        found
    }

    fn read(&self, path: &[u8], first: Zone) -> (Zone, Candidate) {
        let full = Path::new(OsStr::from_bytes(path));
        let plain = full.strip_prefix(".").unwrap_or(full);
        let below = self.roots.iter().filter_map(|root| full.strip_prefix(root).ok());
        let mut around = None;
        for relative in plain.is_relative().then_some(plain).into_iter().chain(below) {
            if let Some(unit) = Unit::of(relative, &self.zones) {
                if unit.path() == relative && self.zones.contains(&unit.zone) {
                    return (unit.zone, Candidate::Unit { dir: unit.dir, name: unit.name });
                }
                around.get_or_insert(unit);
            }
        }
        let is_below = full.is_relative() || self.roots.iter().any(|root| full.starts_with(root));
        let why = match &around {
            _ if path.len() >= TOO_LONG => {
                "longer than any path: is the list NUL-separated?".into()
            }
            _ if path.contains(&b'\n') => {
                "no entry of a zone; it has line breaks, and paths must end with NUL, as those of \
                 find -print0 do"
                    .into()
            }
            Some(unit) if !self.zones.contains(&unit.zone) => {
                format!("the zone {} is not swept", unit.zone.name())
            }
            Some(unit) => {
                format!("entries are judged as a whole: list {:?} instead", unit.path())
            }
            None if is_below => "no entry of a zone".into(),
            None => "not under the data root".into(),
        };
        let swept = around.map(|unit| unit.zone).filter(|zone| self.zones.contains(zone));
        let path = CString::new(&path[..path.len().min(TOO_LONG)]).unwrap_or_default();
        (swept.unwrap_or(first), Candidate::Refused { path, why })
    }

    /// What this round has for a zone.
    pub(super) fn open(&self, volume: &Volume, zone: Zone) -> Result<Listing, Failure> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = Mutex::new(found.remove(&zone).unwrap_or_default().into_iter());
        Ok(Listing { root: volume_place(volume, zone)?, rest })
    }
}

/// Reads a list to its end, a round at a time, as long as somebody takes them.
fn read(mut list: impl BufRead, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut round = Vec::new();
        let end = loop {
            match read_path(&mut list, &mut round) {
                Ok(More::Yes) if round.len() < ROUND => {}
                other => break other,
            }
        };
        if !round.is_empty() && to.send(Ok(round)).is_err() {
            return;
        }
        match end {
            Ok(More::Yes) => {}
            Ok(More::No) => return,
            Err(error) => {
                // Nobody listens once the pass is over.
                let _ = to.send(Err(error));
                return;
            }
        }
    }
}

/// Reads one path with its NUL; of what is too long to be one, no more than shows that.
fn read_path(list: &mut impl BufRead, to: &mut Vec<u8>) -> io::Result<More> {
    let start = to.len();
    loop {
        let bytes = match list.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // Half a path may be another's.
                to.truncate(start);
                return Err(error);
            }
        };
        if bytes.is_empty() {
            return Ok(More::No);
        }
        let end = bytes.iter().position(|byte| *byte == 0);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = TOO_LONG.saturating_sub(to.len() - start);
        to.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        list.consume(used);
        if end.is_some() {
            to.push(0);
            return Ok(More::Yes);
        }
    }
}

/// What one round has for one zone, dealt to workers.
#[derive(Debug)]
pub(super) struct Listing {
    /// The data root.
    root: Place,
    rest: Mutex<std::vec::IntoIter<Candidate>>,
}

impl Listing {
    /// Looks at the next handful.
    pub(super) fn next(
        &self,
        volume: &Volume,
        onlooker: Onlooker<'_>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'_> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let handful: Vec<Candidate> = rest.by_ref().take(HANDFUL).collect();
        drop(rest);
        let more = if handful.is_empty() { More::No } else { More::Yes };
        let mut names = 0;
        let mut open: Option<Arc<Place>> = None;
        for candidate in handful {
            if onlooker.stop.is_raised() {
                break;
            }
            names += 1;
            let (dir, name) = match candidate {
                Candidate::Unit { dir, name } => (dir, name),
                Candidate::Refused { path, why } => {
                    self.refuse(&path, why, each);
                    continue;
                }
            };
            let place = match open.take().filter(|place| place.dir == dir) {
                Some(place) => place,
                None => match self.reach(volume, &dir, onlooker) {
                    Ok(place) => Arc::new(place),
                    Err(failure) => {
                        self.tell_unreached(
                            &Unit { zone: self.root.zone, dir, name },
                            failure,
                            each,
                        );
                        continue;
                    }
                },
            };
            sight(&place, &name, onlooker, each);
            open = Some(place);
        }
        // Instances' entries are counted by collection, which the data root is not.
        let is_flat = Layout::of(self.root.zone) == Layout::Flat;
        Step { more, root: is_flat.then_some(&self.root), names }
    }

    /// Steps down to where a unit lies, as a look at the whole zone would.
    fn reach(&self, volume: &Volume, dir: &Path, onlooker: Onlooker<'_>) -> Result<Place, Failure> {
        let zone = self.root.zone;
        let fixed = if Layout::of(zone) == Layout::Flat { dir.iter().count() } else { 1 };
        let mut place = enter(volume, zone, dir.iter().take(fixed), onlooker.notes)?;
        for step in dir.iter().skip(fixed) {
            let step = CString::new(step.as_bytes()).unwrap_or_default();
            place = step_into(&place, &step, Across::SameMount, onlooker.notes)?;
        }
        Ok(place)
    }

    fn tell_unreached(&self, unit: &Unit, failure: Failure, each: &mut impl FnMut(Seen<'_>)) {
        let name = CString::new(unit.path().into_os_string().as_bytes()).unwrap_or_default();
        if failure.error.kind() == io::ErrorKind::NotFound {
            each(Seen::Gone(&self.root, &name));
        } else {
            each(Seen::Failed(&self.root, Some(&name), failure));
        }
    }

    fn refuse(&self, path: &CString, why: String, each: &mut impl FnMut(Seen<'_>)) {
        let failure = Failure {
            zone: self.root.zone,
            doing: "take from the list",
            path: PathBuf::from(OsStr::from_bytes(path.to_bytes())),
            error: io::Error::other(why),
            hint: None,
        };
        each(Seen::Failed(&self.root, Some(path), failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rounds of a list.
    fn rounds(list: impl Read) -> Vec<io::Result<Vec<u8>>> {
        let (to, from) = sync_channel(1000);
        read(BufReader::with_capacity(7, list), &to);
        drop(to);
        from.into_iter().collect()
    }

    #[test]
    fn a_list_is_read_in_rounds_that_end_with_a_path() {
        let path = b"tmp/a-path-of-some-length\0";
        let list = path.repeat(100_000);
        let mut read = Vec::new();
        for round in rounds(list.as_slice()) {
            let round = round.unwrap();
            assert!(round.len() < ROUND + path.len() && round.len() % path.len() == 0);
            read.extend(round);
        }
        assert_eq!(read, list);
        assert!(rounds(&b""[..]).is_empty());
        let unended = rounds(&b"tmp/a\0tmp/b"[..]);
        assert_eq!(unended[0].as_ref().unwrap(), b"tmp/a\0tmp/b", "the last NUL may be left out");
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn what_is_too_long_costs_no_memory_and_half_a_path_is_none() {
        let long = io::repeat(b'x').take(50 << 20).chain(&b"\0tmp/a\0"[..]);
        let read = rounds(long).remove(0).unwrap();
        assert_eq!(read.len(), TOO_LONG + 1 + b"tmp/a\0".len());
        let mut broken = rounds(b"tmp/a\0tmp/b".chain(Broken)).into_iter();
        assert_eq!(broken.next().unwrap().unwrap(), b"tmp/a\0");
        assert!(broken.next().unwrap().is_err() && broken.next().is_none());
    }
}
