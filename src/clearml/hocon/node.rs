//! Values of a HOCON file, as they were read: references are not resolved yet.
//!
//! This module must not read or resolve anything.

use std::collections::BTreeMap;

/// How deep objects may be nested, and references be followed.
pub(super) const DEEPEST: usize = 64;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Object(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(Vec<Piece>),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(String),
    Reference { path: String, is_optional: bool },
}

/// Adds fields, which win over those that are there.
pub(super) fn merge(into: &mut BTreeMap<String, Node>, from: BTreeMap<String, Node>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Node::Object(old)), Node::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
