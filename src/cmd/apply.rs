//! `sweeper apply`: removes the entries of a plan that are still as the plan says.
//!
//! This module must not trust a plan: each line is checked, and each entry goes through the usual pipeline.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::pass::{Planned, open_root};
use super::plan::deciding;
use super::{Refusal, run, unused};
use crate::config::settings::Use;
use crate::config::{Config, Verbosity};
use crate::os::clock;
use crate::protocol::ExitCode;
use crate::report::plan::{Header, read_entry};
use crate::rules::Ttl;
use crate::units;

/// No line is longer.
const LONGEST: u64 = 64 * 1024;

/// How many lines that cannot be used are named.
const NAMED: u64 = 10;

/// Removes what is in the plan at `path`.
pub(super) fn apply(
    mut config: Config,
    path: &Path,
    verbosity: Verbosity,
) -> Result<ExitCode, Refusal> {
    unused::warn(&config, Use::Apply);
    // The plan says how many entries there are, not how many the zone has.
    config.guards.share = None;
    config.from0 = None;
    let refused = |why: String| Refusal::Plan { path: path.to_owned(), why };
    let unread = |error: io::Error| refused(format!("it cannot be read: {}", units::error(&error)));
    let mut lines = BufReader::new(open(path).map_err(unread)?);
    let first = next_line(&mut lines).map_err(unread)?.unwrap_or_default();
    let (header, seed) = Header::read(&first).map_err(|why| {
        refused(match &first[..] {
            [] => "it is empty".to_owned(),
            [b'{', ..] => format!(
                "its first line is not the header of a plan ({why}); keep that line when you edit a plan"
            ),
            _ => "it is not a plan written by `sweeper plan`".to_owned(),
        })
    })?;
    check(&header, &config).map_err(refused)?;
    let planned = read(&mut lines, seed).map_err(unread)?;
    let code = run::run_by_plan("apply", &config, verbosity, None, Some(&planned))?.code;
    if let Some(note) = planned.note() {
        tracing::error!("{path:?}: {note}");
    }
    Ok(code)
}

/// The file of a plan; `-` is stdin.
fn open(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    File::open(path)
}

/// Whether a plan is about this data root, recent, and made with these settings.
fn check(header: &Header, config: &Config) -> Result<(), String> {
    let Header { created, data_root, .. } = header;
    let root = open_root(config, &config.zones);
    let root = root.map_err(|refusal| format!("it was made for {data_root:?}; {refusal}"))?;
    if !header.is_of(root.id()) {
        return Err(format!(
            "it was made for {data_root:?} at {created}, and {:?} is a different directory",
            root.path()
        ));
    }
    let created = units::moment(&header.created)?;
    let (now, most) = (clock::now(), config.max_plan_age);
    if created > now || Ttl::from_duration(most).is_exceeded_by(created.age_at(now)) {
        let (created, most) = (&header.created, units::coarse(most));
        return Err(format!(
            "it was made at {created}, and a plan may be at most {most} old (--max-plan-age); make a new one"
        ));
    }
    let ours = deciding(config);
    for key in ours.keys().chain(header.settings.keys()) {
        let value = |settings: &std::collections::BTreeMap<String, String>| {
            settings.get(key).cloned().unwrap_or_default()
        };
        let (here, there) = (value(&ours), value(&header.settings));
        if here != there {
            return Err(format!(
                "it was made with {key} = {there:?}, and here it is {here:?}; apply it with the same settings"
            ));
        }
    }
    Ok(())
}

/// The entries of a plan.
fn read(lines: &mut impl BufRead, seed: u64) -> io::Result<Planned> {
    let mut paths = BufWriter::new(tempfile::tempfile()?);
    let (mut digests, mut wrong, mut number) = (HashSet::new(), 0, 1_u64);
    while let Some(line) = next_line(lines)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_entry(seed, &line) {
            Ok((path, digest)) => {
                digests.insert(digest);
                paths.write_all(path.as_os_str().as_bytes())?;
                paths.write_all(b"\0")?;
            }
            Err(why) => {
                wrong += 1;
                if wrong <= NAMED {
                    tracing::warn!("line {number} of the plan is not applied: {why}");
                }
            }
        }
    }
    let paths = paths.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Planned { paths, seed, digests, wrong })
}

fn next_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = io::Read::take(&mut *lines, LONGEST).read_until(b'\n', &mut line)?;
    Ok((length > 0).then_some(line))
}
