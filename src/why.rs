//! Explains a path: which rule judges it, the times used, its lock, what a pass would do and when.
//!
//! It must not have an opinion of its own: the path takes the same line as in a pass, up to the
//! removal, which is not made. Its lock is taken without waiting and given straight back.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::condemn::{Condemned, Disk, Freed, Locks, Off, Reprieve, Sighting, Spared, Stale};
use crate::disk;
use crate::lock::FileLocks;
use crate::lock::redis::{ExporterLocks, Holder};
use crate::retention::policy::{Clock, Limit};
use crate::retention::{ExportName, Facts, KeptBy, Kind, LegacyName, Moment, Policy, Ttl, Zone};
use crate::units::{self, shown};
use crate::volume::{Unit, Volume};

/// All that an answer depends on.
pub struct Asked<'a, D, L> {
    /// The volume.
    pub volume: &'a Volume,
    /// Its disk.
    pub disk: &'a D,
    /// The locks.
    pub locks: &'a L,
    /// CVAT's own among them, to ask who holds one.
    pub exporter: Option<&'a ExporterLocks>,
    /// Whether it locks the object itself.
    pub files: FileLocks,
    /// The zones that a pass would sweep.
    pub zones: &'a [Zone],
    /// The rules.
    pub policy: &'a Policy,
    /// The moment to judge at.
    pub now: Moment,
}

impl<D: Disk, L: Locks> Asked<'_, D, L> {
    /// Writes the answer for one path; false when there is none because it cannot be looked at.
    ///
    /// # Errors
    /// What `out` says.
    pub fn explain(&self, path: &Path, out: &mut impl Write) -> io::Result<bool> {
        writeln!(out, "{}", shown(path))?;
        let mut line = |word: &str, text: String| writeln!(out, "  {word:<9} {text}");
        let relative = match self.volume.relative(path) {
            Ok(Some(relative)) => relative,
            Ok(None) => {
                let root = shown(self.volume.path());
                line("verdict", format!("never touched: it is not under the data root {root}"))?;
                return Ok(true);
            }
            Err(error) => {
                line("verdict", format!("nothing to say: {error}"))?;
                return Ok(false);
            }
        };
        let Some(unit) = Unit::of(&relative, self.zones) else {
            line("verdict", "never touched: it is in no zone".to_owned())?;
            return Ok(true);
        };
        self.explain_unit(&unit, &relative, &mut line)
    }

    /// The answer for what a zone judges as one.
    fn explain_unit(
        &self,
        unit: &Unit,
        relative: &Path,
        line: &mut impl FnMut(&str, String) -> io::Result<()>,
    ) -> io::Result<bool> {
        let seen = disk::place(self.volume, unit.zone, &unit.dir);
        let seen = seen.and_then(|place| {
            let facts = disk::sight(&place, &unit.name)?.facts;
            Ok((place, facts))
        });
        let (place, facts) = match seen {
            Ok(seen) => seen,
            Err(failure) => {
                line("verdict", format!("cannot {failure}"))?;
                return Ok(false);
            }
        };
        let entry = place.path_of(&unit.name);
        line("zone", unit.zone.name().to_owned())?;
        if relative != unit.path() {
            line("entry", format!("judged as a whole: {}", shown(&entry)))?;
        }
        line("name", describe_name(unit.zone, relative, unit))?;
        line("kind", describe_kind(&facts).to_owned())?;
        let sighting =
            Sighting { zone: unit.zone, place: &place, dir: &place.dir, name: &unit.name, facts };
        match self.policy.judge(&sighting, self.now) {
            Ok(stale) => {
                line("rule", describe_rule(stale.limit()))?;
                line("last use", self.describe_use(stale.limit(), stale.facts()))?;
                if let Err(why) = self.locks.ready(unit.zone) {
                    line("lock", format!("cannot be had: {why}"))?;
                    line("verdict", "a pass now would leave it alone".to_owned())?;
                    return Ok(true);
                }
                let holder = self.holder(relative, unit.zone);
                let limit = stale.limit();
                let end = self.rehearse(stale);
                line("lock", holder.unwrap_or_else(|| describe_lock(self.files, &end).to_owned()))?;
                if let Some((newest, ttl)) = newest_of(&end).zip(limit.ttl) {
                    line("in it", self.describe_newest(newest, ttl))?;
                }
                let mut verdict = describe_end(end);
                if unit.zone != Zone::Legacy && !self.zones.contains(&unit.zone) {
                    verdict =
                        format!("{verdict}, if it were told to: --zones {}", unit.zone.name());
                }
                line("verdict", verdict)?;
            }
            Err(kept) => {
                if let Some(limit) = kept.limit {
                    line("rule", describe_rule(limit))?;
                    line("last use", self.describe_use(limit, &facts))?;
                    if let Some(ttl) = limit.ttl {
                        line("expires", self.describe_expiry(limit, &facts, ttl))?;
                    }
                }
                line("verdict", format!("a pass would keep it: {}", describe_kept(kept.why)))?;
            }
        }
        Ok(true)
    }

    /// Takes a stale entry down the line, up to the removal.
    fn rehearse(&self, stale: Stale) -> Option<Result<Condemned, Reprieve>> {
        let mut end = None;
        self.locks.claim(vec![stale], &mut |claim| {
            let looked = claim.and_then(|claim| self.disk.look_again(claim, self.now));
            end = Some(looked);
        });
        end
    }

    /// Who holds CVAT's own lock, if anybody does.
    fn holder(&self, relative: &Path, zone: Zone) -> Option<String> {
        let exporter = self.exporter.filter(|_| zone == Zone::Export)?;
        match exporter.holder(relative) {
            Ok(None) => None,
            Ok(Some(holder)) => {
                let who = if holder.is_sweeper() { "a sweeper" } else { "CVAT" };
                let Holder { token, left } = holder;
                let token = units::quoted(token.as_ref());
                Some(match left {
                    Some(left) => {
                        let left = left.as_secs_f32();
                        format!("held by {who} in Redis for {left:.1} s more (token {token})")
                    }
                    None => format!("held in Redis without an end (token {token}): delete the key"),
                })
            }
            Err(trouble) => Some(format!("unknown: {trouble}")),
        }
    }

    fn describe_use(&self, limit: Limit, facts: &Facts) -> String {
        let used = limit.clock.read(facts);
        let ago = units::coarse_secs(used.age_at(self.now).as_secs());
        let clock = match limit.clock {
            Clock::Mtime => "its mtime",
            Clock::OwnAtime => "its own atime",
            Clock::NewestUse if facts.kind == Kind::Dir => {
                "its own mtime; what lies in it can be younger"
            }
            Clock::NewestUse => "the newer of its atime and mtime",
        };
        format!("{} ({ago} ago; {clock})", units::rfc3339(used))
    }

    fn describe_newest(&self, newest: Moment, ttl: Ttl) -> String {
        let ago = units::coarse_secs(newest.age_at(self.now).as_secs());
        let at = units::rfc3339(newest.plus(ttl));
        format!("something was used {ago} ago, so it does not expire before {at}")
    }

    fn describe_expiry(&self, limit: Limit, facts: &Facts, ttl: Ttl) -> String {
        let at = limit.clock.read(facts).plus(ttl);
        let left = -at.age_at(self.now).as_secs();
        let left = units::coarse(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        format!("{} (in {left}), if it is not used before", units::rfc3339(at))
    }
}

/// Where an entry ends up on the line.
type End = Option<Result<Condemned, Reprieve>>;

fn newest_of(end: &End) -> Option<Moment> {
    match end {
        Some(Err(Reprieve { newest, why: Off::Spared(Spared::Used), .. })) => *newest,
        _ => None,
    }
}

const fn describe_lock(files: FileLocks, end: &End) -> &'static str {
    match (files, end) {
        (FileLocks::Unlocked, _) => "not asked for (--lock none)",
        (_, Some(Err(Reprieve { why: Off::Spared(Spared::Busy), .. }))) => "held by somebody",
        (_, Some(Err(Reprieve { why: Off::Failed(_) | Off::NoLock(_), .. })) | None) => "unknown",
        (FileLocks::Flock, Some(Ok(_) | Err(_))) => "free",
    }
}

fn describe_end(end: End) -> String {
    match end {
        Some(Ok(condemned)) => {
            let Freed { bytes, linked } = condemned.freed();
            let names =
                if linked.is_empty() { "" } else { " (files with other names not counted)" };
            format!("a pass now would remove it and free {bytes}{names}")
        }
        Some(Err(Reprieve { why, .. })) => match why {
            Off::Spared(why) => format!("a pass now would spare it: {}", describe_spared(why)),
            Off::Failed(failure) => format!("a pass now would fail to {failure}"),
            Off::Unreached => "stopped before it was looked into".to_owned(),
            Off::NoLock(why) => format!("a pass would leave it alone: {why}"),
        },
        None => "nothing to say".to_owned(),
    }
}

fn describe_name(zone: Zone, relative: &Path, unit: &Unit) -> String {
    match zone {
        Zone::Export => match ExportName::parse(unit.name.to_bytes()) {
            Ok(ExportName::Data { class, id, kind, tag, .. }) => {
                format!("{kind} of {} {id} as {tag}", class.word())
            }
            Ok(ExportName::Backup { class, id, lightweight, .. }) => {
                let light = if lightweight { "lightweight " } else { "" };
                format!("{light}backup of {} {id}", class.word())
            }
            Ok(ExportName::Events { id, .. }) => format!("table of audit events, query {id}"),
            Err(error) => error.to_string(),
        },
        Zone::Tmp | Zone::InstanceTmp => "any name is judged alike here".to_owned(),
        Zone::Legacy => {
            let last = relative.file_name().unwrap_or_default();
            match LegacyName::parse(last.as_bytes()) {
                Ok(LegacyName::Stamped) => "an export of CVAT 2.14.1 to 2.25".to_owned(),
                Ok(LegacyName::Plain) => "an export of CVAT 1.0 to 2.14.0".to_owned(),
                Ok(LegacyName::Backup) => "a backup of CVAT 1.5 to 2.25".to_owned(),
                Ok(LegacyName::Leftover) => "left by a killed worker".to_owned(),
                Err(_) => "the export cache of an instance, before CVAT 2.26".to_owned(),
            }
        }
    }
}

const fn describe_kind(facts: &Facts) -> &'static str {
    match facts.kind {
        Kind::File => "a regular file",
        Kind::Dir => "a directory",
        Kind::Symlink => "a symbolic link, judged by its own times and never followed",
        Kind::Special => "a FIFO, a socket or a device, never opened",
    }
}

fn describe_rule(limit: Limit) -> String {
    let Some(ttl) = limit.ttl else {
        return "goes whatever its age".to_owned();
    };
    let ttl = units::coarse(ttl.as_duration());
    match limit.clock {
        Clock::Mtime => format!("goes when its mtime is older than {ttl}"),
        Clock::OwnAtime => format!("goes when its own atime is older than {ttl}, as in CVAT"),
        Clock::NewestUse => format!("goes when nothing in it was used for longer than {ttl}"),
    }
}

pub(crate) const fn describe_kept(why: KeptBy) -> &'static str {
    match why {
        KeptBy::Fresh => "it has not been unused for long enough",
        KeptBy::Unrecognized => "CVAT does not write such names there, and what is unknown is kept",
        KeptBy::NotAFile => "only regular files are exports, and what is unknown is kept",
        KeptBy::Excluded => "it would go, but --exclude covers it",
        KeptBy::Mounted => "something is mounted there",
    }
}

pub(crate) const fn describe_spared(why: Spared) -> &'static str {
    match why {
        Spared::Busy => "somebody holds a lock on it",
        Spared::InUse => "somebody has it open, or something in it",
        Spared::Used => "something in it was used more recently",
        Spared::Replaced => "another file has its name by now",
        Spared::Gone => "it is gone",
        Spared::Mounted => "something is mounted in it",
    }
}
