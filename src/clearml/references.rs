//! Who else names a file: tasks that stay, and models.
//!
//! It must not delete anything. Of the tasks on a server only those addresses are remembered that lead out of a
//! task's own folder, as numbers: nothing else can name a file of another task.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::error::CycleError;
use super::options::{FilesMode, Options};
use super::rows::{Id, Models, Tasks};
use super::selected::hash;
use super::tools::{PAGE, Tools};
use super::urls::{Place, folders_of, normal, place_of};

/// What the tasks that stay name outside of their own folders.
#[derive(Debug, Default)]
pub struct References {
    addresses: HashSet<u64>,
    folders: HashSet<Id>,
    files: Vec<String>,
}

/// A file that may be deleted, unless something else names it.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Its address.
    pub url: String,
    /// The task that it belongs to.
    pub task: Id,
}

impl References {
    /// What other tasks than those that are `selected` name; nothing if the user lets shared files go.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn protecting(
        tools: &Tools,
        selected: &HashSet<Id>,
        options: &Options,
    ) -> Result<Self, CycleError> {
        if options.overrides.shared_files {
            return Ok(Self::default());
        }
        Self::read(tools, selected, options)
    }

    /// Reads the artifacts of all tasks but those that are `selected`, and if files are removed from a
    /// mounted directory, the addresses of all models.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn read(
        tools: &Tools,
        selected: &HashSet<Id>,
        options: &Options,
    ) -> Result<Self, CycleError> {
        let files = tools.client.server().files.clone();
        let mut found = Self { files, ..Self::default() };
        let query = json!({
            "search_hidden": true, "order_by": ["id"], "only_fields": ["id", "execution.artifacts"],
        });
        let mut known = HashSet::new();
        tools.pages("tasks.get_all", &query, PAGE, |page: Tasks| {
            let (rows, mut new) = (page.tasks.len(), 0);
            for row in page.tasks {
                new += usize::from(known.insert(row.id));
                if !selected.contains(&row.id) {
                    for url in row.artifacts().filter_map(|artifact| artifact.uri.as_deref()) {
                        found.add(row.id, url);
                    }
                }
            }
            Ok((rows, new))
        })?;
        if options.files == FilesMode::Mount {
            found.add_models(tools, selected)?;
        }
        Ok(found)
    }

    /// Adds the folders that models of other tasks lie in.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn add_models(&mut self, tools: &Tools, selected: &HashSet<Id>) -> Result<(), CycleError> {
        let query = json!({"order_by": ["id"], "only_fields": ["id", "uri", "task"]});
        let mut known = HashSet::new();
        tools.pages("models.get_all", &query, PAGE, |page: Models| {
            let (rows, mut new) = (page.rows.len(), 0);
            for model in page.rows {
                let task = model.task.as_deref().and_then(Id::parse);
                let folders = self.folders_in(model.uri.as_deref().unwrap_or_default());
                new += usize::from(known.insert(model.id));
                let is_own = |folder: &Id| task == Some(*folder) && selected.contains(folder);
                self.folders.extend(folders.into_iter().filter(|folder| !is_own(folder)));
            }
            Ok((rows, new))
        })
    }

    fn add(&mut self, task: Id, url: &str) {
        let folders = self.folders_in(url);
        if folders != [task] {
            self.addresses.insert(hash(normal(url, &self.files)));
            self.folders.extend(folders.into_iter().filter(|folder| *folder != task));
        }
    }

    fn folders_in(&self, url: &str) -> Vec<Id> {
        match place_of(url, &self.files) {
            Place::Fileserver(_, path) => folders_of(&path).0,
            Place::Local(path) => folders_of(path.as_os_str().as_encoded_bytes()).0,
            Place::Store | Place::Elsewhere(_) => folders_of(url.as_bytes()).0,
        }
    }

    /// Whether a task that stays names something in the folder of this task.
    pub fn name_folder_of(&self, task: Id) -> bool {
        self.folders.contains(&task)
    }

    /// The folders of tasks that are named from elsewhere.
    pub fn folders(&self) -> &HashSet<Id> {
        &self.folders
    }

    /// Those of these files that something else names: the artifact of a task that stays, a model that is
    /// not among `doomed`, or another task in whose folder the file is and which is not in `selected`.
    ///
    /// # Errors
    /// The server cannot be used or trusted.
    pub fn shared(
        &self,
        tools: &Tools,
        suspects: &[Suspect],
        doomed: &HashSet<String>,
        selected: &HashSet<Id>,
    ) -> Result<HashSet<String>, CycleError> {
        let mut shared = HashSet::new();
        let mut hosts: HashMap<Id, Vec<&str>> = HashMap::new();
        for Suspect { url, task } in suspects {
            if self.addresses.contains(&hash(normal(url, &self.files))) {
                shared.insert(url.clone());
            }
            for folder in self.folders_in(url).into_iter().filter(|folder| folder != task) {
                hosts.entry(folder).or_default().push(url);
            }
        }
        let urls: Vec<String> = suspects.iter().map(|suspect| suspect.url.clone()).collect();
        let answers: Vec<(_, Models)> = tools.ask_in_parts(
            "models.get_all",
            &urls,
            |part| json!({"uri": part, "only_fields": ["id", "uri"], "page": 0, "page_size": PAGE}),
        )?;
        for (part, answer) in answers {
            if answer.rows.len() >= PAGE {
                // Some rows may be missing, so it is not known who names what.
                shared.extend(part);
                continue;
            }
            let others = answer.rows.into_iter().filter(|model| !doomed.contains(&model.id));
            shared.extend(others.filter_map(|model| model.uri));
        }
        let ids: Vec<Id> = hosts.keys().copied().filter(|id| !selected.contains(id)).collect();
        for id in existing(tools, &ids)? {
            shared.extend(hosts[&id].iter().map(|url| (*url).to_owned()));
        }
        Ok(shared)
    }
}

/// Those of these tasks that the server has.
///
/// # Errors
/// The server cannot be used, or tells of tasks that were not asked for.
pub fn existing(tools: &Tools, ids: &[Id]) -> Result<HashSet<Id>, CycleError> {
    let answers: Vec<(_, Tasks)> = tools.ask_in_parts("tasks.get_all", ids, |part: &[Id]| {
        json!({
            "id": part, "only_fields": ["id"], "search_hidden": true, "page": 0, "page_size": PAGE,
        })
    })?;
    let asked: HashSet<Id> = ids.iter().copied().collect();
    let found: HashSet<Id> =
        answers.into_iter().flat_map(|(_, answer)| answer.tasks).map(|row| row.id).collect();
    match found.iter().find(|id| !asked.contains(id)) {
        Some(id) => Err(CycleError::Untrusted(format!("task {id} was not asked for"))),
        None => Ok(found),
    }
}
