//! What the user asked to keep: globs on a name, or on a path if they have a `/`.
//!
//! This module must not decide anything else: an excluded entry has expired and is kept all the same.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::zone::{EntryKind, Location, Step, Zone};

/// The globs of `--exclude`.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    /// Matched against the name.
    names: GlobSet,
    /// Matched against the path below the data root.
    paths: GlobSet,
    /// Which of `globs` each member of the two sets is made of.
    of_names: Vec<usize>,
    of_paths: Vec<usize>,
    /// As they were given.
    globs: Vec<String>,
    /// Which of them have matched an entry, if that is to be known.
    watch: Option<Arc<Watch>>,
}

/// Which globs have matched.
#[derive(Debug)]
struct Watch {
    has_matched: Vec<AtomicBool>,
    /// How many have not.
    left: AtomicUsize,
}

impl Exclude {
    /// From globs; `*` and `?` do not match a `/`. A glob with a `/` must be able to match an entry of
    /// one of `zones`.
    ///
    /// # Errors
    /// The first glob that is malformed or can match no entry, with the reason.
    pub fn new(globs: &[String], zones: &[&Zone]) -> Result<Self, String> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let (mut of_names, mut of_paths) = (Vec::new(), Vec::new());
        for (index, text) in globs.iter().enumerate() {
            let plain = plain(text);
            check_reach(text, &plain, zones)?;
            let is_path = plain.contains('/');
            // `tmp/keep/**` is meant for `tmp/keep`, which is judged as a whole.
            for text in [&*plain].into_iter().chain(plain.strip_suffix("/**")) {
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                let glob = glob.map_err(|error| format!("it is not a glob: {}", error.kind()))?;
                if is_path {
                    paths.add(glob);
                    of_paths.push(index);
                } else {
                    names.add(glob);
                    of_names.push(index);
                }
            }
        }
        let build = |globs: &GlobSetBuilder| globs.build().map_err(|error| error.to_string());
        let (names, paths) = (build(&names)?, build(&paths)?);
        Ok(Self { names, paths, of_names, of_paths, globs: globs.to_vec(), watch: None })
    }

    /// The same globs. Which of them match an entry from now on can be asked with [`Self::unmatched`].
    #[must_use]
    pub fn watched(&self) -> Self {
        let has_matched = self.globs.iter().map(|_| AtomicBool::new(false)).collect();
        let left = AtomicUsize::new(self.globs.len());
        Self { watch: Some(Arc::new(Watch { has_matched, left })), ..self.clone() }
    }

    /// The globs, as they were given.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// The globs that have matched no entry since [`Self::watched`].
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        let watch = self.watch.as_deref();
        let has_not = move |index: usize| {
            watch.is_some_and(|watch| !watch.has_matched[index].load(Ordering::Relaxed))
        };
        let globs = self.globs.iter().enumerate();
        globs.filter(move |(index, _)| has_not(*index)).map(|(_, glob)| glob.as_str())
    }

    /// Remembers which globs match the entry of `zone` called `name` in `dir`, expired or not.
    pub(super) fn observe(&self, zone: &Zone, dir: &Path, name: &CStr) {
        if let Some(watch) = &self.watch
            && watch.left.load(Ordering::Relaxed) > 0
        {
            self.mark(watch, zone, dir, name);
        }
    }

    #[inline(never)]
    fn mark(&self, watch: &Watch, zone: &Zone, dir: &Path, name: &CStr) {
        let name = OsStr::from_bytes(name.to_bytes());
        let mark = |set: &GlobSet, of: &[usize], text: &Path| {
            // To match a directory beside the trees of a zone protects nothing.
            if set.is_empty() || !set.is_match(text) || is_beside(name.as_bytes(), zone) {
                return;
            }
            for index in set.matches(text).into_iter().map(|member| of[member]) {
                if !watch.has_matched[index].swap(true, Ordering::Relaxed) {
                    watch.left.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        mark(&self.names, &self.of_names, Path::new(name));
        if !self.paths.is_empty() {
            mark(&self.paths, &self.of_paths, &dir.join(name));
        }
    }

    /// Whether the entry called `name` in `dir` is to be kept.
    pub fn covers(&self, dir: &Path, name: &CStr) -> bool {
        let name = OsStr::from_bytes(name.to_bytes());
        (!self.names.is_empty() && self.names.is_match(name))
            || (!self.paths.is_empty() && self.paths.is_match(dir.join(name)))
    }
}

/// A glob as it is compared: as a path, in which an empty step and `.` lead nowhere.
fn plain(glob: &str) -> String {
    let steps: Vec<&str> =
        glob.split('/').filter(|step| !step.is_empty() && *step != ".").collect();
    let root = if glob.starts_with('/') { "/" } else { "" };
    format!("{root}{}", steps.join("/"))
}

/// Whether a glob is compared with names.
pub fn is_name(glob: &str) -> bool {
    !plain(glob).contains('/')
}

/// Whether a glob is compared with names, and matches only those that it spells out.
pub fn is_plain_name(glob: &str) -> bool {
    is_name(glob) && !glob.contains(['*', '?', '['])
}

/// What a glob has to do with the entries of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearing {
    /// It can match one.
    pub can_match: bool,
    /// It matches a directory that holds them, which is not an entry itself, and not everything in it.
    pub is_above: bool,
}

/// What `glob` has to do with the entries of `zone`.
pub fn bearing(glob: &str, zone: &Zone) -> Bearing {
    let glob = plain(glob);
    let steps: Vec<&str> = glob.split('/').collect();
    let patterns = zone.location.patterns();
    let can_match = if let [name] = steps[..] {
        let is_name =
            |pattern: &Vec<Step<'_>>| pattern.last().is_some_and(|last| step_can_match(name, last));
        let is_known = !is_literal(name) || zone.names.class_of(name.as_bytes()).is_some();
        is_known && patterns.iter().any(is_name)
    } else {
        patterns.iter().any(|pattern| reaches(&steps, pattern, zone) != Reach::Nothing)
    };
    let is_above = match steps[..] {
        // `tmp/**` is what is in `tmp` already.
        [.., "**"] => false,
        [name] => directory_named(name, zone).is_some(),
        _ => patterns.iter().any(|pattern| {
            (1..pattern.len()).any(|length| {
                // With `**/x`, an entry is meant, and not some directory with any name.
                let is_meant = !can_match || matches!(pattern[length - 1], Step::Name(_));
                is_meant && can_match_steps(&steps, &pattern[..length]) == Reach::Entry
            }) && !matches_all(&steps, pattern)
        }),
    };
    Bearing { can_match, is_above }
}

/// The directory on the way to the entries of `zone` that the name `glob` matches.
fn directory_named<'a>(glob: &str, zone: &'a Zone) -> Option<Vec<Step<'a>>> {
    let is_it = |step: &Step<'_>| matches!(step, Step::Name(_)) && step_can_match(glob, step);
    let find = |pattern: Vec<Step<'a>>| {
        let at = pattern[..pattern.len() - 1].iter().position(is_it)?;
        Some(pattern[..=at].to_vec())
    };
    if step_can_match(glob, &Step::Name(OsStr::new(UNLIKELY))) {
        return None;
    }
    zone.location.patterns().into_iter().find_map(find)
}

/// A name that only a glob for every name matches.
const UNLIKELY: &str = "\u{1}";

/// Whether a glob matches every path that `pattern` matches.
fn matches_all(glob: &[&str], pattern: &[Step<'_>]) -> bool {
    let unlikely = |step: &Step<'_>| match step {
        Step::Name(name) => OsString::from(name),
        Step::Any | Step::Number => UNLIKELY.into(),
    };
    let names: Vec<OsString> = pattern.iter().map(unlikely).collect();
    let path: Vec<Step<'_>> = names.iter().map(|name| Step::Name(name)).collect();
    can_match_steps(glob, &path) == Reach::Entry
}

/// What to write instead of `glob`, which matches a directory of `zone`, to keep what is in it.
pub fn all_in(glob: &str, zone: &Zone) -> String {
    let plain = plain(glob);
    let Some(steps) = directory_named(&plain, zone).filter(|_| is_name(glob)) else {
        return format!("{plain}/**");
    };
    // A glob does not begin with a `/`.
    if steps.first() == Some(&Step::Name(OsStr::new("/"))) {
        return format!("**/{plain}/**");
    }
    let (last, above) = (plain, &steps[..steps.len() - 1]);
    let above = above.iter().map(|step| match step {
        Step::Name(name) => name.to_string_lossy(),
        Step::Any | Step::Number => "*".into(),
    });
    let steps: Vec<_> = above.chain([last.into(), "**".into()]).collect();
    steps.join("/")
}

/// Refuses a glob that can match no entry: it would protect nothing, and without a word. `glob` is as it was typed.
fn check_reach(glob: &str, plain: &str, zones: &[&Zone]) -> Result<(), String> {
    if plain.is_empty() {
        return Err("it matches no entry".to_owned());
    }
    let steps: Vec<&str> = plain.split('/').collect();
    if steps.contains(&"..") {
        return Err("no path of an entry contains \"..\"".to_owned());
    }
    let above = || zones.iter().find(|zone| bearing(plain, zone).is_above);
    if steps.len() == 1 {
        // Who writes a `/` means a directory.
        return above()
            .filter(|_| glob.contains('/'))
            .map_or(Ok(()), |zone| Err(no_entry(plain, zone)));
    }
    let mut inside = None;
    for zone in zones {
        for pattern in zone.location.patterns() {
            match reaches(&steps, &pattern, zone) {
                Reach::Entry => return Ok(()),
                Reach::Inside => inside = inside.or(Some(pattern.len())),
                Reach::Nothing => {}
            }
        }
    }
    // `tmp/keep/**` and `tmp/keep/file` both mean something that is judged as a part of `tmp/keep`.
    match (inside, above()) {
        (Some(length), _) if steps.last() == Some(&"**") && steps.len() == length + 1 => Ok(()),
        (Some(length), _) => {
            let entry = steps[..length].join("/");
            Err(format!("an entry is judged as a whole: exclude {entry:?}"))
        }
        (None, Some(zone)) => Err(no_entry(plain, zone)),
        (None, None) => {
            let mut roots: Vec<String> = Vec::new();
            let all = zones.iter().flat_map(|zone| &zone.location.roots);
            for root in all.clone().filter(|root| root.is_relative()) {
                let root = root.display().to_string();
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
            let mut why =
                "no entry has such a path: a glob with a / is relative to the data root".to_owned();
            if !roots.is_empty() {
                why = format!("{why} and begins with one of {}", roots.join(", "));
            }
            if all.clone().any(|root| root.is_absolute()) {
                why.push_str("; for a zone with an absolute path, begin with **/");
            }
            Err(why)
        }
    }
}

/// Why `glob`, which matches a directory of `zone`, keeps nothing.
pub fn no_entry(glob: &str, zone: &Zone) -> String {
    let (name, all) = (&zone.name, all_in(glob, zone));
    let is_own = zone.location == Location::flat(plain(glob));
    let the = if is_own { "the" } else { "a" };
    format!("it is {the} directory of zone {name}, and not an entry: exclude {all:?}")
}

/// Compares a glob with the paths of the entries of `zone` that match `pattern`.
fn reaches(glob: &[&str], pattern: &[Step<'_>], zone: &Zone) -> Reach {
    let up_to_entry = glob.get(..pattern.len()).filter(|steps| !steps.contains(&"**"));
    let entry = up_to_entry.and_then(<[_]>::last);
    if entry.is_some_and(|name| is_literal(name) && is_beside(name.as_bytes(), zone)) {
        return Reach::Nothing;
    }
    can_match_steps(glob, pattern)
}

/// Whether `name` is not one of the trees of `zone`: others of its directories may hold entries of another zone.
fn is_beside(name: &[u8], zone: &Zone) -> bool {
    zone.entry == EntryKind::Tree && zone.names.class_of(name).is_none()
}

/// Whether a step of a glob matches nothing but itself.
fn is_literal(step: &str) -> bool {
    !step.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// What a glob can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Entry,
    /// Something in an entry, which is not judged by itself.
    Inside,
    Nothing,
}

/// Compares a glob with the pattern of the paths of entries, step by step.
fn can_match_steps(glob: &[&str], pattern: &[Step<'_>]) -> Reach {
    match (glob, pattern) {
        ([], []) => Reach::Entry,
        ([], _) => Reach::Nothing,
        (["**", rest @ ..], _) => {
            let any = (0..=pattern.len()).map(|skipped| can_match_steps(rest, &pattern[skipped..]));
            // A `**` at the end matches the entry itself.
            any.min_by_key(|reach| *reach as u8).unwrap_or(Reach::Nothing)
        }
        (_, []) => Reach::Inside,
        ([first, glob @ ..], [step, pattern @ ..]) => {
            if step_can_match(first, step) {
                can_match_steps(glob, pattern)
            } else {
                Reach::Nothing
            }
        }
    }
}

fn step_can_match(glob: &str, step: &Step<'_>) -> bool {
    let Step::Name(name) = step else { return true };
    // Braces may span a `/`, so such a step is not taken apart.
    if glob.matches('{').count() != glob.matches('}').count() {
        return true;
    }
    let matcher: Option<GlobMatcher> = GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .ok()
        .map(|glob| glob.compile_matcher());
    matcher.is_some_and(|matcher| matcher.is_match(name))
}

#[cfg(test)]
mod tests;
