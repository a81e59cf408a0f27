//! The integration tests: the built binary on real file systems.
#![allow(clippy::disallowed_methods, reason = "tests make and unmake their own worlds")]
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, unreachable_pub)]

mod cli;
mod company;
mod deploy;
mod exporter;
mod hostile;
mod kindness;
mod laws;
mod meanwhile;
mod names;
mod oracle;
mod remembered;
mod seams;
mod service;
mod shards;
mod start;
mod tidy;
mod trees;
mod world;
