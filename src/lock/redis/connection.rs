//! One connection to the Redis server, and the commands that are sent on it.
//!
//! This module must not retry or decide: an error says what kind of error it is, and the connection is not used
//! again. Every answer is checked, since one that is not understood must not pass for a lock. No message
//! contains the password.

use std::time::Duration;

use super::error::{LockError, printable};
use super::keys::{KEY, TOKEN_PREFIX};
use super::resp::{Command, Value, decode};
use super::scripts::{self, Grant};
use super::server::Server;
use super::stream::Stream;
use super::timing::Timing;

/// How much of a token is read: more than any that is ours or CVAT's.
const TOKEN_END: u64 = 99;

/// How many locks of other processes are remembered.
const MAX_LIVE: usize = 100;

/// Locks that are released together.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) token: String,
    /// Whether we know that each of them was granted and not released yet.
    pub(super) is_certain: bool,
}

impl Release {
    /// How many locks these are.
    pub(super) fn count(all: &[Self]) -> usize {
        all.iter().map(|release| release.keys.len()).sum()
    }
}

/// How releases ended that were not as they should be.
#[derive(Debug, Default)]
pub(super) struct Unreleased {
    /// How many locks had expired before they were released.
    pub(super) expired: usize,
    /// How many locks may not have been released, and why.
    pub(super) refused: Option<(usize, String)>,
}

impl Unreleased {
    /// `count` locks may not have been released.
    pub(super) fn refuse(&mut self, count: usize, why: String) {
        if count == 0 {
            return;
        }
        let (before, _) = self.refused.take().unwrap_or_default();
        self.refused = Some((before + count, why));
    }

    pub(super) fn append(&mut self, other: Self) {
        self.expired += other.expired;
        if let Some((count, why)) = other.refused {
            self.refuse(count, why);
        }
    }
}

/// What a key holds that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The holder's token, printable; or, of a key that holds something else than text, what that is.
    pub token: String,
    /// Whether it can be a lock: the key holds text.
    pub is_lock: bool,
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
    stream: Stream,
    /// Bytes that were received and not read yet.
    received: Vec<u8>,
    /// Releases that were sent and not answered yet. If the connection is lost, they must be sent again.
    pending: Vec<Release>,
    unreleased: Unreleased,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server, timing: &Timing) -> Result<Self, LockError> {
        let connect = || -> Result<Self, LockError> {
            let stream = Stream::connect(&server.address, timing)?;
            let (received, pending) = (Vec::new(), Vec::new());
            let unreleased = Unreleased::default();
            let mut connection = Self { stream, received, pending, unreleased };
            connection.log_in(server)?;
            if server.db != 0 {
                let selected = connection.ask(&Command::new("SELECT").number(server.db.into()));
                selected.map_err(|error| of_database(server, error))?;
            }
            // A server that refuses us answers a short command with the clearest error.
            let answer = connection.ask(&Command::new("PING"))?;
            match answer.text() {
                Some(b"PONG") => Ok(connection),
                _ => Err(unexpected("PING", &answer)),
            }
        };
        let at = |why: &str| format!("{}: {why}", server.shown());
        connect().map_err(|error| match error {
            LockError::Unreachable(why) => LockError::Unreachable(at(&why)),
            // A server that expects no TLS waits for the rest of a command.
            LockError::Silent(_) if server.is_encrypted() => {
                LockError::Silent(at("this address is for a server with TLS: "))
            }
            LockError::Silent(_) => LockError::Silent(at("")),
            LockError::Denied(said) if !server.has_password() => {
                LockError::NoPassword { server: server.shown(), said }
            }
            LockError::Denied(said) => LockError::Denied(at(&said)),
            LockError::Malformed(what) => LockError::Malformed(at(&what)),
            other @ (LockError::NoPassword { .. }
            | LockError::Refused(_)
            | LockError::Clock(_)
            | LockError::WrongPath { .. }
            | LockError::Stopped) => other,
        })
    }

    /// Logs in if there is a password. A server that has none accepts any for its user `default`, as CVAT's own
    /// client relies on; the older command without a user name would be refused.
    fn log_in(&mut self, server: &Server) -> Result<(), LockError> {
        let Some(password) = &server.password else { return Ok(()) };
        let user = server.user.as_deref().unwrap_or("default");
        let mut said = self.exchange(&Command::new("AUTH").arg(user).arg(password))?;
        let refuses = |said: &Value, words| said.error().is_some_and(|text| contains(text, words));
        if server.user.is_none() && refuses(&said, "wrong number of arguments") {
            // Before Redis 6 there are no users.
            said = self.exchange(&Command::new("AUTH").arg(password))?;
        }
        match (said.text(), said.error()) {
            (Some(_), _) => Ok(()),
            (_, Some(_)) if refuses(&said, "no password is set") => Ok(()),
            (_, Some(text)) => Err(LockError::of_login(text)),
            (None, None) => Err(unexpected("AUTH", &said)),
        }
    }

    /// The server's clock, in Unix seconds.
    pub(super) fn time(&mut self) -> Result<i64, LockError> {
        let answer = self.ask(&Command::new("TIME"))?;
        let secs = answer.list().and_then(|parts| parts.first()?.text());
        let secs = secs.and_then(|secs| std::str::from_utf8(secs).ok()?.parse().ok());
        secs.ok_or_else(|| unexpected("TIME", &answer))
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
        self.send(&scripts::take(keys, token, ttl))
    }

    /// Reads the answer to a request for this many keys.
    pub(super) fn read_granted(&mut self, keys: usize) -> Result<Vec<Grant>, LockError> {
        self.read_releases()?;
        let answer = self.read_good()?;
        scripts::grants(&answer, keys).ok_or_else(|| unexpected("a request for locks", &answer))
    }

    /// Whether each lock still has our token.
    pub(super) fn are_ours(
        &mut self,
        keys: &[Vec<u8>],
        token: &str,
    ) -> Result<Vec<bool>, LockError> {
        let answer = self.ask(&scripts::compare(keys, token))?;
        let held = scripts::held(&answer, keys.len());
        held.ok_or_else(|| unexpected("a question about locks", &answer))
    }

    /// Releases locks that are still ours. The answer is read before the next one, which saves a round
    /// trip.
    pub(super) fn release(&mut self, release: Release) -> Result<(), LockError> {
        if release.keys.is_empty() {
            return Ok(());
        }
        let request = scripts::release(&release.keys, &release.token);
        self.pending.push(release);
        self.send(&request)
    }

    /// The releases that the server may not have received.
    pub(super) fn into_pending(self) -> Vec<Release> {
        self.pending
    }

    /// Reads the answers to releases. The server discards what it has not read when a connection is
    /// closed.
    pub(super) fn read_releases(&mut self) -> Result<(), LockError> {
        while let Some(release) = self.pending.first() {
            let (keys, is_certain) = (release.keys.len(), release.is_certain);
            let answer = self.read()?;
            let released = answer.int().and_then(|count| usize::try_from(count).ok());
            match (released.filter(|count| *count <= keys), answer.error()) {
                // Of the others, some may not have been granted, or were released already.
                (Some(released), _) if is_certain => self.unreleased.expired += keys - released,
                (Some(_), _) => {}
                (None, Some(text)) => self.unreleased.refuse(keys, printable(text)),
                (None, None) => return Err(unexpected("a release", &answer)),
            }
            self.pending.remove(0);
        }
        Ok(())
    }

    /// What went wrong with releases since the last call.
    pub(super) fn take_unreleased(&mut self) -> Unreleased {
        std::mem::take(&mut self.unreleased)
    }

    /// Extends a lock, or takes it again if it is free. Returns whether it is held.
    pub(super) fn extend(
        &mut self,
        key: &[Vec<u8>; 1],
        token: &str,
        ttl: Duration,
    ) -> Result<bool, LockError> {
        let answer = self.ask(&scripts::extend(key, token, ttl))?;
        match answer.int() {
            Some(extended @ (0 | 1)) => Ok(extended == 1),
            _ => Err(unexpected("an extension", &answer)),
        }
    }

    /// What a key holds, if it is there.
    pub(super) fn holder(&mut self, key: &[u8]) -> Result<Option<Holder>, LockError> {
        let kind = self.ask_text("TYPE", &Command::new("TYPE").arg(key))?;
        let is_lock = kind == b"string";
        let token = if is_lock {
            let get = Command::new("GETRANGE").arg(key).number(0).number(TOKEN_END);
            self.ask_text("GETRANGE", &get)?
        } else {
            kind
        };
        let answer = self.ask(&Command::new("PTTL").arg(key))?;
        match answer.int() {
            // It is not there, or not any more.
            Some(-2) => Ok(None),
            Some(left) => {
                // -1: it does not expire.
                let remaining = u64::try_from(left).ok().map(Duration::from_millis);
                Ok(Some(Holder { token: printable(&token), is_lock, remaining }))
            }
            None => Err(unexpected("PTTL", &answer)),
        }
    }

    /// The keys of locks that other programs hold now: some of them, as many as a bounded search finds. It ends where one
    /// is found that `is_enough`.
    pub(super) fn live_locks(
        &mut self,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Vec<u8>>, LockError> {
        let (mut cursor, mut live) = (b"0".to_vec(), Vec::new());
        let pattern = [KEY, b"*"].concat();
        for _ in 0..100 {
            let scan = Command::new("SCAN").arg(&cursor).arg("MATCH").arg(&pattern);
            let answer = self.ask(&scan.arg("COUNT").number(1000))?;
            let (next, keys) = scanned(&answer).ok_or_else(|| unexpected("SCAN", &answer))?;
            for key in self.held_by_others(keys)? {
                if is_enough(&key) {
                    return Ok(vec![key]);
                }
                if live.len() < MAX_LIVE {
                    live.push(key);
                }
            }
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        Ok(live)
    }

    /// Those of these keys that are locks which other programs than sweepers hold.
    fn held_by_others(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, LockError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let answer = self.ask(&scripts::live(&keys, TOKEN_PREFIX))?;
        let are_live = scripts::held(&answer, keys.len());
        let are_live = are_live.ok_or_else(|| unexpected("a question about locks", &answer))?;
        let live = keys.into_iter().zip(are_live).filter(|(_, is_live)| *is_live);
        Ok(live.map(|(key, _)| key).collect())
    }

    /// Asks, and takes an error of the server for an error.
    fn ask(&mut self, command: &Command) -> Result<Value, LockError> {
        self.read_releases()?;
        self.send(command)?;
        self.read_good()
    }

    fn exchange(&mut self, command: &Command) -> Result<Value, LockError> {
        self.send(command)?;
        self.read()
    }

    fn send(&mut self, command: &Command) -> Result<(), LockError> {
        let mut bytes = Vec::new();
        command.append_to(&mut bytes);
        self.stream.start_wait();
        Ok(self.stream.send(&bytes)?)
    }

    fn read_good(&mut self) -> Result<Value, LockError> {
        let answer = self.read()?;
        match answer.error() {
            Some(text) => Err(LockError::of_server(text)),
            None => Ok(answer),
        }
    }

    fn ask_text(&mut self, name: &str, command: &Command) -> Result<Vec<u8>, LockError> {
        let answer = self.ask(command)?;
        answer.text().map(ToOwned::to_owned).ok_or_else(|| unexpected(name, &answer))
    }

    /// Reads one answer, within one wait for all of it.
    fn read(&mut self) -> Result<Value, LockError> {
        self.stream.start_wait();
        loop {
            if let Some((value, length)) = decode(&self.received)? {
                self.received.drain(..length);
                return Ok(value);
            }
            self.stream.receive(&mut self.received)?;
        }
    }
}

/// The error of a server that has no such database.
fn of_database(server: &Server, error: LockError) -> LockError {
    if let LockError::Refused(said) = &error {
        let server = server.shown();
        return LockError::Refused(format!("{said} ({server}); CVAT's locks are in database 0"));
    }
    error
}

/// An answer that does not fit the question.
fn unexpected(what: &str, answer: &Value) -> LockError {
    let said = match answer {
        Value::Text(text) | Value::Error(text) => format!("{:?}", printable(text)),
        Value::Int(number) => number.to_string(),
        Value::Nil => "nothing".to_owned(),
        Value::List(list) => format!("a list of {}", list.len()),
    };
    LockError::Malformed(format!("{said} to {what}"))
}

fn contains(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|window| window == words.as_bytes())
}

/// Where a search continues, and what it has found.
fn scanned(answer: &Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let text = |value: &Value| value.text().map(ToOwned::to_owned);
    let [next, keys] = answer.list()? else { return None };
    Some((text(next)?, keys.list()?.iter().map(text).collect::<Option<_>>()?))
}
