//! The address of the Redis server, and the login.
//!
//! It must not connect or print a password.

use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

/// The address of the server, and the login.
#[derive(Clone)]
pub struct Server(pub(super) ConnectionInfo);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Server {
    /// From a URL: `redis://[:password@]host[:port][/db]`, `unix:///path`, and `rediss://` in builds
    /// with TLS.
    ///
    /// # Errors
    /// Why it is refused, without the password.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let Ok(info) = url.into_connection_info() else {
            return Err(
                "not a Redis URL; write it like redis://host:6379 or unix:///path".to_owned()
            );
        };
        if !info.addr().is_supported() {
            return Err("this build does not support TLS".to_owned());
        }
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// With this password, unless it has one already. An empty password is none.
    #[must_use]
    pub fn or_password(self, password: Option<&str>) -> Self {
        match password.filter(|password| !password.is_empty()) {
            Some(password) if !self.has_password() => {
                let settings = self.0.redis_settings().clone().set_password(password);
                Self(self.0.set_redis_settings(settings))
            }
            _ => self,
        }
    }

    /// The server at this address: database 0, no user name.
    ///
    /// # Errors
    /// Why the address is refused.
    pub fn at(host: &str, port: u16) -> Result<Self, String> {
        let addr = ConnectionAddr::Tcp(host.to_owned(), port);
        let info = addr.into_connection_info().map_err(|error| error.category().to_owned())?;
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    /// The address as text, without the password.
    pub fn shown(&self) -> String {
        let db = self.0.redis_settings().db();
        match self.0.addr() {
            ConnectionAddr::Tcp(host, port) => format!("redis://{host}:{port}/{db}"),
            ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{host}:{port}/{db}"),
            ConnectionAddr::Unix(path) => format!("unix://{}", PathBuf::from(path).display()),
            _ => "redis".to_owned(),
        }
    }
}
