//! The least work that the kernel allows for a sweep: what any program that judges the same entries must do.
//! Nothing is parsed or reported, and only those calls are made without which the result would differ.
//!
//! ```text
//! floor flat DIR [--ttl SECS] [--remove] [--guarded] [--threads N]
//!     The files of one directory, judged by mtime. --guarded makes the calls that a careful sweep
//!     makes for a file that is removed: open, lock, two more looks, a probe whether it is open
//!     elsewhere, unlink, close.
//! floor trees DIR [--ttl SECS] [--deep] [--remove] [--threads N]
//!     The entries of a directory, each judged by its own atime, or with --deep by the newest use of
//!     anything in it. One that has expired is removed with all that is in it.
//! floor instances DATA [--both] [--remove] [--threads N]
//!     {projects,tasks,jobs}/<id>/tmp/export_cache, with --both also <id>/export_cache: every file in
//!     it looked at, and with --remove removed.
//! ```
//!
//! Prints one line: how many entries were seen, had expired, and were removed. Any error ends it, because a
//! floor that left out work would be too low.

use std::error::Error;
use std::ffi::CStr;
use std::fs::File;
use std::ops::AddAssign;
use std::ops::ControlFlow::{self, Break, Continue};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use retention_sweeper::fs::lease::{self, InUse};
use retention_sweeper::rules::FileSystem;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawDir, RawDirEntry, Statx, StatxFlags,
    flock, openat, statx, unlinkat,
};
use rustix::io::{Errno, Result};

/// A larger one saves no calls worth measuring, and does not fit into the processor's cache.
const BUFFER: usize = 64 * 1024;
/// What a thread takes at a time where each entry is much work, so that all threads end together.
const HELPING: usize = 4 * 1024;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOATIME);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const FIRST_LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::STATX_DONT_SYNC);

/// What is to be done with the entries.
#[derive(Clone, Copy)]
struct Orders {
    /// Used before this second of the Unix epoch: expired.
    cutoff: i64,
    remove: bool,
    /// `--guarded`, `--deep` or `--both`.
    thorough: bool,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    seen: u64,
    expired: u64,
    removed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.expired += other.expired;
        self.removed += other.removed;
    }
}

/// One thread's work on one entry of a directory.
type Work = fn(&mut Worker, BorrowedFd<'_>, &RawDirEntry<'_>) -> Result<()>;

struct Worker {
    orders: Orders,
    tally: Tally,
    /// Buffers for directories below the one that is shared, one per level.
    spare: Vec<Vec<u8>>,
    /// The path of an instance's cache, built in place.
    path: Vec<u8>,
}

impl Worker {
    fn new(orders: Orders) -> Self {
        Self { orders, tally: Tally::default(), spare: Vec::new(), path: Vec::new() }
    }

    /// Calls `each` for all names in a directory or until it breaks, with a buffer from `spare`.
    fn list(
        &mut self,
        dir: &OwnedFd,
        mut each: impl FnMut(&mut Self, &RawDirEntry<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER));
        let mut list = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut flow = Continue(());
        while flow.is_continue() {
            let Some(entry) = list.next().transpose()? else { break };
            if !is_dots(entry.file_name()) {
                flow = each(self, &entry)?;
            }
        }
        self.spare.push(buffer);
        Ok(flow)
    }

    // ---- one flat directory ----

    fn file(&mut self, dir: BorrowedFd<'_>, entry: &RawDirEntry<'_>) -> Result<()> {
        let name = entry.file_name();
        if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
            return Ok(());
        }
        let seen = statx(dir, name, FIRST_LOOK, StatxFlags::TYPE | StatxFlags::MTIME)?;
        if !FileType::from_raw_mode(seen.stx_mode.into()).is_file() {
            return Ok(());
        }
        self.tally.seen += 1;
        if seen.stx_mtime.tv_sec >= self.orders.cutoff {
            return Ok(());
        }
        self.tally.expired += 1;
        if !self.orders.remove {
            return Ok(());
        }
        if self.orders.thorough {
            self.remove_guarded(dir, name)
        } else {
            self.remove(dir, name, AtFlags::empty())
        }
    }

    /// The calls that must be made between the verdict on a file and its removal, because other processes may
    /// use, lock or replace it.
    fn remove_guarded(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let file = File::from(openat(dir, name, FILE, Mode::empty())?);
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let wanted = StatxFlags::TYPE | StatxFlags::MTIME | StatxFlags::INO;
        let held = statx(&file, c"", AtFlags::EMPTY_PATH, wanted)?;
        let named = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let is_same = held.stx_ino == named.stx_ino && held.stx_mtime.tv_sec < self.orders.cutoff;
        if is_same && lease::probe(&file, FileSystem::Local, 1) == InUse::Free {
            self.remove(dir, name, AtFlags::empty())?;
        }
        Ok(())
    }

    fn remove(&mut self, dir: impl AsFd, name: &CStr, how: AtFlags) -> Result<()> {
        unlinkat(dir, name, how)?;
        self.tally.removed += 1;
        Ok(())
    }

    // ---- trees ----

    fn tree(&mut self, dir: BorrowedFd<'_>, entry: &RawDirEntry<'_>) -> Result<()> {
        let name = entry.file_name();
        self.tally.seen += 1;
        let wanted = StatxFlags::TYPE | StatxFlags::ATIME | StatxFlags::MTIME;
        let seen = statx(dir, name, FIRST_LOOK, wanted)?;
        if seen.stx_atime.tv_sec >= self.orders.cutoff {
            return Ok(());
        }
        let is_dir = FileType::from_raw_mode(seen.stx_mode.into()).is_dir();
        if self.orders.thorough && is_dir && self.has_fresh(dir, name)? {
            return Ok(());
        }
        self.tally.expired += 1;
        if !self.orders.remove {
            Ok(())
        } else if is_dir {
            self.remove_tree(dir, name)
        } else {
            self.remove(dir, name, AtFlags::empty())
        }
    }

    /// Whether anything in it was used since the cutoff. The first such thing ends the search.
    fn has_fresh(&mut self, parent: impl AsFd, name: &CStr) -> Result<bool> {
        let dir = openat(parent, name, DIRECTORY, Mode::empty())?;
        let flow = self.list(&dir, |worker, entry| {
            let name = entry.file_name();
            let wanted = StatxFlags::TYPE | StatxFlags::ATIME | StatxFlags::MTIME;
            let seen = statx(&dir, name, FIRST_LOOK, wanted)?;
            let is_fresh = newest(&seen) >= worker.orders.cutoff
                || (FileType::from_raw_mode(seen.stx_mode.into()).is_dir()
                    && worker.has_fresh(&dir, name)?);
            Ok(if is_fresh { Break(()) } else { Continue(()) })
        })?;
        Ok(flow.is_break())
    }

    fn remove_tree(&mut self, parent: impl AsFd, name: &CStr) -> Result<()> {
        let dir = openat(&parent, name, DIRECTORY, Mode::empty())?;
        let _ = self.list(&dir, |worker, entry| {
            if entry.file_type() == FileType::Directory {
                worker.remove_tree(&dir, entry.file_name())?;
            } else {
                worker.remove(&dir, entry.file_name(), AtFlags::empty())?;
            }
            Ok(Continue(()))
        })?;
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    // ---- old caches of instances ----

    fn instance(&mut self, kind: BorrowedFd<'_>, entry: &RawDirEntry<'_>) -> Result<()> {
        self.tally.seen += 1;
        if self.orders.thorough {
            self.cache(kind, entry.file_name(), b"/export_cache\0")?;
        }
        self.cache(kind, entry.file_name(), b"/tmp/export_cache\0")
    }

    /// One call if there is no such cache, as in most instances.
    fn cache(&mut self, kind: BorrowedFd<'_>, id: &CStr, below: &[u8]) -> Result<()> {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        path.extend_from_slice(id.to_bytes());
        path.extend_from_slice(below);
        let name = CStr::from_bytes_with_nul(&path).map_err(|_| Errno::INVAL)?;
        match openat(kind, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => self.empty_cache(kind, &dir, name)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        self.path = path;
        Ok(())
    }

    fn empty_cache(&mut self, kind: BorrowedFd<'_>, dir: &OwnedFd, path: &CStr) -> Result<()> {
        let _ = self.list(dir, |worker, entry| {
            let wanted = StatxFlags::TYPE | StatxFlags::ATIME | StatxFlags::MTIME;
            statx(dir, entry.file_name(), FIRST_LOOK, wanted)?;
            if worker.orders.remove {
                worker.remove(dir, entry.file_name(), AtFlags::empty())?;
            }
            Ok(Continue(()))
        })?;
        self.tally.expired += 1;
        if self.orders.remove { self.remove(kind, path, AtFlags::REMOVEDIR) } else { Ok(()) }
    }
}

fn newest(seen: &Statx) -> i64 {
    seen.stx_atime.tv_sec.max(seen.stx_mtime.tv_sec)
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Shares the entries of a directory among threads, a buffer at a time.
fn share(
    dir: &OwnedFd,
    orders: Orders,
    work: Work,
    threads: usize,
    buffer: usize,
) -> Result<Tally> {
    let turn = Mutex::new(());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| scope.spawn(|| one_share(dir, orders, work, &turn, buffer)))
            .collect();
        let mut sum = one_share(dir, orders, work, &turn, buffer)?;
        for other in others {
            sum += other.join().map_err(|_| Errno::CANCELED)??;
        }
        Ok(sum)
    })
}

/// What one thread does until there are no entries left.
fn one_share(
    dir: &OwnedFd,
    orders: Orders,
    work: Work,
    turn: &Mutex<()>,
    buffer: usize,
) -> Result<Tally> {
    let mut worker = Worker::new(orders);
    let mut buffer = Vec::with_capacity(buffer);
    let mut list = RawDir::new(dir, buffer.spare_capacity_mut());
    loop {
        // The position in a directory is shared, so only one thread at a time may move it.
        let taken = if list.is_buffer_empty() {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            list.next()
        } else {
            list.next()
        };
        let Some(entry) = taken else { return Ok(worker.tally) };
        let entry = entry?;
        if !is_dots(entry.file_name()) {
            work(&mut worker, dir.as_fd(), &entry)?;
        }
    }
}

/// The value after an option, or `without` if it is not given.
fn number<T: FromStr>(arguments: &[String], option: &str, without: T) -> Option<T> {
    match arguments.iter().position(|argument| argument == option) {
        Some(at) => arguments.get(at + 1)?.parse().ok(),
        None => Some(without),
    }
}

#[expect(clippy::disallowed_methods, reason = "an instrument, with a clock of its own")]
fn now() -> std::result::Result<i64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs().try_into()?)
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, DIRECTORY, Mode::empty())
}

fn measure(arguments: &[String]) -> std::result::Result<Option<Tally>, Box<dyn Error>> {
    let [mode, dir, options @ ..] = arguments else { return Ok(None) };
    let given = |option: &str| options.iter().any(|other| other == option);
    let (Some(ttl), Some(threads)) =
        (number(options, "--ttl", 86_400), number(options, "--threads", 1))
    else {
        return Ok(None);
    };
    let thorough = given("--guarded") || given("--deep") || given("--both");
    let orders = Orders { cutoff: now()? - ttl, remove: given("--remove"), thorough };
    let helping = if threads > 1 { HELPING } else { BUFFER };
    let root = open_root(Path::new(dir))?;
    Ok(Some(match mode.as_str() {
        "flat" => share(&root, orders, Worker::file, threads, BUFFER)?,
        "trees" => share(&root, orders, Worker::tree, threads, helping)?,
        "instances" => {
            let mut sum = Tally::default();
            for kind in ["projects", "tasks", "jobs"] {
                let kind = openat(&root, kind, DIRECTORY, Mode::empty())?;
                sum += share(&kind, orders, Worker::instance, threads, helping)?;
            }
            sum
        }
        _ => return Ok(None),
    }))
}

fn main() -> std::result::Result<ExitCode, Box<dyn Error>> {
    lease::ignore_lease_breaks();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Tally { seen, expired, removed }) = measure(&arguments)? else {
        eprintln!(
            "usage: floor flat|trees|instances DIR [options]; see the top of benches/floor.rs"
        );
        return Ok(ExitCode::from(2));
    };
    println!("seen {seen}, expired {expired}, removed {removed}");
    Ok(ExitCode::SUCCESS)
}
