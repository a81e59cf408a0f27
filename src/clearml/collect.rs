//! The files of tasks: artifacts, models, debug samples and images of plots.
//!
//! This module must not delete anything. Everything is collected before a task is deleted, because the server forgets
//! it then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Tries};
use super::delete::NO_SUCH_TASK;
use super::error::{ApiError, CycleError};
use super::journal::{Kind, TaskFile};
use super::needs::Needs;
use super::options::Options;
use super::rows::{Events, Id, ModelRow, Models, TaskRow, Tasks};
use super::tools::{MOST_PAGES, PAGE, Tools};

/// How many debug samples are asked for at once; and fewer, if an answer is too long.
const SAMPLES: [usize; 4] = [1000, 100, 10, 1];
/// The same for plots, which are long.
const PLOTS: [usize; 3] = [100, 10, 1];

/// Why a task stays whose events are too long one by one.
const TOO_LONG: &str = "its plots or debug samples are too long to be read";

/// From here on a server does not say how many events there really are.
const COUNTED: u64 = 10_000;

/// A task that is about to be deleted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task.
    pub task: Id,
    /// When it was changed last, as the server writes it.
    pub last_update: Option<String>,
    /// Its files.
    pub files: Vec<TaskFile>,
    /// Its models that the server deletes with it.
    pub models: Vec<String>,
    /// The addresses of those that tasks of the same batch use, each with such a task. If it stays, so does the model.
    pub used_models: Vec<(String, Id)>,
    /// Its published models that nothing else uses, if they are to be deleted, too.
    pub published_models: Vec<String>,
    /// The addresses of its models that stay.
    pub kept_models: Vec<String>,
    /// Whether the server is told to delete its files, too.
    pub is_told: bool,
}

/// The files of tasks, as far as they can be found out.
#[derive(Debug)]
pub(super) struct CollectedFiles {
    /// The tasks that can be deleted, in order.
    pub(super) plans: Vec<Plan>,
    /// The others, each with the reason.
    pub(super) failed: HashMap<Id, String>,
}

/// Collects the files of these tasks. One that another client has deleted in the meantime is not among them.
///
/// # Errors
/// The server cannot be used or trusted. Nothing is deleted then.
pub(super) fn collect(
    tools: &Tools,
    options: &Options,
    rows: &HashMap<Id, TaskRow>,
) -> Result<CollectedFiles, CycleError> {
    let mut plans: HashMap<Id, Plan> = rows.values().map(|row| (row.id, plan(row))).collect();
    let mut named: HashMap<String, Id> = HashMap::new();
    for row in rows.values() {
        let models = row.models.iter().flat_map(|models| models.output.iter().flatten());
        named.extend(models.filter_map(|model| Some((model.model.clone()?, row.id))));
    }
    let order = add_models(tools, options, &mut plans, &named)?;
    let client = Arc::clone(&tools.client);
    let ids: Vec<Id> = plans.keys().copied().collect();
    let (mut failed, mut problem) = (HashMap::new(), None);
    let work = move |task| (task, debug_urls(&client, task));
    tools.pool.each(ids, work, |(task, urls)| match (urls, plans.get_mut(&task)) {
        (Ok(urls), Some(plan)) => {
            plan.files.extend(urls.into_iter().map(|url| TaskFile { url, kind: Kind::Event }));
        }
        (Err(CycleError::Api(error)), _) if error.is(NO_SUCH_TASK.0, NO_SUCH_TASK.1) => {
            plans.remove(&task);
        }
        (Err(CycleError::Api(ApiError::TooLong { .. })), _) => {
            plans.remove(&task);
            failed.insert(task, TOO_LONG.to_owned());
        }
        (Err(error), _) => problem = Some(error),
        (Ok(_), None) => {}
    })?;
    if let Some(error) = problem {
        return Err(error);
    }
    let mut plans: Vec<Plan> = plans.into_values().collect();
    let depths = order.depths();
    plans.sort_unstable_by_key(|plan| (depths.get(&plan.task).copied(), plan.task));
    for plan in &mut plans {
        let mut known = HashSet::new();
        plan.files.retain(|file| known.insert(file.url.clone()));
    }
    Ok(CollectedFiles { plans, failed })
}

/// A task with its artifacts.
fn plan(row: &TaskRow) -> Plan {
    let is_output = |mode: &Option<String>| mode.as_deref() == Some("output");
    let outputs = row.artifacts().filter(|artifact| is_output(&artifact.mode));
    let urls = outputs.filter_map(|artifact| artifact.uri.clone()).filter(|url| !url.is_empty());
    Plan {
        task: row.id,
        last_update: row.last_update.clone(),
        files: urls.map(|url| TaskFile { url, kind: Kind::Artifact }).collect(),
        models: Vec::new(),
        used_models: Vec::new(),
        published_models: Vec::new(),
        kept_models: Vec::new(),
        is_told: false,
    }
}

/// Adds the models that only these tasks have: drafts, and published ones if the user says so. Gives the order in which
/// the server deletes the drafts, too: a task that uses one comes before the task that it belongs to.
fn add_models(
    tools: &Tools,
    options: &Options,
    plans: &mut HashMap<Id, Plan>,
    named: &HashMap<String, Id>,
) -> Result<Needs, CycleError> {
    let ids: Vec<Id> = plans.keys().copied().collect();
    let mut models = Models { rows: Vec::new() };
    read_models(tools, &mut models, "task", &json!(ids))?;
    let known: HashSet<&String> = models.rows.iter().map(|model| &model.id).collect();
    let unread: Vec<String> = named.keys().filter(|id| !known.contains(id)).cloned().collect();
    for part in unread.chunks(PAGE) {
        read_models(tools, &mut models, "id", &json!(part))?;
    }
    let models = models.rows;
    let users = users_of(tools, &models, plans)?;
    let mut order = Needs::default();
    for model in models {
        let of = model.task.as_deref().and_then(Id::parse);
        let task = of.filter(|task| plans.contains_key(task));
        let task = task.or_else(|| named.get(&model.id).copied());
        let Some(plan) = task.and_then(|task| plans.get_mut(&task)) else { continue };
        // What belongs to another task stays with it. What does not say that it is a draft is not one.
        let is_own = of.is_none_or(|of| of == plan.task);
        let is_draft = model.ready == Some(false);
        let users = users.get(&model.id);
        // Tasks of the batch go, too. If one of them stays after all, the server keeps a draft, which keeps its file.
        let is_used = users.is_some_and(|users| users.has_others || !is_draft);
        if !is_own || is_used || !(is_draft || options.overrides.published_models) {
            plan.kept_models.push(model.uri.unwrap_or_default());
            continue;
        }
        if is_draft {
            for user in users.iter().flat_map(|users| &users.batch).copied() {
                plan.used_models.push((model.uri.clone().unwrap_or_default(), user));
                if user != plan.task {
                    order.add(user, plan.task);
                }
            }
            plan.models.push(model.id);
        } else {
            plan.published_models.push(model.id);
        }
        if let Some(url) = model.uri.filter(|url| !url.is_empty()) {
            plan.files.push(TaskFile { url, kind: Kind::Model });
        }
    }
    Ok(order)
}

/// Reads the models that a field selects.
fn read_models(
    tools: &Tools,
    models: &mut Models,
    field: &str,
    values: &serde_json::Value,
) -> Result<(), CycleError> {
    let mut query = json!({"only_fields": ["id", "uri", "task", "ready"]});
    query[field] = values.clone();
    let mut known = HashSet::new();
    tools.all_pages("models.get_all", &query, PAGE, |page: &Models| {
        let new = page.rows.iter().filter(|model| known.insert(model.id.clone()));
        models.rows.extend(new.cloned());
        Ok(())
    })
}

/// The tasks that have a model as their input.
#[derive(Default)]
struct Users {
    /// Those of the batch.
    batch: HashSet<Id>,
    /// Whether there are others.
    has_others: bool,
}

/// The tasks that have these models as their input.
fn users_of(
    tools: &Tools,
    models: &[ModelRow],
    batch: &HashMap<Id, Plan>,
) -> Result<HashMap<String, Users>, CycleError> {
    let ids: Vec<&String> = models.iter().map(|model| &model.id).collect();
    let mut all: HashMap<String, Users> = HashMap::new();
    for part in ids.chunks(PAGE) {
        let query = json!({
            "models.input.model": part, "only_fields": ["id", "models.input"],
            "search_hidden": true,
        });
        tools.all_pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
            for row in &page.tasks {
                let inputs = row.models.iter().flat_map(|models| models.input.iter().flatten());
                for model in inputs.filter_map(|input| input.model.clone()) {
                    let users = all.entry(model).or_default();
                    if batch.contains_key(&row.id) {
                        users.batch.insert(row.id);
                    } else {
                        users.has_others = true;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// The addresses of all debug samples and of all images in plots of a task.
fn debug_urls(client: &Client, task: Id) -> Result<HashSet<String>, CycleError> {
    let mut urls = HashSet::new();
    for (event_type, sizes) in [("training_debug_image", &SAMPLES[..]), ("plot", &PLOTS)] {
        let mut read = Ok(());
        for size in sizes {
            // From the beginning again: an address is there once.
            read = events(client, task, event_type, *size, &mut urls);
            if !matches!(read, Err(CycleError::Api(ApiError::TooLong { .. }))) {
                break;
            }
        }
        read?;
    }
    Ok(urls)
}

fn events(
    client: &Client,
    task: Id,
    event_type: &str,
    size: usize,
    urls: &mut HashSet<String>,
) -> Result<(), CycleError> {
    let endless = || {
        CycleError::Untrusted(format!(
            "the server returns events ({event_type}) of task {task} without end"
        ))
    };
    let mut scroll: Option<String> = None;
    let mut received = 0;
    for _ in 0..MOST_PAGES {
        let mut body = json!({
            "task": task, "event_type": event_type, "order": "asc", "batch_size": size,
            "model_events": false,
        });
        if let Some(scroll) = &scroll {
            body["scroll_id"] = json!(scroll);
        }
        let page: Events = client.call("events.get_task_events", &body, Tries::Several)?;
        if page.rows.is_empty() {
            return Ok(());
        }
        received += page.rows.len() as u64;
        if let Some(total) = page.total.filter(|total| *total < COUNTED)
            && received > total.saturating_add(size as u64)
        {
            return Err(endless());
        }
        for event in page.rows {
            let images = event.source_urls.filter(|images| !images.is_empty());
            let images = images.unwrap_or_else(|| images_of(event.plot_str.as_deref()));
            urls.extend(event.url.into_iter().chain(images).filter(|url| is_address(url)));
        }
        let is_all = page.total.is_some_and(|total| total < COUNTED && received >= total);
        match page.scroll_id.filter(|id| !id.is_empty()) {
            Some(next) => scroll = Some(next),
            None if is_all => return Ok(()),
            None => {
                let why = format!("the events of task {task} have no scroll_id");
                return Err(CycleError::Untrusted(why));
            }
        }
    }
    Err(endless())
}

/// Images can be part of a plot itself.
fn is_address(url: &str) -> bool {
    !url.is_empty() && !url.starts_with("data:")
}

/// The images of a plot, from its own text.
fn images_of(plot: Option<&str>) -> Vec<String> {
    #[derive(Deserialize)]
    struct Plot {
        layout: Option<Layout>,
    }
    #[derive(Deserialize)]
    struct Layout {
        images: Option<Vec<Image>>,
    }
    #[derive(Deserialize)]
    struct Image {
        source: Option<String>,
    }
    let plot: Option<Plot> = plot.and_then(|text| serde_json::from_str(text).ok());
    let images = plot.and_then(|plot| plot.layout?.images).unwrap_or_default();
    images.into_iter().filter_map(|image| image.source).collect()
}

impl From<&ApiError> for CycleError {
    fn from(error: &ApiError) -> Self {
        Self::Api(error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_images_of_a_plot_are_found_and_a_plot_that_is_no_json_has_none() {
        let plot =
            json!({"layout": {"images": [{"source": "http://a"}, {}, {"source": "http://b"}]}});
        assert_eq!(images_of(Some(&plot.to_string())), ["http://a", "http://b"]);
        for odd in [None, Some("not json"), Some("[]"), Some("{\"layout\":null}")] {
            assert!(images_of(odd).is_empty(), "{odd:?}");
        }
        assert!(is_address("http://a") && !is_address("data:image/png;base64,xx"));
    }

    #[test]
    fn only_output_artifacts_belong_to_a_task() {
        let id = "0".repeat(32);
        let row: TaskRow = serde_json::from_value(json!({"id": id, "execution": {"artifacts": [
            {"mode": "output", "uri": "a"}, {"mode": "input", "uri": "b"}, {"uri": "c"},
            {"mode": "output"}, {"mode": "output", "uri": ""},
        ]}}))
        .unwrap();
        let urls: Vec<String> = plan(&row).files.into_iter().map(|file| file.url).collect();
        assert_eq!(urls, ["a"]);
    }
}
