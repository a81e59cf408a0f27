//! The words of `sweeper why`.
//!
//! This module must not decide anything: it puts verdicts into words.

use super::answer::Verdict;
use crate::protocol::{Freed, Rejection, Skipped};
use crate::rules::{Expiry, FileKind, KeptReason, LastUse, Metadata, Rule};
use crate::units::{self, errno};

pub(super) const fn describe_type(metadata: &Metadata) -> &'static str {
    match metadata.kind {
        FileKind::File => "a regular file",
        FileKind::Dir => "a directory",
        FileKind::Symlink => "a symbolic link, judged by its own times and never followed",
        FileKind::Special => "a FIFO, a socket or a device, never opened",
    }
}

pub(super) fn describe_rule(rule: Rule, metadata: &Metadata) -> String {
    let Expiry::After(ttl) = rule.expiry else {
        return "expires at once, whatever its age".to_owned();
    };
    let ttl = units::exact(ttl.as_duration());
    match rule.last_use {
        LastUse::Mtime => format!("expires when its mtime is older than {ttl}"),
        LastUse::Atime => format!("expires when its last read is older than {ttl}"),
        LastUse::Tree if metadata.kind == FileKind::Dir => {
            format!("expires when nothing in it has been used for {ttl}")
        }
        LastUse::Tree => format!("expires when it has not been used for {ttl}"),
        LastUse::Entry => format!("expires when its own atime is older than {ttl}"),
    }
}

/// Which time was the last use.
pub(super) const fn describe_time(last_use: LastUse, metadata: &Metadata) -> &'static str {
    let is_dir = matches!(metadata.kind, FileKind::Dir);
    match last_use {
        LastUse::Entry => "its own atime",
        LastUse::Mtime | LastUse::Atime | LastUse::Tree if is_dir => {
            "its own mtime; something in it may be newer"
        }
        LastUse::Mtime => "its mtime",
        LastUse::Atime => "its atime",
        LastUse::Tree => "the newer of its atime and mtime",
    }
}

pub(super) fn describe_removal(freed: &Freed) -> String {
    let Freed { bytes, linked } = freed;
    let links =
        if linked.is_empty() { "" } else { " (not counting files that have other hard links)" };
    format!("a run now would remove it and free {bytes}{links}")
}

/// The verdict on an entry that stays, and the reason as reports name it.
pub(super) fn key_of(why: &Rejection) -> (Verdict, Option<String>) {
    match why {
        Rejection::Skipped(why) => (Verdict::Skipped, Some(why.key().to_owned())),
        Rejection::Failed(failure) | Rejection::NotWritten(failure) => {
            (Verdict::Failed, failure.error.raw_os_error().map(errno::name))
        }
        Rejection::Unreached => (Verdict::Unknown, None),
        Rejection::NoLock(_) => (Verdict::LeftAlone, None),
    }
}

pub(super) fn describe_rejection(why: Rejection) -> String {
    match why {
        Rejection::Skipped(why) => format!("a run now would skip it: {}", describe_skipped(why)),
        Rejection::Failed(failure) | Rejection::NotWritten(failure) => {
            format!("a run now would fail to {failure}")
        }
        Rejection::Unreached => "it was not looked at".to_owned(),
        Rejection::NoLock(why) => format!("a run now would leave it alone: {why}"),
    }
}

/// Why an entry is kept.
pub(in crate::cmd) const fn describe_kept(why: KeptReason) -> &'static str {
    match why {
        KeptReason::Fresh => "it has not expired yet",
        KeptReason::Unrecognized => "its zone does not recognize it, and anything unknown is kept",
        KeptReason::NotAFile => "its zone has only regular files, and anything else is kept",
        KeptReason::Excluded => "it has expired, but --exclude keeps it",
        KeptReason::MountPoint => "it is a mount point",
        KeptReason::Published => "it is published",
        KeptReason::Referenced => "something that is kept refers to it or is based on it",
        KeptReason::Newest => "it is one of the newest, and --keep-last keeps them",
        KeptReason::Refused => "the server refuses to delete it",
        KeptReason::NotOurs => "it is public, so it is not deleted",
        KeptReason::LeftToServer => "the server deletes it later, by itself",
    }
}

/// What keeps a tree, of something in it.
pub(super) const fn describe_held(why: Skipped) -> &'static str {
    match why {
        Skipped::Locked => "another process holds a lock on it",
        Skipped::InUse => "another process has it open",
        Skipped::MountPoint => "it is a mount point",
        Skipped::Used => "it was used more recently",
        Skipped::Replaced => "another file has its name now",
        Skipped::Gone => "it is gone",
    }
}

/// Why an entry is skipped.
pub(in crate::cmd) const fn describe_skipped(why: Skipped) -> &'static str {
    match why {
        Skipped::Locked => "another process holds a lock on it",
        Skipped::InUse => "another process has it, or something in it, open",
        Skipped::Used => "something in it was used more recently",
        Skipped::Replaced => "another file has its name now",
        Skipped::Gone => "it is gone",
        Skipped::MountPoint => "there is a mount point in it",
    }
}
