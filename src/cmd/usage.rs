//! `sweeper usage`: what takes the space of a data root, what can be removed, and what expires when.
//!
//! It must not change anything, and takes no lock.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::pass::{limits, open_root, progress_style, workers};
use super::{Refusal, printed};
use crate::config::{ColorWhen, Config, Profile, Verbosity};
use crate::cvat::areas;
use crate::engine::PassControl;
use crate::os::{clock, signals, terminal};
use crate::protocol::ExitCode;
use crate::report::progress::Meter;
use crate::report::usage::{self, Canvas};
use crate::rules::{Bytes, Labels, Zone, ZoneName};
use crate::units::grouped;
use crate::usage::{Measurement, RemovedBy, Subject};

/// The width of a picture that is not drawn on a terminal.
const USUAL_WIDTH: usize = 80;

/// Measures the data root and writes what was found.
pub(super) fn usage(
    config: &Config,
    verbosity: Verbosity,
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    let root = open_root(config, &config.all_zones)?;
    let signal = Arc::<AtomicBool>::default();
    signals::end_on_signals(&signal).map_err(Refusal::Start)?;
    let limits = limits(config, signal)?;
    let workers = workers(config);
    let control = PassControl { limits: &limits, workers: &workers };
    let is_cvat = config.profile == Profile::Cvat;
    let meter = Meter::new(progress_style(config, "usage", verbosity));
    let subject = Subject {
        root: &root,
        zones: &config.all_zones,
        areas: if is_cvat { &areas::AREAS } else { &[] },
        labels: if is_cvat { areas::LABELS } else { Labels::NONE },
        exclude: &config.exclude,
        now: config.now.unwrap_or_else(clock::now),
        removed_by: &|zone| removed_by(config, zone),
    };
    let tell = |inodes: u64, bytes: u64| {
        meter.show(|| format!("usage: {} counted, {} inodes", Bytes(bytes), grouped(inodes)));
    };
    let measurement = Measurement::new(&subject, &tell);
    workers.each(measurement.tops()?, |top| measurement.walk(&top, &control));
    meter.finish();
    let found = measurement.into_usage(limits.reason());
    let written = usage::write(out, &found, config.format, canvas(config));
    Ok(printed(written, usage::exit_code(&found)))
}

/// A picture is drawn on a terminal, and wherever color is asked for.
fn canvas(config: &Config) -> Option<Canvas> {
    let width = terminal::width();
    let has_color = match config.color {
        ColorWhen::Auto => width.is_some(),
        ColorWhen::Always => true,
        ColorWhen::Never => false,
    };
    let width = width.or_else(|| has_color.then_some(USUAL_WIDTH))?;
    Some(Canvas { width, has_color })
}

/// The command that removes what has expired in a zone.
fn removed_by(config: &Config, zone: &Zone) -> RemovedBy {
    let is = |name: &ZoneName| *name == zone.name;
    if config.legacy.as_ref().is_some_and(|legacy| is(&legacy.name)) {
        RemovedBy::OnRequest("sweeper legacy".to_owned())
    } else if config.zones.iter().any(|swept| is(&swept.name)) {
        RemovedBy::Run("sweeper run".to_owned())
    } else {
        RemovedBy::OnRequest(format!("sweeper run --zones {}", zone.name))
    }
}
