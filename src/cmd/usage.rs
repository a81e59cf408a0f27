//! `sweeper usage`: what takes up space in a data root, what can be removed, and what expires when.
//!
//! This module must not change anything, and takes no lock.

mod html_file;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::canvas::canvas;
use super::data_root::refused_root;
use super::new_file::refuse_same;
use super::pass::{limits, open_root, progress_style, quotas, workers};
use super::{Refusal, printed};
use crate::config::{Config, Profile, Verbosity};
use crate::cvat::areas;
use crate::engine::PassControl;
use crate::fs::{DataRoot, lease};
use crate::os::logging::WRITTEN;
use crate::os::{clock, signals};
use crate::protocol::ExitCode;
use crate::report::canvas::Canvas;
use crate::report::progress::Meter;
use crate::report::usage;
use crate::rules::{Bytes, Labels, Pressure, Share, Space, Zone, ZoneName};
use crate::units::grouped;
use crate::usage::{Measurement, RemovedBy, Subject};
use html_file::HtmlFile;

/// The width of a picture that is not drawn on a terminal.
const USUAL_WIDTH: usize = 80;

/// Above this share in use there is advice. CVAT stops at 90%.
const FULL_PERCENT: u16 = 85;

/// Measures the data root and writes what was found.
pub(super) fn usage(
    config: &Config,
    verbosity: Verbosity,
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    if let Some(html) = &config.html {
        let logs = [("audit_log", &config.audit_log), ("metrics_file", &config.metrics_file)];
        refuse_same(("html", html), &logs).map_err(Refusal::Start)?;
    }
    let root = open_root(config, &config.all_zones)?;
    let html = config.html.as_deref().map(|path| HtmlFile::at(path, &root)).transpose()?;
    let signal = Arc::<AtomicBool>::default();
    signals::end_on_signals(&signal, lease::forget_descriptors).map_err(Refusal::Start)?;
    let limits = limits(config, signal);
    let workers = workers(config);
    let control = PassControl { limits: &limits, workers: &workers };
    let meter = Meter::new(progress_style(config, "usage", verbosity));
    let removed_by = |zone: &Zone| removed_by(config, zone);
    let subject = subject(config, &root, &removed_by);
    let tell = |inodes: u64, bytes: u64| {
        meter.show(|| format!("usage: {} counted, {} inodes", Bytes(bytes), grouped(inodes)));
    };
    let measurement = Measurement::new(&subject, &tell);
    let tops = measurement.tops().map_err(|why| refused_root(config, why))?;
    workers.each(tops, |top| measurement.walk(&top, &control));
    meter.finish();
    let mut found = measurement.into_usage(limits.reason());
    let quotas = quotas(&root, &config.all_zones);
    found.notes.extend(quota_notes(&quotas));
    found.notes.extend(advice(config, found.space.as_ref(), &quotas));
    let written = usage::write(out, &found, config.format, picture(canvas(config.color)));
    let code = printed(written, usage::exit_code(&found));
    Ok(match html.map_or(Ok(()), |html| html.write(&found)) {
        Ok(()) => {
            if let Some(path) = &config.html {
                tracing::info!(target: WRITTEN, "the page is in {path:?}");
            }
            code
        }
        Err(error) => {
            tracing::error!("{error}");
            code.max(ExitCode::SomeFailed)
        }
    })
}

/// What can be done about a file system, or a quota, that is nearly full.
fn advice(config: &Config, space: Option<&Space>, quotas: &[(PathBuf, Space)]) -> Option<String> {
    let full = Share::percent(FULL_PERCENT);
    let what = what_is_full(full, space, quotas)?;
    // Otherwise the next command finds it in the same place.
    let data = config.setting("data").filter(|row| row.origin.is_flag());
    let data = data.map(|row| format!(" --data {}", for_shell(&row.value))).unwrap_or_default();
    (config.profile == Profile::Cvat).then(|| {
        format!(
            "more than {full} of {what} is in use: `sweeper run --pressure {full} --dry-run{data}` \
             shows which exports would be removed before they expire"
        )
    })
}

/// A word as it is written in a shell.
fn for_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=%".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What is above this mark.
fn what_is_full(
    mark: Share,
    space: Option<&Space>,
    quotas: &[(PathBuf, Space)],
) -> Option<&'static str> {
    let pressure = Pressure { mark: Some(mark), ..Pressure::default() };
    let is_full = |space: &Space| pressure.is_exceeded_by(space);
    if space.is_some_and(is_full) {
        Some("the file system")
    } else if quotas.iter().any(|(_, space)| is_full(space)) {
        Some("a quota")
    } else {
        None
    }
}

/// A note for each directory that has a quota of its own.
pub(super) fn quota_notes(quotas: &[(PathBuf, Space)]) -> impl Iterator<Item = String> {
    quotas.iter().map(|(path, space)| of_quota(path, space))
}

/// How full a directory is that has a quota of its own.
fn of_quota(path: &Path, space: &Space) -> String {
    let bytes = format!("{} of {}", Bytes(space.bytes_used), Bytes(space.usable()));
    let inodes = match space.inodes {
        0 => String::new(),
        all => format!(", and {} of {} inodes", grouped(space.inodes_used), grouped(all)),
    };
    format!("{path:?} has a quota of its own, of which {bytes}{inodes} are in use")
}

/// What is measured.
pub(super) fn subject<'a>(
    config: &'a Config,
    root: &'a DataRoot,
    removed_by: &'a (dyn Fn(&Zone) -> RemovedBy + Sync),
) -> Subject<'a> {
    let is_cvat = config.profile == Profile::Cvat;
    Subject {
        root,
        zones: &config.all_zones,
        areas: if is_cvat { &areas::AREAS } else { &[] },
        labels: if is_cvat { areas::LABELS } else { Labels::NONE },
        exclude: &config.exclude,
        now: config.now.unwrap_or_else(clock::now),
        removed_by,
    }
}

/// A picture is drawn on a terminal, and wherever color is asked for.
fn picture(canvas: Canvas) -> Option<Canvas> {
    match canvas {
        Canvas::PLAIN => None,
        Canvas { width: Canvas::ANY_WIDTH, has_color } => {
            Some(Canvas { width: USUAL_WIDTH, has_color })
        }
        canvas => Some(canvas),
    }
}

/// The command that removes what has expired in a zone.
pub(super) fn removed_by(config: &Config, zone: &Zone) -> RemovedBy {
    let is = |name: &ZoneName| *name == zone.name;
    if config.legacy.as_ref().is_some_and(|legacy| is(&legacy.name)) {
        RemovedBy::OnRequest("sweeper legacy".to_owned())
    } else if config.zones.iter().any(|swept| is(&swept.name)) {
        RemovedBy::Run("sweeper run".to_owned())
    } else {
        RemovedBy::OnRequest(format!("sweeper run --zones {}", zone.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::space::tests::space;

    #[test]
    fn where_only_a_quota_is_full_that_is_what_is_said() {
        let space = |bytes_used| space(100, bytes_used);
        let (empty, full) = (space(10), space(90));
        for (whole, quota, expected) in [
            (full, full, Some("the file system")),
            (empty, full, Some("a quota")),
            (empty, empty, None),
        ] {
            let quotas = [(PathBuf::from("/data/tmp"), quota)];
            assert_eq!(what_is_full(Share::percent(85), Some(&whole), &quotas), expected);
        }
    }

    #[test]
    fn a_word_is_written_so_that_a_shell_reads_it_whole() {
        for (word, written) in [
            ("/data/a-1", "/data/a-1"),
            ("/my data", "'/my data'"),
            ("it's", "'it'\\''s'"),
            ("$a", "'$a'"),
        ] {
            assert_eq!(for_shell(word), written);
        }
    }
}
