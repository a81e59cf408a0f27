//! Entries from a list of paths, instead of a look at the whole zone.
//!
//! This module must not judge or change anything, and being listed gives a path no privilege: it must be the path of
//! an entry of a swept zone, which is then judged like any other. So a list can make a pass look at less, and
//! never remove more.
//!
//! Lists can be longer than memory. A thread of its own reads them, so that a slow writer does not keep a
//! pass from being stopped, and a pass makes a round over its zones for each megabyte. A path that is listed
//! twice in one round is looked at once; in different rounds it is found gone or as it was.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::context::ScanContext;
use super::enter::{data_root, look, open_directory};
use crate::control::Control;
use crate::fs::DataRoot;
use crate::protocol::{Directory, Failure, Found, ScanBatch};
use crate::rules::names::is_quarantine;
use crate::rules::zone::EntryPath;
use crate::rules::{Action, Shape, Zone, ZoneName};
use crate::units;

/// How much of a list is one round.
const ROUND: usize = 1024 * 1024;

/// No path is as long as this.
const TOO_LONG: usize = 64 * 1024;

/// How many entries a worker takes at once: no more than a pass queues, so that others help with trees.
const BATCH: usize = 128;

/// How long to wait for the writer of the list before asking again whether the pass is stopped.
const PATIENCE: Duration = Duration::from_millis(50);

/// The note on a private directory of a removal.
const PRIVATE: &str = "the list names a private directory of sweeper: a run without a list deals with what an \
                       interrupted run has left in it";

/// Why a path with line breaks is refused, and one that ends with one instead of a NUL.
const LINE_BREAKS: &str = "not an entry of a zone; it contains line breaks, and paths must end with NUL, as with find -print0";

/// Why a relative path is refused.
const NO_SUCH: &str =
    "no entry has such a path: a path in a list is absolute, or relative to the data root";

/// A list of paths, each ended by a NUL.
#[derive(Debug)]
pub struct PathList {
    /// The zones that are swept, then all others.
    zones: Vec<Arc<Zone>>,
    swept: usize,
    /// How the data root may be written in it.
    roots: Vec<PathBuf>,
    /// Directories below the data root that are elsewhere, and where.
    places: Vec<(PathBuf, PathBuf)>,
    rounds: Mutex<Receiver<io::Result<Vec<u8>>>>,
    /// What the present round has for each zone.
    found: Mutex<BTreeMap<ZoneName, Vec<Candidate>>>,
}

/// What a path in a list is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    /// An entry.
    Entry(EntryPath),
    /// It is not looked at, for this reason.
    Refused { path: CString, why: Cow<'static, str> },
}

impl PathList {
    /// The paths in `list`, for a pass over `swept` zones: absolute, or relative to the data root. The
    /// `others` are zones that exist and are not swept.
    ///
    /// # Errors
    /// The thread that reads the list cannot be started.
    pub fn new(
        list: Box<dyn Read + Send>,
        root: &DataRoot,
        swept: &[Arc<Zone>],
        others: &[Arc<Zone>],
    ) -> io::Result<Self> {
        let given = root.path().to_owned();
        let spelled = [std::path::absolute(&given), given.canonicalize()];
        let mut roots: Vec<PathBuf> = spelled.into_iter().flatten().chain([given]).collect();
        roots.dedup();
        let (to, rounds) = sync_channel(1);
        let reader = move || read(BufReader::with_capacity(64 * 1024, list), &to);
        std::thread::Builder::new().spawn(reader)?;
        let zones = swept.iter().chain(others).cloned().collect();
        let (rounds, found) = (Mutex::new(rounds), Mutex::default());
        let places = root.places().to_vec();
        Ok(Self { zones, swept: swept.len(), roots, places, rounds, found })
    }

    /// Waits for the paths of the next round, unless the pass is stopped.
    pub(super) fn next_round<C: Control>(&self, context: ScanContext<'_, C>) -> bool {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        while !context.control.is_stopped() {
            match rounds.recv_timeout(PATIENCE) {
                Ok(round) => {
                    let found = self.sort(round, context);
                    *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    /// Sorts paths by zone. A path that is no entry is reported in the zone that it is in, or else in the
    /// first.
    fn sort<C: Control>(
        &self,
        round: io::Result<Vec<u8>>,
        context: ScanContext<'_, C>,
    ) -> BTreeMap<ZoneName, Vec<Candidate>> {
        let mut found: BTreeMap<ZoneName, Vec<Candidate>> = BTreeMap::new();
        let Some(first) = self.zones.first().map(|zone| &zone.name) else { return found };
        match round {
            Ok(bytes) => {
                for path in bytes.split_inclusive(|byte| *byte == 0) {
                    let (zone, candidate) = match path.strip_suffix(b"\0") {
                        None if path.ends_with(b"\n") => (first, refused(path, LINE_BREAKS.into())),
                        whole => self.read(whole.unwrap_or(path), first),
                    };
                    let is_ours = match &candidate {
                        Candidate::Entry(entry) => context.owns(&entry.dir, &entry.name),
                        Candidate::Refused { path, .. } => context.owns("".as_ref(), path),
                    };
                    let known = found.entry(zone.clone()).or_default();
                    // There may be very many bytes that are no path.
                    if is_ours && known.last() != Some(&candidate) {
                        known.push(candidate);
                    }
                }
            }
            Err(error) => {
                let error = units::error(&error);
                let why = format!("the list could not be read to the end: {error}").into();
                found.insert(first.clone(), vec![refused(b"", why)]);
            }
        }
        for candidates in found.values_mut() {
            // Entries of one directory together: it is opened once.
            candidates.sort_unstable();
            candidates.dedup();
        }
        found
    }

    fn read<'a>(&'a self, path: &[u8], first: &'a ZoneName) -> (&'a ZoneName, Candidate) {
        let full = Path::new(OsStr::from_bytes(path));
        let plain = full.strip_prefix(".").unwrap_or(full);
        let below = self.roots.iter().filter_map(|root| full.strip_prefix(root).ok());
        let placed = self.places.iter().find_map(|(inside, place)| {
            full.strip_prefix(place).ok().map(|rest| inside.join(rest))
        });
        let mut around = None;
        for relative in [plain].into_iter().chain(below).chain(placed.as_deref()) {
            for (index, zone) in self.zones.iter().enumerate() {
                let Some(entry) = zone.location.entry_of(relative) else { continue };
                let is_private = is_quarantine(entry.name.to_bytes());
                if index < self.swept && (is_private || entry.path() == relative) {
                    return (&zone.name, Candidate::Entry(entry));
                }
                around.get_or_insert((&zone.name, entry, index < self.swept));
            }
        }
        let is_below = self.roots.iter().any(|root| full.starts_with(root));
        let why: Cow<'static, str> = match &around {
            _ if path.len() >= TOO_LONG => {
                "longer than any path: is the list NUL-separated?".into()
            }
            _ if path.contains(&b'\n') => LINE_BREAKS.into(),
            Some((zone, _, false)) => format!("the zone {zone} is not swept").into(),
            Some((_, entry, true)) => {
                format!("an entry is judged as a whole: list {:?} instead", entry.path()).into()
            }
            None if full.is_relative() => NO_SUCH.into(),
            None if is_below => "not an entry of a zone".into(),
            None => "not below the data root".into(),
        };
        let zone = around.filter(|(_, _, is_swept)| *is_swept).map_or(first, |(zone, _, _)| zone);
        (zone, refused(path, why))
    }

    /// What this round has for a zone.
    pub(super) fn open(&self, root: &DataRoot, zone: &Arc<Zone>) -> Result<Round, Failure> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = Mutex::new(found.remove(&zone.name).unwrap_or_default().into_iter());
        Ok(Round { root: data_root(root, zone)?, rest })
    }
}

fn refused(path: &[u8], why: Cow<'static, str>) -> Candidate {
    let path = CString::new(&path[..path.len().min(TOO_LONG)]).unwrap_or_default();
    Candidate::Refused { path, why }
}

/// Reads a list to its end, one round at a time, as long as rounds are taken.
fn read(mut list: impl BufRead, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut round = Vec::new();
        let has_more = loop {
            match read_path(&mut list, &mut round) {
                Ok(true) if round.len() < ROUND => {}
                other => break other,
            }
        };
        if !round.is_empty() && to.send(Ok(round)).is_err() {
            return;
        }
        match has_more {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Nothing receives it once the pass is over.
                let _ = to.send(Err(error));
                return;
            }
        }
    }
}

/// Reads one path with its NUL; of one that is too long, no more than shows that. Whether there are more.
fn read_path(list: &mut impl BufRead, to: &mut Vec<u8>) -> io::Result<bool> {
    let start = to.len();
    loop {
        let bytes = match list.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // Half a path may be the path of something else.
                to.truncate(start);
                return Err(error);
            }
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        let end = bytes.iter().position(|byte| *byte == 0);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = TOO_LONG.saturating_sub(to.len() - start);
        to.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        list.consume(used);
        if end.is_some() {
            to.push(0);
            return Ok(true);
        }
    }
}

/// What one round has for one zone, handed to workers.
#[derive(Debug)]
pub(super) struct Round {
    /// The data root.
    root: Directory,
    rest: Mutex<std::vec::IntoIter<Candidate>>,
}

impl Round {
    /// Looks at the next batch.
    pub(super) fn next<C: Control>(
        &self,
        root: &DataRoot,
        context: ScanContext<'_, C>,
        each: &mut impl FnMut(Found<'_>),
    ) -> ScanBatch<'_> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let batch: Vec<Candidate> = rest.by_ref().take(BATCH).collect();
        drop(rest);
        let has_more = !batch.is_empty();
        let mut names = 0;
        let mut open: Option<Arc<Directory>> = None;
        for candidate in batch {
            if context.control.is_stopped() {
                break;
            }
            names += 1;
            let entry = match candidate {
                Candidate::Entry(entry) => entry,
                Candidate::Refused { path, why } => {
                    self.refuse(&path, why, each);
                    continue;
                }
            };
            if is_quarantine(entry.name.to_bytes()) {
                context.notes.add(&self.root.zone.name, PRIVATE);
                continue;
            }
            let directory = match open.take().filter(|directory| directory.dir == entry.dir) {
                Some(directory) => directory,
                None => match open_directory(root, &self.root.zone, &entry.dir, context.notes) {
                    Ok(directory) => directory,
                    Err(failure) => {
                        self.report_unreached(&entry, failure, each);
                        continue;
                    }
                },
            };
            look(&directory, &entry.name, context, each);
            open = Some(directory);
        }
        // Entries of instances are counted by the directory of the instances, which the data root is not.
        let is_flat = self.root.zone.location.shape == Shape::Flat;
        ScanBatch { has_more, root: is_flat.then_some(&self.root), names, is_cold: false }
    }

    fn report_unreached(
        &self,
        entry: &EntryPath,
        failure: Failure,
        each: &mut impl FnMut(Found<'_>),
    ) {
        let name = CString::new(entry.path().into_os_string().as_bytes()).unwrap_or_default();
        if failure.error.kind() == io::ErrorKind::NotFound {
            each(Found::Gone(&self.root, &name));
        } else {
            each(Found::Failed(&self.root, Some(&name), failure));
        }
    }

    fn refuse(&self, path: &CString, why: Cow<'static, str>, each: &mut impl FnMut(Found<'_>)) {
        let hint = (why == NO_SUCH).then(|| format!("the data root is {:?}", self.root.path));
        let failure = Failure {
            zone: self.root.zone.name.clone(),
            action: Action::ReadList,
            path: PathBuf::from(OsStr::from_bytes(path.to_bytes())),
            error: io::Error::other(why.into_owned()),
            hint,
        };
        each(Found::Failed(&self.root, Some(path), failure));
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
    fn a_path_that_is_too_long_costs_no_memory_and_half_a_path_is_dropped() {
        let long = io::repeat(b'x').take(50 << 20).chain(&b"\0tmp/a\0"[..]);
        let read = rounds(long).remove(0).unwrap();
        assert_eq!(read.len(), TOO_LONG + 1 + b"tmp/a\0".len());
        let mut broken = rounds(b"tmp/a\0tmp/b".chain(Broken)).into_iter();
        assert_eq!(broken.next().unwrap().unwrap(), b"tmp/a\0");
        assert!(broken.next().unwrap().is_err() && broken.next().is_none());
    }
}
