//! The rules as a table, and the one function that applies them.
//!
//! It must not look at the disk or the clock, and no arm of it may call something stale that it
//! does not know: **unknown is kept**.
//!
//! | Zone | Kinds | Names | Used | Goes when unused for |
//! |---|---|---|---|---|
//! | export | regular files | what CVAT writes | mtime | the class's TTL |
//! | tmp, instance-tmp | all | all | newest use in it, or its own atime | the retention |
//! | legacy | directories | all that the old layouts name | newest use in it | `older_than`, or at once |
//!
//! mtime is last use in the export cache because CVAT sets it when a cached export is asked for
//! again (`os.utime`, since 2.24.0).

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::age::{Age, Moment, Ttl};
use super::name::{Class, ExportName};
use super::sighting::{Facts, Kind, Sighting, Zone};

/// How long each class of export may stay unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportTtls {
    /// Exports of projects.
    pub project: Ttl,
    /// Exports of tasks.
    pub task: Ttl,
    /// Exports of jobs.
    pub job: Ttl,
    /// Tables of audit events.
    pub events: Ttl,
}

impl ExportTtls {
    /// The same for every class.
    pub const fn all(ttl: Ttl) -> Self {
        Self { project: ttl, task: ttl, job: ttl, events: ttl }
    }

    const fn of(&self, class: Class) -> Ttl {
        match class {
            Class::Project => self.project,
            Class::Task => self.task,
            Class::Job => self.job,
            Class::Events => self.events,
        }
    }
}

/// Which time says when a temporary entry was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmpAge {
    /// The newest use of anything in it.
    Tree,
    /// The entry's own atime, as CVAT's cleaner has it.
    Entry,
}

/// What the user asked to keep: globs on a name, or on a path below the volume if they have a `/`.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    /// Matched against the name.
    names: GlobSet,
    /// Matched against the path relative to the volume.
    paths: GlobSet,
}

impl Exclude {
    /// From globs; `*` and `?` do not match a `/`.
    ///
    /// # Errors
    /// What is wrong with the first that is no glob.
    pub fn of(globs: &[String]) -> Result<Self, String> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let plain = text.trim_start_matches("./").trim_end_matches('/');
            check_reach(plain)?;
            // `tmp/keep/**` is meant for `tmp/keep`, which is judged as a whole.
            for text in [plain].into_iter().chain(plain.strip_suffix("/**")) {
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                let glob = glob.map_err(|error| error.to_string())?;
                if text.contains('/') {
                    paths.add(glob)
                } else {
                    names.add(glob)
                };
            }
        }
        let build = |globs: &GlobSetBuilder| globs.build().map_err(|error| error.to_string());
        Ok(Self { names: build(&names)?, paths: build(&paths)? })
    }

    fn covers(&self, dir: &Path, name: &CStr) -> bool {
        let name = OsStr::from_bytes(name.to_bytes());
        (!self.names.is_empty() && self.names.is_match(name))
            || (!self.paths.is_empty() && self.paths.is_match(dir.join(name)))
    }
}

/// Refuses a glob that can match no entry, and so would protect nothing without a word.
fn check_reach(glob: &str) -> Result<(), String> {
    if glob.is_empty() {
        return Err("an empty glob matches nothing".to_owned());
    }
    let steps: Vec<&str> = glob.split('/').collect();
    if steps.len() == 1 || steps.contains(&"**") {
        return Ok(());
    }
    // How deep the entries of each zone lie below the data root.
    let deepest = match steps[0] {
        "tmp" => 2,
        "cache" => 3,
        "projects" | "tasks" | "jobs" => 4,
        first if first.contains(['*', '?', '[', '{']) => 4,
        _ => {
            let why = "no entry has such a path: a glob with a / is relative to the data root and \
                       begins with cache/export, tmp, projects, tasks or jobs";
            return Err(why.to_owned());
        }
    };
    if steps.len() > deepest {
        let unit = steps[..deepest].join("/");
        return Err(format!("entries are judged as a whole: exclude {unit:?}"));
    }
    Ok(())
}

/// The rules of one pass.
#[derive(Debug, Clone)]
pub struct Policy {
    /// For the export cache.
    pub export: ExportTtls,
    /// For temporary entries.
    pub retention: Ttl,
    /// What last use means for temporary entries.
    pub tmp_age: TmpAge,
    /// For old caches: how long their newest content must have been unused; `None` asks for no age.
    pub older_than: Option<Ttl>,
    /// What the user asked to keep.
    pub exclude: Exclude,
}

/// Which of an entry's times says when it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The file's mtime.
    Mtime,
    /// The newest of: atime and mtime of what is not a directory, mtime of what is.
    NewestUse,
    /// The entry's own atime.
    OwnAtime,
}

impl Clock {
    /// When something was last used, as far as `facts` tell. For a directory that was not walked
    /// this is a lower bound: what lies in it can only make it younger.
    pub fn read(self, facts: &Facts) -> Moment {
        match self {
            Self::Mtime => facts.mtime,
            Self::OwnAtime => facts.atime,
            Self::NewestUse => {
                let own = if facts.kind == Kind::Dir {
                    facts.mtime
                } else {
                    facts.atime.max(facts.mtime)
                };
                facts.newest_inside.map_or(own, |inside| own.max(inside))
            }
        }
    }
}

/// When an entry goes: which time counts and how old it must be. `ttl: None` asks for no age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which time says when it was used.
    pub clock: Clock,
    /// How long it may stay unused; `None`: it goes whatever its age.
    pub ttl: Option<Ttl>,
}

impl Limit {
    /// The rule of the table that applies to `facts`, or the reason why none does.
    fn of(policy: &Policy, zone: Zone, name: &CStr, facts: &Facts) -> Result<Self, KeptBy> {
        if facts.mounted {
            return Err(KeptBy::Mounted);
        }
        match zone {
            Zone::Export => {
                if facts.kind != Kind::File {
                    return Err(KeptBy::NotAFile);
                }
                let class = ExportName::classify(name.to_bytes()).ok_or(KeptBy::Unrecognized)?;
                Ok(Self { clock: Clock::Mtime, ttl: Some(policy.export.of(class)) })
            }
            // The file system's own, where a zone is the root of one.
            Zone::Tmp | Zone::InstanceTmp if name == c"lost+found" => Err(KeptBy::Unrecognized),
            Zone::Tmp | Zone::InstanceTmp => {
                let clock = match policy.tmp_age {
                    TmpAge::Tree => Clock::NewestUse,
                    TmpAge::Entry => Clock::OwnAtime,
                };
                Ok(Self { clock, ttl: Some(policy.retention) })
            }
            Zone::Legacy => {
                // A link or a file in that spot is not the directory that old CVAT made.
                if facts.kind != Kind::Dir {
                    return Err(KeptBy::Unrecognized);
                }
                Ok(Self { clock: Clock::NewestUse, ttl: policy.older_than })
            }
        }
    }

    /// Whether something last used at `used` may go at `now`.
    pub fn is_past(&self, used: Moment, now: Moment) -> bool {
        self.ttl.is_none_or(|ttl| ttl.is_exceeded_by(used.age_at(now)))
    }

    /// Whether these facts of something in a tree keep the whole of it from going. What was used after
    /// `now` does so under every rule, those included that ask for no age or for the top entry's alone.
    pub fn is_fresh(&self, facts: &Facts, now: Moment) -> bool {
        let used = Clock::NewestUse.read(facts);
        used > now || (self.clock != Clock::OwnAtime && !self.is_past(used, now))
    }
}

/// Why an entry stays: decided at the first look, nothing was locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeptBy {
    /// It has not been unused for long enough.
    Fresh,
    /// Its name is not one that this zone's writers give.
    Unrecognized,
    /// It is a link, a directory or something else where only files are written.
    NotAFile,
    /// It would go, but `--exclude` covers it.
    Excluded,
    /// Something is mounted there.
    Mounted,
}

impl KeptBy {
    /// Every reason, in the order of the report.
    pub const ALL: [Self; 5] =
        [Self::Fresh, Self::Unrecognized, Self::NotAFile, Self::Excluded, Self::Mounted];

    /// The reason's name in the report.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Unrecognized => "unrecognized",
            Self::NotAFile => "not_a_file",
            Self::Excluded => "excluded",
            Self::Mounted => "mounted",
        }
    }
}

/// The verdict on an entry that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Why.
    pub why: KeptBy,
    /// How long it has been unused, where a rule asks.
    pub age: Option<Age>,
    /// That rule.
    pub limit: Option<Limit>,
}

/// The verdict on an entry that has expired, as far as the first look can tell.
///
/// Only [`Policy`] makes one:
/// ```compile_fail
/// use retention_sweeper::retention::Stale;
/// let forged: Stale<()> = Stale { place: (), name: c"task-1".to_owned() };
/// ```
#[derive(Debug)]
pub struct Stale<P> {
    zone: Zone,
    place: P,
    name: CString,
    facts: Facts,
    limit: Limit,
    age: Age,
}

impl<P> Stale<P> {
    /// The zone it was judged in.
    pub const fn zone(&self) -> Zone {
        self.zone
    }

    /// Where it was seen.
    pub const fn place(&self) -> &P {
        &self.place
    }

    /// Its name there.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// What was seen of it.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The rule it has outlived.
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// How long it has been unused.
    pub const fn age(&self) -> Age {
        self.age
    }

    /// Judges it once more, on newer facts, by the rule that it had outlived. What chose that rule and
    /// what the user asked to keep go by zone, name and kind, and these are the same: reading the name
    /// once more was 4 of 100 parts of a sweep.
    ///
    /// # Errors
    /// Why it stays, beside the entry as it was.
    pub fn judge_again(self, facts: Facts, now: Moment) -> Result<Self, (Self, KeptBy)> {
        let used = self.limit.clock.read(&facts);
        if facts.mounted {
            Err((self, KeptBy::Mounted))
        } else if facts.kind != self.facts.kind {
            Err((self, KeptBy::NotAFile))
        } else if !self.limit.is_past(used, now) {
            Err((self, KeptBy::Fresh))
        } else {
            Ok(Self { facts, age: used.age_at(now), ..self })
        }
    }
}

impl Policy {
    /// Judges one sighting at `now`.
    ///
    /// # Errors
    /// [`Kept`] when it stays, with the reason.
    pub fn judge<P: Clone>(
        &self,
        sighting: &Sighting<'_, P>,
        now: Moment,
    ) -> Result<Stale<P>, Kept> {
        let Sighting { zone, place, dir, name, ref facts } = *sighting;
        let none = |why| Kept { why, age: None, limit: None };
        let limit = Limit::of(self, zone, name, facts).map_err(none)?;
        let used = limit.clock.read(facts);
        let age = used.age_at(now);
        let kept = |why| Kept { why, age: Some(age), limit: Some(limit) };
        if !limit.is_past(used, now) {
            return Err(kept(KeptBy::Fresh));
        }
        // Last, so that the count says what would have gone but for the user's word.
        if self.exclude.covers(dir, name) {
            return Err(kept(KeptBy::Excluded));
        }
        let (place, name, facts) = (place.clone(), name.to_owned(), *facts);
        Ok(Stale { zone, place, name, facts, limit, age })
    }
}
