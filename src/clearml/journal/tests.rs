//! The journal: what a crash leaves, and what is read of it.

use super::*;
use std::fs::OpenOptions;

fn id(number: u32) -> Id {
    Id::parse(&format!("{number:032x}")).unwrap()
}

fn file(name: &str) -> TaskFile {
    TaskFile { url: format!("http://f/{name}"), kind: Kind::Artifact }
}

fn end(name: &str, outcome: Ending) -> FileEnd {
    FileEnd { url: file(name).url, kind: Kind::Artifact, outcome, why: String::new() }
}

fn plan(task: u32, names: &[&str]) -> Record {
    Record::Plan {
        task: id(task),
        at: 7,
        told: false,
        files: names.iter().map(|name| file(name)).collect(),
    }
}

fn open(dir: &Path) -> Journal {
    fs::create_dir_all(dir).unwrap();
    let mut journal = Journal::open(dir).unwrap();
    journal.begin("http://api", "c").unwrap();
    journal
}

#[test]
fn what_is_finished_is_forgotten_and_the_rest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir.path().join("new/dir"));
    journal
        .append(&[plan(1, &["a", "b"]), plan(2, &["c"]), plan(3, &["d"]), plan(4, &[])])
        .unwrap();
    let deleted = Record::Deleted { task: id(1), more: vec![file("b"), file("e")] };
    let some = vec![end("a", Ending::Removed)];
    journal
        .append(&[
            deleted,
            Record::Files { task: id(1), complete: false, outcomes: some },
            Record::Kept { task: id(2) },
            Record::Deleted { task: id(4), more: vec![] },
            Record::Files { task: id(4), complete: true, outcomes: vec![end("x", Ending::Gone)] },
        ])
        .unwrap();
    let expected = vec![(id(1), Stage::Deleted), (id(3), Stage::Planned(7))];
    for again in 0..3 {
        assert_eq!(journal.unfinished(), expected);
        let Left { files, tried, .. } = journal.files_of(id(1)).unwrap();
        assert_eq!(files, [file("b"), file("e")], "time {again}");
        assert_eq!(tried, [end("a", Ending::Removed)]);
        if again == 0 {
            journal.compact().unwrap();
        } else {
            journal = open(&dir.path().join("new/dir"));
        }
    }
    let text = fs::read_to_string(dir.path().join("new/dir").join(NAME)).unwrap();
    assert!(!text.contains("http://f/c"), "{text}");
}

#[test]
fn failed_files_stay_until_they_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let outcomes = vec![end("a", Ending::Failed), end("b", Ending::Removed)];
    let files = |outcomes| Record::Files { task: id(1), complete: true, outcomes };
    journal.append(&[plan(1, &["a", "b"]), files(outcomes)]).unwrap();
    assert_eq!(journal.unfinished(), [(id(1), Stage::Failed)]);
    let Left { files, tried, .. } = journal.files_of(id(1)).unwrap();
    assert!(files.is_empty());
    assert_eq!(tried.len(), 2);
    let again = vec![end("a", Ending::Gone)];
    journal.append(&[Record::Files { task: id(1), complete: true, outcomes: again }]).unwrap();
    assert!(journal.unfinished().is_empty());
    journal
        .append(&[
            plan(2, &["z"]),
            Record::Files { task: id(2), complete: true, outcomes: vec![end("z", Ending::Left)] },
        ])
        .unwrap();
    assert_eq!(journal.unfinished(), [(id(2), Stage::Left)]);
    assert_eq!(journal.forget(|stage| stage == Stage::Left), Ok(1));
    assert!(open(dir.path()).unfinished().is_empty());
}

#[test]
fn a_line_that_was_cut_off_at_any_byte_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&[plan(1, &["a"])]).unwrap();
    let path = dir.path().join(NAME);
    let before = fs::read(&path).unwrap();
    open(dir.path()).append(&[plan(2, &["b"])]).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in before.len()..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        // A look at it leaves it as it is: the writer may still be at work.
        assert_eq!(Journal::read(dir.path()).unwrap().unwrap().unfinished().len(), 1);
        assert_eq!(fs::read(&path).unwrap(), whole[..length]);
        let mut journal = open(dir.path());
        assert_eq!(journal.unfinished(), [(id(1), Stage::Planned(7))], "{length}");
        // What is added stands on a line of its own.
        journal.append(&[plan(3, &["c"])]).unwrap();
        assert_eq!(open(dir.path()).unfinished().len(), 2);
    }
}

#[test]
fn unfinished_work_on_another_server_is_refused_and_finished_work_is_not() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&[plan(1, &["a"])]).unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    for (api, company) in [("http://other", "c"), ("http://api", "d")] {
        assert!(journal.begin(api, company).unwrap_err().contains("unfinished work on http://api"));
    }
    journal.append(&[Record::Kept { task: id(1) }]).unwrap();
    journal.begin("http://other", "c").unwrap();
    drop(journal);
    assert!(Journal::open(dir.path()).unwrap().begin("http://other", "c").is_ok());
}

#[test]
fn a_journal_that_is_none_or_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NAME), "hello\n").unwrap();
    assert!(Journal::open(dir.path()).unwrap_err().contains("line 1"));
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(Journal::open(&dir.path().join("file/state")).unwrap_err().contains("Not a directory"));
}

#[test]
fn a_file_that_is_no_journal_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    for text in ["hello", "{\"op\": 1", "{\"id\":\"x\"", "\0\0"] {
        fs::write(&path, text).unwrap();
        for refused in [Journal::open(dir.path()).err(), Journal::read(dir.path()).err()] {
            assert!(refused.unwrap().contains("is no journal of this program"), "{text}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // These were cut off.
    for text in ["", "{", "{\"op\":\"ser"] {
        fs::write(&path, text).unwrap();
        open(dir.path());
    }
}

#[test]
fn a_journal_is_not_opened_through_a_link_and_no_link_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("other"), "").unwrap();
    std::os::unix::fs::symlink("other", at(NAME)).unwrap();
    for refused in [Journal::open(dir.path()).err(), Journal::read(dir.path()).err()] {
        assert!(refused.unwrap().contains("is not a regular file"));
    }
    let state = at("state");
    let mut journal = open(&state);
    journal.append(&[plan(1, &["a"]), plan(2, &["b"]), Record::Kept { task: id(2) }]).unwrap();
    fs::write(at("other"), "other").unwrap();
    std::os::unix::fs::symlink(at("other"), state.join("journal.new")).unwrap();
    journal.compact().unwrap();
    assert_eq!(fs::read_to_string(at("other")).unwrap(), "other");
    assert!(fs::symlink_metadata(state.join(NAME)).unwrap().is_file());
    assert_eq!(journal.files_of(id(1)).unwrap().files, [file("a")]);
    assert_eq!(open(&state).unfinished(), [(id(1), Stage::Planned(7))]);
}

#[test]
fn a_line_that_is_too_long_is_never_written_and_never_taken_for_one_that_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&[plan(1, &["a"])]).unwrap();
    let long = "x".repeat(usize::try_from(LONGEST_LINE).unwrap());
    assert!(journal.append(&[plan(2, &[&long])]).unwrap_err().contains("longer than 64 MiB"));
    let length = fs::metadata(dir.path().join(NAME)).unwrap().len();
    let mut file = OpenOptions::new().append(true).open(dir.path().join(NAME)).unwrap();
    file.write_all(long.as_bytes()).unwrap();
    file.write_all(b"\n").unwrap();
    assert!(Journal::open(dir.path()).unwrap_err().contains("longer than 64 MiB"));
    assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() > length, "nothing is cut off");
}
