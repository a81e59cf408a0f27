//! Which names a zone recognizes, and which class each belongs to.
//!
//! This module must not decide whether an entry is removed: a name that is not recognized is kept, and that rule
//! is in [`super::verdict`].

use regex::bytes::{RegexSet, RegexSetBuilder};

/// The class of a name. Each class of a zone has its own time to live; see [`super::Zone::ttls`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Class(pub usize);

/// The names that a zone recognizes.
#[derive(Debug, Clone)]
pub enum Names {
    /// Every name but those of the file system itself (`lost+found`).
    Any,
    /// Names that match one of these patterns as a whole.
    Patterns(Patterns),
    /// Names that a parser accepts.
    Parsed(fn(&[u8]) -> Option<Class>),
}

/// Directories that a file system makes in its own root.
const RESERVED: [&[u8]; 1] = [b"lost+found"];

/// What the names of the private directories begin with in which trees are removed. They are never entries.
pub const QUARANTINE: &[u8] = b".sweeper-";

/// Stands for `/` in the name that an entry has in a private directory, if it does not lie in the directory itself that is
/// listed. Such entries are `<number>/<path>` ([`super::Shape::Fixed`]), which does not contain it.
pub const QUARANTINE_SEPARATOR: u8 = b'%';

/// Whether a name is that of a private directory: the prefix and 16 hexadecimal digits.
pub fn is_quarantine(name: &[u8]) -> bool {
    name.strip_prefix(QUARANTINE)
        .is_some_and(|id| id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit))
}

/// What the kernel (NFS) and libfuse rename a file to that is removed while a process has it open: the
/// beginning, and the number of hexadecimal digits that follow. The file is removed when the last process closes it.
const REMOVED_IN_USE: [(&[u8], usize); 2] = [(b".nfs", 24), (b".fuse_hidden", 16)];

/// Whether a name is that of a file that was removed while a process, perhaps on another machine, had it open.
pub fn is_removed_in_use(name: &[u8]) -> bool {
    REMOVED_IN_USE.iter().any(|(beginning, digits)| {
        name.strip_prefix(*beginning)
            .is_some_and(|id| id.len() == *digits && id.iter().all(u8::is_ascii_hexdigit))
    })
}

impl Names {
    /// The class of `name`, or `None` when the zone does not recognize it.
    #[inline(always)]
    pub fn class_of(&self, name: &[u8]) -> Option<Class> {
        if name.starts_with(b".") {
            if is_quarantine(name) {
                return None;
            }
            // In every zone, so that it is reported as what it is. It is skipped when it has expired.
            if is_removed_in_use(name) {
                return Some(Class(0));
            }
        }
        match self {
            Self::Any => (!RESERVED.contains(&name)).then_some(Class(0)),
            Self::Patterns(patterns) => patterns.0.is_match(name).then_some(Class(0)),
            Self::Parsed(parse) => parse(name),
        }
    }
}

/// Regular expressions over whole names.
#[derive(Debug, Clone)]
pub struct Patterns(RegexSet);

impl Patterns {
    /// Compiles patterns in the syntax of the `regex` crate. Names are bytes, so `.` is any byte but a
    /// line break, and `\d`, `\w` and `\s` are ASCII.
    ///
    /// # Errors
    /// A pattern does not compile or matches every name; the message names the pattern.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Err("there is no pattern: no name would be recognized".to_owned());
        }
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if is_too_broad(&compile(&[pattern])?) {
                return Err(format!(
                    "{pattern:?} matches every name: write what the names have in common"
                ));
            }
        }
        compile(patterns).map(Self)
    }
}

fn compile<S: AsRef<str>>(patterns: &[S]) -> Result<RegexSet, String> {
    let anchored = patterns.iter().map(|pattern| format!("^(?:{})$", pattern.as_ref()));
    let set = RegexSetBuilder::new(anchored).unicode(false).build();
    set.map_err(|error| {
        let regex::Error::Syntax(text) = error else { return error.to_string() };
        // The last line says what is wrong; the ones before it draw the anchored pattern.
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let shown: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
        format!(
            "{} is not a regular expression, such as label-\\d+\\.zip: {last}",
            shown.join(", ")
        )
    })
}

/// Whether a pattern accepts names that have nothing in common but their length.
fn is_too_broad(set: &RegexSet) -> bool {
    const UNLIKE: [&[u8]; 6] = [b"a", b"Z", b"0", b".", b" ~", b"\xff"];
    (1..=255).any(|length| {
        UNLIKE.iter().all(|part| {
            let name: Vec<u8> = part.iter().copied().cycle().take(length).collect();
            set.is_match(&name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_must_match_the_whole_name() {
        let patterns = Patterns::new(&[r"project-\d+-at-.*\.(zip|json)", "a|b"]).unwrap();
        let names = Names::Patterns(patterns);
        for name in [&b"project-1-at-x.zip"[..], b"project-22-at-\xff.json", b"a", b"b"] {
            assert_eq!(names.class_of(name), Some(Class(0)), "{name:?}");
        }
        for name in [&b"project-1-at-x.zip.part"[..], b"xproject-1-at-x.zip", b"ab", b"", b"a\n"] {
            assert_eq!(names.class_of(name), None, "{name:?}");
        }
    }

    #[test]
    fn patterns_that_match_every_name_are_refused() {
        for pattern in [".*", ".+", "", "(?s).*", "[^/]*", "x?.*", ".{8}", "a|.*", r"[\x00-\xff]+"]
        {
            let refused = Patterns::new(&[pattern]);
            assert_eq!(refused.is_err(), !pattern.is_empty(), "{pattern:?}");
        }
        assert!(Patterns::new::<&str>(&[]).is_err());
        assert!(Patterns::new(&["tmp.*", ".*zip", "[a-z]+"]).is_ok());
        let error = Patterns::new(&["(zip"]).unwrap_err();
        assert!(error.contains("(zip") && error.contains("unclosed group"), "{error}");
    }

    #[test]
    fn a_file_that_was_removed_while_it_was_open_is_recognized_in_every_zone() {
        let zones = [Names::Parsed(|_| None), Names::Patterns(Patterns::new(&["a"]).unwrap())];
        for (name, is) in [
            (&b".nfs0000000000a1b2c300000001"[..], true),
            (b".fuse_hidden0000000200000001", true),
            (b".nfs0001", false),
            (b".nfs0000000000a1b2c30000000g", false),
            (b"x.nfs0000000000a1b2c300000001", false),
            (b".nfs", false),
        ] {
            assert_eq!(is_removed_in_use(name), is, "{name:?}");
            for names in &zones {
                assert_eq!(names.class_of(name).is_some(), is, "{name:?}");
            }
        }
    }

    #[test]
    fn the_file_systems_own_directory_is_in_no_zone_of_any_names() {
        assert_eq!(Names::Any.class_of(b"lost+found"), None);
        assert_eq!(Names::Any.class_of(b"anything"), Some(Class(0)));
    }
}
