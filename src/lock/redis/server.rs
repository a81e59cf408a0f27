//! The address of the Redis server, and the login.
//!
//! This module must not connect or print a password.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The port that Redis listens on unless told otherwise.
const DEFAULT_PORT: u16 = 6379;

/// The address of the server, and the login.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    pub(super) address: Address,
    pub(super) db: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16, is_encrypted: bool },
    Unix(PathBuf),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Server {
    /// From a URL: `redis://[[user]:password@]host[:port][/db]`, the same with `rediss` for TLS, or
    /// `unix:///path[?db=&user=&pass=]`.
    ///
    /// # Errors
    /// Why it is refused, without the password.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let refused = |why: &str| {
            format!("not a Redis URL: {why}; write it like redis://host:6379 or unix:///path")
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        match scheme {
            "redis" | "valkey" => tcp(rest, false),
            "rediss" | "valkeys" => tcp(rest, true),
            "unix" | "redis+unix" | "valkey+unix" => unix(rest),
            _ => Err("its scheme is unknown"),
        }
        .map_err(refused)
    }

    /// With this password, unless it has one already. An empty password is none.
    #[must_use]
    pub fn or_password(mut self, password: Option<&str>) -> Self {
        if self.password.is_none() {
            self.password = password.filter(|password| !password.is_empty()).map(ToOwned::to_owned);
        }
        self
    }

    /// The server at this address: database 0, no user name.
    ///
    /// # Errors
    /// Why the address is refused.
    pub fn at(host: &str, port: u16) -> Result<Self, String> {
        if host.contains(|c: char| c.is_whitespace() || "/@?#[]".contains(c)) {
            return Err("it is not the name or the address of a host".to_owned());
        }
        let address = Address::Tcp { host: host.to_owned(), port, is_encrypted: false };
        Ok(Self { address, db: 0, user: None, password: None })
    }

    /// Whether it is reached with TLS.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.address, Address::Tcp { is_encrypted: true, .. })
    }

    /// The number of its database.
    pub const fn database(&self) -> u32 {
        self.db
    }

    /// Whether it has a password.
    pub const fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether it has a user name.
    pub const fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// The address as text, without the login.
    pub fn shown(&self) -> String {
        let db = self.db;
        match &self.address {
            Address::Tcp { host, port, is_encrypted } => {
                let scheme = if *is_encrypted { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                format!("{scheme}://{open}{}{close}:{port}/{db}", host.escape_debug())
            }
            Address::Unix(path) => {
                format!("unix://{}", path.to_string_lossy().escape_debug())
            }
        }
    }
}

/// `[[user]:password@]host[:port][/db]`.
fn tcp(rest: &str, is_encrypted: bool) -> Result<Server, &'static str> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('@') {
        return Err("/, ? and # in a password are written %2F, %3F and %23");
    }
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((user, password)) => (decoded_text(user)?, decoded_text(password)?),
        None => (None, None),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("its port is wrong")?)),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("it names no host");
    }
    let port =
        port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| "its port is wrong"))?;
    let db = database(path.strip_prefix('/').unwrap_or(path))?;
    let address = Address::Tcp { host: host.to_owned(), port, is_encrypted };
    Ok(Server { address, db, user, password })
}

/// `/path[?db=&user=&pass=]`.
fn unix(rest: &str) -> Result<Server, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err("the path of a socket begins with /");
    }
    let path = PathBuf::from(OsString::from_vec(decoded(path)?));
    let mut server = Server { address: Address::Unix(path), db: 0, user: None, password: None };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("db", db)) => server.db = database(db)?,
            Some(("user", user)) => server.user = decoded_text(user)?,
            Some(("pass", password)) => server.password = decoded_text(password)?,
            _ => return Err("only db, user and pass are known after ?"),
        }
    }
    Ok(server)
}

fn database(text: &str) -> Result<u32, &'static str> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| "its database is not a number") }
}

/// Text with `%XX` decoded; an empty one is none.
fn decoded_text(text: &str) -> Result<Option<String>, &'static str> {
    let text = String::from_utf8(decoded(text)?).map_err(|_| "its login is not UTF-8")?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, others)) = rest.split_first() {
        rest = others;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (code, after) = rest.split_at_checked(2).ok_or("a % is followed by two digits")?;
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("a % is followed by two digits");
        bytes.push(u8::try_from(digit(code[0])? * 16 + digit(code[1])?).unwrap_or(0));
        rest = after;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address as shown, the user and the password.
    fn read(url: &str) -> Result<(String, Option<String>, Option<String>), String> {
        Server::from_url(url).map(|server| (server.shown(), server.user, server.password))
    }

    #[test]
    fn urls_are_read_as_redis_clients_read_them() {
        let text = |text: &str| Some(text.to_owned());
        for (url, shown, user, password) in [
            ("redis://r", "redis://r:6379/0", None, None),
            ("redis://r:7/", "redis://r:7/0", None, None),
            ("redis://:pw@r/3", "redis://r:6379/3", None, text("pw")),
            ("redis://u:p%40%2Fw@r:7/3", "redis://r:7/3", text("u"), text("p@/w")),
            ("redis://u:p:w@r", "redis://r:6379/0", text("u"), text("p:w")),
            ("redis://u@r", "redis://r:6379/0", text("u"), None),
            ("redis://:@r", "redis://r:6379/0", None, None),
            ("redis://:a@b@r", "redis://r:6379/0", None, text("a@b")),
            ("redis://[::1]:7/1", "redis://[::1]:7/1", None, None),
            ("redis://[fe80::1%eth0]", "redis://[fe80::1%eth0]:6379/0", None, None),
            ("unix:///run/r.sock", "unix:///run/r.sock", None, None),
            ("redis+unix:///r%20s?db=2&user=u&pass=p%26", "unix:///r s", text("u"), text("p&")),
        ] {
            assert_eq!(read(url), Ok((shown.to_owned(), user, password)), "{url}");
        }
        assert_eq!(Server::from_url("unix:///r?db=2").unwrap().db, 2);
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_without_its_password() {
        for url in [
            "",
            "r:6379",
            "http://:s3cret@r",
            "redis://",
            "redis://:s3cret@",
            "redis://:s3cret@r:port",
            "redis://:s3cret@r:70000",
            "redis://:s3cret@r/one",
            "redis://:s3/cret@r",
            "redis://:s3#cret@r",
            "redis://:s3cret%@r",
            "redis://:s3cret%zz@r",
            "redis://r?protocol=resp3",
            "redis://r/1#insecure",
            "redis://[::1:7",
            "unix://r.sock",
            "unix:///r?password=s3cret",
            "rediss+unix:///r",
        ] {
            let error = read(url).unwrap_err();
            assert!(error.contains("not a Redis URL: ") && !error.contains("s3"), "{url}: {error}");
        }
        assert!(read("rediss://r").is_ok());
        assert!(Server::at("redis://r", 1).is_err() && Server::at("r", 1).is_ok());
    }
}
