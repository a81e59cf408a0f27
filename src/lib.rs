//! A filesystem retention sweeper: it finds entries, decides by age, takes the lock of their writers, looks
//! again, removes, and reports what happened and why.
//!
//! This page is the architecture. Two things decide everything: **it never removes what is in use or what it
//! does not know**, and **it is far faster than what it replaces**.
//!
//! # The pipeline
//!
//! ```text
//! Source -Entry-> evaluate -Expired-> select -> claim -Claimed-> look again -Verified-> dispose -Removed-> Outcome
//!                    | Kept                       | Skipped        | Skipped             | Failed
//! ```
//!
//! Every zone, every command and the dry run use this one pipeline. It works in batches: a buffer of names
//! is looked at and judged, the expired entries are claimed together, and each claim is looked at again under
//! its lock and removed. A file that is kept costs one `statx` and no allocation.
//!
//! # Modules
//!
//! Pure, without I/O, clock or logging:
//! - [`rules`]: age, metadata, names, zones as data, the verdict, the selection.
//! - [`protocol`]: the tokens of the pipeline, its four traits, outcomes and counts.
//! - [`units`]: how durations, sizes and names are written and read.
//! - [`control`]: tells long work whether to stop and how fast to continue.
//!
//! The pass:
//! - [`engine`]: workers, batches, limits; generic over these traits.
//!
//! The implementations of the traits, one module each, which know nothing of each other:
//! - [`source`]: where entries come from.
//! - [`lock`]: `flock`, the Redis lock of the application, one sweeper at a time.
//! - [`inspect`]: the second look.
//! - [`dispose`]: the removal, or the dry run.
//! - [`fs`]: the system calls below them.
//!
//! Measuring:
//! - [`usage`]: what takes up space in a data root, and what expires when.
//!
//! Applications as data:
//! - [`clearml`]: a client of ClearML's servers, and the parts of its cleanup.
//! - [`cvat`]: CVAT's zones, names, variables and schedule. No other module knows them.
//!
//! Around it:
//! - [`cli`], [`config`]: what was typed, and what it means.
//! - [`report`]: text, JSON, progress, the audit log.
//! - [`service`]: when to run a pass, and how the service is doing.
//! - [`os`]: signals, logging, priority, clocks.
//! - [`cmd`]: one file per command, which builds what it needs from the settings and runs it.
//!
//! # Laws
//!
//! 1. **Unknown is kept.** No wildcard arm deletes.
//! 2. **Nothing is removed without its lock, nor without another look under the lock**, immediately before each
//!    removal. This holds for everything in a tree as for a file. (`--lock none` takes a lock only to see
//!    whether an entry is in use; links and special files have none.)
//! 3. **Conservation.** Every entry seen yields exactly one outcome;
//!    `seen = removed + kept + skipped + failed`. This is asserted at the end of every pass.
//! 4. **A dry run is the same pipeline** with another `Disposer`. No flag is passed down.
//! 5. **`now` is a value**, read once per pass.
//! 6. **A pass does not count as use.** It changes no atime or mtime of an entry that stays.
//! 7. **Nothing outside the root.** Everything is opened through directory descriptors, one component at a time,
//!    without following a link or entering another mount.
//! 8. **Errors are isolated.** An entry that fails never stops the others.
//! 9. **Bounded.** Memory, stack and descriptors do not grow with the number or depth of entries, nothing waits forever
//!    for another process, and no lock is held while something slow is waited for.
//! 10. **Names are bytes.** What is printed is escaped.
//! 11. **Irreversible steps are recorded first.** With an audit log, the line about a removal is on disk before the
//!     entry is removed.

pub mod rules;

pub mod control;
pub mod protocol;
pub mod units;

pub mod engine;

pub mod dispose;
pub mod fs;
pub mod inspect;
pub mod lock;
pub mod source;

pub mod clearml;
pub mod cvat;

pub mod cli;
pub mod cmd;
pub mod config;
pub mod os;
pub mod report;
pub mod service;
pub mod usage;
