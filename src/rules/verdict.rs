//! The verdict on an entry: expired, or kept and why.
//!
//! This module must not look at the file system or the clock, and no arm may call an entry expired that it does
//! not know: **unknown is kept**.

mod early;

use std::ffi::{CStr, CString};
use std::path::Path;

use super::age::{Age, MinAge, Moment};
use super::exclude::Exclude;
use super::metadata::{FileKind, Metadata};
use super::zone::{EntryKind, Expiry, LastUse, Zone};
pub use early::{NotEarly, evaluate_early};

/// An entry that was found in a directory of type `D`, which the rules never look into.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a, D> {
    /// The zone whose rule applies.
    pub zone: &'a Zone,
    /// The directory that holds it.
    pub directory: &'a D,
    /// The path of that directory, relative to the data root.
    pub dir: &'a Path,
    /// Its name there: any bytes.
    pub name: &'a CStr,
    /// What is known about it.
    pub metadata: Metadata,
}

/// The rule that judges an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which time is its last use.
    pub last_use: LastUse,
    /// When it expires.
    pub expiry: Expiry,
    /// Its file system is too full: it may be removed before it expires, when it is older than this.
    pub early: Option<MinAge>,
}

impl Rule {
    /// The rule of `zone` for this entry.
    ///
    /// # Errors
    /// It has none, so it is kept.
    #[inline]
    pub fn of(zone: &Zone, name: &CStr, metadata: &Metadata) -> Result<Self, KeptReason> {
        if metadata.is_mount_point {
            return Err(KeptReason::MountPoint);
        }
        match (zone.entry, metadata.kind) {
            (EntryKind::Any, _)
            | (EntryKind::File, FileKind::File)
            | (EntryKind::Tree, FileKind::Dir) => {}
            (EntryKind::File, _) => return Err(KeptReason::NotAFile),
            (EntryKind::Tree, _) => return Err(KeptReason::Unrecognized),
        }
        let class = zone.names.class_of(name.to_bytes()).ok_or(KeptReason::Unrecognized)?;
        let expiry = *zone.ttls.get(class.0).ok_or(KeptReason::Unrecognized)?;
        Ok(Self { last_use: zone.last_use, expiry, early: None })
    }

    /// Whether an entry last used at `used` has expired at `now`, or may be removed early.
    pub fn is_expired(&self, used: Moment, now: Moment) -> bool {
        let age = used.age_at(now);
        match (self.early, self.expiry) {
            (Some(least), _) => least.ttl().is_exceeded_by(age),
            (None, Expiry::AtOnce) => true,
            (None, Expiry::After(ttl)) => ttl.is_exceeded_by(age),
        }
    }

    /// Whether a member of a tree protects the whole tree. A use after `now` does so even under a rule that
    /// looks at the top entry alone. Under one that asks for no age, no time matters. What is removed early has no
    /// young member.
    pub fn is_protected_by(&self, member: &Metadata, now: Moment) -> bool {
        if self.expiry == Expiry::AtOnce && self.early.is_none() {
            return false;
        }
        let last_use = match self.last_use {
            LastUse::Entry => LastUse::Tree,
            other @ (LastUse::Mtime | LastUse::Atime | LastUse::Tree) => other,
        };
        let used = last_use.read(member, now);
        let counts = self.last_use != LastUse::Entry || self.early.is_some();
        used > now || (counts && !self.is_expired(used, now))
    }
}

/// Why an entry is kept. Decided by the first look; nothing was locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeptReason {
    /// It has not expired yet.
    Fresh,
    /// The zone does not recognize its name, or expects a directory.
    Unrecognized,
    /// It is a link, a directory or a special file in a zone of files.
    NotAFile,
    /// It has expired, but `--exclude` covers it.
    Excluded,
    /// It is a mount point.
    MountPoint,
    /// It is published: people rely on it.
    Published,
    /// Something that stays refers to it, or is based on it.
    Referenced,
    /// It is one of the newest, which the user asked to keep.
    Newest,
    /// The server that it is on refuses to delete it.
    Refused,
    /// It is not ours to delete.
    NotOurs,
    /// The server that it is on deletes it later, by itself.
    LeftToServer,
}

impl KeptReason {
    /// Every reason, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Fresh,
        Self::Unrecognized,
        Self::NotAFile,
        Self::Excluded,
        Self::MountPoint,
        Self::Published,
        Self::Referenced,
        Self::Newest,
        Self::Refused,
        Self::NotOurs,
        Self::LeftToServer,
    ];

    /// Whether every zone can have it. The others are reported only where they occur: entries that are not
    /// in a file system have them.
    pub const fn is_common(self) -> bool {
        matches!(
            self,
            Self::Fresh | Self::Unrecognized | Self::NotAFile | Self::Excluded | Self::MountPoint
        )
    }

    /// The name of the reason in reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Unrecognized => "unrecognized",
            Self::NotAFile => "not_a_file",
            Self::Excluded => "excluded",
            Self::MountPoint => "mount_point",
            Self::Published => "published",
            Self::Referenced => "referenced",
            Self::Newest => "newest",
            Self::Refused => "refused",
            Self::NotOurs => "not_ours",
            Self::LeftToServer => "left_to_server",
        }
    }
}

/// The verdict on an entry that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Why.
    pub why: KeptReason,
    /// Its age, where a rule asks for one.
    pub age: Option<Age>,
    /// That rule.
    pub rule: Option<Rule>,
}

/// The verdict on an entry that has expired, as far as the first look can tell.
///
/// Only [`evaluate`] makes one:
/// ```compile_fail
/// use retention_sweeper::rules::Expired;
/// let forged: Expired<()> = Expired { directory: (), name: c"task-1".to_owned() };
/// ```
#[derive(Debug)]
pub struct Expired<D> {
    directory: D,
    name: CString,
    metadata: Metadata,
    rule: Rule,
    age: Age,
}

impl<D> Expired<D> {
    /// The directory that holds it.
    pub const fn directory(&self) -> &D {
        &self.directory
    }

    /// Its name there.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// What is known about it.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The rule that it has outlived.
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// The time since its last use.
    pub const fn age(&self) -> Age {
        self.age
    }

    /// Judges it again on newer metadata, by the same rule. The rule is not chosen anew: the zone and
    /// the name are the same, and another type of file is refused.
    ///
    /// # Errors
    /// Why it is kept, with the entry as it was.
    pub fn evaluate_again(
        self,
        metadata: Metadata,
        now: Moment,
    ) -> Result<Self, (Self, KeptReason)> {
        let used = self.rule.last_use.read(&metadata, now);
        if metadata.is_mount_point {
            Err((self, KeptReason::MountPoint))
        } else if metadata.kind != self.metadata.kind {
            Err((self, KeptReason::NotAFile))
        } else if !self.rule.is_expired(used, now) {
            Err((self, KeptReason::Fresh))
        } else {
            Ok(Self { metadata, age: used.age_at(now), ..self })
        }
    }
}

/// Judges an entry at `now`. Inlined: a verdict is large, and most entries are kept.
///
/// # Errors
/// [`Kept`] with the reason.
#[inline(always)]
pub fn evaluate<D: Clone>(
    entry: &Entry<'_, D>,
    exclude: &Exclude,
    now: Moment,
) -> Result<Expired<D>, Kept> {
    let Entry { zone, directory, dir, name, ref metadata } = *entry;
    exclude.observe(zone, dir, name);
    let rule = Rule::of(zone, name, metadata).map_err(|why| Kept { why, age: None, rule: None })?;
    let used = rule.last_use.read(metadata, now);
    let age = used.age_at(now);
    let kept = |why| Kept { why, age: Some(age), rule: Some(rule) };
    if !rule.is_expired(used, now) {
        return Err(kept(KeptReason::Fresh));
    }
    // Last, so that the count says what the user's own globs have kept.
    if exclude.covers(dir, name) {
        return Err(kept(KeptReason::Excluded));
    }
    let (directory, name, metadata) = (directory.clone(), name.to_owned(), *metadata);
    Ok(Expired { directory, name, metadata, rule, age })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::names::{Class, Names, Patterns};
    use super::super::zone::{Location, LockKind, ZoneName};
    use super::super::{Bytes, FileId, Ttl};
    use super::*;

    pub(in super::super) const NOW: Moment = Moment::from_unix(1_000_000, 0);

    pub(crate) fn zone(entry: EntryKind, names: Names, last_use: LastUse, expiry: Expiry) -> Zone {
        Zone {
            name: ZoneName::new("z"),
            location: Location::flat("z"),
            entry,
            names,
            last_use,
            ttls: vec![expiry],
            lock: LockKind::Flock,
            describe_name: |_| None,
        }
    }

    pub(crate) fn metadata(kind: FileKind, age: i64) -> Metadata {
        let moment = Moment::from_unix(1_000_000 - age, 0);
        Metadata {
            kind,
            id: FileId { dev: 1, ino: 1 },
            is_mount_point: false,
            atime: moment,
            mtime: moment,
            ctime: moment,
            links: 1,
            size: Bytes(0),
            allocated: Bytes(0),
            newest_inside: None,
        }
    }

    fn judge(
        zone: &Zone,
        name: &CStr,
        metadata: Metadata,
        exclude: &Exclude,
    ) -> Result<(), KeptReason> {
        let entry = Entry { zone, directory: &(), dir: Path::new("z"), name, metadata };
        evaluate(&entry, exclude, NOW).map(drop).map_err(|kept| kept.why)
    }

    pub(super) const TEN: Expiry = Expiry::After(Ttl::from_secs(10));

    #[test]
    fn only_what_the_zone_expects_and_recognizes_expires() {
        let none = Exclude::default();
        let names = Names::Patterns(Patterns::new(&["a.*"]).unwrap());
        let files = zone(EntryKind::File, names, LastUse::Mtime, TEN);
        let old = |kind| metadata(kind, 11);
        assert_eq!(judge(&files, c"a1", old(FileKind::File), &none), Ok(()));
        assert_eq!(
            judge(&files, c"a1", metadata(FileKind::File, 10), &none),
            Err(KeptReason::Fresh)
        );
        assert_eq!(judge(&files, c"b", old(FileKind::File), &none), Err(KeptReason::Unrecognized));
        for kind in [FileKind::Dir, FileKind::Symlink, FileKind::Special] {
            assert_eq!(judge(&files, c"a1", old(kind), &none), Err(KeptReason::NotAFile));
        }
        let trees = zone(EntryKind::Tree, Names::Any, LastUse::Tree, TEN);
        assert_eq!(judge(&trees, c"x", old(FileKind::Dir), &none), Ok(()));
        for kind in [FileKind::File, FileKind::Symlink, FileKind::Special] {
            assert_eq!(judge(&trees, c"x", old(kind), &none), Err(KeptReason::Unrecognized));
        }
        let any = zone(EntryKind::Any, Names::Any, LastUse::Tree, TEN);
        for kind in [FileKind::File, FileKind::Dir, FileKind::Symlink, FileKind::Special] {
            assert_eq!(judge(&any, c"x", old(kind), &none), Ok(()));
        }
        let mounted = Metadata { is_mount_point: true, ..old(FileKind::Dir) };
        assert_eq!(judge(&any, c"x", mounted, &none), Err(KeptReason::MountPoint));
    }

    #[test]
    fn a_class_without_a_ttl_is_kept() {
        let names = Names::Parsed(|name| Some(Class(usize::from(name != b"first"))));
        let zone = zone(EntryKind::Any, names, LastUse::Mtime, Expiry::AtOnce);
        let none = Exclude::default();
        assert_eq!(judge(&zone, c"first", metadata(FileKind::File, 0), &none), Ok(()));
        let second = judge(&zone, c"second", metadata(FileKind::File, 0), &none);
        assert_eq!(second, Err(KeptReason::Unrecognized));
    }

    #[test]
    fn an_excluded_entry_counts_as_excluded_only_when_it_has_expired() {
        let zone = zone(EntryKind::Any, Names::Any, LastUse::Mtime, TEN);
        let exclude = Exclude::new(&["keep*".to_owned()], &[]).unwrap();
        let judge = |age| judge(&zone, c"keep1", metadata(FileKind::File, age), &exclude);
        assert_eq!((judge(11), judge(9)), (Err(KeptReason::Excluded), Err(KeptReason::Fresh)));
    }

    #[test]
    fn the_second_verdict_refuses_what_has_changed() {
        let zone = zone(EntryKind::Any, Names::Any, LastUse::Mtime, TEN);
        let again = |newer: Metadata| {
            let metadata = metadata(FileKind::File, 11);
            let entry =
                Entry { zone: &zone, directory: &(), dir: Path::new("z"), name: c"x", metadata };
            let expired = evaluate(&entry, &Exclude::default(), NOW).unwrap();
            expired.evaluate_again(newer, NOW).map(drop).map_err(|(_, why)| why)
        };
        assert_eq!(again(metadata(FileKind::File, 12)), Ok(()));
        assert_eq!(again(metadata(FileKind::File, 1)), Err(KeptReason::Fresh));
        assert_eq!(again(metadata(FileKind::Dir, 12)), Err(KeptReason::NotAFile));
        let mounted = Metadata { is_mount_point: true, ..metadata(FileKind::File, 12) };
        assert_eq!(again(mounted), Err(KeptReason::MountPoint));
    }

    #[test]
    fn a_use_after_now_protects_a_tree_unless_no_age_is_asked_for() {
        let future = metadata(FileKind::File, -1);
        for last_use in [LastUse::Mtime, LastUse::Atime, LastUse::Tree, LastUse::Entry] {
            for (expiry, protects) in [(Expiry::AtOnce, false), (TEN, true)] {
                let rule = Rule { last_use, expiry, early: None };
                assert_eq!(rule.is_protected_by(&future, NOW), protects, "{rule:?}");
                assert!(!rule.is_protected_by(&metadata(FileKind::File, 11), NOW), "{rule:?}");
            }
        }
        let entry = Rule { last_use: LastUse::Entry, expiry: TEN, early: None };
        assert!(!entry.is_protected_by(&metadata(FileKind::File, 1), NOW), "the top decides");
    }
}
