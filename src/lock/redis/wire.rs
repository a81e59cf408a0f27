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

use super::Holder;
use super::keys::KEY;

/// How long to wait for the server, each time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sets each key that does not exist to the token, with an expiry; says of each whether it holds the
/// token now: a batch that is asked for once more, on a new connection, may have been granted before.
const TAKE: &str = "local taken = {}
for i, key in ipairs(KEYS) do
  local ours = redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2])
    or redis.call('GET', key) == ARGV[1]
  taken[i] = ours and '1' or '0'
end
return table.concat(taken)";

/// Deletes each key that still holds the token; says how many.
const GIVE_BACK: &str = "local ours = {}
for i, token in ipairs(redis.call('MGET', unpack(KEYS))) do
  if token == ARGV[1] then ours[#ours + 1] = KEYS[i] end
end
if #ours == 0 then return 0 end
return redis.call('DEL', unpack(ours))";

/// Sets a new expiry if the key still holds the token, and takes it again if nobody has it.
const EXTEND: &str = "local token = redis.call('GET', KEYS[1])
if token == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if token then return 0 end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0";

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
    /// with TLS.
    ///
    /// # Errors
    /// What is wrong with it, without the password.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let Ok(info) = url.into_connection_info() else {
            return Err(
                "not a Redis URL; write it like redis://host:6379 or unix:///path".to_owned()
            );
        };
        if !info.addr().is_supported() {
            return Err("this build has no TLS".to_owned());
        }
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// With this password, unless it has its own. An empty one is none.
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

    /// As CVAT's own settings name it: database 0, no user name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_cvat(host: &str, port: u16) -> Result<Self, String> {
        let addr = ConnectionAddr::Tcp(host.to_owned(), port);
        let info = addr.into_connection_info().map_err(|error| error.category().to_owned())?;
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        Ok(Self(info.set_redis_settings(settings)))
    }

    /// Whether it has a password of its own.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
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
    /// It is there and does not answer.
    #[error("the Redis server cannot be reached: no answer within {} s", PATIENCE.as_secs())]
    Silent,
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
        let words = text.to_ascii_uppercase();
        let login = ["NOAUTH", "WRONGPASS", "NOPERM", "AUTHENTICATION"];
        if error.kind() == ErrorKind::AuthenticationFailed
            || login.iter().any(|word| words.contains(word))
        {
            Self::Denied(text)
        } else if error.is_timeout() {
            Self::Silent
        } else if error.is_io_error() || error.is_connection_dropped() {
            Self::Unreachable(text)
        } else {
            Self::Refuses(text)
        }
    }
}

/// Locks that go back together.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) token: String,
}

/// One connection.
pub(super) struct Wire {
    connection: Connection,
    /// What was not answered yet: should the connection be lost, it has to be said once more.
    unanswered: Vec<Release>,
    /// How many had run out by then.
    late: usize,
}

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
            other @ (Trouble::Silent
            | Trouble::Denied(_)
            | Trouble::Refuses(_)
            | Trouble::Clock(_)) => other,
        };
        let connect = || -> Result<Self, Trouble> {
            let connection =
                Client::open(server.0.clone())?.get_connection_with_timeout(PATIENCE)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_write_timeout(Some(PATIENCE))?;
            let mut wire = Self { connection, unanswered: Vec::new(), late: 0 };
            // A server that will not talk to us says so best in answer to something short.
            let _: String = wire.ask(&redis::cmd("PING"))?;
            Ok(wire)
        };
        connect().map_err(at)
    }

    /// The server's clock, in Unix seconds.
    pub(super) fn time(&mut self) -> Result<i64, Trouble> {
        let (secs, _micros): (i64, i64) = self.ask(&redis::cmd("TIME"))?;
        Ok(secs)
    }

    /// Asks for the locks of these keys, in one script: it costs a bit more than half of what the same
    /// commands cost in a pipeline. The answers come in the order of the questions, by
    /// [`Self::hear_taken`]; until all are heard nothing else may be asked.
    pub(super) fn ask_for(
        &mut self,
        keys: &[Vec<u8>],
        token: &str,
        ttl: Duration,
    ) -> Result<(), Trouble> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let question = script(TAKE, keys).arg(token).arg(ttl).get_packed_command();
        Ok(self.connection.send_packed_command(&question)?)
    }

    /// Says of each of the keys that were asked for whether we hold its lock now.
    pub(super) fn hear_taken(&mut self, keys: usize) -> Result<Vec<bool>, Trouble> {
        self.catch_up()?;
        let answer = self.connection.recv_response()?.extract_error()?;
        let digits: Vec<u8> = redis::from_redis_value(answer).map_err(RedisError::from)?;
        if digits.len() != keys {
            return Err(Trouble::Refuses("an answer of the wrong length".to_owned()));
        }
        Ok(digits.into_iter().map(|digit| digit == b'1').collect())
    }

    /// Gives locks back, those that are still ours. Does not wait for the answer: it is read before
    /// the next question, and a round trip saved.
    pub(super) fn give_back(&mut self, release: Release) -> Result<(), Trouble> {
        if release.keys.is_empty() {
            return Ok(());
        }
        let question = script(GIVE_BACK, &release.keys).arg(&release.token).get_packed_command();
        self.unanswered.push(release);
        Ok(self.connection.send_packed_command(&question)?)
    }

    /// The releases that a lost connection may not have brought home.
    pub(super) fn into_unanswered(self) -> Vec<Release> {
        self.unanswered
    }

    /// Reads what is still unanswered. A connection that is closed before has its releases thrown away
    /// by the server.
    pub(super) fn catch_up(&mut self) -> Result<(), Trouble> {
        while let Some(release) = self.unanswered.first() {
            let expected = release.keys.len();
            if let redis::Value::Int(given) = self.connection.recv_response()? {
                self.late += expected.saturating_sub(usize::try_from(given).unwrap_or(0));
            }
            self.unanswered.remove(0);
        }
        Ok(())
    }

    /// How many locks had run out before they were given back, since this was last asked.
    pub(super) fn take_late(&mut self) -> usize {
        std::mem::take(&mut self.late)
    }

    fn ask<T: redis::FromRedisValue>(&mut self, question: &redis::Cmd) -> Result<T, Trouble> {
        self.catch_up()?;
        Ok(question.query(&mut self.connection)?)
    }

    /// Whether a lock is still ours.
    pub(super) fn still_ours(&mut self, key: &[u8], token: &str) -> Result<bool, Trouble> {
        let found: Option<String> = self.ask(redis::cmd("GET").arg(key))?;
        Ok(found.as_deref() == Some(token))
    }

    /// Extends a lock; false when it is not ours any more.
    pub(super) fn extend(
        &mut self,
        keys: &[Vec<u8>],
        token: &str,
        ttl: Duration,
    ) -> Result<bool, Trouble> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let extended: i64 = self.ask(script(EXTEND, keys).arg(token).arg(ttl))?;
        Ok(extended == 1)
    }

    /// Who holds a lock.
    pub(super) fn holder(&mut self, key: &[u8]) -> Result<Option<Holder>, Trouble> {
        self.catch_up()?;
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let (token, left): (Option<String>, i64) = pipe.query(&mut self.connection)?;
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
            let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(&scan)?;
            if !keys.is_empty() || next == 0 {
                return Ok(keys);
            }
            cursor = next;
        }
        Ok(Vec::new())
    }
}

fn script(text: &str, keys: &[Vec<u8>]) -> redis::Cmd {
    let mut script = redis::cmd("EVAL");
    script.arg(text).arg(keys.len()).arg(keys);
    script
}
