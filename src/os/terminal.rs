//! The terminal that stdout is, if it is one.
//!
//! It must not write to it.

use std::io::{self, IsTerminal};

/// The width of a terminal that does not tell it.
const USUAL: usize = 80;

/// The width of the terminal in columns; `None` if stdout is no terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(out).map_or(0, |size| size.ws_col);
    Some(if told == 0 { USUAL } else { told.into() })
}
