//! Tells systemd about the service: ready, reloading, stopping, alive, and a line of status.
//!
//! This module must not fail or delay the service: without a socket nothing is sent, and a message that cannot be
//! sent is dropped. The protocol is `sd_notify(3)`: a datagram of lines to the socket in
//! `NOTIFY_SOCKET`, which can be an abstract one (`@name`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::units;

/// A connection to systemd, or to nothing.
#[derive(Debug, Default)]
pub struct Notify(Option<UnixDatagram>);

impl Notify {
    /// Connects to `socket`, the value of `NOTIFY_SOCKET`. Without one, nothing is ever sent.
    ///
    /// # Errors
    /// No process listens there.
    pub fn connect(socket: Option<&str>) -> io::Result<Self> {
        let Some(name) = socket else { return Ok(Self(None)) };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some(socket)))
    }

    fn send(&self, lines: &str) {
        if let Some(socket) = &self.0 {
            // A full queue means that systemd does not read right now. Waiting for it could block the
            // service.
            let _ = socket.send(lines.as_bytes());
        }
    }

    /// The service has started, or has reloaded its settings.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}\n", one_line(status)));
    }

    /// The service is about to reload its settings.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping\n");
    }

    /// What the service does right now.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}\n", one_line(status)));
    }

    /// Feeds the watchdog twice per `limit` while `is_alive`, from a thread that lives as long as the
    /// process.
    ///
    /// # Errors
    /// The system refused the thread, for people. Without it, systemd would end the service.
    pub fn feed_watchdog(
        self,
        limit: Duration,
        is_alive: impl Fn() -> bool + Send + 'static,
    ) -> Result<(), String> {
        if self.0.is_none() {
            return Ok(());
        }
        let feed = move || {
            loop {
                if is_alive() {
                    self.send("WATCHDOG=1\n");
                }
                std::thread::sleep(limit / 2);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(feed);
        let failed = |error: io::Error| {
            format!("cannot start a thread that feeds the watchdog: {}", units::no_thread(&error))
        };
        thread.map(drop).map_err(failed)
    }
}

/// A status is a single line, whatever a settings file or an error has in it.
fn one_line(status: &str) -> String {
    status.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_message_is_a_datagram_of_assignments() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::connect(path.to_str()).unwrap();
        notify.ready("two\nlines");
        assert_eq!(received(&socket), "READY=1\nSTATUS=two lines\n");
        notify.reloading();
        assert!(received(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notify.status("sweeping tmp");
        assert_eq!(received(&socket), "STATUS=sweeping tmp\n");
        notify.stopping();
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=stopping\n");
    }

    #[test]
    fn without_a_socket_nothing_is_sent_and_a_dead_one_is_an_error() {
        Notify::connect(None).unwrap().ready("");
        assert!(Notify::connect(Some("/nowhere/at/all")).is_err());
    }
}
