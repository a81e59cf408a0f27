//! The cleanup of ClearML, with the built binary against a double of ClearML's servers.

mod deletion;
mod deployed;
pub mod double;
mod files;
mod guards;
mod journal;
mod models;
mod mount;
mod needs;
mod orphans;
mod protocol;
mod races;
pub mod seeds;
mod selection;
mod service;
mod size;
mod spellings;
mod threads;
mod tls;
mod wrong_answers;
