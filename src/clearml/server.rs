//! Which servers there are, and how to log in.
//!
//! This module must not connect to them or show a key.

use std::fmt;
use std::path::PathBuf;

/// How many file servers there are at most.
pub const MOST_SERVERS: usize = 8;

/// The addresses of a ClearML installation, without slashes at their ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Of the API.
    pub api: String,
    /// Of file servers: files with such an address are deleted there. The first is the main one.
    pub files: Vec<String>,
    /// Directories of this machine, one of which may be that of a file server: an address may be a path below it.
    pub roots: Vec<PathBuf>,
    /// Who we are.
    pub credentials: Credentials,
    /// Whether certificates are checked.
    pub verify: bool,
    /// Where the address of the API and the credentials come from.
    pub origin: String,
}

/// What proves who we are. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A pair of keys.
    Keys {
        /// The access key.
        access: String,
        /// The secret key.
        secret: String,
    },
    /// A token to begin with.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

/// The address of the file server that belongs to an API server, as ClearML's own clients derive it.
pub fn files_of_api(api: &str) -> String {
    let api = api.trim_end_matches('/');
    if let Some(base) = api.strip_suffix(":8008") {
        return format!("{base}:8081");
    }
    if let Some((scheme, host)) = api.split_once("://")
        && let Some(rest) = host.strip_prefix("api.")
    {
        return format!("{scheme}://files.{rest}");
    }
    api.strip_suffix("/api").map_or_else(String::new, |base| format!("{base}/files"))
}

/// Hosts of the service that ClearML's company runs. It must be named to be used.
pub const HOSTED: [&str; 2] = ["api.clear.ml", "api.community.clear.ml"];

/// An address without a slash at its end, if it is one that can be used.
///
/// # Errors
/// Why not.
pub fn address(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if rest.contains('@') => {
            Err("it must not contain a user name or a password".to_owned())
        }
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("write it like http://clearml.example:8008".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_server_is_found_beside_the_api() {
        for (api, files) in [
            ("http://localhost:8008", "http://localhost:8081"),
            ("https://api.ml.example/", "https://files.ml.example"),
            ("https://ml.example/api", "https://ml.example/files"),
            ("https://ml.example", ""),
        ] {
            assert_eq!(files_of_api(api), files);
        }
    }

    #[test]
    fn only_plain_web_addresses_are_used() {
        assert_eq!(address(" http://h:1/ ").as_deref(), Ok("http://h:1"));
        for text in ["", "h:8008", "http://", "http://user:s3cret@h", "ftp://h"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
