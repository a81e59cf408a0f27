//! Measures what a page shows, in a thread of its own, because a file system that hangs would stop the server.
//!
//! This module must not keep a page waiting for long: after a while the page shows what was measured last.

use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use tokio::sync::watch;

use crate::units;

/// Asks for measurements.
#[derive(Debug)]
pub(super) struct Measurer {
    /// Holds one request at most: a measurement is for all pages that wait for one.
    wanted: SyncSender<()>,
    done: watch::Receiver<()>,
    /// How long a page waits.
    limit: Duration,
}

impl Measurer {
    /// Starts the thread. It ends with this value.
    ///
    /// # Errors
    /// The system refused the thread, for people.
    pub(super) fn start(
        limit: Duration,
        measure: impl Fn() + Send + 'static,
    ) -> Result<Self, String> {
        let (wanted, requests) = mpsc::sync_channel(1);
        let (measured, done) = watch::channel(());
        let serve = move || {
            while requests.recv().is_ok() {
                measure();
                measured.send_replace(());
            }
        };
        let thread = std::thread::Builder::new().name("measure".to_owned()).spawn(serve);
        thread.map_err(|error| {
            format!("cannot start a thread that measures: {}", units::no_thread(&error))
        })?;
        Ok(Self { wanted, done, limit })
    }

    /// Waits until something was measured, or until it has taken too long.
    pub(super) async fn refresh(&self) {
        let mut done = self.done.clone();
        done.mark_unchanged();
        // If a request is waiting already, its measurement will do.
        let _ = self.wanted.try_send(());
        let _ = tokio::time::timeout(self.limit, done.changed()).await;
    }
}
