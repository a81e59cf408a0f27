//! A filesystem retention sweeper for CVAT's data volume: looks at files, decides by age, takes the
//! exporter's lock, looks again, deletes, and says what happened.
//!
//! This page is the architecture. Two things decide everything: **it never removes what is in use or
//! what it does not know**, and **it is far faster than what it replaces**.
//!
//! # The line
//!
//! ```text
//! argv -cli-> Flags -config-> Config
//!                                |
//!    scan -> Sighting -judge-> Stale -claim-> Claim -recheck, look into-> Condemned -remove-> Removed
//!                | Kept          | Spared       | Spared                     | Failed
//!                +---------------+--------------+----------------------------+--> Outcome -> report
//! ```
//!
//! Every entry takes this line and no other. It moves in handfuls: a buffer of names is looked at and
//! judged, what is stale is claimed together, each claim is looked at again under its lock and
//! removed. A file that stays costs one `statx` and no allocation.
//!
//! # The map
//!
//! Pure, no I/O, no clock, no logging:
//! - [`retention`]: names, ages, facts, the rules that judge them, and which shard they belong to.
//!
//! Protocol:
//! - [`condemn`]: the two seams, [`condemn::Disk`] and [`condemn::Locks`], and the tokens between them.
//! - [`stop`]: when a pass must end before its end.
//!
//! The line:
//! - [`sweep`]: judges, claims, rechecks and removes, with several workers; counts outcomes.
//!
//! Edges, which know nothing of each other:
//! - [`volume`]: a data root and where its zones lie.
//! - `look`: `statx` and `open`, one component at a time; shared by the edges below.
//! - [`disk`]: the real file system, and its rehearsal; what is there, or what a list says is there.
//! - [`lock`]: which lock backend, and claims in batches.
//! - [`report`]: text, JSON, progress; the reports of shards added into one.
//! - [`metrics`], [`listen`]: what monitoring reads, and where.
//!
//! Outside:
//! - [`cli`], [`config`], [`units`], [`exit`]: what was typed, what it means, how it is written.
//! - [`why`], [`demo`], [`hold`]: the commands that are not a pass.
//! - [`service`]: when to run one, and nothing else.
//!
//! # Invariants
//!
//! 1. **Invariant: unknown is kept.** A name that cannot be parsed, a kind that was not expected, a
//!    link: kept and counted. No wildcard arm deletes.
//! 2. **Invariant: never without the lock, never without looking again under it.** If the lock cannot
//!    be had, its zone is left alone and the exit code says so.
//! 3. **Invariant: conservation.** Every entry seen yields exactly one outcome;
//!    `seen = removed + kept + spared + failed`, asserted at the end of every pass.
//! 4. **Invariant: a rehearsal is the same line.** [`disk::Rehearsal`] is another disk; no flag is
//!    handed down.
//! 5. **Invariant: `now` is a value, read once a pass.** What was used since is fresh.
//! 6. **Invariant: our look is not use.** Nothing that survives has its atime or mtime moved.
//! 7. **Invariant: nothing outside the root.** One component at a time from an open directory, through
//!    no link, into no mount but what a zone's own root is on.
//! 8. **Invariant: one bad entry costs one entry.**
//! 9. **Invariant: bounded.** Memory does not grow with the number of entries, nor the stack or the
//!    open descriptors with depth.
//! 10. **Invariant: names are bytes**, and what is printed of them is escaped.

pub mod retention;

pub mod condemn;
pub mod stop;
pub mod workers;

pub mod sweep;

pub mod disk;
pub mod listen;
pub mod lock;
mod look;
pub mod metrics;
pub mod report;
pub mod volume;

pub mod cli;
pub mod config;
pub mod demo;
pub mod exit;
pub mod hold;
pub mod kindness;
pub mod service;
pub mod units;
pub mod why;
