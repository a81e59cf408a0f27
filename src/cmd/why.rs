//! `sweeper why`: which rule applies to a path, the times used, its locks, what a run would do now, and when
//! it expires.
//!
//! It must not judge by rules of its own: the path takes the same line as in a pass, up to the removal,
//! which is not made. No lock is held while a line is printed.

mod words;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pass::{locks, open_root, probe};
use super::{Refusal, printed};
use crate::config::Config;
use crate::control::Unlimited;
use crate::fs::DataRoot;
use crate::inspect::FileInspector;
use crate::lock::{Backend, redis::Holder};
use crate::os::clock;
use crate::protocol::{ExitCode, Expired, Freed, Inspector, Locks, Notes, Rejection, Skipped};
use crate::rules::verdict::evaluate;
use crate::rules::zone::EntryPath;
use crate::rules::{LockKind, Metadata, Moment, Rule, Ttl, Zone};
use crate::source::{entry_at, open_directory};
use crate::units::{self, quoted, shown};
pub(super) use words::{describe_kept, describe_skipped};

/// Explains each of these paths.
pub(super) fn why(
    config: &Config,
    paths: &[PathBuf],
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    let root = open_root(config, &config.all_zones)?;
    let locks = locks(config, root.path())?;
    let now = config.now.unwrap_or_else(clock::now);
    let question = Question { config, root: &root, locks: &locks, now };
    let mut code = ExitCode::Done;
    for path in paths {
        let answer = question.explain(path);
        if !answer.is_complete {
            code = ExitCode::SomeFailed;
        }
        if let Err(error) = answer.write(path, out) {
            return Ok(printed(Err(error), code));
        }
    }
    Ok(code)
}

/// All that an answer depends on.
struct Question<'a> {
    config: &'a Config,
    root: &'a DataRoot,
    locks: &'a Backend,
    now: Moment,
}

/// Lines of a word and a text. They are collected before anything is printed, so that no lock is held while a
/// terminal is slow.
#[derive(Default)]
struct Answer {
    lines: Vec<(&'static str, String)>,
    is_complete: bool,
}

impl Answer {
    fn add(&mut self, word: &'static str, text: impl Into<String>) {
        self.lines.push((word, text.into()));
    }

    fn verdict(mut self, text: impl Into<String>, is_complete: bool) -> Self {
        self.add("verdict", text);
        self.is_complete = is_complete;
        self
    }

    fn write(&self, path: &Path, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", shown(path))?;
        for (word, text) in &self.lines {
            writeln!(out, "  {word:<9} {text}")?;
        }
        Ok(())
    }
}

/// Where an entry ends on the line.
enum End {
    /// It would be removed, and this freed.
    Removed(Freed),
    /// It would stay, and the newest use in it, if that was seen.
    Rejected(Rejection, Option<Moment>),
}

impl Question<'_> {
    fn explain(&self, path: &Path) -> Answer {
        let answer = Answer::default();
        let relative = match self.root.relative(path) {
            Ok(Some(relative)) => relative,
            Ok(None) => {
                let root = shown(self.root.path());
                let why = format!("never touched: it is not below the data root {root}");
                return answer.verdict(why, true);
            }
            Err(error) => return answer.verdict(format!("cannot be looked at: {error}"), false),
        };
        let found = self.config.all_zones.iter().find_map(|zone| {
            let entry = zone.location.entry_of(&relative)?;
            Some((zone, entry))
        });
        match found {
            Some((zone, entry)) => self.explain_entry(zone, &entry, &relative),
            None => answer.verdict("never touched: it is in no zone", true),
        }
    }

    fn explain_entry(&self, zone: &Arc<Zone>, entry: &EntryPath, relative: &Path) -> Answer {
        let mut answer = Answer::default();
        let notes = Notes::default();
        let directory = match open_directory(self.root, zone, &entry.dir, &notes) {
            Ok(directory) => directory,
            Err(failure) => return answer.verdict(format!("cannot {failure}"), false),
        };
        let found = match entry_at(&directory, &entry.name) {
            Ok(found) => found,
            Err(failure) => return answer.verdict(format!("cannot {failure}"), false),
        };
        let metadata = found.metadata;
        answer.add("zone", zone.name.as_str());
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
            Ok(expired) => self.explain_expired(answer, zone, relative, expired),
            Err(kept) => {
                if let Some(rule) = kept.rule {
                    self.add_rule(&mut answer, rule, &metadata);
                    if let Some(ttl) = rule.expiry.ttl() {
                        answer.add("expires", self.describe_expiry(rule, &metadata, ttl));
                    }
                }
                answer.verdict(format!("a run would keep it: {}", describe_kept(kept.why)), true)
            }
        }
    }

    fn explain_expired(
        &self,
        mut answer: Answer,
        zone: &Arc<Zone>,
        relative: &Path,
        expired: Expired,
    ) -> Answer {
        let rule = expired.rule();
        self.add_rule(&mut answer, rule, expired.metadata());
        if let Err(why) = self.locks.ready(zone) {
            answer.add("lock", format!("cannot be taken: {why}"));
            return answer.verdict("a run now would leave it alone", true);
        }
        let holder = self.holder(zone, relative);
        let end = self.follow(expired);
        answer.add("lock", holder.unwrap_or_else(|| self.describe_lock(zone, &end).to_owned()));
        if let (End::Rejected(Rejection::Skipped(Skipped::Used), Some(newest)), Some(ttl)) =
            (&end, rule.expiry.ttl())
        {
            answer.add("in it", self.describe_newest(*newest, ttl));
        }
        let mut verdict = match end {
            End::Removed(freed) => words::describe_removal(&freed),
            End::Rejected(why, _) => words::describe_rejection(why),
        };
        let is = |known: &Arc<Zone>| known.name == zone.name;
        let is_legacy = self.config.legacy.as_ref().is_some_and(is);
        if is_legacy {
            verdict = format!("{verdict} (`sweeper legacy`)");
        } else if !self.config.zones.iter().any(is) {
            verdict = format!("{verdict}, with --zones {}", zone.name);
        }
        answer.verdict(verdict, true)
    }

    /// Takes an expired entry along the line, up to the removal.
    fn follow(&self, expired: Expired) -> End {
        let notes = Notes::default();
        let inspector = FileInspector::new(&Unlimited, &notes, probe(self.config.in_use));
        let mut end = None;
        self.locks.claim(vec![expired], &mut |claimed| {
            let looked = claimed.and_then(|claimed| inspector.inspect(claimed, self.now));
            end = Some(match looked {
                Ok(verified) => End::Removed(verified.freed().clone()),
                Err(rejected) => End::Rejected(rejected.why, rejected.newest),
            });
        });
        end.unwrap_or(End::Rejected(Rejection::Unreached, None))
    }

    /// Who holds the application's lock, if anyone does.
    fn holder(&self, zone: &Zone, relative: &Path) -> Option<String> {
        let locks = self.locks.application.as_ref();
        let locks = locks.filter(|_| zone.lock == LockKind::Application)?;
        match locks.holder(relative) {
            Ok(None) => None,
            Ok(Some(holder)) => {
                let who = if holder.is_sweeper() { "a sweeper" } else { "CVAT" };
                let Holder { token, remaining } = holder;
                let token = quoted(token.as_ref());
                Some(match remaining {
                    Some(remaining) => {
                        let secs = remaining.as_secs_f32();
                        format!("held by {who} in Redis for another {secs:.1} s (token {token})")
                    }
                    None => format!("held in Redis without an end (token {token}): delete the key"),
                })
            }
            Err(error) => Some(format!("unknown: {error}")),
        }
    }

    fn describe_lock(&self, zone: &Zone, end: &End) -> &'static str {
        let is_taken =
            zone.lock != LockKind::Unlocked && self.locks.files == crate::lock::FileLocks::Flock;
        match end {
            _ if !is_taken => "not taken",
            End::Rejected(Rejection::Skipped(Skipped::Locked), _) => "held by another process",
            End::Rejected(
                Rejection::Failed(_)
                | Rejection::NotWritten(_)
                | Rejection::NoLock(_)
                | Rejection::Unreached,
                _,
            ) => "unknown",
            End::Removed(_) | End::Rejected(Rejection::Skipped(_), _) => "free",
        }
    }

    fn add_rule(&self, answer: &mut Answer, rule: Rule, metadata: &Metadata) {
        answer.add("rule", words::describe_rule(rule));
        let used = rule.last_use.read(metadata);
        let ago = self.ago(used);
        let which = words::describe_time(rule.last_use, metadata);
        answer.add("last use", format!("{} ({ago}; {which})", units::rfc3339(used)));
    }

    fn ago(&self, moment: Moment) -> String {
        let secs = moment.age_at(self.now).as_secs();
        if secs < 0 {
            format!("{} in the future", units::coarse_secs(-secs))
        } else {
            format!("{} ago", units::coarse_secs(secs))
        }
    }

    fn describe_newest(&self, newest: Moment, ttl: Ttl) -> String {
        let at = units::rfc3339(newest.plus(ttl));
        format!("something was used {}, so it does not expire before {at}", self.ago(newest))
    }

    fn describe_expiry(&self, rule: Rule, metadata: &Metadata, ttl: Ttl) -> String {
        let at = rule.last_use.read(metadata).plus(ttl);
        let left = u64::try_from(-at.age_at(self.now).as_secs()).unwrap_or(0);
        if left == 0 {
            return format!("{} (now)", units::rfc3339(at));
        }
        let left = units::coarse(Duration::from_secs(left));
        format!("{} (in {left}), if it is not used before", units::rfc3339(at))
    }
}
