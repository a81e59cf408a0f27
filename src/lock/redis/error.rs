//! Why locks cannot be taken, in words.
//!
//! This module must not print what a server said as it is: a server can send anything, so its text is escaped and cut.

use std::io;

use super::stream::{Stopped, TIMEOUT};
use crate::units;

/// How many characters of a server's text are shown.
const SHOWN: usize = 200;

/// Why locks cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// There is no connection.
    #[error(
        "the Redis server cannot be reached: {0}; check its address, and whether it is running"
    )]
    Unreachable(String),
    /// The server accepts the connection and does not answer, or not to the end. With its address and a colon, if it
    /// never did.
    #[error("the Redis server cannot be reached: {0}no answer within {wait} s; check its address, and whether it is running", wait = TIMEOUT.as_secs())]
    Silent(String),
    /// The server expects another login, or one at all.
    #[error("the Redis server refuses the login: {0}; check the password")]
    Denied(String),
    /// The server asks for a password, and none was given.
    #[error(
        "the Redis server {server} asks for a password ({said:?}): set CVAT_REDIS_INMEM_PASSWORD, or SWEEPER_REDIS \
         to a URL with the password"
    )]
    NoPassword {
        /// Its address.
        server: String,
        /// What it says.
        said: String,
    },
    /// The server answers with an error.
    #[error("the Redis server returned an error: {0}")]
    Refused(String),
    /// The server answers with something else than it was asked for.
    #[error("the server's answer is not that of a Redis server: {0}; check its address")]
    Malformed(String),
    /// This machine's clock is ahead of the server's by this many seconds (behind it, if negative), so
    /// far that every entry would look expired, or none.
    #[error("this machine's clock is {} s {} the Redis server's; correct the wrong one", .0.unsigned_abs(), if *.0 > 0 { "ahead of" } else { "behind" })]
    Clock(i64),
    /// CVAT holds locks now, and all of them are for other paths than ours, so ours stop nobody.
    #[error(
        "CVAT now holds locks for paths in {theirs}, but ours are for paths in {ours}: with the wrong path \
        our locks do not stop CVAT; set --cvat-data to the path that CVAT uses, or --lock flock to do without \
        CVAT's lock"
    )]
    WrongPath {
        /// The directory that CVAT's locks are for, as it is shown.
        theirs: String,
        /// The data root that ours are for, as it is shown.
        ours: String,
    },
    /// The work was told to end while the server was waited for.
    #[error("the work ended before the Redis server had answered")]
    Stopped,
}

impl LockError {
    /// The error that a server answers with.
    pub(super) fn of_server(text: &[u8]) -> Self {
        let shown = printable(text);
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        match code {
            b"NOAUTH" | b"WRONGPASS" => Self::Denied(shown),
            _ => Self::Refused(shown),
        }
    }

    /// The error that a server answers a login with.
    pub(super) fn of_login(text: &[u8]) -> Self {
        Self::Denied(printable(text))
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stopped>) {
            return Self::Stopped;
        }
        let kind = error.kind();
        if kind == io::ErrorKind::TimedOut {
            Self::Silent(String::new())
        } else if kind == io::ErrorKind::InvalidData {
            Self::Malformed(units::error(&error))
        } else {
            Self::Unreachable(units::error(&error))
        }
    }
}

/// Text of a server on one line of a terminal.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(SHOWN).flat_map(shown_char).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str(" [...]");
    }
    shown
}

/// Quotes stay: the text is not put between any.
fn shown_char(c: char) -> impl Iterator<Item = char> {
    let is_plain = matches!(c, '"' | '\'');
    let escaped = (!is_plain).then(|| c.escape_debug());
    is_plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_cannot_steer_a_terminal_and_is_cut() {
        let text = printable(b"ERR \x1b]0;owned\x07 'a' \"b\"\r\nnext \xff\xe2\x80\xae");
        assert_eq!(text, "ERR \\u{1b}]0;owned\\u{7} 'a' \"b\"\\r\\nnext \u{fffd}\\u{202e}");
        let long = printable("x".repeat(100_000).as_bytes());
        assert!(long.len() < 300 && long.ends_with(" [...]"), "{}", long.len());
    }

    #[test]
    fn a_missing_permission_is_not_a_wrong_password() {
        let said = |text: &[u8]| LockError::of_server(text).to_string();
        let no_permission = said(b"NOPERM User lim has no permissions to run the 'eval' command");
        assert!(no_permission.contains("NOPERM User lim"), "{no_permission}");
        assert!(!no_permission.contains("password"), "{no_permission}");
        assert!(said(b"NOAUTH Authentication required.").contains("check the password"));
        // The server's own words are never hidden.
        let login = LockError::of_login(b"WRONGPASS invalid username-password pair").to_string();
        assert!(login.contains("invalid username-password pair"), "{login}");
    }
}
