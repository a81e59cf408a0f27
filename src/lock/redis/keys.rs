//! The names of CVAT's locks, and the tokens of ours.
//!
//! This module must not resolve links or read the file system: a key contains the path exactly as CVAT writes it.
//! A key that is written differently locks nothing, and no error shows it.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The beginning of every key: pottery's prefix, then CVAT's.
pub(super) const KEY: &[u8] = b"redlock:export_lock:";

/// The data root as CVAT sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    root: PathBuf,
    certainty: Certainty,
}

/// How certain it is that CVAT writes its paths so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// It is one of the paths at which CVAT is known to see its data root.
    Known,
    /// The user set it.
    Given,
    /// It is the path at which we see the data.
    Guess,
}

impl Prefix {
    /// The root that the user set.
    pub fn given(root: &Path) -> Self {
        Self { root: as_pathlib(root), certainty: Certainty::Given }
    }

    /// Our own data root, which CVAT may see at another path. `known` are the paths at which it is known to
    /// see its data root, as they are in CVAT's settings.
    pub fn guessed(data_root: &Path, known: &[PathBuf]) -> Self {
        let full = |path: &Path| {
            let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            // A `//` at the beginning leads to the same place.
            Path::new("/").join(as_pathlib(&full).strip_prefix("/").unwrap_or(&full))
        };
        let root = full(data_root);
        match known.iter().find(|known| full(known) == root) {
            Some(known) => Self { root: as_pathlib(known), certainty: Certainty::Known },
            None => Self { root: as_pathlib(&root), certainty: Certainty::Guess },
        }
    }

    /// Whether CVAT may see the data at another path.
    pub fn is_guess(&self) -> bool {
        self.certainty == Certainty::Guess
    }

    /// Whether it is certain that CVAT writes its paths so.
    pub(super) fn is_known(&self) -> bool {
        self.certainty == Certainty::Known
    }

    /// As text, for messages.
    pub fn shown(&self) -> String {
        format!("{:?}", self.root)
    }

    /// The key of the entry `name` in `dir`, which is relative to the data root.
    pub(super) fn key(&self, dir: &Path, name: &CStr) -> Vec<u8> {
        self.key_of(&dir.join(OsStr::from_bytes(name.to_bytes())))
    }

    /// The key of a path relative to the data root.
    pub(super) fn key_of(&self, path: &Path) -> Vec<u8> {
        let path = self.root.join(path);
        [KEY, path.as_os_str().as_bytes()].concat()
    }

    /// Whether it is the key of a path below this root.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        path_of(key).is_some_and(|path| path.starts_with(&self.root))
    }

    /// The directory that existing locks are for, if there are any and none of them is below this root.
    pub(super) fn contradicted_by(&self, live: &[Vec<u8>]) -> Option<String> {
        if live.iter().any(|key| self.has(key)) {
            return None;
        }
        let first = live.iter().find_map(|key| path_of(key))?;
        Some(format!("{:?}", first.parent().unwrap_or(first)))
    }
}

/// The path in a key.
fn path_of(key: &[u8]) -> Option<&Path> {
    key.strip_prefix(KEY).map(|path| Path::new(OsStr::from_bytes(path)))
}

/// A path as Python's pathlib writes it, with which CVAT makes its paths: without `.`, repeated slashes and a
/// slash at the end; `..` stays, and so do exactly two slashes at the beginning. Links are not resolved.
fn as_pathlib(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let slashes = bytes.iter().take_while(|byte| **byte == b'/').count();
    let start: &[u8] = match slashes {
        0 => b"",
        2 => b"//",
        _ => b"/",
    };
    let steps: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'/')
        .filter(|step| !step.is_empty() && *step != b".")
        .collect();
    PathBuf::from(OsString::from_vec([start, &steps.join(&b'/')[..]].concat()))
}

/// The beginning of our tokens, so that people can tell who holds a lock.
pub(super) const TOKEN_PREFIX: &str = "sw-";

/// A unique token: 128 random bits of this process, and a number. Redis embeds strings of up to 44 bytes in
/// their object, without a second allocation.
pub(super) fn token() -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| {
        let mut bits = [0_u8; 16];
        // It does not fail for 16 bytes on Linux 3.17 and newer. If it does, the process id still tells two
        // sweepers on one machine apart.
        if rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty()).is_err() {
            bits[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        }
        bits.iter().fold(TOKEN_PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_byte_exact() {
        let key = |root: &str| {
            let key = Prefix::given(Path::new(root)).key(Path::new("cache/export"), c"a-b.zip");
            String::from_utf8(key).unwrap()
        };
        // The expected roots are those that pathlib prints.
        for (root, expected) in [
            ("/home/django/data", "/home/django/data"),
            ("/home/django/data/", "/home/django/data"),
            ("/home//django/./data/.", "/home/django/data"),
            ("//home//django/data", "//home/django/data"),
            ("///home/django/data", "/home/django/data"),
            ("/home/django/x/../data/.", "/home/django/x/../data"),
            ("/..", "/.."),
            ("/", ""),
        ] {
            let expected = format!("redlock:export_lock:{expected}/cache/export/a-b.zip");
            assert_eq!(key(root), expected, "{root}");
        }
    }

    #[test]
    fn a_known_root_gives_keys_as_cvat_writes_them_and_not_as_we_do() {
        let key = |root: &str, known: &str| {
            let prefix = Prefix::guessed(Path::new(root), &[PathBuf::from(known)]);
            let key = String::from_utf8(prefix.key_of(Path::new("x"))).unwrap();
            (prefix.is_known(), key)
        };
        let at = |root: &str| format!("redlock:export_lock:{root}/x");
        assert_eq!(key("/opt/cvat/data", "//opt/cvat/./data"), (true, at("//opt/cvat/data")));
        assert_eq!(
            key("/opt/x/../cvat/data", "/opt/x/../cvat/data/"),
            (true, at("/opt/x/../cvat/data"))
        );
        // With a link at x these are two places.
        assert_eq!(key("/opt/cvat/data", "/opt/x/../cvat/data"), (false, at("/opt/cvat/data")));
        let here = std::env::current_dir().unwrap().join("cvat/data");
        assert_eq!(key(here.to_str().unwrap(), "cvat//data"), (true, at("cvat/data")));
    }

    #[test]
    fn a_root_that_cvat_may_see_at_another_path_is_a_guess() {
        let known = ["/opt/cvat//data/", "/home/django/data"].map(PathBuf::from);
        let guess = |root: &str| Prefix::guessed(Path::new(root), &known).is_guess();
        assert!(!guess("/home/django/data") && !guess("/home/django/data/"));
        assert!(!guess("/opt/cvat/data"));
        assert!(guess("/var/lib/docker/volumes/cvat_cvat_data/_data"));
        assert!(guess("/data") && Prefix::guessed(Path::new("/home/django/data"), &[]).is_guess());
    }

    #[test]
    fn locks_for_other_paths_contradict_the_prefix() {
        let prefix = Prefix::given(Path::new("/mnt/data"));
        let key = |path: &str| [KEY, path.as_bytes()].concat();
        assert_eq!(prefix.contradicted_by(&[]), None);
        let theirs = key("/home/django/data/cache/export/a.zip");
        assert_eq!(
            prefix.contradicted_by(std::slice::from_ref(&theirs)).as_deref(),
            Some("\"/home/django/data/cache/export\"")
        );
        let ours = key("/mnt/data/cache/export/a.zip");
        assert_eq!(prefix.contradicted_by(&[theirs, ours]), None);
    }

    #[test]
    fn tokens_are_unique() {
        let tokens: std::collections::BTreeSet<String> = (0..1000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| (37..=44).contains(&token.len())));
    }
}
