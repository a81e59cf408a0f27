//! Which models are deleted with tasks, and which ones stay.
//!
//! This module must not delete anything. A draft goes unless a task outside the batch uses it: has it as its input,
//! lists it as its output, or is the one that it belongs to. The server looks at the inputs only.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::delete::{DELETE_MANY, DELETES_DRAFTS};
use super::error::CycleError;
use super::files::DeletionContext;
use super::journal::{Kind, TaskFile};
use super::needs::Needs;
use super::plan::{Plan, PlannedModel};
use super::rows::{Id, ModelRow, Models, Tasks};
use super::token::ApiVersion;
use super::tools::{PAGE, Tools};

/// Why the server refuses to delete a task without force.
const HAS_PUBLISHED: &str = "it has a published model (--force-delete)";

/// Adds the models that only these tasks have: drafts, and published ones if the user says so. `named` are the tasks
/// that list a model as their output. Gives the order in which the server deletes the drafts, too: a task that uses one
/// comes before the task that it belongs to.
pub(super) fn add_models(
    context: &DeletionContext<'_>,
    plans: &mut HashMap<Id, Plan>,
    named: &HashMap<String, Vec<Id>>,
) -> Result<Needs, CycleError> {
    let ids: Vec<Id> = plans.keys().copied().collect();
    let mut models = Models { rows: Vec::new() };
    read_models(context.tools, &mut models, "task", &json!(ids))?;
    let known: HashSet<&String> = models.rows.iter().map(|model| &model.id).collect();
    let unread: Vec<String> = named.keys().filter(|id| !known.contains(id)).cloned().collect();
    for part in unread.chunks(PAGE) {
        read_models(context.tools, &mut models, "id", &json!(part))?;
    }
    let mut users = users_of(context.tools, &models.rows, plans)?;
    let mut order = Needs::default();
    for model in models.rows {
        let namers = named.get(&model.id).map_or(&[][..], Vec::as_slice);
        let users = users.remove(&model.id).unwrap_or_default();
        add_model(context, plans, model, namers, users, &mut order);
    }
    for plan in plans.values_mut().filter(|plan| plan.keeps_drafts) {
        keep_drafts(plan, context.version);
    }
    Ok(order)
}

/// Has the server delete no draft with this task. Those that go are deleted after it.
pub(super) fn keep_drafts(plan: &mut Plan, version: ApiVersion) {
    plan.keeps_drafts = true;
    plan.later_models.append(&mut plan.models);
    if version < DELETE_MANY {
        plan.refused = Some(DELETES_DRAFTS);
    }
}

/// Adds a model to the task that it belongs to, or else to the first of those that list it.
fn add_model(
    context: &DeletionContext<'_>,
    plans: &mut HashMap<Id, Plan>,
    model: ModelRow,
    namers: &[Id],
    users: Users,
    order: &mut Needs,
) {
    let of = model.task.as_deref().and_then(Id::parse);
    let owner = of.filter(|task| plans.contains_key(task));
    let Some(task) = owner.or_else(|| namers.iter().min().copied()) else { return };
    // What does not say that it is a draft is not one.
    let is_draft = model.ready == Some(false);
    let (is_listed, listers) = context.references.listers(&model.id, &context.selected);
    let (inside, outside): (Vec<Id>, Vec<Id>) =
        listers.into_iter().filter(|id| *id != task).partition(|id| plans.contains_key(id));
    // What belongs to another task stays with it.
    let is_others = of.is_some_and(|of| of != task) || is_listed || !outside.is_empty();
    // Tasks of the batch go, too. If one of them stays after all, so does a draft, which keeps its file.
    let has_users = !users.batch.is_empty() || !inside.is_empty();
    let is_used = users.has_others || has_users && !is_draft;
    let stays = is_others || is_used || !(is_draft || context.options.overrides.published_models);
    // The server deletes a draft with any task that lists it, unless some task has it as its input.
    if is_draft && !users.has_others && (stays || !inside.is_empty()) {
        for task in namers.iter().chain([&task]) {
            let plan = plans.get_mut(task).into_iter();
            plan.for_each(|plan| {
                plan.keeps_drafts |= stays;
                plan.shares_drafts = true;
            });
        }
    }
    if model.ready == Some(true) && !context.options.force {
        for task in namers.iter().chain(&owner) {
            let plan = plans.get_mut(task).into_iter();
            plan.for_each(|plan| plan.refused = Some(HAS_PUBLISHED));
        }
    }
    let Some(plan) = plans.get_mut(&task) else { return };
    let url = model.uri.unwrap_or_default();
    let planned = PlannedModel { id: model.id, url: url.clone() };
    if stays {
        plan.kept_models.push(planned);
        return;
    }
    // The server keeps a draft that its own task has as its input.
    let is_own_input = users.batch.contains(&task);
    for user in users.batch.into_iter().filter(|user| *user != task) {
        plan.used_models.push((url.clone(), user));
        order.add(user, task);
    }
    plan.listed_models.extend(inside.into_iter().map(|lister| (url.clone(), lister)));
    if is_draft && !is_own_input {
        plan.models.push(planned);
    } else {
        plan.later_models.push(planned);
    }
    if !url.is_empty() {
        plan.files.push(TaskFile { url, kind: Kind::Model });
    }
}

/// A model that was to be deleted after its task and is still there.
pub(super) struct FoundModel {
    pub(super) id: String,
    pub(super) url: String,
    /// Whether a task that is there uses it.
    pub(super) is_used: bool,
}

/// Those of these models that are there. Their tasks are gone.
pub(super) fn find_models(
    context: &DeletionContext<'_>,
    ids: &[String],
) -> Result<Vec<FoundModel>, CycleError> {
    let mut models = Models { rows: Vec::new() };
    for part in ids.chunks(PAGE) {
        read_models(context.tools, &mut models, "id", &json!(part))?;
    }
    let users = users_of(context.tools, &models.rows, &HashMap::new())?;
    let found = models.rows.into_iter().map(|model| {
        let has_task = model.task.as_deref().and_then(Id::parse).is_some();
        let is_listed = context.references.listers(&model.id, &context.selected).0;
        let is_used = has_task || is_listed || users.contains_key(&model.id);
        FoundModel { id: model.id, url: model.uri.unwrap_or_default(), is_used }
    });
    Ok(found.collect())
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
