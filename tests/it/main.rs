//! The integration tests: the built binary on real file systems.
#![allow(clippy::disallowed_methods, reason = "tests make and remove their own files")]
#![allow(clippy::unwrap_used, clippy::missing_docs_in_private_items, unreachable_pub)]

mod audit;
mod clearml;
mod cli;
mod cold;
mod company;
mod deploy;
mod docs;
mod exporter;
mod faults;
mod guards;
mod hostile;
mod interrupted;
mod laws;
mod meanwhile;
mod oracle;
mod paused;
mod plans;
mod pressure;
mod priority;
mod schemas;
mod seams;
mod served;
mod service;
mod shards;
mod start;
mod terminal;
mod threads;
mod tidy;
mod trees;
mod usage;
mod wait;
mod world;
mod written;
mod zones;
