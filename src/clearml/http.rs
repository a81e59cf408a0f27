//! HTTP requests: one at a time, each with a time limit from the connection to the last byte.
//!
//! This module must not follow a redirect, use a proxy, or know ClearML. Only `names` uses `ureq` too.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use super::names::Names;

/// The longest answer. Nobody waits for a longer one, and nothing of it is kept in memory as a whole.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// The longest wait. `ureq` panics if a request may take until a moment that the clock does not have.
const MAX_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// To how many servers connections stay open: the API server and file servers are asked by turns.
const SERVERS: usize = 4;

/// What to do with the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Ask whether it is there and how long it is.
    Head,
    /// Send something to it.
    Post,
    /// Delete it.
    Delete,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// The address.
    pub url: &'a str,
    /// The value of the header `Authorization`.
    pub authorization: Option<&'a str>,
    /// JSON to send, with POST.
    pub body: &'a [u8],
}

/// The beginning of an answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Where the server would send us instead.
    pub location: Option<String>,
    /// The length of the body, if the server says it.
    pub length: Option<u64>,
    /// The server's clock, if it says it.
    pub date: Option<String>,
    body: Body,
}

impl Reply {
    /// The body. Reading beyond the longest answer is an error, [`io::ErrorKind::FileTooLarge`]; and at once, if the
    /// server says that it is longer.
    pub fn into_reader(self) -> impl Read {
        let is_longer = self.length.is_some_and(|length| length > MAX_BYTES);
        let left = if is_longer { 0 } else { MAX_BYTES };
        Limited { body: self.body.into_with_config().limit(u64::MAX).reader(), left }
    }
}

/// Sends requests.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
}

/// Whether to check the certificates of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// They must be trusted by this system.
    Checked,
    /// Any will do, as the user asks for.
    Any,
}

impl Http {
    /// Keeps up to `connections` open to each of a few servers. No request takes longer than `timeout` in all.
    pub fn new(timeout: Duration, connections: usize, certificates: Certificates) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .disable_verification(certificates == Certificates::Any)
            .root_certs(system_certificates())
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout.min(MAX_WAIT)))
            .timeout_connect(Some(timeout.min(Duration::from_secs(15))))
            .max_idle_connections(SERVERS * connections)
            .max_idle_connections_per_host(connections)
            .build();
        Self { agent: Agent::with_parts(agent, DefaultConnector::default(), Names::new()) }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no answer. It names no token.
    pub fn send(&self, request: Request<'_>) -> Result<Reply, String> {
        let Request { method, url, authorization, body } = request;
        let reply = match method {
            Method::Head | Method::Delete => {
                let builder = match method {
                    Method::Head => self.agent.head(url),
                    Method::Post | Method::Delete => self.agent.delete(url),
                };
                match authorization {
                    Some(value) => builder.header("Authorization", value).call(),
                    None => builder.call(),
                }
            }
            Method::Post => {
                let builder = self.agent.post(url).header("Content-Type", "application/json");
                match authorization {
                    Some(value) => builder.header("Authorization", value).send(body),
                    None => builder.send(body),
                }
            }
        };
        let reply = reply.map_err(|error| in_words(&error))?;
        let text = |name| reply.headers().get(name)?.to_str().ok().map(str::to_owned);
        let location = text("location");
        let length = text("content-length").and_then(|text| text.parse().ok());
        let (status, date) = (reply.status().as_u16(), text("date"));
        Ok(Reply { status, location, length, date, body: reply.into_body() })
    }
}

/// The certificates that this system trusts.
fn system_certificates() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    let certificates: Vec<Certificate<'static>> =
        found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    RootCerts::new_with_certs(&certificates)
}

/// An error without the system's numbers.
#[expect(clippy::wildcard_enum_match_arm, reason = "ureq adds errors")]
fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "no complete answer arrived in time".to_owned(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Io(error) => crate::units::error(error),
        other => crate::units::without_numbers(&other.to_string()),
    }
}

/// A body that may not be longer than this.
struct Limited<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<ureq::Error>() => {
                let inner = inner.downcast_ref::<ureq::Error>();
                io::Error::other(inner.map(in_words).unwrap_or_default())
            }
            _ => error,
        })?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let why = format!("the answer is longer than {} MiB", MAX_BYTES >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, why)
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_turns_out_too_long_is_an_error_and_one_that_just_fits_is_not() {
        for (length, is_too_long) in [(100, false), (101, true)] {
            let mut body = Limited { body: io::repeat(b' ').take(length), left: 100 };
            let end = body.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
            let expected = if is_too_long { Err(io::ErrorKind::FileTooLarge) } else { Ok(100) };
            assert_eq!(end, expected);
        }
    }
}
