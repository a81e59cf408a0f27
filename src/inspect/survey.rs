//! What is in a tree, under its lock: the newest use of anything in it, what its removal frees, and whether
//! it must stay.
//!
//! This module must not change anything. It ends at the first thing that decides: something fresh, something in use,
//! a mount point. For an explanation it looks at everything, and remembers what decides.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::control::Control;
use crate::fs::PathError;
use crate::fs::lease::{self, InUse, InUseProbe, breaks};
use crate::fs::walk::{self, Break, EntryRef, Flow, Leaving, Next, Visit, WalkContext};
use crate::protocol::{Content, Expired, Skipped};
use crate::rules::names::is_removed_in_use;
use crate::rules::{Action, FileKind, Metadata, Moment};

/// How many files are remembered that were changed during a look. Any other counts as changed after it.
const MOST_AHEAD: usize = 4096;

/// What in a tree keeps it.
#[derive(Debug, Default)]
pub struct Witness {
    /// The newest last use in it, and of what.
    pub newest: Option<(Moment, PathBuf)>,
    /// The first thing in it that is in use, locked or a mount point.
    pub held: Option<(Skipped, PathBuf)>,
    /// How many directories are above one that is locked, until its path is known.
    locked: Option<usize>,
}

impl Witness {
    fn see(&mut self, used: Moment, path: impl FnOnce() -> PathBuf) {
        if self.newest.as_ref().is_none_or(|(newest, _)| used > *newest) {
            self.newest = Some((used, path()));
        }
    }

    fn hold(&mut self, why: Skipped, path: impl FnOnce() -> PathBuf) {
        self.held.get_or_insert_with(|| (why, path()));
    }

    fn add(&mut self, other: Self) {
        if let Some((used, path)) = other.newest {
            self.see(used, || path);
        }
        self.held = self.held.take().or(other.held);
    }
}

/// What one walk found.
pub(super) struct Survey<'a> {
    expired: &'a Expired,
    now: Moment,
    /// When it began, by the clock. What has a later ctime says nothing about what is added from then on.
    began: Moment,
    probe: InUseProbe,
    pub(super) content: Content,
    /// The system did not tell whether some file is in use.
    pub(super) in_use_unknown: bool,
    /// A directory was read whose atime may have moved.
    pub(super) moves_atime: bool,
    /// A time in it lies so far in the future that it does not count.
    pub(super) ignores_a_time: bool,
    /// What keeps the tree, if that is to be known. Then nothing ends the walk.
    pub(super) witness: Option<Witness>,
}

impl<'a> Survey<'a> {
    /// Surveys the tree `expired`, whose top directory is open as `top`.
    ///
    /// # Errors
    /// Something in it could not be looked at, so its age is not known; or the pass is stopped.
    pub(super) fn of<C: Control>(
        expired: &'a Expired,
        top: &File,
        (now, began): (Moment, Moment),
        probe: InUseProbe,
        witness: Option<Witness>,
        control: &C,
    ) -> Result<Self, Break> {
        if probe == InUseProbe::On {
            breaks::watch();
        }
        let mut survey = Self { witness, ..Self::new(expired, (now, began), probe) };
        let directory = expired.directory();
        let tree = WalkContext {
            control,
            parent: directory.handle.as_fd(),
            parent_id: directory.id,
            path: &directory.path,
            name: expired.name(),
            mount: directory.mount,
            file_system: directory.storage.file_system,
        };
        match walk::walk(&tree, top.as_fd(), expired.metadata().id, &mut survey) {
            ControlFlow::Continue(()) | ControlFlow::Break(Break::Enough) => Ok(survey),
            ControlFlow::Break(ended) => Err(ended),
        }
    }

    fn new(expired: &'a Expired, (now, began): (Moment, Moment), probe: InUseProbe) -> Self {
        let content = Content::default();
        Self {
            expired,
            now,
            began,
            probe,
            content,
            in_use_unknown: false,
            moves_atime: false,
            ignores_a_time: false,
            witness: None,
        }
    }

    /// Remembers what was used last, if that is to be known.
    fn see(&mut self, metadata: &Metadata, at: &EntryRef<'_>) {
        if let Some(witness) = &mut self.witness {
            let used = self.expired.rule().last_use.read(metadata, self.now);
            witness.see(used, || at.path());
        }
    }

    /// Takes one file or directory into account; something fresh ends the walk.
    fn count(&mut self, metadata: &Metadata) -> Flow {
        let rule = self.expired.rule();
        let used = rule.last_use.read(metadata, self.now);
        self.ignores_a_time |=
            rule.expiry.ttl().is_some() && rule.last_use.ignores_a_time(metadata, self.now);
        self.content.newest = self.content.newest.max(Some(used));
        // The ctime also moves when the last name is removed: that file is not in the tree any more.
        if metadata.links > 0 {
            // One that lies ahead of the clock must not hide a later addition, and the clock of a file system is
            // coarse.
            let is_ahead = metadata.ctime > self.began;
            let before = || Moment::from_unix(self.began.unix_secs() - 1, 0);
            let changed = if is_ahead { before() } else { metadata.ctime };
            self.content.changed = self.content.changed.max(Some(changed));
            if is_ahead && metadata.kind != FileKind::Dir && self.content.ahead.len() < MOST_AHEAD {
                self.content.ahead.push((metadata.id, metadata.ctime));
            }
        }
        self.content.freed.add(metadata);
        if rule.is_protected_by(metadata, self.now) && self.witness.is_none() {
            self.skip(Skipped::Used, None)
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Something decides that the tree stays.
    fn skip(&mut self, why: Skipped, at: Option<&EntryRef<'_>>) -> Flow {
        if let Some(witness) = &mut self.witness {
            if let Some(at) = at {
                witness.hold(why, || at.path());
            }
            return ControlFlow::Continue(());
        }
        self.content.skipped = Some(why);
        ControlFlow::Break(Break::Enough)
    }

    fn ask_in_use(
        &mut self,
        at: &EntryRef<'_>,
        metadata: &Metadata,
        opened: Option<OwnedFd>,
    ) -> Flow {
        let file_system = self.expired.directory().storage.file_system;
        let answer = if let Some(handle) = opened {
            let answer = lease::probe_after_others(&handle, file_system, metadata);
            if answer == InUse::Free {
                self.content.members.push(metadata.id, handle);
            }
            answer
        } else {
            self.content.members.leave_out();
            match lease::probe_at(at.dir, at.name, file_system, metadata) {
                Ok(answer) => answer,
                Err(error) => {
                    return ControlFlow::Break(Break::Failed(at.error(Action::Open, error)));
                }
            }
        };
        match answer {
            InUse::Free => ControlFlow::Continue(()),
            InUse::Open => self.skip(Skipped::InUse, Some(at)),
            InUse::Locked => self.skip(Skipped::Locked, Some(at)),
            InUse::Unknown => {
                self.content.members.leave_out();
                self.in_use_unknown = true;
                ControlFlow::Continue(())
            }
        }
    }
}

impl Visit for Survey<'_> {
    fn fork(&self) -> Self {
        let Self { expired, now, began, probe, ref witness, .. } = *self;
        let witness = witness.as_ref().map(|_| Witness::default());
        Self { witness, ..Self::new(expired, (now, began), probe) }
    }

    fn join(&mut self, other: Self) {
        let Self { content, in_use_unknown, moves_atime, ignores_a_time, witness, .. } = other;
        let Content { newest, skipped, freed, changed, mut ahead, members, is_leased: _ } = content;
        self.content.ahead.append(&mut ahead);
        self.content.ahead.truncate(MOST_AHEAD);
        self.content.newest = self.content.newest.max(newest);
        self.content.changed = self.content.changed.max(changed);
        self.content.skipped = self.content.skipped.or(skipped);
        self.content.freed.append(freed);
        self.content.members.append(members);
        self.in_use_unknown |= in_use_unknown;
        self.moves_atime |= moves_atime;
        self.ignores_a_time |= ignores_a_time;
        if let (Some(own), Some(others)) = (&mut self.witness, witness) {
            own.add(others);
        }
    }

    fn enter(
        &mut self,
        dir: &OwnedFd,
        metadata: &Metadata,
        depth: usize,
        moves_atime: bool,
    ) -> Flow {
        self.moves_atime |= moves_atime;
        self.count(metadata)?;
        // A process that works in a directory may hold its lock: `sweeper hold`, `flock(1)`. The top is
        // locked by this process.
        if depth == 0 || self.probe == InUseProbe::Off {
            return ControlFlow::Continue(());
        }
        match lease::is_locked(dir) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => {
                if let Some(witness) = &mut self.witness {
                    witness.locked.get_or_insert(depth);
                }
                self.skip(Skipped::Locked, None)
            }
            Err(error) => {
                let path = self.expired.directory().path_of(self.expired.name());
                let hint = "it is not known whether another process has locked a directory in it";
                let (action, hint) = (Action::Lock, Some(hint.to_owned()));
                ControlFlow::Break(Break::Failed(PathError {
                    action,
                    path,
                    error: error.into(),
                    hint,
                }))
            }
        }
    }

    fn opens_files(&self) -> bool {
        self.probe == InUseProbe::On
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, opened: Option<OwnedFd>) -> Flow {
        if is_removed_in_use(at.name.to_bytes()) {
            return self.skip(Skipped::InUse, Some(at));
        }
        self.see(metadata, at);
        self.count(metadata)?;
        if metadata.kind == FileKind::File && self.probe == InUseProbe::On {
            return self.ask_in_use(at, metadata, opened);
        }
        self.content.members.leave_out();
        ControlFlow::Continue(())
    }

    fn leave(&mut self, at: &EntryRef<'_>, dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        self.see(dir.metadata, at);
        if let Some(witness) = &mut self.witness
            && witness.locked.take_if(|depth| *depth == at.depth()).is_some()
        {
            witness.hold(Skipped::Locked, || at.path());
        }
        ControlFlow::Continue(Next::Up)
    }

    fn mount_point(&mut self, at: &EntryRef<'_>) -> Flow {
        self.skip(Skipped::MountPoint, Some(at))
    }

    fn lost(&mut self) -> Flow {
        self.content.skipped = Some(Skipped::Gone);
        ControlFlow::Break(Break::Enough)
    }

    fn failed(&mut self, _at: &EntryRef<'_>, error: PathError) -> Flow {
        ControlFlow::Break(Break::Failed(error))
    }
}
