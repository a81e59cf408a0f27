//! The verdict on an entry of a file system that is too full: whether it may be removed before it
//! expires.
//!
//! This module must not allow more than [`super::evaluate`] does in time: a name that is not recognized, a mount point
//! and what is excluded are kept. Every later look asks the same rule again, with the minimum age instead of the time
//! to live.

use super::{Entry, Expired, KeptReason, Rule};
use crate::rules::age::{MinAge, Moment};
use crate::rules::exclude::Exclude;
use crate::rules::metadata::{FileKind, Metadata};
use crate::rules::zone::LastUse;

/// Why an entry is not removed early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEarly {
    /// It was used too recently.
    Young,
    /// The rules keep it at any age, or the user does.
    Kept(KeptReason),
    /// It had expired already when the zone was swept, and is still there.
    Left,
}

/// Whether an entry that had not expired at `swept`, when its zone was swept, may be removed at `now`. It must be older
/// than `min_age`. A directory that was not walked may turn out to be younger, and is to be asked about with
/// [`Expired::is_early`] once it was.
///
/// # Errors
/// Why not.
pub fn evaluate_early<D: Clone>(
    entry: &Entry<'_, D>,
    exclude: &Exclude,
    min_age: MinAge,
    swept: Moment,
    now: Moment,
) -> Result<Expired<D>, NotEarly> {
    let Entry { zone, directory, dir, name, ref metadata } = *entry;
    let rule = Rule::of(zone, name, metadata).map_err(NotEarly::Kept)?;
    if !is_walked(rule, metadata) && had_expired(rule, metadata, swept) {
        return Err(NotEarly::Left);
    }
    let rule = Rule { early: Some(min_age), ..rule };
    let used = rule.last_use.read(metadata, now);
    if !rule.is_expired(used, now) {
        return Err(NotEarly::Young);
    }
    if exclude.covers(dir, name) {
        return Err(NotEarly::Kept(KeptReason::Excluded));
    }
    let (directory, name, metadata) = (directory.clone(), name.to_owned(), *metadata);
    Ok(Expired { directory, name, metadata, rule, age: used.age_at(now) })
}

impl<D> Expired<D> {
    /// Whether it had not expired at `swept`, by all that is known of it. Then the pass has left it alone.
    pub fn is_early(&self, swept: Moment) -> bool {
        !had_expired(Rule { early: None, ..self.rule }, &self.metadata, swept)
    }

    /// Whether only what is in it kept it from expiring: then the pass has skipped it, and not kept it.
    pub fn is_kept_by_its_content(&self, swept: Moment) -> bool {
        let own = Metadata { newest_inside: None, ..self.metadata };
        had_expired(Rule { early: None, ..self.rule }, &own, swept)
    }

    /// When it was last used, as far as is known.
    pub fn last_used(&self, now: Moment) -> Moment {
        self.rule.last_use.read(&self.metadata, now)
    }
}

/// Whether what is in an entry decides, too.
fn is_walked(rule: Rule, metadata: &Metadata) -> bool {
    metadata.kind == FileKind::Dir && rule.last_use != LastUse::Entry
}

fn had_expired(rule: Rule, metadata: &Metadata, swept: Moment) -> bool {
    rule.is_expired(rule.last_use.read(metadata, swept), swept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{NOW, TEN, metadata, zone};
    use super::*;
    use crate::rules::{EntryKind, Expiry, Names};

    fn three() -> MinAge {
        MinAge::from_duration(std::time::Duration::from_secs(3))
    }

    fn judge(
        kind: FileKind,
        age: i64,
        last_use: LastUse,
        expiry: Expiry,
    ) -> Result<Expired<()>, NotEarly> {
        let zone = zone(EntryKind::Any, Names::Any, last_use, expiry);
        let metadata = metadata(kind, age);
        let entry =
            Entry { zone: &zone, directory: &(), dir: Path::new("z"), name: c"a", metadata };
        evaluate_early(&entry, &Exclude::default(), three(), NOW, NOW)
    }

    #[test]
    fn only_what_is_old_enough_and_has_not_expired_goes_early() {
        let file = |age| judge(FileKind::File, age, LastUse::Mtime, TEN).map(drop);
        assert_eq!(file(-1), Err(NotEarly::Young));
        assert_eq!(file(3), Err(NotEarly::Young), "an equal age is not enough");
        assert_eq!((file(4), file(10)), (Ok(()), Ok(())));
        assert_eq!(file(11), Err(NotEarly::Left));
        let at_once = judge(FileKind::File, 4, LastUse::Mtime, Expiry::AtOnce).map(drop);
        assert_eq!(at_once, Err(NotEarly::Left));
    }

    #[test]
    fn unknown_and_excluded_entries_stay_under_pressure() {
        let names = Names::Patterns(crate::rules::names::Patterns::new(&["a.?"]).unwrap());
        let zone = zone(EntryKind::File, names, LastUse::Mtime, TEN);
        let exclude = Exclude::new(&["ab*".to_owned()], &[&zone]).unwrap();
        let judge = |name, metadata| {
            let dir = Path::new("z");
            let entry = Entry { zone: &zone, directory: &(), dir, name, metadata };
            evaluate_early(&entry, &exclude, three(), NOW, NOW).map(drop)
        };
        let kept = |why| Err(NotEarly::Kept(why));
        let file = metadata(FileKind::File, 5);
        assert_eq!(judge(c"a", file), Ok(()));
        assert_eq!(judge(c"b", file), kept(KeptReason::Unrecognized));
        assert_eq!(judge(c"ab", file), kept(KeptReason::Excluded));
        assert_eq!(judge(c"a", metadata(FileKind::Symlink, 5)), kept(KeptReason::NotAFile));
        let mounted = Metadata { is_mount_point: true, ..file };
        assert_eq!(judge(c"a", mounted), kept(KeptReason::MountPoint));
    }

    #[test]
    fn the_second_verdict_asks_for_the_least_age_again() {
        let file = || judge(FileKind::File, 8, LastUse::Mtime, TEN).unwrap();
        let again = |age| file().evaluate_again(metadata(FileKind::File, age), NOW).map(drop);
        assert!(again(4).is_ok());
        assert_eq!(again(2).map_err(|(_, why)| why), Err(KeptReason::Fresh));
    }

    #[test]
    fn a_young_member_protects_a_tree_whatever_counts_as_its_last_use() {
        for last_use in [LastUse::Mtime, LastUse::Tree, LastUse::Entry] {
            let rule = judge(FileKind::Dir, 8, last_use, TEN).unwrap().rule();
            assert!(rule.is_protected_by(&metadata(FileKind::File, 2), NOW), "{last_use:?}");
            assert!(!rule.is_protected_by(&metadata(FileKind::File, 4), NOW), "{last_use:?}");
        }
    }

    #[test]
    fn a_directory_is_judged_by_what_is_in_it() {
        let inside = |age: i64| {
            let mut tree = judge(FileKind::Dir, 20, LastUse::Tree, TEN).unwrap();
            tree.metadata.newest_inside = Some(Moment::from_unix(1_000_000 - age, 0));
            tree
        };
        assert!(inside(5).is_early(NOW) && inside(5).is_kept_by_its_content(NOW));
        assert!(!inside(15).is_early(NOW), "all of it had expired");
        let top = judge(FileKind::Dir, 20, LastUse::Entry, TEN).map(drop);
        assert_eq!(top, Err(NotEarly::Left), "its own time decides");
    }
}
