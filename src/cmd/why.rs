//! `sweeper why`: which rule applies to a path, the times used, its locks, what a run would do now, and when
//! it expires.
//!
//! This module must not judge by rules of its own: the path goes through the same pipeline as in a pass, up to the
//! removal, which is not made. No lock is held while a line is printed.

mod answer;
mod early;
mod interrupted;
mod lock;
mod words;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::data_root::absolute;
use super::pass::turns::foreseen;
use super::pass::{locks, open_root, probe};
use super::{Refusal, printed};
use crate::config::{Config, IfRunning};
use crate::control::Unlimited;
use crate::dispose::DryRun;
use crate::fs::DataRoot;
use crate::inspect::{FileInspector, Witness};
use crate::lock::Backend;
use crate::os::clock;
use crate::protocol::{
    Disposer, ExitCode, Expired, Freed, Inspector, Locks, Notes, Rejected, Rejection, Skipped,
};
use crate::report::Format;
use crate::rules::names::is_quarantine;
use crate::rules::verdict::evaluate;
use crate::rules::zone::EntryPath;
use crate::rules::{Metadata, Moment, Rule, Ttl, Zone};
use crate::source::{entry_at, open_directory};
use crate::units::{self, shown};
use answer::{Answer, Verdict, write_json};
pub(super) use words::{describe_kept, describe_skipped};

/// Explains each of these paths.
pub(super) fn why(
    config: &Config,
    paths: &[PathBuf],
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    let root = open_root(config, &config.all_zones)?;
    let entries: Vec<_> = paths.iter().filter_map(|path| root.relative(path).ok()?).collect();
    let is_asked =
        |zone: &&Arc<Zone>| entries.iter().any(|path| zone.location.entry_of(path).is_some());
    let asked: Vec<_> = config.all_zones.iter().filter(is_asked).cloned().collect();
    let locks = locks(config, &asked, root.path(), Vec::new())?;
    let now = config.now.unwrap_or_else(clock::now);
    let question = Question { config, root: &root, locks: &locks, now };
    let mut code = ExitCode::Done;
    let mut answers = Vec::new();
    for path in paths {
        let answer = question.explain(path);
        if !answer.is_complete() {
            code = ExitCode::SomeFailed;
        }
        if config.format != Format::Text {
            answers.push((absolute(path), answer));
        } else if let Err(error) = answer.write(path, out) {
            return Ok(printed(Err(error), code));
        }
    }
    if config.format == Format::Text {
        return Ok(code);
    }
    Ok(printed(write_json(&answers, root.path(), now, out), code))
}

/// All that an answer depends on.
struct Question<'a> {
    config: &'a Config,
    root: &'a DataRoot,
    locks: &'a Backend,
    now: Moment,
}

/// Where an entry leaves the pipeline.
enum End {
    /// It would be removed, and this freed.
    Removed(Freed),
    /// It would stay, and what in it keeps it, if that is known.
    Rejected(Rejection, Option<Witness>),
}

impl Question<'_> {
    fn explain(&self, path: &Path) -> Answer {
        let answer = Answer::default();
        let relative = match self.root.relative(path) {
            Ok(Some(relative)) => relative,
            Ok(None) => {
                let root = shown(self.root.path());
                let from = if path.is_relative() {
                    " (a relative path starts at the working directory)"
                } else {
                    ""
                };
                let meant = self.meant(path);
                let why =
                    format!("never touched: it is not below the data root {root}{from}{meant}");
                return answer.verdict(Verdict::NeverTouched, None, why);
            }
            Err(error) => {
                let (error, meant) = (units::error(&error), self.meant(path));
                let why = format!("cannot be looked at: {error}{meant}");
                return answer.verdict(Verdict::Unknown, None, why);
            }
        };
        let entries = || {
            let zones = self.config.all_zones.iter();
            zones.filter_map(|zone| Some((zone, zone.location.entry_of(&relative)?)))
        };
        // An entry of one zone can be a directory of another, which its own zone does not recognize.
        let recognized =
            entries().find(|(zone, entry)| zone.names.class_of(entry.name.to_bytes()).is_some());
        let is_above = |zone: &Arc<Zone>| zone.location.is_above(&relative);
        let is_directory = || self.config.all_zones.iter().any(is_above);
        let found = recognized.or_else(|| entries().next().filter(|_| !is_directory()));
        match found {
            Some((zone, entry)) => self.explain_entry(zone, &entry, &relative),
            None => answer.verdict(Verdict::NeverTouched, None, self.describe_outside(&relative)),
        }
    }

    /// The question whether a relative path is meant from the data root on, if something is there.
    fn meant(&self, path: &Path) -> String {
        let meant = self.root.path().join(path);
        let is_there = path.is_relative() && meant.symlink_metadata().is_ok();
        if is_there { format!("; did you mean {}?", shown(&meant)) } else { String::new() }
    }

    /// Why a path that is no entry is never touched.
    fn describe_outside(&self, relative: &Path) -> String {
        if relative.as_os_str().is_empty() {
            return "never removed: it is the data root".to_owned();
        }
        if relative.iter().any(|step| is_quarantine(step.as_bytes())) {
            return "not removed by itself: it is in a private directory of sweeper, and the next run of the \
                    command that was interrupted deals with it"
                .to_owned();
        }
        let zones = self.config.all_zones.iter();
        let above = zones.filter(|zone| zone.location.is_above(relative));
        let names: Vec<&str> = above.map(|zone| zone.name.as_str()).collect();
        match names.as_slice() {
            [] => "never touched: it is in no zone".to_owned(),
            [name] => {
                format!("never removed: it holds entries of zone {name}, each judged by itself")
            }
            _ => format!(
                "never removed: it holds entries of the zones {}, each judged by itself",
                names.join(", ")
            ),
        }
    }

    fn explain_entry(&self, zone: &Arc<Zone>, entry: &EntryPath, relative: &Path) -> Answer {
        let mut answer = Answer::default();
        let notes = Notes::default();
        let directory = match open_directory(self.root, zone, &entry.dir, &notes) {
            Ok(directory) => directory,
            Err(failure) => {
                return answer.verdict(Verdict::Unknown, None, format!("cannot {failure}"));
            }
        };
        if is_quarantine(entry.name.to_bytes()) {
            return interrupted::explain(
                answer,
                self.config,
                &directory,
                entry,
                relative,
                self.now,
            );
        }
        let found = match entry_at(&directory, &entry.name) {
            Ok(found) => found,
            Err(failure) => {
                return answer.verdict(Verdict::Unknown, None, format!("cannot {failure}"));
            }
        };
        let metadata = found.metadata;
        answer.add("zone", zone.name.as_str());
        answer.facts.zone = Some(zone.name.to_string());
        if relative != entry.path() {
            let whole = shown(&directory.path_of(&entry.name));
            answer.add("entry", format!("judged as a whole: {whole}"));
        }
        let last = relative.file_name().unwrap_or(OsStr::from_bytes(entry.name.to_bytes()));
        if let Some(name) = (zone.describe_name)(last.as_bytes()) {
            answer.add("name", name);
        }
        answer.add("type", words::describe_type(&metadata));
        match evaluate(&found, &self.config.exclude, self.now) {
            Ok(expired) => {
                let early = early::describe(self.config, &found, self.now);
                self.explain_expired(answer, zone, relative, expired, early)
            }
            Err(kept) => {
                if let Some(rule) = kept.rule {
                    self.add_rule(&mut answer, rule, &metadata);
                    if let Some(ttl) = rule.expiry.ttl() {
                        answer.add("expires", self.describe_expiry(rule, &metadata, ttl));
                    }
                    if let Some(text) = early::describe(self.config, &found, self.now) {
                        answer.add("early", text);
                    }
                }
                let text = format!("a run would keep it: {}", describe_kept(kept.why));
                answer.verdict(Verdict::Kept, Some(kept.why.key().to_owned()), text)
            }
        }
    }

    /// Why a run would leave a zone alone now, and what it would do instead.
    fn left_alone(&self, zone: &Arc<Zone>) -> Option<(String, String)> {
        if let Err(why) = self.locks.ready(zone) {
            return Some((why.clone(), "a run now would leave it alone".to_owned()));
        }
        let when_held = self.config.if_running.unwrap_or(IfRunning::Exit).into();
        let zones = std::slice::from_ref(zone);
        let (_, why, then) = foreseen(self.config, self.root, zones, when_held).pop()?;
        Some((why, then.to_string()))
    }

    fn explain_expired(
        &self,
        mut answer: Answer,
        zone: &Arc<Zone>,
        relative: &Path,
        expired: Expired,
        early: Option<String>,
    ) -> Answer {
        let rule = expired.rule();
        self.add_rule(&mut answer, rule, expired.metadata());
        if let Some((why, then)) = self.left_alone(zone) {
            if let Some(ttl) = rule.expiry.ttl() {
                answer.add("expires", self.describe_expiry(rule, expired.metadata(), ttl));
            }
            answer.add("lock", format!("cannot be taken: {why}"));
            return answer.verdict(Verdict::LeftAlone, None, then);
        }
        let holder = self.holder(zone, relative);
        let metadata = *expired.metadata();
        let (directory, name) = (Arc::clone(expired.directory()), expired.name().to_owned());
        let end = self.follow(expired);
        let by_witness = matches!(&end, End::Rejected(Rejection::Skipped(Skipped::Used), Some(it)) if it.newest.is_some());
        if let Some(ttl) = rule.expiry.ttl().filter(|_| !by_witness) {
            answer.add("expires", self.describe_expiry(rule, &metadata, ttl));
        }
        let describe = || self.describe_lock(zone, &end, &directory, &name);
        answer.add("lock", holder.unwrap_or_else(describe));
        if let End::Rejected(Rejection::Skipped(why), Some(witness)) = &end {
            self.add_witness(&mut answer, rule, *why, witness);
            if let (Skipped::Used, Some(text)) = (why, early) {
                answer.add("early", text);
            }
        }
        let (verdict, reason, mut text) = match end {
            End::Removed(freed) => {
                (Verdict::WouldRemove, Some("expired".to_owned()), words::describe_removal(&freed))
            }
            End::Rejected(why, _) => {
                let (verdict, reason) = words::key_of(&why);
                (verdict, reason, words::describe_rejection(why))
            }
        };
        let is = |known: &Arc<Zone>| known.name == zone.name;
        let is_legacy = self.config.legacy.as_ref().is_some_and(is);
        if is_legacy {
            text = format!("{text} (`sweeper legacy`)");
        } else if !self.config.zones.iter().any(is) {
            text = format!("{text}, with --zones {}", zone.name);
        }
        answer.verdict(verdict, reason, text)
    }

    /// Takes an expired entry along the line of a dry run.
    fn follow(&self, expired: Expired) -> End {
        let notes = Notes::default();
        let inspector = FileInspector::new(&Unlimited, &notes, probe(self.config.in_use));
        let disposer = DryRun::new(&Unlimited, probe(self.config.in_use));
        let mut end = None;
        self.locks.claim(vec![expired], &|| false, &mut |claimed| {
            let looked = claimed.and_then(|claimed| inspector.inspect(claimed, self.now));
            end = Some(looked.and_then(|verified| {
                let freed = verified.freed().clone();
                disposer.dispose(verified, self.now).map(|_| freed)
            }));
        });
        // The lock is released: what keeps the entry is looked for as long as it takes.
        match end {
            Some(Ok(freed)) => End::Removed(freed),
            Some(Err(Rejected { why, expired, .. })) => {
                let skipped =
                    if let Rejection::Skipped(skipped) = why { Some(skipped) } else { None };
                let witness =
                    skipped.and_then(|skipped| inspector.witness(&expired, skipped, self.now));
                End::Rejected(why, witness)
            }
            None => End::Rejected(Rejection::Unreached, None),
        }
    }

    fn add_rule(&self, answer: &mut Answer, rule: Rule, metadata: &Metadata) {
        answer.add("rule", words::describe_rule(rule, metadata));
        let used = rule.last_use.read(metadata, self.now);
        let ago = self.ago(used);
        let which = if rule.last_use.ignores_a_time(metadata, self.now) {
            "another of its times is more than 24 h in the future and does not count"
        } else {
            words::describe_time(rule.last_use, metadata)
        };
        answer.add("last use", format!("{} ({ago}; {which})", units::rfc3339(used)));
        answer.facts.last_use = Some(units::rfc3339(used));
        answer.facts.age_s = Some(used.age_at(self.now).as_secs());
        if let Some(ttl) = rule.expiry.ttl() {
            answer.facts.ttl_s = Some(ttl.as_secs());
            answer.facts.expires = Some(units::rfc3339(used.plus(ttl)));
        }
    }

    fn ago(&self, moment: Moment) -> String {
        let secs = moment.age_at(self.now).as_secs();
        if secs < 0 {
            format!("{} in the future", units::coarse_secs(-secs))
        } else {
            format!("{} ago", units::coarse_secs(secs))
        }
    }

    /// What in a tree keeps it: something that is in use, or what was used last.
    fn add_witness(&self, answer: &mut Answer, rule: Rule, why: Skipped, witness: &Witness) {
        if let Some((_, path)) = witness.held.as_ref().filter(|(held, _)| *held == why) {
            answer.add("in it", format!("{}: {}", shown(path), words::describe_held(why)));
        }
        let (Some((newest, path)), Some(ttl)) = (&witness.newest, rule.expiry.ttl()) else {
            return;
        };
        if why != Skipped::Used {
            return;
        }
        let (path, used, at) =
            (shown(path), units::rfc3339(*newest), units::rfc3339(newest.plus(ttl)));
        let ago = self.ago(*newest);
        answer.add("in it", format!("{path}: last used {used} ({ago})"));
        answer.add("expires", format!("{at}, if nothing in it is used before then"));
        answer.facts.last_use = Some(used);
        answer.facts.age_s = Some(newest.age_at(self.now).as_secs());
        answer.facts.expires = Some(at);
    }

    fn describe_expiry(&self, rule: Rule, metadata: &Metadata, ttl: Ttl) -> String {
        let at = rule.last_use.read(metadata, self.now).plus(ttl);
        let left = -at.age_at(self.now).as_secs();
        let Ok(left @ 1..) = u64::try_from(left) else {
            return format!("{} ({})", units::rfc3339(at), self.ago(at));
        };
        let left = units::coarse(Duration::from_secs(left));
        format!("{} (in {left}), if it is not used before then", units::rfc3339(at))
    }
}
