//! Which other tasks and models refer to a file.
//!
//! This module must not delete anything. It remembers addresses as numbers. Those that lead into the folder of the task
//! that names them are left out, because they cannot name a file of another task. Those of a model are left out only if
//! its task is selected: the model may have outlived the task. An address can be written in many ways, so a file is
//! compared by its name below the folder of a task.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::error::CycleError;
use super::hash::hash;
use super::options::Options;
use super::rows::{Id, Models, Tasks};
use super::selected::SelectedTasks;
use super::tools::{PAGE, Tools};
use super::urls::{folders_in, names_in, names_of, prefixes_of};

/// What tasks and models name outside of the own folder of a task.
#[derive(Debug, Default)]
pub struct References {
    /// What stays names these files.
    names: HashSet<u64>,
    /// What stays names something in the folders of these tasks.
    folders: HashSet<Id>,
    /// Each of these selected tasks names such a file, until it is deleted.
    pending_names: Vec<(u64, Id)>,
    /// Each of these selected tasks names something in such a folder, until it is deleted.
    pending_folders: Vec<(Id, Id)>,
    /// What stays lists these models as its output, although they do not belong to it.
    listed: HashSet<u64>,
    /// Each of these selected tasks lists such a model, until it is deleted.
    pending_listed: Vec<(u64, Id)>,
    files: Vec<String>,
    prefixes: Vec<Vec<u8>>,
}

/// A file that may be deleted, unless something else names it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its address.
    pub url: String,
    /// The task that it belongs to.
    pub task: Id,
}

/// Files that something else names, by their addresses.
#[derive(Debug, Default)]
pub struct Shared {
    /// What names them stays.
    pub kept: HashSet<String>,
    /// What names them is to be deleted, and is not yet.
    pub later: HashSet<String>,
}

impl Shared {
    /// Whether something names this file.
    pub fn contains(&self, url: &str) -> bool {
        self.kept.contains(url) || self.later.contains(url)
    }
}

impl References {
    /// What tasks and models name; no files if the user lets shared ones go. `without` are models that are about to be
    /// deleted.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn protecting(
        tools: &Tools,
        selected: &SelectedTasks,
        options: &Options,
        without: &HashSet<String>,
    ) -> Result<Self, CycleError> {
        let found = Self::read_without(tools, selected, without)?;
        if options.overrides.shared_files {
            let Self { listed, pending_listed, files, .. } = found;
            return Ok(Self { listed, pending_listed, files, ..Self::default() });
        }
        Ok(found)
    }

    /// Reads the artifacts and output models of all tasks, and the addresses of all models.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn read(tools: &Tools, selected: &SelectedTasks) -> Result<Self, CycleError> {
        Self::read_without(tools, selected, &HashSet::new())
    }

    fn read_without(
        tools: &Tools,
        selected: &SelectedTasks,
        without: &HashSet<String>,
    ) -> Result<Self, CycleError> {
        let server = tools.client.server();
        let (files, prefixes) = (server.files.clone(), prefixes_of(server));
        let mut found = Self { files, prefixes, ..Self::default() };
        // The models that may be deleted with a selected task, each with the task that it belongs to. They come first,
        // so that few of those that tasks list are remembered.
        let mut owners: HashMap<u64, Option<Id>> = HashMap::new();
        let query = json!({"only_fields": ["id", "uri", "task"]});
        tools.all_pages("models.get_all", &query, PAGE, |page: &Models| {
            for model in &page.rows {
                let url = model.uri.as_deref().unwrap_or_default();
                let owner = model.task.as_deref().and_then(Id::parse);
                if owner.is_none_or(|task| selected.contains(task)) {
                    owners.insert(hash(&model.id), owner);
                }
                match owner {
                    _ if without.contains(&model.id) => {}
                    Some(task) if selected.contains(task) => found.add(task, url, true),
                    // Its task may be gone: then only the model names its file.
                    Some(_) | None => found.keep(url),
                }
            }
            Ok(())
        })?;
        let query = json!({
            "search_hidden": true, "only_fields": ["id", "models.output", "execution.artifacts"],
        });
        tools.all_pages("tasks.get_all", &query, PAGE, |page: &Tasks| {
            for row in &page.tasks {
                let is_pending = selected.contains(row.id);
                for url in row.artifacts().filter_map(|artifact| artifact.uri.as_deref()) {
                    found.add(row.id, url, is_pending);
                }
                for model in row.output_models().map(hash) {
                    if owners.get(&model).is_none_or(|owner| *owner == Some(row.id)) {
                        continue;
                    }
                    if is_pending {
                        found.pending_listed.push((model, row.id));
                    } else {
                        found.listed.insert(model);
                    }
                }
            }
            Ok(())
        })?;
        found.pending_listed.sort_unstable();
        found.pending_names.sort_unstable();
        found.pending_folders.sort_unstable();
        Ok(found)
    }

    /// Takes an address into account that leads out of the folder of its task.
    fn add(&mut self, task: Id, url: &str, is_pending: bool) {
        let folders = folders_in(url);
        if url.is_empty() || folders == [task] {
            return;
        }
        if !is_pending {
            self.keep(url);
            return;
        }
        let names = names_in(url, &self.prefixes);
        self.pending_names.extend(names.into_iter().map(|name| (hash(name), task)));
        let others = folders.into_iter().filter(|folder| *folder != task);
        self.pending_folders.extend(others.map(|folder| (folder, task)));
    }

    /// Something that stays has this address.
    pub fn keep(&mut self, url: &str) {
        if !url.is_empty() {
            self.names.extend(names_in(url, &self.prefixes).into_iter().map(hash));
            self.folders.extend(folders_in(url));
        }
    }

    /// This model stays.
    pub fn keep_model(&mut self, model: &str, url: &str) {
        self.listed.insert(hash(model));
        self.keep(url);
    }

    /// Who lists this model as its output, besides the task that it belongs to: whether something that stays, and which
    /// selected tasks that are not deleted yet.
    pub fn listers(&self, model: &str, selected: &SelectedTasks) -> (bool, Vec<Id>) {
        let model = hash(model);
        let those = of(&self.pending_listed, &model).filter(|id| selected.is_pending(*id));
        (self.listed.contains(&model), those.collect())
    }

    /// Whether a task or a model that is there names something in the folder of this task.
    pub fn name_folder_of(&self, task: Id, selected: &SelectedTasks) -> bool {
        self.folders.contains(&task) || is_named(&self.pending_folders, &task, task, selected)
    }

    /// Those of these files that something else names: a task, a model that is not among `deleted_models`, or another
    /// task in whose folder the file is.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn shared(
        &self,
        tools: &Tools,
        candidates: &[Candidate],
        deleted_models: &HashSet<String>,
        selected: &SelectedTasks,
    ) -> Result<Shared, CycleError> {
        let mut shared = Shared::default();
        let mut hosts: HashMap<Id, Vec<&str>> = HashMap::new();
        for Candidate { url, task } in candidates {
            for name in names_of(url, &self.files, &self.prefixes).into_iter().map(hash) {
                if self.names.contains(&name) {
                    shared.kept.insert(url.clone());
                }
                if is_named(&self.pending_names, &name, *task, selected) {
                    shared.later.insert(url.clone());
                }
            }
            for folder in folders_in(url).into_iter().filter(|folder| folder != task) {
                if selected.is_pending(folder) {
                    shared.later.insert(url.clone());
                } else if !selected.contains(folder) {
                    hosts.entry(folder).or_default().push(url);
                }
            }
        }
        let urls: Vec<String> = candidates.iter().map(|candidate| candidate.url.clone()).collect();
        shared.kept.extend(of_models(tools, urls, deleted_models)?);
        let ids: Vec<Id> = hosts.keys().copied().collect();
        for id in existing(tools, &ids)? {
            shared.kept.extend(hosts[&id].iter().map(|url| (*url).to_owned()));
        }
        Ok(shared)
    }
}

/// Whether `pending` has `what` for a task other than `own` that is not deleted yet.
fn is_named<T: Ord>(pending: &[(T, Id)], what: &T, own: Id, selected: &SelectedTasks) -> bool {
    of(pending, what).any(|by| by != own && selected.is_pending(by))
}

/// The tasks that `pending` has for `what`.
fn of<T: Ord>(pending: &[(T, Id)], what: &T) -> impl Iterator<Item = Id> {
    let start = pending.partition_point(|(named, _)| named < what);
    pending[start..].iter().take_while(move |(named, _)| named == what).map(|(_, by)| *by)
}

/// Those of these addresses that a model has which is not among `deleted_models`.
fn of_models(
    tools: &Tools,
    urls: Vec<String>,
    deleted_models: &HashSet<String>,
) -> Result<HashSet<String>, CycleError> {
    let mut kept = HashSet::new();
    let body = |part: &[String]| json!({"uri": part, "only_fields": ["id", "uri"]});
    tools.ask_until_none("models.get_all", urls, body, |part, answer: Models| {
        if answer.rows.len() >= PAGE {
            // Some rows may be missing, so it is not known who names what.
            kept.extend(part.iter().cloned());
        }
        let mut found = HashSet::new();
        for model in answer.rows {
            let url = model.uri.unwrap_or_default();
            if !deleted_models.contains(&model.id) {
                kept.insert(url.clone());
            }
            found.insert(url);
        }
        found
    })?;
    Ok(kept)
}

/// Those of these tasks that the server has.
///
/// # Errors
/// The server cannot be used, or tells of tasks that were not asked for.
pub fn existing(tools: &Tools, ids: &[Id]) -> Result<HashSet<Id>, CycleError> {
    let asked: HashSet<Id> = ids.iter().copied().collect();
    let mut all = HashSet::new();
    let body = |part: &[Id]| json!({"id": part, "only_fields": ["id"], "search_hidden": true});
    tools.ask_until_none("tasks.get_all", ids.to_vec(), body, |_, answer: Tasks| {
        let found: HashSet<Id> = answer.tasks.into_iter().map(|row| row.id).collect();
        all.extend(&found);
        found
    })?;
    match all.iter().find(|id| !asked.contains(id)) {
        Some(id) => Err(CycleError::Untrusted(format!("task {id} was not asked for"))),
        None => Ok(all),
    }
}
