//! Selects the tasks of a cleanup: by a query, and by the same conditions checked again on every row.
//!
//! This module must not delete anything. A server drops a condition that it cannot read, so one row that breaks a
//! condition means that the others cannot be trusted either. All ids are collected before the first task is
//! deleted, so no page moves.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::error::CycleError;
use super::hash::hash;
use super::ledger::End;
use super::needs::Needs;
use super::options::{Options, STATUSES};
use super::projects::Projects;
use super::rows::{Id, TaskRow, Tasks};
use super::selected::Selected;
use super::time;
use super::token::ApiVersion;
use super::tools::{PAGE, Tools};
use crate::protocol::Skipped;
use crate::rules::{Age, KeptReason, Moment, Ttl};

/// The tag of archived tasks.
const ARCHIVED: &str = "archived";

/// How many tasks one cleanup takes at most; the next one takes the rest.
pub(super) const MOST_TASKS: usize = 200_000;

/// The conditions of a cleanup.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// The status has not changed since this moment.
    pub cutoff: Moment,
    /// The moment that everything is judged at.
    pub now: Moment,
    query: Value,
    filters: super::options::Filters,
    projects: Projects,
}

/// What a row says about a task.
pub(super) enum Verdict {
    Selected(Selected),
    Ends(End, Moment),
}

impl Conditions {
    /// Of a cleanup at `now`. Names of projects are looked up.
    ///
    /// # Errors
    /// The threshold reaches too far back, or a project is not known.
    pub fn new(tools: &Tools, options: &Options, now: Moment) -> Result<Self, CycleError> {
        let cutoff = time::in_millis(now.minus(Ttl::from_duration(options.threshold)));
        let text = time::text(cutoff).map_err(|why| {
            CycleError::Usage(format!("delete_threshold_days is too long: {why}"))
        })?;
        let mut query = json!({
            "system_tags": [ARCHIVED],
            "status_changed": [format!("<{text}")],
            "order_by": ["-last_update"],
            "search_hidden": options.filters.hidden,
        });
        let filters = &options.filters;
        let lists = [
            ("tags", &filters.tags),
            ("type", &filters.types),
            ("user", &filters.users),
            ("status", &filters.statuses),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            let mut wanted = list.clone();
            if key == "tags" && list.len() > 1 {
                wanted.insert(0, "__$all".to_owned());
            }
            query[key] = json!(wanted);
        }
        if let Some(name) = &filters.name {
            query["name"] = json!(name);
        }
        let mut projects = Projects::default();
        if !filters.projects.is_empty() {
            projects = Projects::find(tools, &filters.projects)?;
            query["project"] = json!(projects.wanted);
            if tools.version()? >= ApiVersion(2, 26) {
                query["include_subprojects"] = json!(true);
            }
        }
        Ok(Self { cutoff, now, query, filters: filters.clone(), projects })
    }

    /// The query, for certain fields.
    fn query(&self, fields: &[&str]) -> Value {
        let mut query = self.query.clone();
        query["only_fields"] = json!(fields);
        query
    }

    /// The age of a task at the moment of the cleanup.
    pub fn age(&self, changed: Moment) -> Age {
        changed.age_at(self.now)
    }

    /// Whether a row meets the conditions that were asked for.
    ///
    /// # Errors
    /// It does not, so the server has dropped a condition.
    fn check(&self, row: &TaskRow) -> Result<Moment, CycleError> {
        let wrong = |what: &str| Err(unasked(row, what));
        if !row.has_system_tag(ARCHIVED) {
            return wrong("not archived");
        }
        let Some(changed) = row.status_changed.as_deref().and_then(time::parse) else {
            return wrong("without a time at which its status changed");
        };
        if changed >= self.cutoff {
            return wrong("too young");
        }
        let filters = &self.filters;
        let is_one = |of: &[String], own: &Option<String>| {
            of.is_empty() || own.as_ref().is_some_and(|own| of.contains(own))
        };
        if !is_one(&filters.types, &row.kind) {
            return wrong("of another type");
        }
        if !is_one(&filters.users, &row.user) {
            return wrong("of another user");
        }
        if !is_one(&filters.statuses, &row.status) {
            return wrong("of another status");
        }
        if !filters.projects.is_empty() && !self.projects.contain(row.project.as_deref()) {
            return wrong("of another project");
        }
        let tags = row.tags.as_deref().unwrap_or_default();
        if !filters.tags.iter().all(|tag| tags.contains(tag)) {
            return wrong("without the tag");
        }
        Ok(changed)
    }

    /// Why a row does not meet the conditions, for people.
    pub(super) fn why_not(&self, row: &TaskRow) -> String {
        if !row.has_system_tag(ARCHIVED) {
            return "it is not archived".to_owned();
        }
        match row.status_changed.as_deref().and_then(time::parse) {
            None => "it does not say when its status changed".to_owned(),
            Some(changed) if changed >= self.cutoff => "it is not old enough".to_owned(),
            Some(_) if row.has_system_tag("hidden") && !self.filters.hidden => {
                "it is hidden (--hidden)".to_owned()
            }
            Some(_) => "a filter leaves it out".to_owned(),
        }
    }

    /// What the guards of single tasks say.
    pub(super) fn judge(&self, row: &TaskRow, options: &Options) -> Result<Verdict, CycleError> {
        let changed = self.check(row)?;
        let overrides = &options.overrides;
        let end = match row.status.as_deref() {
            Some("published") if !overrides.published_tasks => {
                Some(End::Kept(KeptReason::Published))
            }
            Some("queued" | "in_progress" | "publishing") if !overrides.running => {
                Some(End::Skipped(Skipped::InUse))
            }
            Some(status) if STATUSES.contains(&status) => None,
            Some(_) | None => Some(End::Kept(KeptReason::Unrecognized)),
        };
        Ok(match end {
            Some(end) => Verdict::Ends(end, changed),
            None => Verdict::Selected(Selected {
                id: row.id,
                changed,
                is_dataset: row.has_system_tag("dataset"),
                is_pipeline: row.has_system_tag("pipeline"),
                project: hash(row.project.as_deref().unwrap_or_default()),
                parent: row.parent.as_deref().and_then(Id::parse),
            }),
        })
    }
}

/// The server has dropped a condition.
fn unasked(row: &TaskRow, what: &str) -> CycleError {
    let why = format!("task {} is {what}, though only others were asked for", row.id);
    CycleError::Untrusted(why)
}

/// What rows are read for a selection.
pub(super) const FIELDS: [&str; 9] =
    ["id", "status", "status_changed", "system_tags", "tags", "type", "user", "project", "parent"];

/// What a cleanup selects.
pub(super) struct Selection {
    /// The tasks to delete.
    pub(super) selected: Vec<Selected>,
    /// Which of them need which others.
    pub(super) needs: Needs,
    /// Those that a guard keeps, each with the moment at which its status changed.
    pub(super) ends: Vec<(Id, End, Moment)>,
    /// Whether there are more than one cleanup takes.
    pub(super) is_cut: bool,
}

/// Collects the tasks to delete, which of them need which others, and those that a guard keeps.
///
/// # Errors
/// The server cannot be used or trusted.
pub(super) fn select(
    tools: &Tools,
    options: &Options,
    conditions: &Conditions,
) -> Result<Selection, CycleError> {
    let mut found = Collected::default();
    let query = conditions.query(&FIELDS);
    tools.pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
        found.take(&page.tasks, options, conditions)?;
        Ok(!found.is_cut)
    })?;
    // The steps of a pipeline that stays stay with it.
    let newest = newest(&found.selected, options.keep_last);
    for steps in pipeline_steps(tools, conditions, &found.selected, &newest)? {
        found.take(&steps, options, conditions)?;
    }
    let Collected { mut selected, mut ends, is_cut, .. } = found;
    let mut keep = |selected: &mut Vec<Selected>, stays: &HashSet<Id>, why| {
        let kept = selected.extract_if(.., |task| stays.contains(&task.id));
        ends.extend(kept.map(|task| (task.id, End::Kept(why), task.changed)));
    };
    keep(&mut selected, &newest, KeptReason::Newest);
    let (needs, stay) = Needs::read(tools, options, &selected)?;
    keep(&mut selected, &stay, KeptReason::Referenced);
    Ok(Selection { selected, needs, ends, is_cut })
}

/// What was found on pages of tasks.
#[derive(Default)]
struct Collected {
    known: HashSet<Id>,
    selected: Vec<Selected>,
    ends: Vec<(Id, End, Moment)>,
    /// There are more than one cleanup takes.
    is_cut: bool,
}

impl Collected {
    /// Takes the rows of a page.
    fn take(
        &mut self,
        rows: &[TaskRow],
        options: &Options,
        conditions: &Conditions,
    ) -> Result<(), CycleError> {
        for row in rows {
            let verdict = conditions.judge(row, options)?;
            if self.known.len() >= MOST_TASKS {
                self.is_cut = true;
                break;
            }
            if !self.known.insert(row.id) {
                continue;
            }
            match verdict {
                Verdict::Selected(task) => self.selected.push(task),
                Verdict::Ends(end, changed) => self.ends.push((row.id, end, changed)),
            }
        }
        Ok(())
    }
}

/// Steps of selected pipelines that are archived and old enough themselves. They are hidden, and the server
/// would forget their files if it deleted them with the pipeline.
fn pipeline_steps(
    tools: &Tools,
    conditions: &Conditions,
    selected: &[Selected],
    stay: &HashSet<Id>,
) -> Result<Vec<Vec<TaskRow>>, CycleError> {
    let goes = |task: &&Selected| task.is_pipeline && !stay.contains(&task.id);
    let pipelines: Vec<Id> = selected.iter().filter(goes).map(|task| task.id).collect();
    let mut steps = Vec::new();
    for part in pipelines.chunks(PAGE) {
        let mut query = conditions.query(&FIELDS);
        query["search_hidden"] = json!(true);
        query["parent"] = json!(part);
        let is_step = |row: &TaskRow| {
            row.parent.as_deref().and_then(Id::parse).is_some_and(|id| part.contains(&id))
        };
        tools.pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
            if let Some(row) = page.tasks.iter().find(|row| !is_step(row)) {
                return Err(unasked(row, "not a step of these pipelines"));
            }
            steps.push(page.tasks.clone());
            Ok(true)
        })?;
    }
    Ok(steps)
}

/// The newest `count` of each project.
fn newest(selected: &[Selected], count: u64) -> HashSet<Id> {
    let mut by_project: BTreeMap<u64, Vec<(Moment, Id)>> = BTreeMap::new();
    for task in selected.iter().filter(|_| count > 0) {
        by_project.entry(task.project).or_default().push((task.changed, task.id));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let newest = by_project.into_values().flat_map(|mut tasks| {
        tasks.sort_unstable_by(|a, b| b.cmp(a));
        tasks.into_iter().take(count)
    });
    newest.map(|(_, id)| id).collect()
}

/// A batch of selected tasks as they are now.
pub(super) fn still_selected(
    tools: &Tools,
    options: &Options,
    conditions: &Conditions,
    ids: &[Id],
    fields: &[&str],
) -> Result<HashMap<Id, TaskRow>, CycleError> {
    let mut fields = fields.to_vec();
    fields.extend(FIELDS);
    let mut query = conditions.query(&fields);
    query["search_hidden"] = json!(true);
    query["id"] = json!(ids);
    query["page"] = json!(0);
    query["page_size"] = json!(PAGE);
    let answer: Tasks = tools.ask("tasks.get_all", query)?;
    let mut rows = HashMap::new();
    for row in answer.tasks {
        if !ids.contains(&row.id) {
            return Err(CycleError::Untrusted(format!("task {} was not asked for", row.id)));
        }
        if let Verdict::Selected(_) = conditions.judge(&row, options)? {
            rows.insert(row.id, row);
        }
    }
    Ok(rows)
}
