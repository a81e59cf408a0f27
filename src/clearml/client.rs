//! The client of the API: login, renewal, retries, and a close look at each answer.
//!
//! This module must not decide what to ask. The token is sent to the API and file servers alone.

use std::io::{BufReader, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::http::{Certificates, Http, Method, Reply, Request};
use super::server::{Credentials, Server};
use super::time;
use super::token::{self, ApiVersion, Token};
use crate::rules::Moment;

/// How often a request is sent at most, and the first pause between two tries. Each pause is twice the last.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A token is renewed when it has less than this left.
const RENEW_BEFORE: i64 = 360;

/// Answers that mean: later, perhaps.
const LATER: [u16; 4] = [429, 502, 503, 504];

const API: &str = "a ClearML API server";
const WHOLE: &str = "the answer is not an object with `meta` and `data`: is this the address of the \
                     web or the file server?";

/// The envelope of every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    meta: Meta,
    data: Option<T>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "result_code")]
    code: u16,
    #[serde(rename = "result_subcode")]
    subcode: Option<u32>,
    #[serde(rename = "result_msg")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// How often a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Once: it is not known what a second one would do.
    Once,
    /// Again, if the server is busy or the connection breaks.
    Several,
}

/// A client that may be used by several threads.
#[derive(Debug)]
pub struct Client {
    http: Http,
    server: Server,
    token: Mutex<Option<Token>>,
    /// How many seconds this machine's clock is ahead of the server's.
    ahead: AtomicI64,
    stop: Arc<AtomicBool>,
    clock: fn() -> Moment,
}

/// What a client needs besides a server.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The longest time for a request.
    pub timeout: Duration,
    /// How many requests are made at once.
    pub connections: usize,
    /// Set when the run is told to stop.
    pub stop: Arc<AtomicBool>,
    /// Reads the clock, for the end of tokens.
    pub clock: fn() -> Moment,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(server: Server, options: ClientOptions) -> Self {
        let ClientOptions { timeout, connections, stop, clock } = options;
        let certificates = if server.verify { Certificates::Checked } else { Certificates::Any };
        let http = Http::new(timeout, connections, certificates);
        let (token, ahead) = (Mutex::default(), AtomicI64::new(0));
        Self { http, server, token, ahead, stop, clock }
    }

    /// The servers.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Logs in, unless that is done, and says which version of the API the server has.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn version(&self) -> Result<ApiVersion, ApiError> {
        self.token(None).map(|token| token.api_version)
    }

    /// The company that the token is for.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn company(&self) -> Result<String, ApiError> {
        self.token(None).map(|token| token.company)
    }

    /// How many seconds this machine's clock is ahead of the server's, as far as the server says.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn ahead(&self) -> Result<i64, ApiError> {
        self.token(None).map(|_| self.ahead.load(Ordering::Relaxed))
    }

    /// Asks `endpoint`.
    ///
    /// # Errors
    /// There is no answer of the right form, or a refusal.
    pub fn call<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        body: &impl Serialize,
        tries: Tries,
    ) -> Result<T, ApiError> {
        let url = format!("{}/{endpoint}", self.server.api);
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(&error.to_string()))?;
        let token = self.token(None)?;
        let first = self.ask(endpoint, &url, &token.header(), &body, tries);
        match first {
            Err(ApiError::Refused { code: 401, .. }) => {
                let token = self.token(Some(&token))?;
                self.ask(endpoint, &url, &token.header(), &body, tries)
            }
            other => other,
        }
    }

    /// Sends a request to a file server, with the token. It must be one of ours.
    ///
    /// # Errors
    /// There is no answer.
    pub fn file(&self, method: Method, url: &str, body: &[u8]) -> Result<Reply, ApiError> {
        let mut token = self.token(None)?;
        for is_last in [false, true] {
            let header = token.header();
            let authorization = Some(header.as_str());
            let request = Request { method, url, authorization, body };
            let reply = self.send_patiently(&request, Tries::Several)?;
            if reply.status == 401 && !is_last {
                token = self.token(Some(&token))?;
                continue;
            }
            return Ok(reply);
        }
        Err(ApiError::Stopped)
    }

    /// The token, which is fetched if there is none, or it ends soon, or it is the one that was refused.
    fn token(&self, refused: Option<&Token>) -> Result<Token, ApiError> {
        let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |token: &Token| {
            let left = token.expires.map(|end| end.saturating_sub((self.clock)().unix_secs()));
            refused != Some(token) && left.is_none_or(|left| left > RENEW_BEFORE)
        };
        if let Some(token) = known.as_ref().filter(|token| is_good(token)) {
            return Ok(token.clone());
        }
        let header = match &self.server.credentials {
            Credentials::Keys { access, secret } => {
                format!("Basic {}", token::encode(format!("{access}:{secret}").as_bytes()))
            }
            Credentials::Token(text) => format!("Bearer {text}"),
        };
        let url = format!("{}/auth.login", self.server.api);
        let login: Login = self.ask("auth.login", &url, &header, b"{}", Tries::Several)?;
        let token = Token::new(login.token);
        *known = Some(token.clone());
        Ok(token)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        url: &str,
        authorization: &str,
        body: &[u8],
        tries: Tries,
    ) -> Result<T, ApiError> {
        let request =
            Request { method: Method::Post, url, authorization: Some(authorization), body };
        let reply = self.reply(endpoint, &request, tries)?;
        let Envelope { meta, data } = self.read::<T>(reply, endpoint, url)?;
        match data {
            Some(data) if meta.code == 200 => Ok(data),
            _ => Err(self.foreign("the answer has no `data`")),
        }
    }

    /// The answer to a request, if it is one of success.
    fn reply(
        &self,
        endpoint: &str,
        request: &Request<'_>,
        tries: Tries,
    ) -> Result<Reply, ApiError> {
        let reply = self.send_patiently(request, tries)?;
        let status = reply.status;
        if let Some(date) = reply.date.as_deref().and_then(time::of_header) {
            let ahead = (self.clock)().unix_secs() - date.unix_secs();
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        if let (300..=399, location) = (status, &reply.location) {
            let to = location.as_deref().unwrap_or("nowhere");
            return Err(self.foreign(&format!("it redirects to {to:?}, which is not followed")));
        }
        if status == 200 {
            return Ok(reply);
        }
        let meta = self.read::<IgnoredAny>(reply, endpoint, request.url)?.meta;
        Err(ApiError::Refused {
            endpoint: endpoint.to_owned(),
            code: status,
            subcode: meta.subcode.unwrap_or(0),
            message: meta.message.unwrap_or_default(),
        })
    }

    /// Reads an answer while it arrives. Nothing is kept of it but what is asked for.
    fn read<T: DeserializeOwned>(
        &self,
        reply: Reply,
        endpoint: &str,
        url: &str,
    ) -> Result<Envelope<T>, ApiError> {
        let status = reply.status;
        let mut reader = BufReader::with_capacity(32 * 1024, reply.into_reader());
        serde_json::from_reader(&mut reader)
            .map_err(|error| self.unreadable(error, status, endpoint, url))
    }

    /// Why an answer could not be read.
    fn unreadable(
        &self,
        error: serde_json::Error,
        status: u16,
        endpoint: &str,
        url: &str,
    ) -> ApiError {
        if error.io_error_kind() == Some(ErrorKind::FileTooLarge) {
            return ApiError::TooLong { endpoint: endpoint.to_owned() };
        }
        if error.is_io() {
            let why = crate::units::error(&error.into());
            return ApiError::Unreachable { url: url.to_owned(), why };
        }
        match error.classify() {
            serde_json::error::Category::Syntax => {
                self.foreign(&format!("status {status}, and the answer is not JSON"))
            }
            serde_json::error::Category::Eof => {
                self.foreign(&format!("status {status}, and the answer ends too early"))
            }
            serde_json::error::Category::Data | serde_json::error::Category::Io => {
                let why: String = error.to_string().chars().take(120).collect();
                self.foreign(&format!("status {status}: {WHOLE} ({why})"))
            }
        }
    }

    fn foreign(&self, why: &str) -> ApiError {
        ApiError::Foreign { url: self.server.api.clone(), server: API, why: why.to_owned() }
    }

    /// Sends a request, and again while the server is busy or the connection breaks.
    fn send_patiently(&self, request: &Request<'_>, tries: Tries) -> Result<Reply, ApiError> {
        let mut pause = FIRST_PAUSE;
        let most = if tries == Tries::Once { 1 } else { TRIES };
        for tried in 1..=most {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ApiError::Stopped);
            }
            let url = || request.url.to_owned();
            let why = match self.http.send(*request) {
                Ok(reply) if !LATER.contains(&reply.status) => return Ok(reply),
                Ok(reply) => {
                    let why = format!("it answers with status {}", reply.status);
                    // A connection is used again only when its answer was read.
                    let _ = reply.into_reader().take(64 * 1024).read_to_end(&mut Vec::new());
                    why
                }
                Err(why) => why,
            };
            if tried == most {
                let why = if most > 1 { format!("{why} ({most} tries)") } else { why };
                return Err(ApiError::Unreachable { url: url(), why });
            }
            self.wait(pause)?;
            pause *= 2;
        }
        Err(ApiError::Stopped)
    }

    fn wait(&self, pause: Duration) -> Result<(), ApiError> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ApiError::Stopped);
            }
            std::thread::sleep(super::pool::TICK);
        }
        Ok(())
    }
}
