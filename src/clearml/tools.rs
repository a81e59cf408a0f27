//! What every part of a cleanup uses: the client, and the threads that send its requests.
//!
//! This module must not decide anything.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, Tries};
use super::error::{ApiError, CycleError};
use super::pool::RequestPool;
use super::token::ApiVersion;
use crate::protocol::StopReason;
use crate::units::coarse_secs;

/// The largest page that a server gives.
pub const PAGE: usize = 500;

/// How many pages are read at most. A server with more than that is answering without end.
pub const MOST_PAGES: usize = 20_000;

/// How many seconds this machine's clock may be ahead of the server's.
const MOST_AHEAD: i64 = 3600;

/// The client and its threads.
#[derive(Debug)]
pub struct Tools {
    /// The client.
    pub client: Arc<Client>,
    /// The threads.
    pub pool: RequestPool,
    /// When to end early.
    pub deadline: Option<Instant>,
}

/// Whether the time is over.
pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Ends a listing, which may be long, if the time is over. Nothing is deleted on the strength of a part of it.
pub(super) fn in_time(deadline: Option<Instant>) -> Result<(), ApiError> {
    if is_over(deadline) { Err(ApiError::Late) } else { Ok(()) }
}

impl Tools {
    /// Why to end before the next step, if the time is over.
    pub fn late(&self) -> Option<StopReason> {
        is_over(self.deadline).then_some(StopReason::Deadline)
    }

    /// The same.
    ///
    /// # Errors
    /// The run was told to stop.
    pub fn ends(&self) -> Result<Option<StopReason>, ApiError> {
        if self.pool.is_stopped() { Err(ApiError::Stopped) } else { Ok(self.late()) }
    }

    /// Asks one thing, without keeping a signal waiting.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        endpoint: &'static str,
        body: Value,
    ) -> Result<T, ApiError> {
        self.ask_with(endpoint, body, Tries::Several)
    }

    /// The same, with a say in how often it is tried.
    pub(super) fn ask_with<T: DeserializeOwned + Send + 'static>(
        &self,
        endpoint: &'static str,
        body: Value,
        tries: Tries,
    ) -> Result<T, ApiError> {
        let client = Arc::clone(&self.client);
        self.pool.one(move || client.call(endpoint, &body, tries))
    }

    /// Asks which of these items the server has, in parts and at the same time, and again for those that it has not
    /// named, until it names no more: it may cut its answers short. `take` gives the items that an answer names.
    ///
    /// # Errors
    /// The first that comes up.
    pub fn ask_until_none<I, T>(
        &self,
        endpoint: &'static str,
        mut items: Vec<I>,
        body: impl Fn(&[I]) -> Value + Send + Sync + Copy + 'static,
        mut take: impl FnMut(&[I], T) -> HashSet<I>,
    ) -> Result<(), ApiError>
    where
        I: Hash + Eq + Clone + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    {
        while !items.is_empty() {
            let parts: Vec<Vec<I>> = items.chunks(PAGE).map(<[I]>::to_vec).collect();
            let client = Arc::clone(&self.client);
            let (mut left, mut failed) = (Vec::new(), None);
            let ask = move |part: Vec<I>| {
                let mut body = body(&part);
                (body["page"], body["page_size"]) = (0.into(), PAGE.into());
                let answer = client.call::<T>(endpoint, &body, Tries::Several);
                (part, answer)
            };
            self.pool.each(parts, ask, |(mut part, answer)| match answer {
                Ok(answer) => {
                    let (asked, found) = (part.len(), take(&part, answer));
                    part.retain(|item| !found.contains(item));
                    if part.len() < asked {
                        left.extend(part);
                    }
                }
                Err(error) => failed = Some(error),
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            items = left;
        }
        Ok(())
    }

    /// Reads pages until one is empty, or `take` wants no more.
    ///
    /// # Errors
    /// A request fails, the server repeats itself, or the time is over.
    pub(super) fn pages<T: Page>(
        &self,
        endpoint: &'static str,
        body: &Value,
        size: usize,
        mut take: impl FnMut(&T) -> Result<bool, CycleError>,
    ) -> Result<(), CycleError> {
        let pages = Pages { tools: self, endpoint, body, size };
        let (mut first, mut last) = (None, Vec::new());
        for number in 0..MOST_PAGES {
            let page: T = pages.read(number)?;
            let ids = page.ids();
            if ids.is_empty() || !take(&page)? {
                return Ok(());
            }
            if ids == last || first.as_ref() == Some(&ids) {
                return Err(repeats());
            }
            first.get_or_insert_with(|| ids.clone());
            last = ids;
        }
        Err(CycleError::Untrusted("it returns pages without end".to_owned()))
    }

    /// Reads pages in the order of ids until one is empty, and misses none that is there all the time: if others were
    /// deleted in the meantime, what has moved is read again. `take` may get a row more than once.
    ///
    /// # Errors
    /// A request fails, the server repeats itself, or the time is over.
    pub(super) fn all_pages<T: Page>(
        &self,
        endpoint: &'static str,
        body: &Value,
        size: usize,
        mut take: impl FnMut(&T) -> Result<(), CycleError>,
    ) -> Result<(), CycleError> {
        let mut body = body.clone();
        body["order_by"] = json!(["id"]);
        let pages = Pages { tools: self, endpoint, body: &body, size };
        let (mut first, mut last): (Option<Vec<u64>>, Vec<u64>) = (None, Vec::new());
        let (mut number, mut is_back) = (0, false);
        for _ in 0..MOST_PAGES {
            let page: T = pages.read(number)?;
            let ids = page.ids();
            take(&page)?;
            if is_back {
                // As far back as something that was read before the rows moved.
                is_back = number > 0 && !ids.iter().any(|id| last.contains(id));
                number = if is_back { number - 1 } else { number + 1 };
                last = if is_back { last } else { ids };
                continue;
            }
            if !ids.is_empty() && (ids == last || first.as_ref() == Some(&ids)) {
                return Err(repeats());
            }
            let stride = first.as_ref().map_or(size, Vec::len);
            let may_have = !ids.is_empty() || last.len() == size;
            if may_have && pages.has_moved::<T>(number * stride, &last)? {
                (number, is_back) = (number - 1, true);
                continue;
            }
            if ids.is_empty() {
                return Ok(());
            }
            first.get_or_insert_with(|| ids.clone());
            (number, last) = (number + 1, ids);
        }
        Err(CycleError::Untrusted("it returns pages without end".to_owned()))
    }

    /// The version of the server's API.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn version(&self) -> Result<ApiVersion, ApiError> {
        let client = Arc::clone(&self.client);
        self.pool.one(move || client.version())
    }

    /// Compares the clocks. Everything would be old to one that is ahead.
    ///
    /// # Errors
    /// This machine's clock is ahead of the server's, or the server cannot be used.
    pub fn check_clock(&self) -> Result<(), CycleError> {
        let client = Arc::clone(&self.client);
        let ahead = self.pool.one(move || client.ahead())?;
        if ahead <= MOST_AHEAD {
            return Ok(());
        }
        let ahead = coarse_secs(ahead);
        Err(CycleError::Usage(format!(
            "nothing is deleted: the clock of this machine is {ahead} ahead of the server's; correct it"
        )))
    }

    /// The company that we belong to on the server.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn company(&self) -> Result<String, ApiError> {
        let client = Arc::clone(&self.client);
        self.pool.one(move || client.company())
    }
}

/// A page of a listing.
pub(super) trait Page: DeserializeOwned + Send + 'static {
    /// A number for the id of each row.
    fn ids(&self) -> Vec<u64>;
}

/// A listing.
struct Pages<'a> {
    tools: &'a Tools,
    endpoint: &'static str,
    body: &'a Value,
    size: usize,
}

impl Pages<'_> {
    fn read<T: Page>(&self, number: usize) -> Result<T, CycleError> {
        self.read_of(number, self.size)
    }

    fn read_of<T: Page>(&self, number: usize, size: usize) -> Result<T, CycleError> {
        in_time(self.tools.deadline)?;
        let mut body = self.body.clone();
        (body["page"], body["page_size"]) = (number.into(), size.into());
        let page: T = self.tools.ask(self.endpoint, body)?;
        let rows = page.ids().len();
        if rows > size {
            let why = format!("a page of {size} that was asked for has {rows} rows");
            return Err(CycleError::Untrusted(why));
        }
        Ok(page)
    }

    /// Whether the last row before this one is in another place by now, so that rows may have been missed.
    fn has_moved<T: Page>(&self, row: usize, before: &[u64]) -> Result<bool, CycleError> {
        let Some(last) = before.last() else { return Ok(false) };
        let there: T = self.read_of(row - 1, 1)?;
        Ok(there.ids().first() != Some(last))
    }
}

fn repeats() -> CycleError {
    CycleError::Untrusted("the server repeats a page".to_owned())
}
