//! The projects that a user names, with their subprojects; and which ids are a project's.
//!
//! This module must not guess: a name that the server does not have is an error.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::CycleError;
use super::hash::hash;
use super::rows::Id;
use super::tools::{PAGE, Page, Tools};

/// Projects.
#[derive(Debug, Clone, Default)]
pub(super) struct Projects {
    /// The ids of those that the user names.
    pub(super) wanted: Vec<String>,
    /// Those with all of their subprojects.
    all: HashSet<String>,
}

#[derive(Deserialize)]
struct Rows {
    projects: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    #[serde(default)]
    name: String,
}

impl Page for Rows {
    fn ids(&self) -> Vec<u64> {
        self.projects.iter().map(|row| hash(&row.id)).collect()
    }
}

impl Projects {
    /// Looks up projects, of which some are given by name.
    ///
    /// # Errors
    /// The server has no such project, or cannot be used.
    pub(super) fn find(tools: &Tools, wanted: &[String]) -> Result<Self, CycleError> {
        let mut found = Self::default();
        for wanted in wanted {
            let rows = if Id::parse(wanted).is_some() {
                read(tools, "id", &json!([wanted]))?
            } else {
                read(tools, "name", &json!(format!("^{}$", literal(wanted))))?
            };
            let is_wanted = |row: &Row| row.id == *wanted || row.name == *wanted;
            let rows: Vec<Row> = rows.into_iter().filter(is_wanted).collect();
            if rows.is_empty() {
                return Err(CycleError::Usage(format!("there is no project {wanted:?}")));
            }
            for Row { id, name } in rows {
                let start = format!("{name}/");
                let below = read(tools, "name", &json!(format!("^{}", literal(&start))))?;
                let below = below.into_iter().filter(|row| row.name.starts_with(&start));
                found.all.extend(below.map(|row| row.id));
                found.all.insert(id.clone());
                found.wanted.push(id);
            }
        }
        Ok(found)
    }

    /// Whether this project is one of them.
    pub(super) fn contain(&self, project: Option<&str>) -> bool {
        project.is_some_and(|project| self.all.contains(project))
    }
}

/// Those of these ids that are a project's on the server.
///
/// # Errors
/// The server cannot be used.
pub(super) fn existing(tools: &Tools, ids: &[Id]) -> Result<HashSet<Id>, CycleError> {
    let mut all = HashSet::new();
    for part in ids.chunks(PAGE) {
        let rows = read(tools, "id", &json!(part))?;
        all.extend(rows.iter().filter_map(|row| Id::parse(&row.id)));
    }
    Ok(all)
}

fn read(tools: &Tools, field: &str, value: &Value) -> Result<Vec<Row>, CycleError> {
    let mut query = json!({"only_fields": ["id", "name"], "search_hidden": true});
    query[field] = value.clone();
    let mut rows = Vec::new();
    tools.all_pages("projects.get_all", &query, PAGE, |page: &Rows| {
        let new = page.projects.iter();
        rows.extend(new.map(|row| Row { id: row.id.clone(), name: row.name.clone() }));
        Ok(())
    })?;
    Ok(rows)
}

/// A regular expression for this text.
fn literal(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/_ -".contains(c);
    let escaped = |c: char| if is_plain(c) { c.to_string() } else { format!("\\{c}") };
    text.chars().map(escaped).collect()
}
