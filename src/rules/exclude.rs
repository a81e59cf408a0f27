//! What the user asked to keep: globs on a name, or on a path if they have a `/`.
//!
//! It must not decide anything else: an excluded entry has expired and is kept all the same.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::zone::{Location, Step};

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
    /// From globs; `*` and `?` do not match a `/`. A glob with a `/` must be able to match an entry in
    /// one of `locations`.
    ///
    /// # Errors
    /// The first glob that is malformed or can match no entry, with the reason.
    pub fn new(globs: &[String], locations: &[&Location]) -> Result<Self, String> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let (mut of_names, mut of_paths) = (Vec::new(), Vec::new());
        for (index, text) in globs.iter().enumerate() {
            let plain = text.trim_start_matches("./").trim_end_matches('/');
            check_reach(plain, locations)?;
            // `tmp/keep/**` is meant for `tmp/keep`, which is judged as a whole.
            for text in [plain].into_iter().chain(plain.strip_suffix("/**")) {
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                let glob = glob.map_err(|error| format!("it is not a glob: {}", error.kind()))?;
                if text.contains('/') {
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

    /// The globs that have matched no entry since [`Self::watched`].
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        let watch = self.watch.as_deref();
        let has_not = move |index: usize| {
            watch.is_some_and(|watch| !watch.has_matched[index].load(Ordering::Relaxed))
        };
        let globs = self.globs.iter().enumerate();
        globs.filter(move |(index, _)| has_not(*index)).map(|(_, glob)| glob.as_str())
    }

    /// Remembers which globs match the entry called `name` in `dir`, expired or not.
    pub(super) fn observe(&self, dir: &Path, name: &CStr) {
        if let Some(watch) = &self.watch
            && watch.left.load(Ordering::Relaxed) > 0
        {
            self.mark(watch, dir, name);
        }
    }

    #[inline(never)]
    fn mark(&self, watch: &Watch, dir: &Path, name: &CStr) {
        let name = OsStr::from_bytes(name.to_bytes());
        let mark = |set: &GlobSet, of: &[usize], text: &Path| {
            if set.is_empty() || !set.is_match(text) {
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

/// Refuses a glob that can match no entry: it would protect nothing, and without a word.
fn check_reach(glob: &str, locations: &[&Location]) -> Result<(), String> {
    if glob.is_empty() {
        return Err("an empty glob matches nothing".to_owned());
    }
    let steps: Vec<&str> = glob.split('/').collect();
    if steps.len() == 1 {
        return Ok(());
    }
    let patterns: Vec<Vec<Step<'_>>> =
        locations.iter().flat_map(|location| location.patterns()).collect();
    if patterns.iter().any(|pattern| can_match(&steps, pattern) == Reach::Entry) {
        return Ok(());
    }
    // `tmp/keep/**` and `tmp/keep/file` both mean something that is judged as a part of `tmp/keep`.
    let inside = patterns.iter().find(|pattern| can_match(&steps, pattern) == Reach::Inside);
    match inside {
        Some(pattern) if steps.last() == Some(&"**") && steps.len() == pattern.len() + 1 => Ok(()),
        Some(pattern) => {
            let entry = steps[..pattern.len()].join("/");
            Err(format!("an entry is judged as a whole: exclude {entry:?}"))
        }
        None => {
            let mut roots: Vec<String> = Vec::new();
            for root in locations.iter().flat_map(|location| &location.roots) {
                let root = root.display().to_string();
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
            Err(format!(
                "no entry has such a path: a glob with a / is relative to the data root and begins \
                 with one of {}",
                roots.join(", ")
            ))
        }
    }
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
fn can_match(glob: &[&str], pattern: &[Step<'_>]) -> Reach {
    match (glob, pattern) {
        ([], []) => Reach::Entry,
        ([], _) => Reach::Nothing,
        (["**", rest @ ..], _) => {
            let any = (0..=pattern.len()).map(|skipped| can_match(rest, &pattern[skipped..]));
            // A `**` at the end matches the entry itself.
            any.min_by_key(|reach| *reach as u8).unwrap_or(Reach::Nothing)
        }
        (_, []) => Reach::Inside,
        ([first, glob @ ..], [step, pattern @ ..]) => {
            if step_can_match(first, step) {
                can_match(glob, pattern)
            } else {
                Reach::Nothing
            }
        }
    }
}

fn step_can_match(glob: &str, step: &Step<'_>) -> bool {
    let Step::Name(name) = step else { return true };
    // Braces may span a `/`, so such a step is not taken apart.
    if glob.contains(['{', '}']) {
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
mod tests {
    use super::super::zone::Shape;
    use super::*;

    fn exclude(globs: &[&str]) -> Result<Exclude, String> {
        let locations = [
            Location::flat("cache/export"),
            Location::flat("tmp"),
            Location { roots: vec!["tasks".into()], shape: Shape::InEach("tmp") },
        ];
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Exclude::new(&globs, &locations.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_glob_without_a_slash_is_matched_against_the_name_and_others_against_the_path() {
        let exclude = exclude(&["*.zip", "./tmp/keep-*/", "tmp/keep/**", "tasks/*/tmp/x"]).unwrap();
        for (dir, name, covered) in [
            ("cache/export", c"a.zip", true),
            ("cache/export", c"a.csv", false),
            ("tmp", c"keep-1", true),
            ("tmp", c"keep", true),
            ("tmp", c"kept", false),
            ("tasks/7/tmp", c"x", true),
            ("jobs/7/tmp", c"x", false),
        ] {
            assert_eq!(exclude.covers(Path::new(dir), name), covered, "{dir}/{name:?}");
        }
    }

    #[test]
    fn globs_that_matched_nothing_are_known() {
        let globs = ["*.zip", "tmp", "tmp/keep/**", "tasks/*/tmp/x"];
        let watched = exclude(&globs).unwrap().watched();
        assert!(watched.unmatched().eq(globs));
        watched.observe(Path::new("tmp"), c"keep");
        watched.observe(Path::new("cache/export"), c"a.zip");
        watched.observe(Path::new("cache/export"), c"b.zip");
        watched.observe(Path::new("jobs/7/tmp"), c"x");
        assert!(watched.unmatched().eq(["tmp", "tasks/*/tmp/x"]));
        assert!(watched.watched().unmatched().eq(globs), "each pass begins anew");
        assert_eq!(exclude(&globs).unwrap().unmatched().count(), 0, "it is not asked");
    }

    #[test]
    fn a_glob_that_can_match_no_entry_is_refused() {
        for glob in ["", "cache/exports/*", "data/1", "events/x", "/tmp/x", "tasks/1/x/y", "tmp/"] {
            assert_eq!(exclude(&[glob]).is_err(), glob != "tmp/", "{glob:?}");
        }
        let error = exclude(&["tmp/keep/file"]).unwrap_err();
        assert!(error.contains("exclude \"tmp/keep\""), "{error}");
        for glob in ["**/x", "t?p/x", "*/*/x", "tmp/**", "tasks/**/x", "{tmp,cache}/x"] {
            assert!(exclude(&[glob]).is_ok(), "{glob}");
        }
        assert!(exclude(&["[a"]).is_err());
    }

    #[test]
    fn a_refused_glob_is_told_each_directory_once() {
        let locations = [
            Location {
                roots: vec!["projects".into(), "tasks".into()],
                shape: Shape::InEach("tmp"),
            },
            Location {
                roots: vec!["projects".into(), "tasks".into()],
                shape: Shape::InEach("old"),
            },
            Location::flat("tmp"),
        ];
        let locations: Vec<&Location> = locations.iter().collect();
        let error = Exclude::new(&["a/b".to_owned()], &locations).unwrap_err();
        assert!(error.ends_with("begins with one of projects, tasks, tmp"), "{error}");
    }
}
