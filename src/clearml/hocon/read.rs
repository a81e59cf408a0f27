//! Reads the text of a HOCON file into values.
//!
//! This module must not look up a reference or read the environment.

use std::collections::BTreeMap;

use super::node::{DEEPEST, Node, Piece, merge};

/// Reads the fields of a file.
///
/// # Errors
/// The line, and what is wrong there. No text is quoted: it may hold a key.
pub(super) fn read(text: &str) -> Result<BTreeMap<String, Node>, String> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, depth: 0 };
    let mut root = BTreeMap::new();
    let read = (|| {
        reader.skip_all();
        let has_braces = reader.take(b'{');
        reader.fields(&mut root, if has_braces { Some(b'}') } else { None })?;
        reader.skip_all();
        if reader.peek().is_some() { Err("there is text after the end") } else { Ok(()) }
    })();
    let line = || text.as_bytes()[..reader.at.min(text.len())].split(|b| *b == b'\n').count();
    read.map_err(|why| format!("line {}: {why}", line()))?;
    Ok(root)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

type Read<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn starts_with(&self, text: &[u8]) -> bool {
        self.text[self.at..].starts_with(text)
    }

    /// Skips blanks on the line.
    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn is_at_comment(&self) -> bool {
        let begins_word = self.at == 0
            || self.text[self.at - 1].is_ascii_whitespace()
            || b"{}[],=:\"".contains(&self.text[self.at - 1]);
        self.peek() == Some(b'#') || (begins_word && self.starts_with(b"//"))
    }

    /// Skips blanks, line breaks and comments.
    fn skip_all(&mut self) {
        loop {
            while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
                self.at += 1;
            }
            if self.starts_with(b"\xef\xbb\xbf") {
                self.at += 3;
            } else if self.is_at_comment() {
                while self.peek().is_some_and(|byte| byte != b'\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deep");
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads fields up to `end`, or to the end of the text.
    fn fields(&mut self, to: &mut BTreeMap<String, Node>, end: Option<u8>) -> Read<()> {
        loop {
            self.skip_all();
            while self.take(b',') {
                self.skip_all();
            }
            match (self.peek(), end) {
                (None, None) => return Ok(()),
                (None, Some(_)) => return Err("a } is missing"),
                (Some(byte), Some(end)) if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => self.field(to)?,
            }
        }
    }

    fn field(&mut self, to: &mut BTreeMap<String, Node>) -> Read<()> {
        let path = self.key()?;
        if path == ["include"] {
            return Err("include is not supported: write the values here, or in the environment");
        }
        self.skip_all();
        let appends = self.starts_with(b"+=");
        if appends {
            self.at += 2;
        } else if self.peek() != Some(b'{') && !self.take(b'=') && !self.take(b':') {
            return Err("after a key, write = and a value");
        }
        let value = self.deeper(Self::value)?;
        let (last, steps) = path.split_last().ok_or("a key is empty")?;
        let mut fields = to;
        for step in steps {
            let node = fields.entry(step.clone()).or_insert_with(|| Node::Object(BTreeMap::new()));
            if !matches!(node, Node::Object(_)) {
                *node = Node::Object(BTreeMap::new());
            }
            let Node::Object(inner) = node else { return Err("a key is used twice") };
            fields = inner;
        }
        match (fields.get_mut(last), value) {
            (Some(Node::List(old)), value) if appends => old.push(value),
            (None, value) if appends => {
                fields.insert(last.clone(), Node::List(vec![value]));
            }
            (_, value) => merge(fields, BTreeMap::from([(last.clone(), value)])),
        }
        Ok(())
    }

    fn key(&mut self) -> Read<Vec<String>> {
        let mut steps = vec![String::new()];
        let mut is_empty = true;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.quoted()?;
                    if let Some(step) = steps.last_mut() {
                        step.push_str(&text);
                    }
                }
                Some(b'.') => {
                    self.at += 1;
                    steps.push(String::new());
                }
                Some(byte) if !b"{}[]=:,+#$ \t\r\n".contains(&byte) => {
                    let word = self.word(b"{}[]=:,+#$ \t\r\n.\"");
                    if let Some(step) = steps.last_mut() {
                        step.push_str(&word);
                    }
                }
                _ => break,
            }
            is_empty = false;
        }
        if is_empty { Err("a key is missing") } else { Ok(steps) }
    }

    fn word(&mut self, ends: &[u8]) -> String {
        let start = self.at;
        while self.peek().is_some_and(|byte| !ends.contains(&byte)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn value(&mut self) -> Read<Node> {
        self.skip_all();
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let mut fields = BTreeMap::new();
                self.fields(&mut fields, Some(b'}'))?;
                Ok(Node::Object(fields))
            }
            Some(b'[') => {
                self.at += 1;
                self.list()
            }
            _ => self.pieces().map(Node::Text),
        }
    }

    fn list(&mut self) -> Read<Node> {
        let mut items = Vec::new();
        loop {
            self.skip_all();
            while self.take(b',') {
                self.skip_all();
            }
            match self.peek() {
                None => return Err("a ] is missing"),
                Some(b']') => {
                    self.at += 1;
                    return Ok(Node::List(items));
                }
                Some(_) => items.push(self.deeper(Self::value)?),
            }
        }
    }

    /// Reads text up to the end of the line or of the object.
    fn pieces(&mut self) -> Read<Vec<Piece>> {
        let mut pieces = Vec::new();
        loop {
            let start = self.at;
            self.skip_blanks();
            let gap = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
            let is_end = self.is_at_comment()
                || matches!(self.peek(), None | Some(b'\n' | b',' | b'}' | b']'));
            if is_end {
                break;
            }
            if !pieces.is_empty() && !gap.is_empty() {
                pieces.push(Piece::Plain(gap));
            }
            match self.peek() {
                Some(b'"') => pieces.push(Piece::Plain(self.quoted()?)),
                Some(b'$') if self.starts_with(b"${") => pieces.push(self.reference()?),
                Some(b'{' | b'[') => return Err("text and an object or a list cannot be joined"),
                _ => {
                    let first = usize::from(self.peek() == Some(b'$'));
                    self.at += first;
                    let word = self.word(b" \t\r\n,}]#\"${[");
                    let dollar = if first > 0 { "$" } else { "" };
                    pieces.push(Piece::Plain(format!("{dollar}{word}")));
                }
            }
        }
        let is_null = |piece: &Piece| matches!(piece, Piece::Plain(text) if text == "null");
        if let [only] = pieces.as_slice()
            && is_null(only)
        {
            return Ok(vec![Piece::Reference { path: String::new(), is_optional: true }]);
        }
        Ok(pieces)
    }

    fn reference(&mut self) -> Read<Piece> {
        self.at += 2;
        let is_optional = self.take(b'?');
        let path = self.word(b"}\n");
        if !self.take(b'}') {
            return Err("a } is missing after ${");
        }
        Ok(Piece::Reference { path: path.trim().trim_matches('"').to_owned(), is_optional })
    }

    fn quoted(&mut self) -> Read<String> {
        if self.starts_with(b"\"\"\"") {
            self.at += 3;
            let rest = &self.text[self.at..];
            let end = rest.windows(3).position(|three| three == b"\"\"\"");
            let end = end.ok_or("\"\"\" is missing at the end of a text")?;
            self.at += end + 3;
            return Ok(String::from_utf8_lossy(&rest[..end]).into_owned());
        }
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(b'\n') => return Err("a quote is missing at the end of a text"),
                Some(b'\\') => self.at += 2,
                Some(b'"') => break,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_slice(&self.text[start..self.at])
            .map_err(|_| "a quoted text has a wrong \\")
    }
}
