//! Reads the part of HOCON that `clearml.conf` files use.
//!
//! This module must not read a file or the environment. Objects, lists, dotted and quoted keys, comments, plain and
//! quoted text, `${NAME}` and `${?NAME}` are known; `include` is refused. Unlike in HOCON, `//` begins a comment only
//! at the beginning of a word, because ClearML's own files have addresses without quotes.

mod node;
mod read;

use std::collections::BTreeMap;

use node::{DEEPEST, Node, Piece, merge};

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    root: BTreeMap<String, Node>,
}

/// Looks up a variable of the environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Conf {
    /// Reads a text.
    ///
    /// # Errors
    /// The line, and what is wrong there. No text is quoted: it may hold a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { root: read::read(text)? })
    }

    /// Adds another file, whose values win.
    pub fn merge(&mut self, other: Self) {
        merge(&mut self.root, other.root);
    }

    /// The text at a path such as `api.credentials.access_key`.
    ///
    /// # Errors
    /// It refers to something that is not there.
    pub fn text(&self, path: &str, env: &Env<'_>) -> Result<Option<String>, String> {
        match self.find(path) {
            Some(Node::Text(pieces)) => self.resolve(pieces, env, 0),
            Some(Node::Object(_) | Node::List(_)) => Err(format!("{path} is not text")),
            None => Ok(None),
        }
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// It is something else, or refers to something that is not there.
    pub fn texts(&self, path: &str, env: &Env<'_>) -> Result<Vec<String>, String> {
        let items = match self.find(path) {
            Some(Node::List(items)) => items,
            None => return Ok(Vec::new()),
            Some(Node::Text(pieces)) if self.resolve(pieces, env, 0)?.is_none() => {
                return Ok(Vec::new());
            }
            Some(Node::Object(_) | Node::Text(_)) => return Err(format!("{path} is not a list")),
        };
        let mut texts = Vec::new();
        for item in items {
            let Node::Text(pieces) = item else {
                return Err(format!("{path} has something in it that is not text"));
            };
            texts.extend(self.resolve(pieces, env, 0)?);
        }
        Ok(texts)
    }

    fn find(&self, path: &str) -> Option<&Node> {
        let mut steps = path.split('.');
        let mut node = self.root.get(steps.next()?)?;
        for step in steps {
            let Node::Object(fields) = node else { return None };
            node = fields.get(step)?;
        }
        Some(node)
    }

    fn resolve(
        &self,
        pieces: &[Piece],
        env: &Env<'_>,
        depth: usize,
    ) -> Result<Option<String>, String> {
        if depth > DEEPEST {
            return Err("a value refers to itself".to_owned());
        }
        let (mut text, mut is_set) = (String::new(), pieces.is_empty());
        for piece in pieces {
            let part = match piece {
                Piece::Plain(part) => Some(part.clone()),
                Piece::Reference { path, is_optional } => {
                    let found = match self.find(path) {
                        Some(Node::Text(pieces)) => self.resolve(pieces, env, depth + 1)?,
                        _ => None,
                    };
                    let found = found.or_else(|| env(path));
                    if found.is_none() && !is_optional {
                        return Err(format!("it refers to ${{{path}}}, which is not set"));
                    }
                    found
                }
            };
            is_set |= part.is_some();
            text.push_str(part.as_deref().unwrap_or_default());
        }
        Ok(is_set.then_some(text))
    }
}

#[cfg(test)]
mod tests;
