//! ClearML's cleanup: archived tasks, their models, artifacts and debug samples.
//!
//! This module must not remove a file of this machine or read the environment: both are arguments. What is deleted on a
//! server is written to the [`journal`] first.

pub mod client;
pub mod collect;
pub mod cycle;
mod datasets;
pub mod delete;
pub mod discover;
pub mod error;
pub mod executor;
pub mod explain;
pub mod files;
pub mod fileserver;
mod hash;
pub mod hocon;
pub mod http;
pub mod journal;
pub mod ledger;
mod limits;
mod models;
mod names;
mod needs;
pub mod options;
pub mod orphans;
pub mod parts;
pub mod plan;
pub mod pool;
mod projects;
pub mod references;
pub mod resume;
pub mod rows;
pub mod select;
pub mod selected;
pub mod server;
mod settle;
pub mod time;
pub mod token;
pub mod tools;
pub mod urls;
