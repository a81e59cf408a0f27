//! The machine that the program runs on: its clocks, its signals, its priorities, and stderr.
//!
//! This module must not know settings or commands: what is asked of it comes in plain types of its own.
//!
//! - [`clock`]: the time of day, the steady clock, and a random seed.
//! - [`logging`]: where log lines go and which are written.
//! - [`priority`]: lets every other process go first.
//! - [`signals`]: how the program is asked to end or to reload.
//! - [`terminal`]: how wide the terminal is.

pub mod clock;
pub mod logging;
pub mod priority;
pub mod signals;
pub mod terminal;
