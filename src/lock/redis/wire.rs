//! One connection to the Redis server, and what is said on it.
//!
//! It must not retry or decide: an error says what kind of trouble it is, and the connection is not
//! used again. Every answer is waited for a bounded time; the password is never in a message.

use std::path::PathBuf;
use std::time::Duration;

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError,
};

use super::keys::KEY;
use super::{Held, Holder};

/// How long to wait for the server, each time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Deletes each key that still holds the token it was set to; says how many.
const GIVE_BACK: &str = "local n = 0
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then n = n + redis.call('DEL', key) end
end
return n";

/// Sets a new expiry if the key still holds the token.
const EXTEND: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

/// Where the server is, and how to log in.
#[derive(Clone)]
pub struct Server(ConnectionInfo);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Server {
    /// From a URL: `redis://[:password@]host[:port][/db]`, `unix:///path`, and `rediss://` in builds
    /// with TLS. `password` is for a URL without one.
    ///
    /// # Errors
    /// What is wrong with it, without the password.
    pub fn from_url(url: &str, password: Option<&str>) -> Result<Self, String> {
        let Ok(info) = url.into_connection_info() else {
            return Err(
                "not a Redis URL; write it like redis://host:6379 or unix:///path".to_owned()
            );
        };
        if !info.addr().is_supported() {
            return Err("this build has no TLS".to_owned());
        }
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let settings = match password {
            Some(password) if settings.password().is_none() => settings.set_password(password),
            _ => settings,
        };
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// As CVAT's own settings name it: database 0, and no `AUTH` for an empty password.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_cvat(host: &str, port: u16, password: Option<&str>) -> Result<Self, String> {
        let addr = ConnectionAddr::Tcp(host.to_owned(), port);
        let info = addr.into_connection_info().map_err(|error| error.category().to_owned())?;
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            settings = settings.set_password(password);
        }
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// For people: the address, without the password.
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

/// Why the locks cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody answers.
    #[error("the Redis server cannot be reached: {0}")]
    Unreachable(String),
    /// It wants another password, or none.
    #[error("the Redis server refuses the login: {0}; check the password")]
    Denied(String),
    /// It answers and will not do it.
    #[error("the Redis server refuses: {0}")]
    Refuses(String),
    /// Our clock is so far off that everything would look expired, or nothing.
    #[error("our clock is {} s {} the Redis server's: set one of the two right", .0.abs(), if *.0 > 0 { "ahead of" } else { "behind" })]
    Clock(i64),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let login = ["NOAUTH", "WRONGPASS", "NOPERM", "AUTH"];
        if error.kind() == ErrorKind::AuthenticationFailed
            || login.iter().any(|word| text.contains(word))
        {
            Self::Denied(text)
        } else if error.is_timeout() {
            Self::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()))
        } else if error.is_io_error() || error.is_connection_dropped() {
            Self::Unreachable(text)
        } else {
            Self::Refuses(text)
        }
    }
}

/// One connection.
pub(super) struct Wire(Connection);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server) -> Result<Self, Trouble> {
        let at = |trouble| match trouble {
            Trouble::Unreachable(why) => Trouble::Unreachable(format!("{}: {why}", server.shown())),
            other @ (Trouble::Denied(_) | Trouble::Refuses(_) | Trouble::Clock(_)) => other,
        };
        let connect = || -> Result<Self, Trouble> {
            let connection =
                Client::open(server.0.clone())?.get_connection_with_timeout(PATIENCE)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_write_timeout(Some(PATIENCE))?;
            Ok(Self(connection))
        };
        connect().map_err(at)
    }

    /// The server's clock, in Unix seconds.
    pub(super) fn time(&mut self) -> Result<i64, Trouble> {
        let (secs, _micros): (i64, i64) = redis::cmd("TIME").query(&mut self.0)?;
        Ok(secs)
    }

    /// Asks for each of these locks; says of each whether we hold it now.
    pub(super) fn take(&mut self, wanted: &[Held], ttl: Duration) -> Result<Vec<bool>, Trouble> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut pipe = redis::Pipeline::with_capacity(wanted.len());
        for held in wanted {
            pipe.cmd("SET").arg(&held.key).arg(&held.token).arg("NX").arg("PX").arg(ttl);
        }
        let taken: Result<Vec<Option<String>>, RedisError> = pipe.query(&mut self.0);
        match taken {
            Ok(taken) => Ok(taken.into_iter().map(|answer| answer.is_some()).collect()),
            Err(error) => {
                let trouble = Trouble::from(error);
                if !matches!(trouble, Trouble::Unreachable(_)) {
                    // Some may have been set before the server refused; else they run out.
                    let _ = self.give_back(wanted);
                }
                Err(trouble)
            }
        }
    }

    /// Gives locks back, those that are still ours; says how many that were.
    pub(super) fn give_back(&mut self, held: &[Held]) -> Result<usize, Trouble> {
        if held.is_empty() {
            return Ok(0);
        }
        let mut script = redis::cmd("EVAL");
        script.arg(GIVE_BACK).arg(held.len());
        for held in held {
            script.arg(&held.key);
        }
        for held in held {
            script.arg(&held.token);
        }
        Ok(script.query(&mut self.0)?)
    }

    /// Whether a lock is still ours.
    pub(super) fn still_ours(&mut self, held: &Held) -> Result<bool, Trouble> {
        let token: Option<String> = redis::cmd("GET").arg(&held.key).query(&mut self.0)?;
        Ok(token.as_deref() == Some(&held.token))
    }

    /// Extends a lock; false when it is not ours any more.
    pub(super) fn extend(&mut self, held: &Held, ttl: Duration) -> Result<bool, Trouble> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut script = redis::cmd("EVAL");
        script.arg(EXTEND).arg(1).arg(&held.key).arg(&held.token).arg(ttl);
        let extended: i64 = script.query(&mut self.0)?;
        Ok(extended == 1)
    }

    /// Who holds a lock.
    pub(super) fn holder(&mut self, key: &[u8]) -> Result<Option<Holder>, Trouble> {
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let (token, left): (Option<String>, i64) = pipe.query(&mut self.0)?;
        Ok(token.map(|token| Holder {
            token,
            left: u64::try_from(left).ok().map(Duration::from_millis),
        }))
    }

    /// Some of the locks that are held now, by anybody: as many as a short look finds.
    pub(super) fn live_locks(&mut self) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut cursor = 0_u64;
        let pattern = [KEY, b"*"].concat();
        for _ in 0..100 {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(&mut self.0)?;
            if !keys.is_empty() || next == 0 {
                return Ok(keys);
            }
            cursor = next;
        }
        Ok(Vec::new())
    }
}
