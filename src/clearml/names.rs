//! Looks up the names of hosts for `ureq`.
//!
//! It must not panic where the system refuses a thread, as the one in `ureq` does: a panic there would end a thread of
//! the cleanup, which would go on without it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How many addresses of a host are tried.
const MOST: usize = 16;

/// The names that this system knows.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let mut addresses = self.empty();
        for address in look_up(host, port, &timeout)?.into_iter().take(MOST) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// The addresses of a host. In a thread, because the system's resolver can take minutes; in this one where no other
/// can be started.
fn look_up(host: &str, port: u16, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    let (sender, answer) = mpsc::channel();
    let name = host.to_owned();
    let ask = move || {
        // No one listens any more if it took too long.
        let _ = sender.send(found(&name, port));
    };
    if thread::Builder::new().name("names".to_owned()).spawn(ask).is_err() {
        return Ok(found(host, port)?);
    }
    match answer.recv_timeout(*timeout.after) {
        Ok(found) => Ok(found?),
        Err(_) => Err(Error::Timeout(timeout.reason)),
    }
}

fn found(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
