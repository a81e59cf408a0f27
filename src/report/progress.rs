//! The progress of a pass, on stderr.
//!
//! This module must not fail or block a pass: without a terminal nothing is drawn, and that is no error.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::protocol::{Directory, RunMode, Tally};
use crate::rules::{Bytes, Shape, Zone};
use crate::units::grouped;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Silent,
    /// Redrawn in place, on a terminal.
    Drawn,
    /// As lines, at the start and the end of each part and every few seconds between.
    Lines,
}

/// The shortest time between two lines about the same part.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Shows the progress of a pass.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    mode: RunMode,
    bar: ProgressBar,
    state: Mutex<State>,
}

/// What was shown, and when.
#[derive(Debug)]
struct State {
    /// The parts of the zone that is being swept, in the order in which they began.
    parts: Vec<Part>,
    last_line: Instant,
}

/// The counts of a zone, or of one of its roots.
#[derive(Debug)]
struct Part {
    title: String,
    names: u64,
    removed: u64,
    freed: Bytes,
}

impl Progress {
    /// Progress in a style; `mode` decides whether entries count as removed or as to be removed.
    pub fn new(style: Style, mode: RunMode) -> Self {
        let target = match style {
            Style::Drawn => ProgressDrawTarget::stderr_with_hz(10),
            Style::Silent | Style::Lines => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(template) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(template);
        }
        let state = State { parts: Vec::new(), last_line: Instant::now() };
        Self { style, mode, bar, state: Mutex::new(state) }
    }

    /// Another zone is about to be swept, so the one before is done.
    pub(super) fn on_zone(&self) {
        self.close(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn on_progress(&self, directory: &Directory, names: u64, counts: &Tally) {
        if self.style == Style::Silent {
            return;
        }
        let title = title(&directory.zone, &directory.dir);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (part, is_new) = state.part(title);
        part.count(names, counts);
        let line = part.line(self.mode);
        match self.style {
            Style::Drawn => {
                self.bar.set_message(line);
                self.bar.tick();
            }
            Style::Lines => {
                if is_new {
                    print_line(&format!("{}: started", part.title));
                }
                if state.last_line.elapsed() >= LINE_PAUSE {
                    state.last_line = Instant::now();
                    print_line(&line);
                }
            }
            Style::Silent => {}
        }
    }

    /// Leaves a line for each part that is done.
    fn close(&self, state: &mut State) {
        for part in state.parts.drain(..) {
            match self.style {
                Style::Drawn => self.bar.println(part.line(self.mode)),
                Style::Lines => print_line(&part.line(self.mode)),
                Style::Silent => {}
            }
        }
    }

    pub(super) fn finish(&self) {
        self.close(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.bar.finish_and_clear();
    }
}

impl State {
    /// The part with this title, and whether it is new.
    fn part(&mut self, title: String) -> (&mut Part, bool) {
        let known = self.parts.iter().position(|part| part.title == title);
        let at = known.unwrap_or(self.parts.len());
        if known.is_none() {
            self.parts.push(Part { title, names: 0, removed: 0, freed: Bytes(0) });
        }
        (&mut self.parts[at], known.is_none())
    }
}

impl Part {
    fn count(&mut self, names: u64, counts: &Tally) {
        self.names += names;
        self.removed += counts.removed;
        self.freed += counts.freed;
    }

    fn line(&self, mode: RunMode) -> String {
        let Self { title, names, removed, freed } = self;
        let (names, removed) = (grouped(*names), grouped(*removed));
        match mode {
            RunMode::Real => format!("{title}: {names} checked, {removed} removed, {freed} freed"),
            RunMode::DryRun => {
                format!("{title}: {names} checked, {removed} to remove, {freed} to free")
            }
        }
    }
}

/// The zone; and where its entries are below several directories, the root that `dir` is in.
fn title(zone: &Zone, dir: &Path) -> String {
    let root = match zone.location.shape {
        Shape::Flat => None,
        Shape::InEach(_) | Shape::Fixed(_) => {
            zone.location.roots.iter().find(|root| dir.starts_with(root))
        }
    };
    match root {
        None => zone.name.to_string(),
        Some(root) => format!("{} {}", zone.name, root.display()),
    }
}

/// Shows how far long work has come that is not a pass.
#[derive(Debug)]
pub struct Meter {
    style: Style,
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Meter {
    /// A meter in a style.
    pub fn new(style: Style) -> Self {
        let Progress { bar, .. } = Progress::new(style, RunMode::Real);
        Self { style, bar, last_line: Mutex::new(Instant::now()) }
    }

    /// Shows how much was done so far.
    pub fn show(&self, text: impl FnOnce() -> String) {
        match self.style {
            Style::Drawn => {
                self.bar.set_message(text());
                self.bar.tick();
            }
            Style::Lines => {
                // A worker does not wait for another one that is printing.
                let Ok(mut last_line) = self.last_line.try_lock() else { return };
                if last_line.elapsed() >= LINE_PAUSE {
                    *last_line = Instant::now();
                    print_line(&text());
                }
            }
            Style::Silent => {}
        }
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints a line to stderr. An error is ignored, because stderr is where it would be reported.
fn print_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{EntryKind, LastUse, Location, LockKind, Names, ZoneName};

    fn zone(name: &str, location: Location) -> Zone {
        Zone {
            name: ZoneName::new(name),
            location,
            entry: EntryKind::Any,
            names: Names::Any,
            last_use: LastUse::Tree,
            ttls: Vec::new(),
            lock: LockKind::Flock,
            describe_name: |_| None,
        }
    }

    #[test]
    fn a_flat_zone_is_one_part_and_others_have_one_for_each_root() {
        let scratch = zone("scratch", Location::flat("/mnt/scratch"));
        assert_eq!(title(&scratch, Path::new("/mnt/scratch")), "scratch");
        let roots = vec!["projects".into(), "tasks".into()];
        let each = zone("each-tmp", Location { roots, shape: Shape::InEach("tmp") });
        assert_eq!(title(&each, Path::new("tasks/7/tmp")), "each-tmp tasks");
        assert_eq!(title(&each, Path::new("jobs/7/tmp")), "each-tmp");
    }

    #[test]
    fn counts_add_up_by_part_and_a_dry_run_claims_no_removal() {
        let mut state = State { parts: Vec::new(), last_line: Instant::now() };
        let counts = Tally { removed: 2, freed: Bytes(1024), ..Tally::default() };
        for (title, is_new) in [("a", true), ("b", true), ("a", false)] {
            let (part, new) = state.part(title.to_owned());
            assert_eq!(new, is_new, "{title}");
            part.count(1000, &counts);
        }
        let lines: Vec<String> = state.parts.iter().map(|part| part.line(RunMode::Real)).collect();
        assert_eq!(
            lines,
            [
                "a: 2,000 checked, 4 removed, 2.0 KiB freed",
                "b: 1,000 checked, 2 removed, 1.0 KiB freed"
            ]
        );
        let dry = state.parts[1].line(RunMode::DryRun);
        assert_eq!(dry, "b: 1,000 checked, 2 to remove, 1.0 KiB to free");
    }
}
