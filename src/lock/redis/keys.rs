//! The names of CVAT's locks.
//!
//! It must not resolve links or touch the disk: the key holds the path exactly as CVAT spells it, and
//! a key that is spelled differently locks nothing and says nothing.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What every key begins with: pottery's prefix, then CVAT's.
pub(super) const KEY: &[u8] = b"redlock:export_lock:";

/// A path relative to the volume.
pub type CvatPath = Path;

/// The data root as CVAT sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    root: PathBuf,
    certainty: Certainty,
}

/// How sure it is that CVAT spells its paths so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// It is where CVAT's images have it, or where CVAT's own setting says.
    Known,
    /// The user said so.
    Given,
    /// It is where we have it.
    Guess,
}

impl Prefix {
    /// The root that the user named.
    pub fn given(root: &Path) -> Self {
        Self { root: plain(root), certainty: Certainty::Given }
    }

    /// Our own data root, which CVAT may know by another name. `base` is CVAT's own base directory.
    pub fn guessed(data_root: &Path, base: Option<&Path>) -> Self {
        let root = plain(data_root);
        let known = base.is_some_and(|base| plain(&base.join("data")) == root)
            || root == Path::new("/home/django/data");
        Self { root, certainty: if known { Certainty::Known } else { Certainty::Guess } }
    }

    /// Whether CVAT may well see the volume elsewhere.
    pub fn is_guess(&self) -> bool {
        self.certainty == Certainty::Guess
    }

    /// Whether it is certain that CVAT spells its paths so.
    pub(super) fn is_known(&self) -> bool {
        self.certainty == Certainty::Known
    }

    /// For people.
    pub fn shown(&self) -> String {
        format!("{:?}", self.root)
    }

    /// The key of what is called `name` in `dir`, which is relative to the volume.
    pub(super) fn key(&self, dir: &Path, name: &CStr) -> Vec<u8> {
        self.key_of(&dir.join(OsStr::from_bytes(name.to_bytes())))
    }

    /// The key of a path relative to the volume.
    pub(super) fn key_of(&self, path: &CvatPath) -> Vec<u8> {
        let path = self.root.join(path);
        [KEY, path.as_os_str().as_bytes()].concat()
    }

    /// The directory that live locks are for, if there are any and none of them is under our root.
    pub(super) fn contradicted_by(&self, live: &[Vec<u8>]) -> Option<String> {
        let paths = || {
            live.iter()
                .filter_map(|key| key.strip_prefix(KEY))
                .map(|path| Path::new(OsStr::from_bytes(path)))
        };
        if paths().any(|path| path.starts_with(&self.root)) {
            return None;
        }
        let first = paths().next()?;
        Some(format!("{:?}", first.parent().unwrap_or(first)))
    }
}

/// An absolute path without `//`, `.` or a slash at the end. Links are not resolved: CVAT does not.
fn plain(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for step in full.components() {
        match step {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(step),
        }
    }
    plain
}

/// What our tokens begin with, so that people can tell whose a lock is.
pub(super) const OURS: &str = "sw-";

/// A token that nobody else has: 128 random bits of this process and a number. Up to 44 bytes, which
/// Redis keeps in one piece with the key.
pub(super) fn token() -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| {
        let mut bits = [0_u8; 16];
        // It cannot fail for 16 bytes on a kernel that has it (3.17); were it to, the process id would
        // still keep two of us on one machine apart.
        if rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty()).is_err() {
            bits[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        }
        bits.iter().fold(OURS.to_owned(), |text, byte| format!("{text}{byte:02x}"))
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
        let expected = "redlock:export_lock:/home/django/data/cache/export/a-b.zip";
        for root in [
            "/home/django/data",
            "/home/django/data/",
            "//home//django/./data",
            "/home/django/x/../data/.",
        ] {
            assert_eq!(key(root), expected, "{root}");
        }
    }

    #[test]
    fn a_root_that_does_not_look_like_cvats_is_a_guess() {
        let guess = |root: &str, base: Option<&str>| {
            Prefix::guessed(Path::new(root), base.map(Path::new)).is_guess()
        };
        assert!(!guess("/home/django/data", None));
        assert!(!guess("/home/django/data/", Some("/opt/cvat")));
        assert!(!guess("/opt/cvat/data", Some("/opt/cvat/")));
        assert!(guess("/var/lib/docker/volumes/cvat_cvat_data/_data", None));
        assert!(guess("/data", Some("/opt/cvat")));
    }

    #[test]
    fn live_locks_elsewhere_contradict_the_prefix() {
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
    fn no_two_tokens_are_alike() {
        let tokens: std::collections::BTreeSet<String> = (0..1000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| (37..=44).contains(&token.len())));
    }
}
