//! The checks of the plan, as functions of sources, so that each can be seen to fail.
//!
//! They must not read files. Each returns what is wrong, a line for each problem.

use super::graph::{Crate, Source, Use};
use super::lexer::{Kind, find};

/// What a room or a file may use.
pub(super) type Row = (&'static str, &'static [&'static str]);

/// The room of a file: the first step of its path.
pub(super) fn room_of(file: &str) -> String {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// A row names rows above it only, so the plan has no circle. `*` is every row above.
pub(super) fn check_rows(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, (room, allowed)) in rows.iter().enumerate() {
        let is_above = |other: &&str| rows[..at].iter().any(|(above, _)| above == other);
        for other in allowed.iter().filter(|other| **other != "*" && !is_above(other)) {
            problems.push(format!("the row of {room} names {other}, which is not above it"));
        }
    }
    problems
}

/// Each room has a row, and uses only what that allows.
pub(super) fn check_rooms(sources: &[Source], uses: &[Use], rows: &[Row]) -> Vec<String> {
    let row = |room: &str| rows.iter().find(|(name, _)| *name == room);
    let mut problems = Vec::new();
    for (path, _) in sources {
        if row(&room_of(path)).is_none() {
            problems.push(format!("src/{path}: its room has no row"));
        }
    }
    for Use { from, line, to, text } in uses {
        let (room, other) = (room_of(from), room_of(to));
        let Some((_, allowed)) = row(&room) else { continue };
        if room != other && !allowed.contains(&other.as_str()) && *allowed != ["*"] {
            problems.push(format!("src/{from}:{line}: {text}: {room} may not use {other}"));
        }
    }
    problems
}

/// Rooms without I/O: none of these paths leads out of them.
pub(super) fn check_pure(code: &Crate<'_>, rooms: &[&str], forbidden: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, _) in code.code().filter(|(file, _)| rooms.contains(&room_of(file).as_str())) {
        for (path, line) in code.outside(file) {
            let path = path.join("::");
            let is_within = |forbidden: &&str| {
                path.strip_prefix(*forbidden)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if forbidden.iter().any(is_within) {
                problems.push(format!("src/{file}:{line}: {path} in a pure room"));
            }
        }
    }
    problems
}

/// Each crate is used by the files of its row, by all of them, and by no other. The manifest says what for.
pub(super) fn check_doors(
    code: &Crate<'_>,
    manifest: &str,
    doors: &[Row],
    everywhere: &[&str],
) -> Vec<String> {
    let mut problems = Vec::new();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    for line in section.lines().filter(|line| line.contains(" = ")) {
        let name = line.split(' ').next().unwrap_or_default().replace('-', "_");
        if !line.contains('#') {
            problems.push(format!("{name}: say in Cargo.toml what it is for"));
        }
        // Optional crates only turn on a feature of another.
        if everywhere.contains(&name.as_str()) || line.contains("optional = true") {
            continue;
        }
        let Some((_, files)) = doors.iter().find(|(door, _)| *door == name) else {
            problems.push(format!("{name} has no row"));
            continue;
        };
        let users: Vec<&str> = code
            .code()
            .map(|(file, _)| file)
            .filter(|file| code.outside(file).any(|(path, _)| path[0] == name))
            .collect();
        for file in users.iter().filter(|file| !files.contains(file)) {
            problems.push(format!("src/{file} uses {name}, which is not its door"));
        }
        for file in files.iter().filter(|file| !users.contains(file)) {
            problems.push(format!("src/{file} is a door of {name} and does not use it"));
        }
    }
    problems
}

/// What must stand in certain files stands there and nowhere else.
pub(super) fn check_places(code: &Crate<'_>, places: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for (wanted, files) in places {
        let found: Vec<(&str, usize)> =
            code.code().filter_map(|(file, code)| Some((file, find(code, wanted)?))).collect();
        for (file, line) in found.iter().filter(|(file, _)| !files.contains(file)) {
            problems.push(format!("src/{file}:{line}: {wanted:?} may not stand here"));
        }
        for file in files.iter().filter(|file| !found.iter().any(|(other, _)| other == *file)) {
            problems.push(format!("src/{file}: {wanted:?} does not stand here any more"));
        }
    }
    problems
}

/// No room but those in `knowing` has a word of code with the name of an application in it, or a literal that
/// is one of `literals`. Messages may name an application.
pub(super) fn check_applications(
    code: &Crate<'_>,
    applications: &[&str],
    literals: &[&str],
    knowing: &[&str],
) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, code) in code.code().filter(|(file, _)| !knowing.contains(&room_of(file).as_str())) {
        for token in code {
            let word = token.text.to_ascii_lowercase();
            let is_name =
                token.kind == Kind::Word && applications.iter().any(|it| word.contains(it));
            let is_literal = token.kind == Kind::Literal
                && literals.iter().any(|literal| token.text.trim_matches('"') == *literal);
            if is_name || is_literal {
                let text = token.text;
                problems
                    .push(format!("src/{file}:{}: {text} belongs to an application", token.line));
            }
        }
        // A zone is a value: what stands after `Zone::` is a function of every zone, not one of them.
        for three in code.windows(3).filter(|three| three[0].is("Zone") && three[1].is("::")) {
            if three[2].text.starts_with(char::is_uppercase) {
                let (text, line) = (three[2].text, three[2].line);
                problems.push(format!("src/{file}:{line}: Zone::{text} is a zone by name"));
            }
        }
    }
    problems
}

/// Each file of code says what it is, and what it must not do unless it is `exempt`.
pub(super) fn check_docs(code: &Crate<'_>, sources: &[Source], exempt: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in sources {
        let doc: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let doc = doc.join(" ");
        if doc.is_empty() {
            problems.push(format!("src/{path} does not begin with //!"));
        }
        let is_code = code.code().any(|(file, _)| file == path);
        let has_limit = doc.contains("must not") || doc.contains("may not");
        if is_code && !has_limit && !exempt.contains(&path.as_str()) {
            problems.push(format!("src/{path} does not say what it must not do"));
        }
    }
    problems
}

/// No file has more lines than `most`, and no module is called `mod.rs`.
pub(super) fn check_sizes(files: &[Source], most: usize) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in files {
        let lines = text.lines().count();
        if lines > most {
            problems.push(format!("{path} has {lines} lines: is it still one idea?"));
        }
        if path.ends_with("mod.rs") {
            problems.push(format!("{path}: write x.rs beside x/"));
        }
    }
    problems
}

/// No script of the shell has a line such as `[ a ] && [ b ]`, which does not end the script if `a` is false, even under
/// `set -e`. It takes `if`, or `||` with what happens then.
pub(super) fn check_conditions(files: &[Source]) -> Vec<String> {
    let is_script = |text: &str| {
        text.lines().next().is_some_and(|first| first.starts_with("#!") && first.contains("sh"))
    };
    let mut problems = Vec::new();
    for (path, text) in files.iter().filter(|(_, text)| is_script(text)) {
        for (number, line) in text.lines().enumerate() {
            let is_condition = line.trim_start().starts_with("[ ");
            if is_condition && line.contains("&&") && !line.contains("||") {
                problems.push(format!(
                    "{path}:{}: a condition that may be false unnoticed",
                    number + 1
                ));
            }
        }
    }
    problems
}

mod tests;
