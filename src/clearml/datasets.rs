//! Dataset versions on which other versions are based.
//!
//! This module must not delete anything. Only the configuration of a version names the versions that it needs: deleting
//! one of those makes it useless.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::json;

use super::error::CycleError;
use super::rows::Id;
use super::tools::{Page, Tools};

/// Configurations are long, so pages of them are short.
const PAGE: usize = 50;

#[derive(Deserialize)]
struct Datasets {
    tasks: Vec<Dataset>,
}

#[derive(Deserialize)]
struct Dataset {
    id: Id,
    configuration: Option<BTreeMap<String, Option<Item>>>,
}

#[derive(Deserialize)]
struct Item {
    value: Option<String>,
}

/// Hands each version of each dataset to `take`, some of them more than once, with the versions that it needs.
///
/// # Errors
/// The server cannot be used or trusted.
pub(super) fn each_need(
    tools: &Tools,
    mut take: impl FnMut(Id, Vec<Id>),
) -> Result<(), CycleError> {
    each(tools, |dataset| take(dataset.id, dataset.needs()))
}

/// Every version that some version of a dataset needs.
///
/// # Errors
/// The server cannot be used or trusted.
pub(super) fn named(tools: &Tools) -> Result<HashSet<Id>, CycleError> {
    let mut named = HashSet::new();
    each(tools, |dataset| named.extend(dataset.needs()))?;
    Ok(named)
}

/// Hands every version of every dataset to `take`, some of them more than once.
fn each(tools: &Tools, mut take: impl FnMut(&Dataset)) -> Result<(), CycleError> {
    let query = json!({
        "system_tags": ["dataset"], "search_hidden": true, "only_fields": ["id", "configuration"],
    });
    tools.all_pages("tasks.get_all", &query, PAGE, |page: &Datasets| {
        page.tasks.iter().for_each(&mut take);
        Ok(())
    })
}

impl Page for Datasets {
    fn ids(&self) -> Vec<u64> {
        self.tasks.iter().map(|row| row.id.number()).collect()
    }
}

impl Dataset {
    /// The versions that this one needs.
    fn needs(&self) -> Vec<Id> {
        let items = self.configuration.iter().flatten();
        let text = items
            .filter(|(name, _)| name.as_str() == "Dataset Struct")
            .find_map(|(_, item)| item.as_ref()?.value.as_deref());
        // Every id in it, so that one in a form that is not known here is needed, too.
        let words = text.unwrap_or_default().split(|c: char| !c.is_ascii_alphanumeric());
        words.filter_map(Id::parse).filter(|id| *id != self.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_what_it_needs_in_its_configuration() {
        let (own, parent, other) =
            ("0".repeat(31) + "1", "0".repeat(31) + "2", "0".repeat(31) + "3");
        let value = json!({
            "0": {"job_id": parent, "parents": []},
            "1": {"job_id": own, "parents": [parent, other]},
        });
        let row = json!({
            "id": own,
            "configuration": {"Dataset Struct": {"value": value.to_string()}, "Dataset Content": null},
        });
        let dataset: Dataset = serde_json::from_value(row).unwrap();
        let needs: HashSet<String> = dataset.needs().iter().map(Id::to_string).collect();
        assert_eq!(needs, HashSet::from([parent.clone(), other]));
        let odd: Dataset = serde_json::from_value(
            json!({"id": own, "configuration": {"Dataset Struct": {"value": "["}}}),
        )
        .unwrap();
        assert!(odd.needs().is_empty());
        let value = format!("{{\"0\": {{\"of\": [\"{parent}\"");
        let cut: Dataset = serde_json::from_value(
            json!({"id": own, "configuration": {"Dataset Struct": {"value": value}}}),
        )
        .unwrap();
        assert_eq!(cut.needs(), [Id::parse(&parent).unwrap()]);
    }
}
