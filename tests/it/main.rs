//! The integration tests: the built binary on real file systems.

mod cli;
mod company;
mod hostile;
mod laws;
mod names;
mod oracle;
mod tidy;
mod trees;
mod world;
