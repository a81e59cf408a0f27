//! The words of the program that `docs/troubleshooting.md` explains.

use std::fs;
use std::path::Path;

use super::repository;

/// All sources, with each text on one line.
fn sources(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.split("\\\n").collect();
            let rest = lines[1..].iter().map(|line| line.trim_start());
            into.extend(std::iter::once(lines[0]).chain(rest));
        }
    }
}

/// The first cells of the table that begins with this line.
fn first_cells<'a>(page: &'a str, header: &str) -> Vec<&'a str> {
    let table = page.split_once(header).unwrap().1.lines().skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect()
}

#[test]
fn notes_and_reasons_are_explained_in_the_words_that_the_program_prints() {
    let page = fs::read_to_string(repository("docs/troubleshooting.md")).unwrap();
    let mut program = String::new();
    sources(&repository("src"), &mut program);
    for header in ["| Note | Meaning |", "| Reason | What to do |"] {
        let cells = first_cells(&page, header);
        assert!(cells.len() > 4, "{header}");
        for words in cells.iter().flat_map(|cell| cell.split('…')) {
            assert!(program.contains(words.trim()), "the program never prints {words:?}");
        }
    }
}
