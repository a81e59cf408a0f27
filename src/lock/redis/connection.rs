//! One connection to the Redis server, and the commands that are sent on it.
//!
//! It must not retry or decide: an error says what kind of error it is, and the connection is not used
//! again. Every answer is waited for, but not longer than [`TIMEOUT`]. No message contains the password.

use std::time::Duration;

use redis::{Client, ErrorKind, RedisError};

use super::keys::{KEY, TOKEN_PREFIX};
use super::server::Server;

/// How long to wait for the server, each time.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sets each key that does not exist to the token, with an expiry. Returns a digit for each key: whether
/// it holds the token now. A batch that is requested again on a new connection may have been granted on
/// the old one.
const TAKE: &str = "local taken = {}
for i, key in ipairs(KEYS) do
  local ours = redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2])
    or redis.call('GET', key) == ARGV[1]
  taken[i] = ours and '1' or '0'
end
return table.concat(taken)";

/// Deletes each key that still holds the token. Returns how many.
const RELEASE: &str = "local ours = {}
for i, token in ipairs(redis.call('MGET', unpack(KEYS))) do
  if token == ARGV[1] then ours[#ours + 1] = KEYS[i] end
end
if #ours == 0 then return 0 end
return redis.call('DEL', unpack(ours))";

/// Sets a new expiry if the key still holds the token, and takes the lock again if it is free.
const EXTEND: &str = "local token = redis.call('GET', KEYS[1])
if token == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if token then return 0 end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0";

/// Why locks cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// There is no connection.
    #[error("the Redis server cannot be reached: {0}")]
    Unreachable(String),
    /// The server accepts the connection and does not answer.
    #[error("the Redis server cannot be reached: no answer within {} s", TIMEOUT.as_secs())]
    Silent,
    /// The server expects another password, or none.
    #[error("the Redis server refuses the login: {0}; check the password")]
    Denied(String),
    /// The server answers with an error.
    #[error("the Redis server refuses: {0}")]
    Refused(String),
    /// This machine's clock is ahead of the server's by this many seconds (behind it, if negative), so
    /// far that every entry would look expired, or none.
    #[error("our clock is {} s {} the Redis server's; correct the wrong one", .0.unsigned_abs(), if *.0 > 0 { "ahead of" } else { "behind" })]
    Clock(i64),
}

impl From<RedisError> for LockError {
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
            Self::Refused(text)
        }
    }
}

/// Locks that are released together.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) token: String,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The holder's token.
    pub token: String,
    /// The time until it expires; `None` for a lock that never does, which no program sets.
    pub remaining: Option<Duration>,
}

impl Holder {
    /// Whether the holder is a sweeper. Otherwise it is CVAT, whose tokens are UUIDs.
    pub fn is_sweeper(&self) -> bool {
        self.token.starts_with(TOKEN_PREFIX)
    }
}

/// A connection that is logged in.
pub(super) struct Connection {
    inner: redis::Connection,
    /// Releases that were sent and not answered yet. If the connection is lost, they must be sent again.
    pending: Vec<Release>,
    /// How many locks had expired before they were released.
    expired: usize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server) -> Result<Self, LockError> {
        let connect = || -> Result<Self, LockError> {
            let inner = Client::open(server.0.clone())?.get_connection_with_timeout(TIMEOUT)?;
            inner.set_read_timeout(Some(TIMEOUT))?;
            inner.set_write_timeout(Some(TIMEOUT))?;
            let mut connection = Self { inner, pending: Vec::new(), expired: 0 };
            // A server that refuses us answers a short command with the clearest error.
            let _: String = connection.ask(&redis::cmd("PING"))?;
            Ok(connection)
        };
        connect().map_err(|error| match error {
            LockError::Unreachable(why) => {
                LockError::Unreachable(format!("{}: {why}", server.shown()))
            }
            other @ (LockError::Silent
            | LockError::Denied(_)
            | LockError::Refused(_)
            | LockError::Clock(_)) => other,
        })
    }

    /// The server's clock, in Unix seconds.
    pub(super) fn time(&mut self) -> Result<i64, LockError> {
        let (secs, _micros): (i64, i64) = self.ask(&redis::cmd("TIME"))?;
        Ok(secs)
    }

    /// Requests the locks of these keys, in one script, which costs the server less than the same commands
    /// in a pipeline. [`Self::read_granted`] reads the answers, in the order of the requests. Until all
    /// are read, nothing else may be asked.
    pub(super) fn request(
        &mut self,
        keys: &[Vec<u8>],
        token: &str,
        ttl: Duration,
    ) -> Result<(), LockError> {
        let request = script(TAKE, keys).arg(token).arg(millis(ttl)).get_packed_command();
        Ok(self.inner.send_packed_command(&request)?)
    }

    /// Reads the answer to a request for this many keys: whether we hold each lock.
    pub(super) fn read_granted(&mut self, keys: usize) -> Result<Vec<bool>, LockError> {
        self.read_releases()?;
        let answer = self.inner.recv_response()?.extract_error()?;
        let digits: Vec<u8> = redis::from_redis_value(answer).map_err(RedisError::from)?;
        if digits.len() != keys {
            return Err(LockError::Refused("the answer has a wrong length".to_owned()));
        }
        Ok(digits.into_iter().map(|digit| digit == b'1').collect())
    }

    /// Releases locks that are still ours. The answer is read before the next one, which saves a round
    /// trip.
    pub(super) fn release(&mut self, release: Release) -> Result<(), LockError> {
        if release.keys.is_empty() {
            return Ok(());
        }
        let request = script(RELEASE, &release.keys).arg(&release.token).get_packed_command();
        self.pending.push(release);
        Ok(self.inner.send_packed_command(&request)?)
    }

    /// The releases that the server may not have received.
    pub(super) fn into_pending(self) -> Vec<Release> {
        self.pending
    }

    /// Reads the answers to releases. The server discards what it has not read when a connection is
    /// closed.
    pub(super) fn read_releases(&mut self) -> Result<(), LockError> {
        while let Some(release) = self.pending.first() {
            let expected = release.keys.len();
            if let redis::Value::Int(released) = self.inner.recv_response()? {
                self.expired += expected.saturating_sub(usize::try_from(released).unwrap_or(0));
            }
            self.pending.remove(0);
        }
        Ok(())
    }

    /// How many locks had expired before they were released, since the last call.
    pub(super) fn take_expired(&mut self) -> usize {
        std::mem::take(&mut self.expired)
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, LockError> {
        self.read_releases()?;
        Ok(command.query(&mut self.inner)?)
    }

    /// Whether a lock still has our token.
    pub(super) fn is_ours(&mut self, key: &[u8], token: &str) -> Result<bool, LockError> {
        let found: Option<String> = self.ask(redis::cmd("GET").arg(key))?;
        Ok(found.as_deref() == Some(token))
    }

    /// Extends a lock, or takes it again if it is free. Returns whether it is held.
    pub(super) fn extend(
        &mut self,
        key: &[Vec<u8>; 1],
        token: &str,
        ttl: Duration,
    ) -> Result<bool, LockError> {
        let extended: i64 = self.ask(script(EXTEND, key).arg(token).arg(millis(ttl)))?;
        Ok(extended == 1)
    }

    /// Who holds a lock.
    pub(super) fn holder(&mut self, key: &[u8]) -> Result<Option<Holder>, LockError> {
        self.read_releases()?;
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let (token, left): (Option<String>, i64) = pipe.query(&mut self.inner)?;
        // A negative number: the key does not expire, or did not exist any more.
        let remaining = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(token.map(|token| Holder { token, remaining }))
    }

    /// The keys of some locks that are held now by any process: as many as a bounded search finds.
    pub(super) fn live_locks(&mut self) -> Result<Vec<Vec<u8>>, LockError> {
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

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
