//! The names fixtures: real file names and what each one says.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;

/// The lines of a fixture: name as bytes, and what is expected.
fn lines(fixture: &str) -> Vec<(Vec<u8>, String)> {
    let lines: Vec<_> = fixture
        .lines()
        .filter(|line| line.contains('\t') && !line.starts_with('#'))
        .map(|line| {
            let (name, expected) = line.rsplit_once('\t').unwrap();
            (unescape(name), expected.to_owned())
        })
        .collect();
    assert!(lines.len() > 10, "the fixture is nearly empty");
    lines
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once("\\x") {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(&escaped[..2], 16).unwrap());
        rest = &escaped[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What the parser reads, in the words of the fixture.
fn reading(name: &[u8]) -> String {
    match ExportName::parse(name) {
        Ok(ExportName::Data { class, id, kind, stamp, tag, ext }) => {
            format!("{} {id} {kind} {stamp} {tag} {ext}", class.word())
        }
        Ok(ExportName::Backup { class, id, stamp, lightweight, ext }) => {
            let kind = if lightweight { "lightweight" } else { "backup" };
            format!("{} {id} {kind} {stamp} {ext}", class.word())
        }
        Ok(ExportName::Events { id, ext }) => format!("events {id} {ext}"),
        Err(_) => "unrecognized".to_owned(),
    }
}

#[test]
fn every_export_name_of_the_fixture_reads_as_expected() {
    let mut rules = BTreeSet::new();
    for (name, expected) in lines(include_str!("../../../fixtures/names/export.txt")) {
        let shown = String::from_utf8_lossy(&name).into_owned();
        assert_eq!(reading(&name), expected, "{shown:?}");
        assert_eq!(class_of(&name).is_some(), expected != "unrecognized", "{shown:?}");
        if let Ok(parsed) = ExportName::parse(&name) {
            assert_eq!(parsed.to_string().as_bytes(), name, "printing gives the name back");
            assert_eq!(Class::ALL[class_of(&name).unwrap().0], parsed.class());
            assert!(describe(&name).unwrap().contains(parsed.class().word()), "{shown:?}");
            let words: Vec<&str> = expected.split(' ').collect();
            let kind = if words[0] == "events" { "" } else { words[2] };
            rules.insert(format!("{} {kind}", words[0]));
        }
    }
    // Every alternative of the grammar has a line.
    for rule in ["task dataset", "project annotations", "job annotations", "task backup"] {
        assert!(rules.contains(rule), "no line for {rule}: {rules:?}");
    }
    for rule in ["project backup", "task lightweight", "events ", "job dataset"] {
        assert!(rules.contains(rule), "no line for {rule}: {rules:?}");
    }
}

#[test]
fn every_legacy_name_of_the_fixture_reads_as_expected() {
    let mut rules = BTreeSet::new();
    for (name, expected) in lines(include_str!("../../../fixtures/names/legacy.txt")) {
        let read = match LegacyName::parse(&name) {
            Ok(LegacyName::Stamped) => "stamped",
            Ok(LegacyName::Plain) => "plain",
            Ok(LegacyName::Backup) => "backup",
            Ok(LegacyName::Leftover) => "leftover",
            Err(_) => "unrecognized",
        };
        assert_eq!(read, expected, "{:?}", String::from_utf8_lossy(&name));
        rules.insert(read);
    }
    assert_eq!(rules.len(), 5, "{rules:?}");
}

/// The grammar of CVAT 2.26 to 2.73 as a regular expression, easy to compare with CVAT's source.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let grammar = r"(?x-u)^(?:
        (?:project|task|job)-[0-9]{1,19}-(?:dataset|annotations)
            -instance[0-9]+\.[0-9]{1,6}-[a-z0-9_-]+\.(?i:zip|tsv)
      | (?:project|task)-[0-9]{1,19}-backup-instance[0-9]+\.[0-9]{1,6}(?:-lightweight)?\.(?i:zip)
      | events-[0-9A-Za-z][0-9A-Za-z_-]*\.(?i:csv)
    )$";
    Regex::new(grammar).unwrap()
});

/// A second reader of the same grammar, which splits the name.
fn by_splitting(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((stem, ext)) = name.rsplit_once('.') else { return false };
    let ext = ext.to_ascii_lowercase();
    if let Some(id) = stem.strip_prefix("events-") {
        let mut bytes = id.bytes();
        return ext == "csv"
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    }
    let parts: Vec<&str> = stem.splitn(5, '-').collect();
    let [instance, id, kind, stamp, tag @ ..] = parts.as_slice() else { return false };
    let Some(stamp) = stamp.strip_prefix("instance") else { return false };
    let Some((secs, decimals)) = stamp.split_once('.') else { return false };
    let numbers = digits(id) && id.len() <= 19 && digits(secs) && digits(decimals);
    let tagged = tag.len() == 1
        && !tag[0].is_empty()
        && tag[0]
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    numbers
        && decimals.len() <= 6
        && match (*instance, *kind) {
            ("project" | "task" | "job", "dataset" | "annotations") => {
                tagged && (ext == "zip" || ext == "tsv")
            }
            ("project" | "task", "backup") => {
                ext == "zip" && (tag.is_empty() || tag == ["lightweight"])
            }
            _ => false,
        }
}

#[test]
fn the_other_readers_agree_on_the_fixture() {
    for (name, expected) in lines(include_str!("../../../fixtures/names/export.txt")) {
        if let Ok(name) = std::str::from_utf8(&name) {
            assert_eq!(by_splitting(name), expected != "unrecognized", "{name:?}");
        }
        assert_eq!(GRAMMAR.is_match(&name), expected != "unrecognized", "{name:?}");
    }
}

proptest! {
    #[test]
    fn what_is_read_prints_as_it_was(
        name in "(project|task|job)-[0-9]{1,19}-(dataset|annotations)-instance[0-9]{1,11}\\.[0-9]{1,6}-[a-z0-9_-]{1,20}\\.(zip|tsv|ZIP)"
    ) {
        let parsed = ExportName::parse(name.as_bytes());
        prop_assert_eq!(parsed.map(|parsed| parsed.to_string()), Ok(name));
    }

    #[test]
    fn no_bytes_make_the_readers_panic_and_what_is_read_prints_as_it_was(
        name in proptest::collection::vec(any::<u8>(), 0..80)
    ) {
        if let Ok(parsed) = ExportName::parse(&name) {
            prop_assert_eq!(parsed.to_string().into_bytes(), name.clone());
        }
        let _ = LegacyName::parse(&name);
        prop_assert_eq!(class_of(&name).is_some(), ExportName::parse(&name).is_ok());
        prop_assert_eq!(ExportName::parse(&name).is_ok(), GRAMMAR.is_match(&name));
    }

    /// Real names with one byte replaced by another.
    #[test]
    fn the_grammar_and_the_reader_agree_when_a_byte_of_a_name_changes(
        name in "((project|task)-[0-9]{1,20}-backup-instance[0-9]{1,11}\\.[0-9]{1,7}(-lightweight)?\\.zip)|((task|job)-[0-9]{1,3}-dataset-instance[0-9]{1,3}\\.[0-9]{1,6}-[a-z0-9_-]{1,9}\\.(zip|TSV))|(events-[0-9a-zA-Z_-]{1,9}\\.csv)",
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut name = name.into_bytes();
        prop_assert_eq!(ExportName::parse(&name).is_ok(), GRAMMAR.is_match(&name));
        let at = at.index(name.len());
        name[at] = byte;
        prop_assert_eq!(ExportName::parse(&name).is_ok(), GRAMMAR.is_match(&name), "{:?}", name);
    }

    /// Names close to the grammar.
    #[test]
    fn all_three_readers_agree_on_near_misses(
        name in "(project|task|job|events|Task)?-?[0-9]{0,20}-(dataset|annotations|backup|events)-(instance|)[0-9]{0,3}\\.?[0-9]{0,7}(-[a-z0-9_A-Z.-]{0,6}|-lightweight)?\\.(zip|tsv|csv|ZIP|part)"
    ) {
        prop_assert_eq!(ExportName::parse(name.as_bytes()).is_ok(), by_splitting(&name), "{}", name);
        prop_assert_eq!(GRAMMAR.is_match(name.as_bytes()), by_splitting(&name), "{}", name);
    }
}

#[test]
fn a_name_is_described_in_words() {
    for (name, text) in [
        ("task-7-dataset-instance1.5-coco-10.zip", "dataset of task 7, format coco-10"),
        ("project-7-backup-instance1.5-lightweight.zip", "lightweight backup of project 7"),
        ("events-0b9b1f2e.csv", "audit events, query 0b9b1f2e"),
    ] {
        assert_eq!(describe(name.as_bytes()).as_deref(), Some(text));
    }
    assert_eq!(describe(b"notes.txt"), None);
    assert!(describe_legacy(b"task_backup.zip").unwrap().starts_with("a backup"));
    assert!(describe_legacy(b"export_cache").unwrap().contains("before CVAT 2.26"));
    assert_eq!(describe_legacy(b"notes.txt"), None);
}

#[test]
fn eight_bytes_at_a_time_are_read_as_one_by_one() {
    const DIGIT: Kind<1> = [(b'0', b'9')];
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    for length in 0..=25 {
        let digits: Vec<u8> = b"0918273645".iter().copied().cycle().take(length).collect();
        assert_eq!(count_digits(&digits), length);
        assert!(are_all(&digits, DIGIT), "{length}");
        for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut bytes = digits.clone();
            bytes[at] = byte;
            let count = bytes.iter().take_while(|byte| is_digit(byte)).count();
            assert_eq!(count_digits(&bytes), count, "{bytes:?}");
            assert_eq!(are_all(&bytes, DIGIT), bytes.iter().all(is_digit), "{bytes:?}");
            let in_tag = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            assert_eq!(are_all(&bytes, TAG), bytes.iter().all(in_tag), "{bytes:?}");
            let in_id = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            assert_eq!(are_all(&bytes, EVENTS_ID), bytes.iter().all(in_id), "{bytes:?}");
        }
    }
}
