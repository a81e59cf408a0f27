//! What a removal of a tree would free, and what would prevent it.
//!
//! This module must not change anything: it looks at the rights of every directory and member.

use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::kept::Kept;
use super::tree_remover::Stays;
use crate::control::Control;
use crate::fs::PathError;
use crate::fs::rights::DirRights;
use crate::fs::walk::{self, Break, EntryRef, Flow, Leaving, Next, Visit, WalkContext};
use crate::protocol::Freed;
use crate::rules::{Action, FileId, Metadata};

/// What the removal of a tree would free, if anything, and why something in it would stay, if so. `outside` are the
/// rights in the directory that holds it.
pub(super) fn foresee<C: Control>(
    tree: &WalkContext<'_, C>,
    top: BorrowedFd<'_>,
    id: FileId,
    outside: DirRights,
) -> (Option<Freed>, Option<Stays>) {
    let mut look = TreeRights::new(outside);
    let why = match walk::walk(tree, top, id, &mut look) {
        ControlFlow::Continue(()) => look.kept.take_first().map(Stays::Failed),
        ControlFlow::Break(Break::Failed(error)) => Some(Stays::Failed(error)),
        ControlFlow::Break(Break::Stopped) => Some(Stays::Unreached),
        // Something in it has changed since it was looked at, which a real pass would find too.
        ControlFlow::Break(Break::Enough | Break::Elsewhere) => None,
    };
    (look.freed, why)
}

/// Finds what could not be removed in a tree, as `tree_remover` would.
struct TreeRights {
    /// The rights in the directory that holds the tree, and in those on the way to where the walk is.
    above: Vec<DirRights>,
    /// What would be freed, if anything would be removed.
    freed: Option<Freed>,
    kept: Kept,
}

impl TreeRights {
    fn new(outside: DirRights) -> Self {
        Self { above: vec![outside], freed: None, kept: Kept::default() }
    }

    /// Counts a member, as freed or as a failure.
    fn count(&mut self, at: &EntryRef<'_>, metadata: &Metadata, action: Action) {
        let depth = at.depth();
        let rights = match self.above.get(depth) {
            Some(rights) => *rights,
            None => DirRights::of(at.dir),
        };
        match rights.obstacle(at.dir, at.name) {
            None => self.freed.get_or_insert_default().add(metadata),
            Some(obstacle) => self.kept.keep(at, at.error(action, obstacle.errno())),
        }
    }
}

impl Visit for TreeRights {
    fn fork(&self) -> Self {
        Self { above: self.above.clone(), freed: None, kept: Kept::default() }
    }

    fn join(&mut self, other: Self) {
        if let Some(freed) = other.freed {
            self.freed.get_or_insert_default().append(freed);
        }
        self.kept.join(other.kept);
    }

    fn enter(&mut self, dir: &OwnedFd, _: &Metadata, depth: usize, _: bool) -> Flow {
        self.above.truncate(depth + 1);
        self.above.push(DirRights::of(dir));
        ControlFlow::Continue(())
    }

    fn file(&mut self, at: &EntryRef<'_>, metadata: &Metadata, _: Option<OwnedFd>) -> Flow {
        self.count(at, metadata, Action::Unlink);
        ControlFlow::Continue(())
    }

    fn leave(&mut self, at: &EntryRef<'_>, dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        if !self.kept.is_in(at.depth()) {
            self.count(at, dir.metadata, Action::Rmdir);
        }
        ControlFlow::Continue(Next::Up)
    }

    fn mount_point(&mut self, _at: &EntryRef<'_>) -> Flow {
        ControlFlow::Break(Break::Enough)
    }

    fn lost(&mut self) -> Flow {
        ControlFlow::Break(Break::Enough)
    }

    fn failed(&mut self, at: &EntryRef<'_>, error: PathError) -> Flow {
        self.kept.keep(at, error);
        ControlFlow::Continue(())
    }
}
