//! `sweeper health`: whether a service or the last passes of a timer are healthy.
//!
//! This module must not look at the data root.

use std::io::Write;
use std::time::Duration;

use super::{Refusal, printed};
use crate::config::{Config, Flags};
use crate::os::clock;
use crate::protocol::ExitCode;
use crate::service::health_check::HealthPage;
use crate::service::metrics::age;
use crate::units;

/// How old the last success in a metrics file may be by default: the longest that two missed passes of the usual
/// schedules last.
const MOST: Duration = Duration::from_secs(2 * 86_400);

/// The error when nothing says what to check.
const NOTHING_NAMED: &str = "there is nothing to check: name the page of a service, as in `sweeper \
                             health http://127.0.0.1:9108/healthz`, or its port on this machine, as \
                             in `sweeper health --listen 9108`, or, for passes of cron or a timer, \
                             their metrics file, as in `sweeper health --metrics-file FILE`";

/// The error when the age of a success is given for a service.
const AGE_OF_PAGE: &str = "--max-age is for a metrics file, and this asks a service, which knows its schedule: \
                           leave it out, or add --metrics-file FILE";

/// Asks the page at `url` or the one that a flag names; or else looks into the metrics file, or asks the page that
/// the settings name. A success in the metrics file may be as old as `max_age` says.
pub(super) fn health(
    config: &Config,
    flags: &Flags,
    url: Option<&str>,
    max_age: Option<&str>,
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    let refused = |why: String| Refusal::Start(why);
    let most = max_age.map_or(Ok(MOST), units::duration);
    let most = most.map_err(|why| refused(format!("--max-age: {why}")))?;
    let page = match url {
        Some(url) => {
            let wrong = |why| refused(format!("{url:?} is not a URL of a service: {why}"));
            Some(HealthPage::at(url).map_err(wrong)?)
        }
        None => config.service.clone()?.listen.map(HealthPage::of),
    };
    let is_page_named = url.is_some() || flags.contains_key("listen");
    let answer = match (&config.metrics_file, page) {
        (Some(file), _) if !is_page_named => age::of_success(file, most, clock::now()),
        (_, Some(_)) if max_age.is_some() => return Err(refused(AGE_OF_PAGE.to_owned())),
        (_, Some(page)) => page.ask(),
        (_, None) => {
            return Err(refused(NOTHING_NAMED.to_owned()));
        }
    };
    let (word, said, code) = match answer {
        Ok(said) => ("healthy", said, ExitCode::Done),
        Err(said) => ("not healthy", said, ExitCode::SomeFailed),
    };
    Ok(printed(writeln!(out, "{word}: {said}"), code))
}
