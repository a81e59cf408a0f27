//! Looks up the names of hosts for `ureq`, which asks before each request, even if a connection is already open.
//!
//! This module must not panic where the system refuses a thread, as the resolver in `ureq` does: a panic there would
//! end a thread of the cleanup, which would go on without it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How many addresses of a host are tried.
const MOST: usize = 16;

/// How long an answer holds: shorter than a request is tried again, so that a host that moves is found.
const VALID: Duration = Duration::from_secs(2);

/// The names that this system knows.
#[derive(Debug)]
pub(super) struct Names {
    ask: Ask,
    known: Mutex<HashMap<(String, u16), Answer>>,
}

/// The addresses of a host, and since when they are known.
type Answer = (Instant, Vec<SocketAddr>);

type Ask = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

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
        for address in self.addresses(host, port, &timeout)?.into_iter().take(MOST) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self::asking(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn asking(ask: Ask) -> Self {
        Self { ask, known: Mutex::default() }
    }

    fn addresses(
        &self,
        host: &str,
        port: u16,
        timeout: &NextTimeout,
    ) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let key = (host.to_owned(), port);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, addresses)) = known().get(&key)
            && since.elapsed() < VALID
        {
            return Ok(addresses.clone());
        }
        let found = look_up(self.ask, host, port, timeout)?;
        known().insert(key, (Instant::now(), found.clone()));
        Ok(found)
    }
}

/// The addresses of a host. In a thread, because the system's resolver can take minutes; in this one where no other
/// can be started.
fn look_up(
    ask: Ask,
    host: &str,
    port: u16,
    timeout: &NextTimeout,
) -> Result<Vec<SocketAddr>, Error> {
    let (sender, answer) = mpsc::channel();
    let name = host.to_owned();
    let in_thread = move || {
        // No one listens any more if it took too long.
        let _ = sender.send(ask(&name, port));
    };
    if thread::Builder::new().name("names".to_owned()).spawn(in_thread).is_err() {
        return Ok(ask(host, port)?);
    }
    match answer.recv_timeout(*timeout.after) {
        Ok(found) => Ok(found?),
        Err(_) => Err(Error::Timeout(timeout.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_name_is_looked_up_once_for_many_requests_and_an_address_never() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let names = Names::asking(|host, port| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            if host == "none" {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))])
        });
        let find = |host| names.addresses(host, 8008, &NextTimeout::default()).ok();
        assert_eq!(find("127.0.0.1"), Some(vec!["127.0.0.1:8008".parse().unwrap()]));
        assert_eq!(find("::1"), Some(vec!["[::1]:8008".parse().unwrap()]));
        assert_eq!(ASKED.load(Ordering::Relaxed), 0);
        for _ in 0..3 {
            assert_eq!(find("api"), Some(vec!["10.0.0.7:8008".parse().unwrap()]));
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        // What is not there may come.
        assert_eq!((find("none"), find("none")), (None, None));
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
        for (since, _) in names.known.lock().unwrap().values_mut() {
            *since -= VALID;
        }
        find("api");
        assert_eq!(ASKED.load(Ordering::Relaxed), 4, "it may have moved");
    }
}
