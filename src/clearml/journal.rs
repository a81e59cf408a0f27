//! Records on disk what is about to be deleted, so that no crash loses the address of a file.
//!
//! This module must not delete or ask anything. Each line is one record; a line without an end was never finished and
//! does not count. Of a finished task, only the files that could not be deleted remain.

mod record;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::rows::Id;
use crate::fs::append::{open_existing, open_or_create};
use crate::fs::open;
use crate::units;
pub use record::{Ending, FileEnd, Kind, Left, Record, TaskFile};

/// How far a task in the journal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was about to be deleted at this time.
    Planned(i64),
    /// It is deleted, and not all of its files were tried.
    Deleted,
    /// All of its files were tried, and some of them failed.
    Failed,
    /// All of its files were tried, and nothing deletes the rest.
    Left,
}

/// A task in the journal that is not finished.
#[derive(Debug, Clone)]
struct Open {
    stage: Stage,
    /// Where its records are.
    lines: Vec<u64>,
}

/// The journal of one state directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    server: Option<(String, String)>,
    open: BTreeMap<Id, Open>,
    /// Whether lines of finished tasks are in it.
    has_finished: bool,
}

/// The name of the journal in the state directory.
pub const NAME: &str = "journal.jsonl";

/// How every line begins.
const BEGINNING: &[u8] = b"{\"op\":\"";

/// No line is longer than this.
const LONGEST_LINE: u64 = 64 << 20;

impl Journal {
    /// Opens the journal in `dir` to go on with it. The caller is the only one who does so.
    ///
    /// # Errors
    /// It cannot be opened, or is no journal.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let cannot = |path: &Path, error: &io::Error| format!("{path:?}: {}", units::error(error));
        let path = dir.join(NAME);
        let opened = open_or_create(&path).map_err(|error| cannot(&path, &error))?;
        sync_directory(dir).map_err(|error| cannot(dir, &error))?;
        let mut journal = Self::with(path, opened);
        journal.replay()?;
        // A line that was never finished is cut off.
        journal.file.set_len(journal.length).map_err(|error| journal.cannot(&error))?;
        Ok(journal)
    }

    /// Reads the journal in `dir`, if there is one, which another process may be writing. Nothing is changed.
    ///
    /// # Errors
    /// It cannot be read, or is no journal.
    pub fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(NAME);
        let opened = match open_existing(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{path:?}: {}", units::error(&error))),
        };
        let mut journal = Self::with(path, opened);
        journal.replay()?;
        Ok(Some(journal))
    }

    const fn with(path: PathBuf, file: File) -> Self {
        let open = BTreeMap::new();
        Self { path, file, length: 0, server: None, open, has_finished: false }
    }

    /// Reads all lines but one that was never finished.
    fn replay(&mut self) -> Result<(), String> {
        let mut reader = BufReader::new(&self.file);
        let mut at = 0;
        for number in 1_u64.. {
            let line = read_line(&mut reader).map_err(|error| self.cannot(&error))?;
            let Some(line) = line else { break };
            let record: Record =
                serde_json::from_slice(&line).map_err(|error| self.damaged(number, &error))?;
            note(&mut self.open, &mut self.server, &mut self.has_finished, at, &record);
            at += line.len() as u64 + 1;
        }
        if at == 0 {
            self.check_beginning()?;
        }
        self.length = at;
        Ok(())
    }

    /// Refuses a file without a whole line, unless the line may be one of ours that was never finished.
    fn check_beginning(&self) -> Result<(), String> {
        let mut start = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(BEGINNING.len() as u64).read_to_end(&mut start))
            .map_err(|error| self.cannot(&error))?;
        if BEGINNING.starts_with(&start) {
            return Ok(());
        }
        Err(format!(
            "{:?} is no journal of this program: name another --state directory",
            self.path
        ))
    }

    fn damaged(&self, line: u64, error: &serde_json::Error) -> String {
        format!(
            "{:?}, line {line} is damaged ({error}): keep a copy for the addresses in it, remove this \
             line, and run this again",
            self.path
        )
    }

    fn cannot(&self, error: &io::Error) -> String {
        format!("{:?}: {}", self.path, units::error(error))
    }

    /// Says which server this is about.
    ///
    /// # Errors
    /// The journal is about another one, and not finished; or it cannot be written.
    pub fn begin(&mut self, api: &str, company: &str) -> Result<(), String> {
        match &self.server {
            Some((old, of)) if (old.as_str(), of.as_str()) != (api, company) => {
                if self.open.is_empty() {
                    return self.start_over(api, company);
                }
                Err(format!(
                    "{:?} has unfinished work on {old} (company {of:?}): finish it there, or use another \
                     --state directory",
                    self.path
                ))
            }
            Some(_) => Ok(()),
            None => self.start_over(api, company),
        }
    }

    fn start_over(&mut self, api: &str, company: &str) -> Result<(), String> {
        self.server = Some((api.to_owned(), company.to_owned()));
        self.compact()?;
        self.append(&[Record::Server { api: api.to_owned(), company: company.to_owned() }])
    }

    /// Adds records. They are on disk when this returns.
    ///
    /// # Errors
    /// They are not; none of them counts then.
    pub fn append(&mut self, records: &[Record]) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut starts = Vec::with_capacity(records.len());
        for record in records {
            starts.push(self.length + bytes.len() as u64);
            let before = bytes.len();
            serde_json::to_writer(&mut bytes, record).map_err(|error| error.to_string())?;
            bytes.push(b'\n');
            if (bytes.len() - before) as u64 > LONGEST_LINE {
                return Err(format!("{:?}: {}", self.path, too_long()));
            }
        }
        if let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // Part of it may be there. Nothing is done on the strength of it.
            let _ = self.file.set_len(self.length);
            return Err(self.cannot(&error));
        }
        self.length += bytes.len() as u64;
        for (at, record) in starts.into_iter().zip(records) {
            note(&mut self.open, &mut self.server, &mut self.has_finished, at, record);
        }
        Ok(())
    }

    /// The tasks that are not finished.
    pub fn unfinished(&self) -> Vec<(Id, Stage)> {
        self.open.iter().map(|(id, open)| (*id, open.stage)).collect()
    }

    /// What is left of an unfinished task.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn files_of(&self, task: Id) -> Result<Left, String> {
        let mut left = Left::default();
        let Some(open) = self.open.get(&task) else { return Ok(left) };
        let Left { files, tried, is_told } = &mut left;
        for at in &open.lines {
            match self.record_at(*at)? {
                Record::Plan { files: planned, told, .. } => {
                    files.extend(planned);
                    *is_told = told;
                }
                Record::Deleted { more, .. } => files.extend(more),
                Record::Files { outcomes, .. } => {
                    let ended: HashSet<&str> = outcomes.iter().map(|end| &*end.url).collect();
                    files.retain(|file| !ended.contains(&*file.url));
                    tried.retain(|old| !ended.contains(&*old.url));
                    tried.extend(outcomes);
                }
                Record::Server { .. } | Record::Kept { .. } => {}
            }
        }
        let mut known = HashSet::new();
        files.retain(|file| known.insert(file.url.clone()));
        Ok(left)
    }

    fn line_at(&self, at: u64) -> Result<Vec<u8>, String> {
        let read = || {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(at))?;
            read_line(&mut BufReader::new(file)).map(Option::unwrap_or_default)
        };
        read().map_err(|error| self.cannot(&error))
    }

    fn record_at(&self, at: u64) -> Result<Record, String> {
        serde_json::from_slice(&self.line_at(at)?)
            .map_err(|error| format!("{:?}, byte {at}: {error}", self.path))
    }

    /// Forgets tasks of these stages for good.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn forget(&mut self, is_forgotten: impl Fn(Stage) -> bool) -> Result<usize, String> {
        let before = self.open.len();
        self.open.retain(|_, open| !is_forgotten(open.stage));
        let count = before - self.open.len();
        if count > 0 {
            self.has_finished = true;
            self.compact()?;
        }
        Ok(count)
    }

    /// Writes the journal again without what is finished. It takes the place of the old one at once or not
    /// at all.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub fn compact(&mut self) -> Result<(), String> {
        if !self.has_finished {
            return Ok(());
        }
        let new_path = self.path.with_extension("new");
        let new =
            || open::careful().read(true).append(true).create_new(true).mode(0o600).open(&new_path);
        let new = match new() {
            // A run that was killed has left it. If it is a link, what it leads to stays as it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                TempPath::try_from_path(&new_path).and_then(TempPath::close).and_then(|()| new())
            }
            new => new,
        };
        let mut new = new.map_err(|error| self.cannot(&error))?;
        let mut length = 0;
        let mut write = |bytes: &[u8]| -> Result<(), String> {
            new.write_all(bytes).and_then(|()| new.write_all(b"\n")).map_err(|it| units::error(&it))
        };
        if let Some((api, company)) = self.server.clone() {
            let line = serde_json::to_vec(&Record::Server { api, company });
            let line = line.map_err(|error| error.to_string())?;
            write(&line)?;
            length += line.len() as u64 + 1;
        }
        let mut moved = BTreeMap::new();
        for (id, open) in &self.open {
            let mut lines = Vec::new();
            for at in &open.lines {
                let line = self.line_at(*at)?;
                write(&line)?;
                lines.push(length);
                length += line.len() as u64 + 1;
            }
            moved.insert(*id, Open { stage: open.stage, lines });
        }
        let dir = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        let replaced = new.sync_data().and_then(|()| fs::rename(&new_path, &self.path));
        replaced.map_err(|error| self.cannot(&error))?;
        self.file = new;
        (self.length, self.open, self.has_finished) = (length, moved, false);
        sync_directory(&dir).map_err(|error| self.cannot(&error))
    }
}

/// Takes a record into account.
fn note(
    open: &mut BTreeMap<Id, Open>,
    server: &mut Option<(String, String)>,
    has_finished: &mut bool,
    at: u64,
    record: &Record,
) {
    if let Record::Server { api, company } = record {
        *server = Some((api.clone(), company.clone()));
        return;
    }
    let Some(task) = record.task() else { return };
    let stage = match record {
        Record::Plan { at, .. } => Stage::Planned(*at),
        Record::Deleted { .. } | Record::Files { complete: false, .. } => Stage::Deleted,
        Record::Files { complete: true, outcomes, .. } => {
            let has = |wanted| outcomes.iter().any(|end| end.outcome == wanted);
            if has(Ending::Failed) {
                Stage::Failed
            } else if has(Ending::Left) {
                Stage::Left
            } else {
                *has_finished = true;
                open.remove(&task);
                return;
            }
        }
        Record::Kept { .. } | Record::Server { .. } => {
            *has_finished = true;
            open.remove(&task);
            return;
        }
    };
    let entry = open.entry(task).or_insert_with(|| Open { stage, lines: Vec::new() });
    entry.stage = stage;
    entry.lines.push(at);
}

/// Reads a line without its end. `None`: there is no further line with an end.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    io::Read::take(&mut *reader, LONGEST_LINE).read_until(b'\n', &mut line)?;
    let length = line.len() as u64;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        // Not one that was never finished: there may be more after it.
        _ if length >= LONGEST_LINE => Err(io::Error::other(too_long())),
        _ => Ok(None),
    }
}

fn too_long() -> String {
    format!("a line is longer than {} MiB", LONGEST_LINE >> 20)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
