//! The protocol between finding an entry and removing it: tokens that cannot be skipped, and the four
//! seams that make one from another.
//!
//! ```text
//! Source -Entry-> evaluate -Expired-> select -> Locks -Claimed-> Inspector -Verified-> Disposer -> Removed
//!                    | Kept                       | Rejected        | Rejected            | Rejected
//!                    +----------------------------+-----------------+---------------------+-> Outcome
//! ```
//!
//! This module must not do I/O. Each token has private fields and is made only by the step before, so that misuse
//! does not compile. This is the intended use:
//! ```
//! use retention_sweeper::protocol::{Claimed, Disposer, Inspector, Rejected, Removed};
//! use retention_sweeper::rules::Moment;
//! fn finish<I: Inspector, D: Disposer>(
//!     inspector: &I, disposer: &D, claimed: Claimed, now: Moment,
//! ) -> Result<Removed, Rejected> {
//!     let verified = inspector.inspect(claimed, now)?;
//!     disposer.dispose(verified, now)
//! }
//! ```
//! A token cannot be used twice:
//! ```compile_fail
//! use retention_sweeper::{protocol::{Disposer, Verified}, rules::Moment};
//! fn twice<D: Disposer>(disposer: &D, verified: Verified, now: Moment) {
//!     let _ = disposer.dispose(verified, now);
//!     let _ = disposer.dispose(verified, now);
//! }
//! ```
//! An entry that is not locked cannot be removed, and a locked one not without another look:
//! ```compile_fail
//! use retention_sweeper::{protocol::{Disposer, Expired}, rules::Moment};
//! fn unlocked<D: Disposer>(disposer: &D, expired: Expired, now: Moment) {
//!     let _ = disposer.dispose(expired, now);
//! }
//! ```
//! ```compile_fail
//! use retention_sweeper::{protocol::{Claimed, Disposer}, rules::Moment};
//! fn unchecked<D: Disposer>(disposer: &D, claimed: Claimed, now: Moment) {
//!     let _ = disposer.dispose(claimed, now);
//! }
//! ```
//! A token cannot be forged:
//! ```compile_fail
//! use retention_sweeper::protocol::{Claimed, Expired, Guard};
//! fn forged(expired: Expired, guard: Guard) -> Claimed { Claimed { expired, guard } }
//! ```

mod failure;
mod freed;
mod guards;
mod journal;
mod members;
mod notes;
mod observer;
mod outcome;
mod relief;
mod seams;
mod storage;
mod summary;
mod tokens;

pub use failure::Failure;
pub use freed::{Freed, Linked};
pub use guards::{Excess, Guards, MaxShare};
pub use journal::{Intent, Journal};
pub use members::MemberLeases;
pub use notes::Notes;
pub use observer::Observer;
pub use outcome::{Outcome, OutcomeKind};
pub use relief::{InTheWay, Relief, ReliefEnd, Volume};
pub use seams::{Disposer, Found, Inspector, Locks, Recovered, Recovery, ScanBatch, Source};
pub use storage::Storage;
pub use summary::{
    ExitCode, LISTED_FAILURES, ListedFailure, RunInfo, RunMode, StopReason, Summary, Tally,
    ZoneSummary,
};
pub use tokens::{
    Claimed, Content, Directory, Entry, Expired, Guard, Lease, Rechecked, Rejected, Rejection,
    Removed, Skipped, Verified,
};

#[cfg(test)]
mod tests;
