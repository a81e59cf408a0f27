//! Asks a service for its health, as the health check of a container does.
//!
//! This module must not wait for long: every wait ends, and little of an answer is read.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::http::NAME;
use crate::units;

/// How long the connection and the answer may take in all.
const LIMIT: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes.
const MOST: u64 = 64 << 10;

/// The name of the page, by which it is told from those of other programs.
pub(super) const PAGE_NAME: &str = "health";

/// The page of a service that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPage {
    /// The host and the port, as in a URL.
    host: String,
    path: String,
}

impl HealthPage {
    /// The page at a URL. Without a path, and with the path `/`, it is that of the health.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn at(url: &str) -> Result<Self, String> {
        if url.starts_with("https://") {
            return Err("a service speaks plain HTTP: write http://".to_owned());
        }
        let rest =
            url.strip_prefix("http://").ok_or("write it like http://127.0.0.1:9108/healthz")?;
        let (host, path) = rest.split_once('/').map_or((rest, "healthz"), |(host, path)| {
            (host, if path.is_empty() { "healthz" } else { path })
        });
        let is_text = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !is_text(host) || !is_text(path) {
            return Err("it has no host, or characters that no URL has".to_owned());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { host, path: format!("/{path}") })
    }

    /// The health of a service on this machine that listens at `address`.
    pub fn of(address: SocketAddr) -> Self {
        let mut own = address;
        if own.ip().is_unspecified() {
            let ip: IpAddr =
                if own.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            own.set_ip(ip);
        }
        let host = own.to_string();
        Self { host, path: "/healthz".to_owned() }
    }

    /// What the page says, on one line.
    ///
    /// # Errors
    /// The same, if the service has a problem; or why there is no answer. Both for people.
    pub fn ask(&self) -> Result<String, String> {
        self.ask_within(LIMIT)
    }

    fn ask_within(&self, limit: Duration) -> Result<String, String> {
        let no_answer = |error: io::Error| {
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                return format!("{self} does not answer within {} s", limit.as_secs());
            }
            format!("{self} does not answer: {}", units::error(&error))
        };
        let answer = self.get(Instant::now() + limit).map_err(no_answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let said = one_line(text);
        let is_named = |line: &str| {
            let field = line.split_once(':');
            field.is_some_and(|(header, name)| {
                header.eq_ignore_ascii_case(NAME) && name.trim() == PAGE_NAME
            })
        };
        match status {
            Some("200" | "503") if !head.lines().any(is_named) => Err(format!(
                "{self}: this is not the health page of sweeper; check the host, the port and the path (/healthz)"
            )),
            Some("200") => Ok(said),
            Some("503") => Err(said),
            Some(status) => Err(format!("{self} answers with status {}", one_line(status))),
            None => Err(format!("{self} does not speak HTTP")),
        }
    }

    fn get(&self, until: Instant) -> io::Result<Vec<u8>> {
        let left = || match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
            left => Ok(left),
        };
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in self.host.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, left()?) {
                Ok(stream) => stream,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            stream.set_write_timeout(Some(left()?))?;
            let Self { host, path } = self;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
            let (mut answer, mut part) = (Vec::new(), [0; 4096]);
            while (answer.len() as u64) < MOST {
                stream.set_read_timeout(Some(left()?))?;
                match stream.read(&mut part) {
                    Ok(0) => break,
                    Ok(count) => answer.extend_from_slice(&part[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(answer);
        }
        Err(failed)
    }
}

impl fmt::Display for HealthPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

/// Lines as one, without a character that steers a terminal.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines
        .join("; ")
        .replace(|c: char| c.is_control() || !(c.is_ascii() || c.is_alphanumeric()), "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What is made of the answer of a server, which is kept open without an end.
    fn asked(answer: Option<&'static [u8]>, limit: Duration) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let page = HealthPage::of(listener.local_addr().unwrap());
        std::thread::scope(|scope| {
            let serve = || {
                let mut stream = listener.accept().unwrap().0;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                let request = String::from_utf8(request).unwrap();
                assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
                if let Some(answer) = answer {
                    stream.write_all(answer).unwrap();
                    return None;
                }
                Some(stream)
            };
            let server = std::thread::Builder::new().spawn_scoped(scope, serve).unwrap();
            let answer = page.ask_within(limit);
            drop(server.join().unwrap());
            answer
        })
    }

    #[test]
    fn the_answer_is_one_line_that_steers_no_terminal() {
        let ask = |answer| asked(Some(answer), LIMIT);
        assert_eq!(
            ask(b"HTTP/1.1 200 OK\r\nX-Sweeper-Page: health\r\n\r\nexport: x\ntmp: y\n"),
            Ok("export: x; tmp: y".into())
        );
        let bad = ask(b"HTTP/1.1 503 No\r\nx-sweeper-page:health\r\n\r\ntmp: \x1b[31m\n");
        assert_eq!(bad, Err("tmp: ?[31m".into()));
        assert!(ask(b"HTTP/1.1 404 Not Found\r\n\r\nno").unwrap_err().ends_with("with status 404"));
        for odd in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.", b"HTTP/1.1 2\xc3\xa4"] {
            assert!(ask(odd).is_err());
        }
    }

    #[test]
    fn a_page_of_another_program_is_not_healthy_whatever_its_status() {
        for other in [
            &b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n<html>welcome"[..],
            b"HTTP/1.1 200 OK\r\nX-Sweeper-Page: metrics\r\n\r\nx 1\n",
            b"HTTP/1.1 200 OK\r\n\r\nx-sweeper-page: health\n",
            b"HTTP/1.1 503 Service Unavailable\r\n\r\nbusy\n",
        ] {
            let said = asked(Some(other), LIMIT).unwrap_err();
            assert!(said.contains("this is not the health page of sweeper"), "{said}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for() {
        let said = asked(None, Duration::from_millis(50)).unwrap_err();
        assert!(said.contains("does not answer within"), "{said}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = HealthPage::of(free).ask().unwrap_err();
        assert!(said.ends_with("/healthz does not answer: Connection refused"), "{said}");
    }

    #[test]
    fn a_url_has_a_host_and_perhaps_a_port_and_a_path() {
        for (url, whole) in [
            ("http://10.0.0.1:9108", "http://10.0.0.1:9108/healthz"),
            ("http://sweeper/", "http://sweeper:80/healthz"),
            ("http://[::1]:9108/other?x", "http://[::1]:9108/other?x"),
        ] {
            assert_eq!(HealthPage::at(url).unwrap().to_string(), whole);
        }
        for wrong in
            ["https://x/", "x:9108", "http://", "http://a b/", "http://u:p@x/", "http://x/\r\n"]
        {
            assert!(HealthPage::at(wrong).is_err(), "{wrong}");
        }
        let any: SocketAddr = "[::]:9108".parse().unwrap();
        assert_eq!(HealthPage::of(any).to_string(), "http://[::1]:9108/healthz");
    }
}
