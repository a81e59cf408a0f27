//! Removes verified entries, or only says that it would.
//!
//! This module must not decide anything: it is handed a [`crate::protocol::Verified`] and removes exactly that.
//! `unlink` is the only code that deletes. An entry is first taken out of reach (`quarantine`), looked at again
//! there (`check`), and removed (`tree`, `single`). `recover` completes what a crash interrupted. Where removals
//! are written down, nothing is removed before its line is on disk (`written`).

mod check;
mod dry_run;
mod failure;
mod kept;
mod ledger;
mod linked;
mod quarantine;
mod recover;
mod recoverable;
mod remove;
mod server_clock;
mod single;
mod tree;
mod tree_remover;
mod tree_rights;
mod unlink;
mod written;

pub use dry_run::DryRun;
pub use remove::Unlink;
