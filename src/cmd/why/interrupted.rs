//! What `sweeper why` says about a path in a private directory that an interrupted run has left.
//!
//! This module must not judge by rules of its own: a dry run says what becomes of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::pass::probe;
use super::answer::{Answer, Verdict};
use super::words::describe_skipped;
use crate::config::Config;
use crate::control::Unlimited;
use crate::dispose::DryRun;
use crate::protocol::{Directory, Disposer, Entry, Notes, OutcomeKind, Recovered, Recovery};
use crate::rules::Moment;
use crate::rules::verdict::evaluate;
use crate::rules::zone::EntryPath;

/// What a run does with the private directory `entry`, or with the part of it that `relative` leads to.
pub(super) fn explain(
    mut answer: Answer,
    config: &Config,
    directory: &Arc<Directory>,
    entry: &EntryPath,
    relative: &Path,
    now: Moment,
) -> Answer {
    answer.add("zone", directory.zone.name.as_str());
    let inside: Vec<&OsStr> =
        relative.strip_prefix(entry.path()).map(|path| path.iter().collect()).unwrap_or_default();
    let [stage, name, ..] = inside[..] else {
        let what = "a private directory of sweeper: a run moves entries here to remove them, and the \
                    next run deals with what an interrupted run has left. Ask about a path in it";
        return answer.verdict(Verdict::NeverTouched, None, what);
    };
    let mut found = None;
    let mut each = |recovered: Recovered<'_>| {
        if let Some((at, verdict)) = settled(recovered)
            && at == directory.path.join(name)
            && (verdict.0 == Verdict::Kept) == (stage == OsStr::new("check"))
        {
            found = Some(verdict);
        }
    };
    let judge = |entry: &Entry<'_>| evaluate(entry, &config.exclude, now);
    let mut recovery = Recovery::alone(&judge, &mut each);
    let notes = Notes::default();
    let disposer = DryRun::new(&Unlimited, probe(config.in_use)).noting(&notes);
    disposer.recover(directory, &entry.name, now, &mut recovery);
    if let Some((verdict, reason, text)) = found {
        return answer.verdict(verdict, reason, text);
    }
    let text = notes.of(&directory.zone.name).pop().unwrap_or_else(|| {
        "a run now would leave it alone: another run is at work in its private directory, or no \
         interrupted run has left it there"
            .to_owned()
    });
    answer.verdict(Verdict::LeftAlone, None, text)
}

/// A verdict, its reason, and what it means.
type Settled = (Verdict, Option<String>, String);

/// The path that an entry had, and what becomes of it.
fn settled(recovered: Recovered<'_>) -> Option<(PathBuf, Settled)> {
    let (directory, name, kind) = match recovered {
        Recovered::Returned(directory, name) => {
            let text = "a run now would give it its name back and judge it like any other entry";
            return Some((directory.path_of(&name), (Verdict::Kept, None, text.to_owned())));
        }
        Recovered::Settled(directory, name, kind, _) => (directory, name, kind),
        Recovered::ReturnedInPart(..) | Recovered::Unreached | Recovered::LeftAlone(_) => {
            return None;
        }
    };
    let verdict = match kind {
        OutcomeKind::Removed => {
            let text = "a run now would complete its removal, which an interrupted run began";
            (Verdict::WouldRemove, Some("expired".to_owned()), text.to_owned())
        }
        OutcomeKind::Skipped(why) => {
            let text = format!("a run now would skip it: {}", describe_skipped(why));
            (Verdict::Skipped, Some(why.key().to_owned()), text)
        }
        OutcomeKind::Failed(failure) => {
            (Verdict::Failed, None, format!("a run now would fail to {failure}"))
        }
        OutcomeKind::Kept(_) => return None,
    };
    Some((directory.path_of(name), verdict))
}
