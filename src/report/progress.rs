//! How far a pass has come, on stderr.
//!
//! It must not fail or block a pass: without a terminal nothing is drawn, and that is no error. The
//! migration of old caches says in plain lines where it is, as CVAT's command did.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::condemn::Place;
use crate::retention::{Bytes, Zone};
use crate::sweep::Tally;
use crate::units::grouped;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Silent,
    /// Redrawn in place, on a terminal.
    Drawn,
    /// As lines, now and then.
    Lines,
}

/// Between two lines, at least.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Shows how far a pass has come.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    now: Mutex<Now>,
}

/// Where the pass is.
#[derive(Debug)]
struct Now {
    /// What was seen and done so far under each directory that the zone is listed from.
    roots: Vec<Root>,
    last_line: Instant,
}

/// One of these directories.
#[derive(Debug)]
struct Root {
    title: String,
    names: u64,
    removed: u64,
    freed: Bytes,
}

impl Progress {
    /// Progress in a style.
    pub fn new(style: Style) -> Self {
        let target = match style {
            Style::Drawn => ProgressDrawTarget::stderr_with_hz(10),
            Style::Silent | Style::Lines => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(template) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(template);
        }
        let now = Now { roots: Vec::new(), last_line: Instant::now() };
        Self { style, bar, now: Mutex::new(now) }
    }

    /// Another zone is about to be swept: what was before is done.
    pub(super) fn begins(&self) {
        self.close(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn so_far(&self, root: &Place, names: u64, handful: &Tally) {
        if self.style == Style::Silent {
            return;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let line = now.count(root, names, handful, |title| {
            if self.style == Style::Lines {
                say(&format!("{title}: looking"));
            }
        });
        match self.style {
            Style::Drawn => {
                self.bar.set_message(line);
                self.bar.tick();
            }
            Style::Lines if now.last_line.elapsed() >= LINE_PAUSE => {
                now.last_line = Instant::now();
                say(&line);
            }
            Style::Lines | Style::Silent => {}
        }
    }

    /// Leaves a line for each directory that is done.
    fn close(&self, now: &mut Now) {
        for root in now.roots.drain(..) {
            match self.style {
                Style::Drawn => self.bar.println(root.line()),
                Style::Lines => say(&root.line()),
                Style::Silent => {}
            }
        }
    }

    pub(super) fn finish(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        self.close(&mut now);
        self.bar.finish_and_clear();
    }
}

impl Now {
    /// Counts a handful; what is to be said of its directory now.
    fn count(
        &mut self,
        place: &Place,
        names: u64,
        handful: &Tally,
        begins: impl FnOnce(&str),
    ) -> String {
        // An instance's entries count for its collection: projects, tasks or jobs.
        let first = place.dir.iter().next().unwrap_or_default().to_string_lossy();
        let title = match place.zone {
            Zone::Export | Zone::Tmp => place.zone.name().to_owned(),
            Zone::InstanceTmp => format!("{} {first}", place.zone.name()),
            Zone::Legacy => first.into_owned(),
        };
        let at = self.roots.iter().position(|root| root.title == title).unwrap_or_else(|| {
            begins(&title);
            self.roots.push(Root { title, names: 0, removed: 0, freed: Bytes(0) });
            self.roots.len() - 1
        });
        let root = &mut self.roots[at];
        root.names += names;
        root.removed += handful.removed;
        root.freed += handful.freed;
        root.line()
    }
}

impl Root {
    fn line(&self) -> String {
        let Self { title, names, removed, freed } = self;
        format!("{title}: {} looked at, {} gone, {freed}", grouped(*names), grouped(*removed))
    }
}

/// A line on stderr, if anybody reads that.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
