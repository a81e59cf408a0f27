//! A usage as a page: one file without anything from elsewhere, for a browser, with or without a network.
//!
//! This module must not run a script, load anything, or show a name as anything but text. The page itself forbids
//! scripts and loading ([`POLICY`]), so that even a mistake here could not do harm.
//!
//! - `sections`: the parts of a page.
//! - `live`: what only `sweeper serve` shows.
//! - `style`: colors and layout.
//! - `svg`: drawings.
//! - `markup`: text as HTML.

mod live;
mod markup;
mod sections;
mod style;
mod svg;

use std::io::{self, Write};

use crate::usage::Usage;
pub use live::{Live, PassLine};
use markup::Plain;
use style::STYLE;

/// What a browser lets the page do: apply this style, and nothing else. A browser tells the hash of the style to use
/// here if it has changed.
pub const POLICY: &str = "default-src 'none'; style-src 'sha256-MjqXBvn+dqw3drlEjIE1gjCC0duIU42j7kZPTVwtHLA='; base-uri 'none'; form-action 'none'";

/// How each page begins. A file that begins like this may be replaced by a newer page.
pub const BEGINNING: &str =
    "<!doctype html>\n<html lang=\"en\">\n<meta name=\"generator\" content=\"sweeper usage\">\n";

/// Writes a page.
///
/// # Errors
/// `out` cannot be written.
pub fn write(out: &mut impl Write, usage: &Usage) -> io::Result<()> {
    out.write_all(page("What takes up space", None, &sections::of(usage)).as_bytes())
}

/// The part of a page about a usage, for [`live()`].
pub fn part(usage: &Usage) -> String {
    sections::of(usage)
}

/// The page of a service: what takes up space, if that is known, and what the service has done.
pub fn live(measured: Option<&str>, live: &Live<'_>) -> String {
    let body = live.above() + measured.unwrap_or_default() + &live.below();
    page("Sweeper", Some(live.reload_s), &body)
}

/// A whole page. It loads itself again after some seconds, if asked to.
fn page(title: &str, reload_s: Option<u64>, body: &str) -> String {
    let reload = reload_s.map_or(String::new(), |secs| {
        format!("<meta http-equiv=\"refresh\" content=\"{secs}\">\n")
    });
    format!(
        "{BEGINNING}<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"robots\" content=\"noindex\">\n{reload}\
         <title>{}</title>\n<style>{STYLE}</style>\n<body>\n<h1>{}</h1>\n{body}</body>\n</html>\n",
        POLICY.replace('\'', "&#39;"),
        Plain(title),
        Plain(title),
    )
}

#[cfg(test)]
mod tests;
