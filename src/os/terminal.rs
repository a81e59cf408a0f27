//! Where stdout leads: the terminal that it is, or nowhere.
//!
//! This module must not write to it.

use std::io::{self, IsTerminal};

use rustix::fs::{OFlags, fcntl_getfl, fstat, major, minor};

/// The width of a terminal that does not tell it.
const USUAL: usize = 80;

/// Whether what is written to stdout is lost because it was closed when the program was started. Then it is
/// `/dev/null` now, opened for reading too, which no shell does for `> /dev/null`. Some programs start others so.
pub fn is_nowhere() -> bool {
    const NULL: (u32, u32) = (1, 3);
    let out = io::stdout();
    let is_null = fstat(&out).is_ok_and(|stat| (major(stat.st_rdev), minor(stat.st_rdev)) == NULL);
    is_null && fcntl_getfl(&out).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// The width of the terminal in columns; `None` if stdout is no terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(out).map_or(0, |size| size.ws_col);
    Some(if told == 0 { USUAL } else { told.into() })
}
