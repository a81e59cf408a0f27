//! What the page of a service shows besides what takes up space: its state, and its last passes.
//!
//! This module must not know the service: it is given lines.

use std::fmt::Write;
use std::time::Duration;

use super::markup::{Plain, bytes, count, name};
use crate::rules::{Bytes, Moment};
use crate::units;

/// One zone of one pass.
#[derive(Debug, Clone)]
pub struct PassLine {
    /// When the pass ended.
    pub end: Moment,
    /// The zone.
    pub zone: String,
    /// How long the zone took, if it was swept.
    pub took: Option<Duration>,
    /// How many entries were seen.
    pub seen: u64,
    /// How many were removed, or would have been in a dry run.
    pub removed: u64,
    /// How many were kept.
    pub kept: u64,
    /// How many were skipped.
    pub skipped: u64,
    /// How many failed.
    pub failed: u64,
    /// The space that was freed.
    pub freed: Bytes,
    /// What was wrong, if anything was.
    pub problem: Option<String>,
}

/// What a service shows besides.
#[derive(Debug)]
pub struct Live<'a> {
    /// How it is, a line for each zone, and whether that is good.
    pub health: Result<&'a str, &'a str>,
    /// About the measurement: how old it is, or why there is none.
    pub measurement: &'a str,
    /// Whether passes are dry runs.
    pub is_dry_run: bool,
    /// The last passes, the newest first.
    pub passes: &'a [PassLine],
    /// After how many seconds the page is to be loaded again.
    pub reload_s: u64,
}

impl Live<'_> {
    /// What comes before the usage.
    pub(super) fn above(&self) -> String {
        let (class, health) = match self.health {
            Ok(text) => ("", text),
            Err(text) => (" class=\"bad\"", text),
        };
        let line = |line: &str| format!("<li>{}\n", Plain(line));
        format!(
            "<ul id=\"health\"{class}>{}</ul>\n<p class=\"dim\" id=\"measurement\">{}</p>\n",
            health.lines().map(line).collect::<String>(),
            Plain(self.measurement)
        )
    }

    /// What comes after it.
    pub(super) fn below(&self) -> String {
        let removed = if self.is_dry_run { "Would remove" } else { "Removed" };
        let mut text = "<h2>Last passes</h2>\n".to_owned();
        if self.passes.is_empty() {
            return text + "<p class=\"dim\" id=\"passes\">There has been no pass yet.</p>\n";
        }
        let _ = writeln!(
            text,
            "<table id=\"passes\"><tr><th>End<th>Zone<th class=\"n wide\">Took<th class=\"n wide\">Seen\
             <th class=\"n\">{removed}<th class=\"n wide\">Kept<th class=\"n\">Skipped<th class=\"n\">Failed\
             <th class=\"n\">Freed<th>Outcome"
        );
        for pass in self.passes {
            let took = pass.took.map_or_else(String::new, units::coarse);
            let outcome = match &pass.problem {
                Some(problem) => format!("<span class=\"bad\">{}</span>", Plain(problem)),
                None => "complete".to_owned(),
            };
            let zone = name(&pass.zone);
            let _ = writeln!(
                text,
                "<tr data-name=\"{zone}\"><td>{}<td>{zone}<td class=\"n wide\">{took}\
                 <td class=\"n wide seen\">{}<td class=\"n removed\">{}<td class=\"n wide\">{}<td class=\"n\">{}\
                 <td class=\"n failed\">{}<td class=\"n freed\">{}<td>{outcome}",
                units::rfc3339(pass.end),
                count(pass.seen),
                count(pass.removed),
                count(pass.kept),
                count(pass.skipped),
                count(pass.failed),
                bytes(pass.freed),
            );
        }
        text + "</table>\n"
    }
}
