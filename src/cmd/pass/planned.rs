//! Plans: a dry run that writes down what it would remove, and a pass that removes exactly that.
//!
//! This module must not remove anything, and a plan gives no right to remove: its entries go through the usual
//! pipeline, and stay if they are not as the plan says.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::{
    Claimed, Directory, Disposer, Inspector, Notes, Recovered, Recovery, Rejected, Rejection,
    Removed, Skipped, Verified,
};
use crate::report::plan;
use crate::rules::Moment;

/// Writes a plan.
#[derive(Debug)]
pub struct PlanWriter {
    seed: u64,
    out: Mutex<(BufWriter<File>, io::Result<()>)>,
}

impl PlanWriter {
    /// Writes the line of a header, whose digest is `seed`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(file: File, header: &[u8], seed: u64) -> io::Result<Self> {
        let mut out = BufWriter::new(file);
        out.write_all(header)?;
        Ok(Self { seed, out: Mutex::new((out, Ok(()))) })
    }

    fn write(&self, line: io::Result<(Vec<u8>, u64)>) {
        let mut guard = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, result) = &mut *guard;
        if result.is_ok() {
            *result = line.and_then(|(line, _)| out.write_all(&line));
        }
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// The plan is not complete.
    pub fn finish(self) -> io::Result<()> {
        let (mut out, result) = self.out.into_inner().unwrap_or_else(PoisonError::into_inner);
        result?;
        out.flush()?;
        out.get_ref().sync_all()
    }
}

/// Writes a line for each entry that another disposer would remove.
pub(super) struct Planning<'a, D> {
    pub(super) inner: D,
    pub(super) notes: &'a Notes,
    pub(super) writer: &'a PlanWriter,
}

impl<D: Disposer> Disposer for Planning<'_, D> {
    fn dispose(&self, verified: Verified, now: Moment) -> Result<Removed, Rejected> {
        // The dry run before the line: what cannot be removed is not in the plan.
        let (expired, size) = (verified.expired(), verified.freed().size());
        let has_ctime = !expired.metadata().has_other_names();
        let line = plan::entry(self.writer.seed, expired, size, now, has_ctime);
        let removed = self.inner.dispose(verified, now)?;
        self.writer.write(line);
        Ok(removed)
    }

    /// What an interrupted removal has left has no path that `apply` could remove.
    fn recover(
        &self,
        directory: &Arc<Directory>,
        name: &CStr,
        now: Moment,
        recovery: &mut Recovery<'_>,
    ) {
        let mut is_interrupted = false;
        let mut each = |_: Recovered<'_>| is_interrupted = true;
        self.inner.recover(directory, name, now, &mut Recovery::alone(recovery.judge, &mut each));
        if is_interrupted {
            let path = directory.path_of(name);
            self.notes.add(
                &directory.zone.name,
                format!(
                    "an interrupted removal has left entries in {path:?}, which are not in the plan: `sweeper run` \
                     completes the removal"
                ),
            );
        }
    }
}

/// What a plan allows to remove.
#[derive(Debug)]
pub struct Planned {
    /// The paths, each ended by a NUL.
    pub paths: File,
    /// The digest of the header.
    pub seed: u64,
    /// The digests of the entries.
    pub digests: HashSet<u64>,
    /// How many of its lines cannot be used.
    pub wrong: u64,
}

impl Planned {
    /// That some lines cannot be used, if that is so.
    pub fn note(&self) -> Option<String> {
        let (lines, were) = match self.wrong {
            0 => return None,
            1 => ("line", "was"),
            _ => ("lines", "were"),
        };
        Some(format!("{} {lines} of the plan {were} changed and not applied", self.wrong))
    }
}

/// Looks at entries, and skips what is not as the plan says, if there is one.
pub(super) struct ByPlan<'a, I> {
    pub(super) inner: I,
    pub(super) plan: Option<&'a Planned>,
}

impl<I: Inspector> Inspector for ByPlan<'_, I> {
    fn inspect(&self, claimed: Claimed, now: Moment) -> Result<Verified, Rejected> {
        let verified = self.inner.inspect(claimed, now)?;
        let Some(plan) = self.plan else { return Ok(verified) };
        let (expired, size) = (verified.expired(), verified.freed().size());
        let is_in_plan = |has_ctime| {
            let line = plan::entry(plan.seed, expired, size, now, has_ctime);
            line.is_ok_and(|(_, digest)| plan.digests.contains(&digest))
        };
        // The last name of a file may have been one of several when the plan was made.
        if (!expired.metadata().has_other_names() && is_in_plan(true)) || is_in_plan(false) {
            return Ok(verified);
        }
        Err(verified.reject(Rejection::Skipped(Skipped::Used), None))
    }
}
