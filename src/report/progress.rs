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
    zone: Option<Zone>,
    /// The directory that names come from, relative to the volume.
    root: String,
    names: u64,
    removed: u64,
    freed: Bytes,
    last_line: Instant,
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
        let now = Now {
            zone: None,
            root: String::new(),
            names: 0,
            removed: 0,
            freed: Bytes(0),
            last_line: Instant::now(),
        };
        Self { style, bar, now: Mutex::new(now) }
    }

    pub(super) fn begins(&self, zone: Zone) {
        if self.style == Style::Silent {
            return;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_root(&now);
        now.zone = Some(zone);
        now.root.clear();
    }

    pub(super) fn so_far(&self, root: &Place, names: u64, handful: &Tally) {
        if self.style == Style::Silent {
            return;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = root.dir.to_string_lossy();
        if now.root != dir {
            self.close_root(&now);
            now.root = dir.into_owned();
            (now.names, now.removed, now.freed) = (0, 0, Bytes(0));
            if self.style == Style::Lines {
                say(&format!("{}: looking", now.title()));
            }
        }
        now.names += names;
        now.removed += handful.removed;
        now.freed += handful.freed;
        match self.style {
            Style::Drawn => {
                self.bar.set_message(now.line());
                self.bar.tick();
            }
            Style::Lines if now.last_line.elapsed() >= LINE_PAUSE => {
                now.last_line = Instant::now();
                say(&now.line());
            }
            Style::Lines | Style::Silent => {}
        }
    }

    /// Leaves a line for a directory that is done.
    fn close_root(&self, now: &Now) {
        if now.root.is_empty() {
            return;
        }
        match self.style {
            Style::Drawn => self.bar.println(now.line()),
            Style::Lines => say(&now.line()),
            Style::Silent => {}
        }
    }

    pub(super) fn finish(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_root(&now);
        self.bar.finish_and_clear();
    }
}

impl Now {
    fn title(&self) -> String {
        let zone = self.zone.map(Zone::name).unwrap_or_default();
        if self.zone == Some(Zone::Legacy) {
            self.root.clone()
        } else {
            format!("{zone} {}", self.root)
        }
    }

    fn line(&self) -> String {
        format!(
            "{}: {} looked at, {} gone, {}",
            self.title(),
            grouped(self.names),
            grouped(self.removed),
            self.freed
        )
    }
}

/// A line on stderr, if anybody reads that.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
