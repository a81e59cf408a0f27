//! What can go wrong between this program and a ClearML server.
//!
//! This module must not hold a token or a key: every message can be shown.

use super::http::MAX_BYTES;
use crate::units;

/// Why a request has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The run was told to stop.
    #[error("stopped by a signal")]
    Stopped,
    /// The deadline came before all was read.
    #[error("the deadline came first")]
    Late,
    /// There is no answer: no connection, or no answer in time.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The answer is not one that this server gives.
    #[error("{url} does not answer like {server}: {why}")]
    Foreign {
        /// The address.
        url: String,
        /// What it should be.
        server: &'static str,
        /// What is odd about the answer.
        why: String,
    },
    /// The answer is longer than any that is read.
    #[error("the server's answer to {endpoint} is longer than {} MiB", MAX_BYTES >> 20)]
    TooLong {
        /// What was asked.
        endpoint: String,
    },
    /// The server refused the request.
    #[error("the server refused {endpoint}: {}", refused(*.code, *.subcode, .message))]
    Refused {
        /// What was asked.
        endpoint: String,
        /// The result code, which is also the HTTP status.
        code: u16,
        /// The result subcode.
        subcode: u32,
        /// What the server says.
        message: String,
    },
}

impl ApiError {
    /// Whether the server gave this very code.
    pub fn is(&self, wanted_code: u16, wanted_subcode: u32) -> bool {
        matches!(self, Self::Refused { code, subcode, .. }
            if (*code, *subcode) == (wanted_code, wanted_subcode))
    }
}

/// A refusal as people read it: the code, the subcode and the message.
pub fn refused(code: u16, subcode: u32, message: &str) -> String {
    let message: String = message.chars().take(300).collect();
    format!("{code}/{subcode} {}", units::quoted(message.as_ref()))
}

/// Why a cleanup ends before its end. Files of earlier runs and other tasks may be deleted by then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CycleError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The answers cannot be trusted.
    #[error("the server's answer cannot be right, so nothing more is deleted: {0}")]
    Untrusted(String),
    /// The journal cannot be used.
    #[error("the journal cannot be used, so nothing more is deleted: {0}")]
    Journal(String),
    /// The settings or the clock do not fit the server.
    #[error("{0}")]
    Usage(String),
    /// Too much would be deleted.
    #[error("nothing more is deleted: {0}")]
    Guard(String),
}
