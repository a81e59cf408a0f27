//! The files of tasks: artifacts, models, debug samples and images of plots.
//!
//! This module must not delete anything. Everything is collected before a task is deleted, because the server forgets
//! it then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Tries};
use super::delete::NO_SUCH_TASK;
use super::error::{ApiError, CycleError};
use super::files::DeletionContext;
use super::journal::{Kind, TaskFile};
use super::models::add_models;
use super::plan::Plan;
use super::rows::{Events, Id, TaskRow};
use super::tools::{MOST_PAGES, in_time};

/// How many debug samples are asked for at once; and fewer, if an answer is too long.
const SAMPLES: [usize; 4] = [1000, 100, 10, 1];
/// The same for plots, which are long.
const PLOTS: [usize; 3] = [100, 10, 1];

/// Why a task stays whose events are too long one by one.
const TOO_LONG: &str = "its plots or debug samples are too long to be read";

/// From here on a server does not say how many events there really are.
const COUNTED: u64 = 10_000;

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
    context: &DeletionContext<'_>,
    rows: &HashMap<Id, TaskRow>,
) -> Result<CollectedFiles, CycleError> {
    let mut plans: HashMap<Id, Plan> = rows.values().map(|row| (row.id, Plan::of(row))).collect();
    let mut named: HashMap<String, Vec<Id>> = HashMap::new();
    for row in rows.values() {
        for model in row.output_models() {
            named.entry(model.to_owned()).or_default().push(row.id);
        }
    }
    let order = add_models(context, &mut plans, &named)?;
    let client = Arc::clone(&context.tools.client);
    let ids: Vec<Id> = plans.keys().copied().collect();
    let (mut failed, mut problem) = (HashMap::new(), None);
    let deadline = context.tools.deadline;
    let work = move |task| (task, debug_urls(&client, deadline, task));
    context.tools.pool.each(ids, work, |(task, urls)| match (urls, plans.get_mut(&task)) {
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

/// The addresses of all debug samples and of all images in plots of a task.
fn debug_urls(
    client: &Client,
    deadline: Option<Instant>,
    task: Id,
) -> Result<HashSet<String>, CycleError> {
    let mut urls = HashSet::new();
    for (event_type, sizes) in [("training_debug_image", &SAMPLES[..]), ("plot", &PLOTS)] {
        let mut read = Ok(());
        for size in sizes {
            // From the beginning again: an address is there once.
            read = events(client, deadline, (task, event_type), *size, &mut urls);
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
    deadline: Option<Instant>,
    (task, event_type): (Id, &str),
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
        in_time(deadline)?;
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
}
