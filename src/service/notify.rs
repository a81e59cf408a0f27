//! What systemd is told: ready, reloading, stopping, alive, and a line of status.
//!
//! It must not fail or hold up the service: where nobody listens, nothing is said, and what cannot be
//! sent is dropped. The protocol is `sd_notify(3)`: a datagram of lines to the socket in
//! `NOTIFY_SOCKET`, which may be an abstract one (`@name`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// To whom.
#[derive(Debug, Default)]
pub struct Notify(Option<UnixDatagram>);

impl Notify {
    /// To the socket that is named; to nobody if none is.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn to(socket: Option<&str>) -> io::Result<Self> {
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

    fn say(&self, lines: &str) {
        if let Some(socket) = &self.0 {
            // A full queue means that nobody reads, and then nobody misses it.
            let _ = socket.send(lines.as_bytes());
        }
    }

    /// The service has begun, or is done reading its settings again.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// It reads its settings again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping\n");
    }

    /// What it does.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}\n"));
    }

    /// Says at half of `limit`, for as long as the process lives, that the service is alive if it is.
    pub fn watch(self, limit: Duration, is_alive: impl Fn() -> bool + Send + 'static) {
        if self.0.is_none() {
            return;
        }
        let beat = move || {
            loop {
                if is_alive() {
                    self.say("WATCHDOG=1\n");
                }
                std::thread::sleep(limit / 2);
            }
        };
        if let Err(error) = std::thread::Builder::new().spawn(beat) {
            tracing::warn!(
                "systemd will take the service for dead, its watch has no thread: {error}"
            );
        }
    }
}
