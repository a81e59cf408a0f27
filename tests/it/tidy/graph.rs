//! Which file uses which: paths that begin with `crate`, `super`, `self` or a child module, in `use` and in
//! expressions, followed through re-exports to the file that defines the item.
//!
//! It must not know the plan of the house: that is in `tidy`.
//!
//! **There are no circles, neither between rooms nor between files.** One thing is not a use: a `pub use` of a
//! module's own children, which only gives an item a shorter path. So a parent may either hold what its
//! children share, or put its children together, and not both. Methods are not followed: an `impl` may be
//! spread over several files.

use std::collections::BTreeMap;

use super::lexer::{Kind, Token, tokens, without_tests};

/// A file: its path below `src`, and its text.
pub(super) type Source = (String, String);

/// The path of a module: the names from the root of the crate on.
type Module = Vec<String>;

/// One use of a file by another.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// The file that uses another, and the line.
    pub(super) from: String,
    pub(super) line: usize,
    /// The file that is used.
    pub(super) to: String,
    /// How it is written.
    pub(super) text: String,
}

/// All code of a crate.
pub(super) struct Crate<'a> {
    files: BTreeMap<Module, File<'a>>,
    problems: Vec<String>,
}

/// One file.
struct File<'a> {
    path: &'a str,
    code: Vec<Token<'a>>,
    mentions: Vec<Mention>,
}

/// A path in the code.
struct Mention {
    path: Vec<String>,
    line: usize,
    /// The name that it gets, if it is in a `use`.
    name: Option<String>,
    /// Whether others can see that name.
    is_public: bool,
}

impl<'a> Crate<'a> {
    /// Reads files. Those that are only compiled for tests are left out.
    pub(super) fn read(sources: &'a [Source]) -> Self {
        let (mut files, mut declared, mut for_tests) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut problems = Vec::new();
        for (path, text) in sources {
            let module = module_of(path);
            let (code, test_modules) = without_tests(&tokens(text));
            let child = |name: &str| [module.clone(), vec![name.to_owned()]].concat();
            for three in code.windows(3).filter(|three| three[0].is("mod")) {
                declared.push(child(three[1].text));
                if !three[2].is(";") {
                    problems.push(format!("src/{path}: write mod {} as a file", three[1].text));
                }
            }
            for_tests.extend(test_modules.iter().map(|name| child(name)));
            let mentions = mentions(&code);
            files.insert(module, File { path, code, mentions });
        }
        for (module, file) in &files {
            let is_root = module.is_empty() || file.path == "main.rs";
            if !is_root && !declared.contains(module) && !for_tests.contains(module) {
                problems.push(format!("src/{}: no `mod` names it", file.path));
            }
        }
        files.retain(|module, _| !for_tests.iter().any(|test| module.starts_with(test)));
        Self { files, problems }
    }

    /// Files that no `mod` names, modules that have no file, and globs.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        for (module, file) in &self.files {
            let globs = file.mentions.iter().filter(|mention| mention.name.as_deref() == Some("*"));
            for glob in globs.filter(|glob| self.absolute(module, &glob.path).is_some()) {
                problems.push(format!("src/{}:{}: name what is used", file.path, glob.line));
            }
        }
        problems
    }

    /// Each file with its code.
    pub(super) fn code(&self) -> impl Iterator<Item = (&'a str, &[Token<'a>])> {
        self.files.values().map(|file| (file.path, file.code.as_slice()))
    }

    /// The paths in `file` that lead out of this crate.
    pub(super) fn outside(&self, file: &str) -> impl Iterator<Item = (&[String], usize)> {
        let (module, file) = self.files.iter().find(|(_, other)| other.path == file).unwrap();
        let is_outside = |mention: &&Mention| self.absolute(module, &mention.path).is_none();
        file.mentions.iter().filter(is_outside).map(|mention| (&mention.path[..], mention.line))
    }

    /// Every use of a file by another.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (module, file) in &self.files {
            for mention in &file.mentions {
                let Some(to) = self.absolute(module, &mention.path) else { continue };
                let Some(to) = self.defined_in(&to) else { continue };
                if to == *module || (mention.is_public && to.starts_with(module)) {
                    continue;
                }
                let to = self.files[&to].path.to_owned();
                let (from, text) = (file.path.to_owned(), mention.path.join("::"));
                uses.push(Use { from, line: mention.line, to, text });
            }
        }
        uses
    }

    /// A path of this crate from its root on; `None` for one that leads elsewhere.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" | "retention_sweeper" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let mut up = module.clone();
                let count = path.iter().take_while(|step| *step == "super").count();
                up.truncate(module.len().checked_sub(count)?);
                Some([&up, &path[count..]].concat())
            }
            _ => {
                let child = [module.as_slice(), &path[..1]].concat();
                if self.files.contains_key(&child) {
                    return Some([&child, rest].concat());
                }
                let import =
                    self.import(module, first).filter(|import| import.path[0] != *first)?;
                Some([&self.absolute(module, &import.path)?, rest].concat())
            }
        }
    }

    fn import(&self, module: &Module, name: &str) -> Option<&Mention> {
        let mentions = &self.files.get(module)?.mentions;
        mentions.iter().find(|mention| mention.name.as_deref() == Some(name))
    }

    /// The module whose file defines what `path` leads to; `None` if that is in another crate.
    fn defined_in(&self, path: &[String]) -> Option<Module> {
        let is_module = |length: &usize| self.files.contains_key(&path[..*length]);
        let length = (0..=path.len()).rev().find(is_module)?;
        let (module, rest) = (path[..length].to_vec(), &path[length..]);
        let import = rest.first().and_then(|name| self.import(&module, name));
        match import {
            None => Some(module),
            Some(import) => {
                let target = self.absolute(&module, &import.path)?;
                self.defined_in(&[&target, &rest[1..]].concat())
            }
        }
    }
}

fn module_of(path: &str) -> Module {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// All paths of several steps in the code, and all that `use` names.
fn mentions(code: &[Token<'_>]) -> Vec<Mention> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < code.len() {
        let before = at.checked_sub(1).map(|before| &code[before]);
        let follows =
            |marks: &[&str]| before.is_some_and(|before| marks.iter().any(|mark| before.is(mark)));
        if code[at].is("use") {
            let is_public = follows(&["pub", ")"]);
            at = use_tree(code, at + 1, &[], is_public, &mut found);
        } else if code[at].kind == Kind::Word && !follows(&["::", ".", "in"]) {
            let (path, end) = steps(code, at);
            if path.len() > 1 {
                let line = code[at].line;
                found.push(Mention { path, line, name: None, is_public: false });
            }
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The words from `at` on that `::` joins, and where they end.
fn steps(code: &[Token<'_>], at: usize) -> (Vec<String>, usize) {
    let (mut path, mut at) = (vec![code[at].text.to_owned()], at + 1);
    while let [colons, word, ..] = &code[at..]
        && colons.is("::")
        && word.kind == Kind::Word
    {
        path.push(word.text.to_owned());
        at += 2;
    }
    (path, at)
}

/// Reads one tree of a `use`, all of whose paths begin with `start`. Returns where it ends.
fn use_tree(
    code: &[Token<'_>],
    mut at: usize,
    start: &[String],
    is_public: bool,
    found: &mut Vec<Mention>,
) -> usize {
    let (mut path, line) = (start.to_vec(), code[at].line);
    let mut push = |path: Vec<String>, name: String| {
        found.push(Mention { path, line, name: Some(name), is_public });
    };
    loop {
        if code[at].is("{") {
            at += 1;
            while !code[at].is("}") {
                at = use_tree(code, at, &path, is_public, found);
                at += usize::from(code[at].is(","));
            }
            return at + 1;
        }
        if code[at].is("*") {
            push(path, "*".to_owned());
            return at + 1;
        }
        path.push(code[at].text.to_owned());
        at += 1;
        if !code[at].is("::") {
            break;
        }
        at += 1;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if code[at].is("as") {
        code[at + 1].text.clone_into(&mut name);
        at += 2;
    }
    push(path, name);
    at
}

/// A circle of uses for each group of files that use each other.
pub(super) fn circles(uses: &[Use], of: impl Fn(&str) -> String) -> Vec<String> {
    let mut left: Vec<(String, String, String)> = uses
        .iter()
        .map(|one| {
            let text = format!("src/{}:{}: {}", one.from, one.line, one.text);
            (of(&one.from), of(&one.to), text)
        })
        .filter(|(from, to, _)| from != to)
        .collect();
    // What uses nothing that is left is in no circle.
    loop {
        let before = left.len();
        let froms: Vec<String> = left.iter().map(|(from, ..)| from.clone()).collect();
        left.retain(|(_, to, _)| froms.contains(to));
        if left.len() == before {
            break;
        }
    }
    let mut circles = Vec::new();
    while let Some((start, ..)) = left.first() {
        let (mut at, mut way) = (start.clone(), Vec::<(String, String)>::new());
        while !way.iter().any(|(from, _)| *from == at) {
            let next = left.iter().find(|(from, ..)| *from == at);
            let Some((from, to, text)) = next else { break };
            way.push((from.clone(), text.clone()));
            at.clone_from(to);
        }
        let circle = way.iter().skip_while(|(from, _)| *from != at);
        let circle: Vec<&str> = circle.map(|(_, text)| text.as_str()).collect();
        circles.push(circle.join("\n  "));
        left.retain(|(from, ..)| !way.iter().any(|(known, _)| known == from));
    }
    circles
}

#[cfg(test)]
mod tests;
