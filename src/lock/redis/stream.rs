//! The socket to the server, with an end to every wait.
//!
//! This module must not know what is sent. A wait ends at its deadline, however slowly bytes arrive meanwhile, and soon
//! after the work was told to end. A signal ends no wait: neither SIGTERM, which raises a flag that is asked
//! here, nor SIGSTOP and SIGCONT, nor a service's SIGHUP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, sockopt,
};

use super::server::Address;
use super::timing::Timing;

/// How long to wait for the server, each time: for a connection, and for each whole answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer a wait lasts at most once the work was told to end.
const GRACE: Duration = Duration::from_millis(500);

/// How often a wait asks whether the work was told to end.
const SLICE: Duration = Duration::from_millis(50);

/// The work was told to end.
#[derive(Debug, thiserror::Error)]
#[error("the work was told to end")]
pub(super) struct Stopped;

/// A connection to the server, encrypted or not.
pub(super) enum Stream {
    Plain(Socket),
    Encrypted(Box<rustls::StreamOwned<rustls::ClientConnection, Socket>>),
}

/// A socket that does not block, and the end of the present wait.
pub(super) struct Socket {
    handle: OwnedFd,
    wait: Wait,
}

/// A wait that ends.
struct Wait {
    timing: Timing,
    deadline: Instant,
    /// When the work was first seen to be told to end.
    stopped: Option<Instant>,
}

impl Wait {
    fn new(timing: Timing) -> Self {
        Self { timing, deadline: Instant::now() + TIMEOUT, stopped: None }
    }

    /// How long to wait until this is asked again.
    ///
    /// # Errors
    /// The wait is over.
    fn next(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        if self.timing.is_stopped() {
            let since = now.duration_since(*self.stopped.get_or_insert(now));
            if since >= GRACE || left.is_zero() {
                return Err(io::Error::other(Stopped));
            }
        }
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.min(SLICE)) }
    }

    /// Waits until a socket can be read or written.
    fn until(&mut self, handle: impl AsFd, ready: PollFlags) -> io::Result<()> {
        loop {
            let pause = self.next()?;
            let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
            match poll(&mut [PollFd::new(&handle, ready)], Some(&pause)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Stream {
    /// Connects to the server.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn connect(address: &Address, timing: &Timing) -> io::Result<Self> {
        let wait = Wait::new(timing.clone());
        match address {
            Address::Unix(path) => Ok(Self::Plain(Socket::unix(path, wait)?)),
            Address::Tcp { host, port, is_encrypted: true } => {
                Self::encrypted(host, Socket::tcp(host, *port, wait)?)
            }
            Address::Tcp { host, port, .. } => Ok(Self::Plain(Socket::tcp(host, *port, wait)?)),
        }
    }

    fn encrypted(host: &str, socket: Socket) -> io::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = host.to_owned().try_into().map_err(io::Error::other)?;
        let connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name);
        let connection = connection.map_err(io::Error::other)?;
        Ok(Self::Encrypted(Box::new(rustls::StreamOwned::new(connection, socket))))
    }

    /// Begins another wait.
    pub(super) fn start_wait(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Encrypted(stream) => &mut stream.sock,
        };
        socket.wait.deadline = Instant::now() + TIMEOUT;
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Encrypted(stream) => {
                stream.write_all(bytes).and_then(|()| stream.flush()).map_err(encryption)
            }
        }
    }

    /// Waits for bytes, and adds them to `buffer`.
    ///
    /// # Errors
    /// There are none, or will be no more.
    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        let count = match self {
            Self::Plain(socket) => socket.read(&mut bytes),
            Self::Encrypted(stream) => stream.read(&mut bytes).map_err(encryption),
        }?;
        if count == 0 {
            let closed = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed));
        }
        buffer.extend_from_slice(&bytes[..count]);
        Ok(())
    }
}

/// A certificate that is not trusted, say, is no answer of a server.
fn encryption(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidData {
        io::Error::other(error.to_string())
    } else {
        error
    }
}

impl Socket {
    fn unix(path: &Path, mut wait: Wait) -> io::Result<Self> {
        let handle = unconnected(AddressFamily::UNIX)?;
        let address = SocketAddrUnix::new(path)?;
        loop {
            match connect(&handle, &address) {
                Ok(()) => return Ok(Self { handle, wait }),
                Err(Errno::INTR) => {}
                // So many others wait to be accepted that there is no room to wait with them.
                Err(Errno::AGAIN) => std::thread::sleep(wait.next()?),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tcp(host: &str, port: u16, mut wait: Wait) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        let (addresses, end) = (resolve(host, port, &mut wait)?, wait.deadline);
        let untried = (1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev();
        for (address, untried) in addresses.into_iter().zip(untried) {
            // One that does not answer leaves time for the others.
            let now = Instant::now();
            wait.deadline = now + end.saturating_duration_since(now) / untried;
            match connect_tcp(address, &mut wait) {
                Ok(handle) => return Ok(Self { handle, wait }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn unconnected(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}

fn connect_tcp(address: SocketAddr, wait: &mut Wait) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let handle = unconnected(family)?;
    // Requests are sent whole, and none of them may wait for the answer to another.
    sockopt::set_tcp_nodelay(&handle, true)?;
    match connect(&handle, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait.until(&handle, PollFlags::OUT)?;
            sockopt::socket_error(&handle)??;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(handle)
}

/// The addresses of a host.
fn resolve(host: &str, port: u16, wait: &mut Wait) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // In a thread, because the system's resolver can take minutes.
    let (sender, answer) = mpsc::channel();
    let name = host.to_owned();
    let thread = std::thread::Builder::new().spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // No one listens any more if it took too long.
        let _ = sender.send(found.map(Iterator::collect).map_err(|error| not_found(&error)));
    });
    if thread.is_err() {
        // Old container engines refuse threads.
        return Ok((host, port).to_socket_addrs().map_err(|error| not_found(&error))?.collect());
    }
    loop {
        match answer.recv_timeout(wait.next()?) {
            Ok(found) => return found,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the host's name cannot be resolved"));
            }
        }
    }
}

/// The error of a name that no address was found for.
fn not_found(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    io::Error::other(format!("cannot find the host: {why}"))
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.handle, &mut *bytes, RecvFlags::empty()) {
                Ok((count, _)) => return Ok(count),
                Err(Errno::AGAIN) => self.wait.until(&self.handle, PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.handle, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN) => self.wait.until(&self.handle, PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
