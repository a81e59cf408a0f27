//! How zones are swept: really, as a dry run, or only counted.
//!
//! This module must not decide which zones, nor when.

use std::sync::Arc;
use std::time::Duration;

use super::planned::{ByPlan, Planning};
use super::request::PassRequest;
use crate::config::{Config, InUse, PressureSettings};
use crate::dispose::{DryRun, Unlink};
use crate::engine::{Limits, Live, Pass, PassControl, ReliefPlan, Workers};
use crate::fs::DataRoot;
use crate::fs::lease::{self, InUseProbe, breaks};
use crate::inspect::FileInspector;
use crate::lock::Backend;
use crate::os::clock;
use crate::protocol::{Disposer, Journal, MemberLeases, Notes, Observer, Summary};
use crate::rules::select::All;
use crate::rules::{Exclude, Moment, Zone};
use crate::source::{DirectorySource, PathList};

/// What is done.
pub(super) enum Work<'a> {
    /// These zones are swept.
    Sweep(&'a [Arc<Zone>]),
    /// A file system is relieved, after a pass with this summary.
    Relieve(&'a ReliefPlan<'a>, Summary),
}

/// All that a pass needs besides its limits and three of its seams.
pub(super) struct Parts<'a> {
    pub(super) request: &'a PassRequest<'a>,
    pub(super) root: &'a DataRoot,
    pub(super) locks: Backend,
    pub(super) notes: &'a Notes,
    pub(super) workers: &'a Workers,
    pub(super) exclude: &'a Exclude,
    /// Where its counts can be seen meanwhile.
    pub(super) live: &'a Live,
    pub(super) now: Moment,
    /// When and how far file systems are relieved, if they are.
    pub(super) pressure: Option<PressureSettings>,
}

/// How zones are swept.
struct Execution<'a> {
    control: &'a PassControl<'a>,
    live: &'a Live,
    lock_wait: Duration,
}

impl Parts<'_> {
    const fn control<'l>(&'l self, limits: &'l Limits) -> PassControl<'l> {
        PassControl { limits, workers: self.workers }
    }

    /// What a pass would remove now, by a dry run.
    pub(super) fn count(
        &self,
        work: Work<'_>,
        limits: &Limits,
        list: Option<PathList>,
        observer: &dyn Observer,
    ) -> Summary {
        let limits = limits.for_count();
        let control = &self.control(&limits);
        // What is only counted is not among the counts of the pass.
        let execution = Execution { control, live: &Live::default(), lock_wait: Duration::ZERO };
        self.run(
            work,
            &execution,
            list,
            &DryRun::new(control, probe(self.request.config.in_use)),
            observer,
        )
    }

    /// A dry run, which may write a plan.
    pub(super) fn dry_run(
        &self,
        work: Work<'_>,
        limits: &Limits,
        list: Option<PathList>,
        observer: &dyn Observer,
    ) -> Summary {
        let control = &self.control(limits);
        // It tries each lock once: a wait would take time, and tell nothing.
        let execution = Execution { control, live: self.live, lock_wait: Duration::ZERO };
        let inner = DryRun::new(control, probe(self.request.config.in_use)).noting(self.notes);
        match self.request.plan {
            None => self.run(work, &execution, list, &inner, observer),
            Some(writer) => {
                let planning = Planning { inner, notes: self.notes, writer };
                self.run(work, &execution, list, &planning, observer)
            }
        }
    }

    /// A pass that removes.
    pub(super) fn remove(
        &self,
        work: Work<'_>,
        limits: &Limits,
        list: Option<PathList>,
        journal: Option<&dyn Journal>,
        observer: &dyn Observer,
    ) -> Summary {
        let (control, config) = (&self.control(limits), self.request.config);
        let execution = Execution { control, live: self.live, lock_wait: config.lock_wait };
        let unlink = Unlink::new(control, self.notes, probe(config.in_use));
        let unlink = unlink.with_clock(clock::now).written_in(journal);
        self.run(work, &execution, list, &unlink, observer)
    }

    fn run(
        &self,
        work: Work<'_>,
        execution: &Execution<'_>,
        paths: Option<PathList>,
        disposer: &dyn Disposer,
        observer: &dyn Observer,
    ) -> Summary {
        let PassRequest { config, planned, .. } = *self.request;
        // No lease is held now: passes come one after the other.
        breaks::forget();
        MemberLeases::set_limit(member_leases(config));
        let (root, notes, shard) = (self.root, self.notes, config.shard);
        let control = execution.control;
        let pass = Pass {
            source: &DirectorySource { root, control, notes, shard, paths },
            locks: &self.locks,
            inspector: &ByPlan {
                inner: FileInspector::new(control, notes, probe(config.in_use))
                    .with_clock(clock::now),
                plan: planned,
            },
            disposer,
            select: &All,
            exclude: self.exclude,
            data_root: root.path(),
            notes,
            is_planned: planned.is_some(),
            now: self.now,
            limits: execution.control.limits,
            workers: execution.control.workers,
            live: execution.live,
            lock_wait: execution.lock_wait,
        };
        let mut summary = match work {
            Work::Sweep(zones) => pass.run(zones, observer),
            Work::Relieve(plan, swept) => pass.relieve(plan, swept, observer),
        };
        for zone in &mut summary.zones {
            if let Some(place) = config.place_of(&zone.zone) {
                place.clone_into(&mut zone.path);
            }
        }
        summary
    }
}

/// How many leases on the files of trees may be held at once. A removal that waits for its rate holds none:
/// another process that opens such a file would have to wait too.
fn member_leases(config: &Config) -> usize {
    if config.max_rate.is_some() { 0 } else { lease::affordable(config.jobs) }
}

pub(in crate::cmd) const fn probe(in_use: InUse) -> InUseProbe {
    match in_use {
        InUse::Skip => InUseProbe::On,
        InUse::Ignore => InUseProbe::Off,
    }
}
