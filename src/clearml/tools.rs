//! What every part of a cleanup uses: the client, and the threads that send its requests.
//!
//! It must not decide anything.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, Tries};
use super::crew::Crew;
use super::error::{ApiError, CycleError};
use super::token::ApiVersion;

/// The largest page that a server gives.
pub const PAGE: usize = 500;

/// How many pages are read at most. A server with more than that is answering without end.
pub const MOST_PAGES: usize = 20_000;

/// The client and its threads.
#[derive(Debug)]
pub struct Tools {
    /// The client.
    pub client: Arc<Client>,
    /// The threads.
    pub crew: Crew,
}

impl Tools {
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
        self.crew.one(move || client.call(endpoint, &body, tries))
    }

    /// Asks the same thing about parts of a list, at the same time. Each answer comes with its part.
    ///
    /// # Errors
    /// The first that comes up.
    pub fn ask_in_parts<
        I: Serialize + Clone + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    >(
        &self,
        endpoint: &'static str,
        items: &[I],
        body: impl Fn(&[I]) -> Value + Send + Sync + 'static,
    ) -> Result<Vec<(Vec<I>, T)>, ApiError> {
        let parts: Vec<Vec<I>> = items.chunks(PAGE).map(<[I]>::to_vec).collect();
        let client = Arc::clone(&self.client);
        let (mut answers, mut failed) = (Vec::new(), None);
        self.crew.each(
            parts,
            move |part| {
                let answer = client.call::<T>(endpoint, &body(&part), Tries::Several);
                (part, answer)
            },
            |(part, answer)| match answer {
                Ok(answer) => answers.push((part, answer)),
                Err(error) => failed = Some(error),
            },
        )?;
        failed.map_or(Ok(answers), Err)
    }

    /// Reads pages until one is empty. `page` takes the rows of one and says how many of them are new.
    ///
    /// # Errors
    /// A request fails, or the server repeats itself.
    pub(super) fn pages<T: DeserializeOwned + Send + 'static>(
        &self,
        endpoint: &'static str,
        body: &Value,
        size: usize,
        mut page: impl FnMut(T) -> Result<(usize, usize), CycleError>,
    ) -> Result<(), CycleError> {
        for number in 0..MOST_PAGES {
            let mut body = body.clone();
            body["page"] = number.into();
            body["page_size"] = size.into();
            let (rows, new) = page(self.ask(endpoint, body)?)?;
            if rows == 0 {
                return Ok(());
            }
            if rows > size {
                return Err(CycleError::Untrusted(format!(
                    "a page of {size} that was asked for has {rows} rows"
                )));
            }
            if new == 0 {
                return Err(CycleError::Untrusted("the server repeats a page".to_owned()));
            }
        }
        Err(CycleError::Untrusted("its pages do not end".to_owned()))
    }

    /// The version of the server's API.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn version(&self) -> Result<ApiVersion, ApiError> {
        let client = Arc::clone(&self.client);
        self.crew.one(move || client.version())
    }

    /// The company that we belong to on the server.
    ///
    /// # Errors
    /// The server cannot be used.
    pub fn company(&self) -> Result<String, ApiError> {
        let client = Arc::clone(&self.client);
        self.crew.one(move || client.company())
    }
}
