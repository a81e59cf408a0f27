//! The two ways to carry out a cleanup: with a journal, and without any effect.
//!
//! This module must not delete before the journal is on disk.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::delete::{self, DeletionMode, TaskEnd};
use super::error::CycleError;
use super::journal::{Ending, FileEnd, Journal, Kind, Record, TaskFile};
use super::ledger::TASKS;
use super::needs::{HAS_CHILD, with_published_child};
use super::parts::Executor;
use super::plan::Plan;
use super::references::existing;
use super::rows::Id;
use super::tools::Tools;
use crate::rules::Moment;

/// Keeps a record for people of what is about to be deleted.
pub trait Audit {
    /// Writes down that these entries are about to be deleted.
    ///
    /// # Errors
    /// They are not on disk: nothing may be deleted.
    fn write(&self, zone: &str, names: &[&str]) -> Result<(), String>;

    /// Writes down that this one stays after all.
    fn withdraw(&self, zone: &str, name: &str, why: &str);
}

/// Deletes, and writes everything down first.
pub struct Real<'a> {
    /// The record for people.
    pub audit: &'a dyn Audit,
    /// The journal.
    pub journal: &'a mut Journal,
    /// The moment of the cleanup.
    pub now: Moment,
}

impl Real<'_> {
    fn append(&mut self, records: &[Record]) -> Result<(), CycleError> {
        self.journal.append(records).map_err(CycleError::Journal)
    }
}

impl Executor for Real<'_> {
    fn begin(&mut self, plans: &[Plan]) -> Result<(), CycleError> {
        let at = self.now.unix_secs();
        let records = plans.iter().flat_map(|plan| {
            let models = plan.later_models.iter().map(|model| model.id.clone());
            let models = models.map(|id| TaskFile { url: id, kind: Kind::ModelRecord });
            in_parts(plan.files.iter().cloned().chain(models).collect(), |file| file.url.len())
                .into_iter()
                .map(|files| Record::Plan { task: plan.task, at, told: plan.is_told, files })
        });
        self.append(&records.collect::<Vec<_>>())
    }

    fn delete(
        &mut self,
        tools: &Tools,
        ids: &[Id],
        mode: DeletionMode,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError> {
        let names: Vec<String> = ids.iter().map(Id::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.audit.write(TASKS, &names).map_err(CycleError::Journal)?;
        let mut ends = delete::delete_many(tools, ids, mode)?;
        let is_deleted = |end: &&TaskEnd| matches!(end, TaskEnd::Deleted(_));
        let deleted = ends.iter().filter(|(_, end)| is_deleted(end));
        let deleted: Vec<Id> = deleted.map(|(id, _)| *id).collect();
        for id in existing(tools, &deleted)? {
            let why = "the server says that it is deleted, but still has it";
            ends.insert(id, TaskEnd::Failed(why.to_owned()));
        }
        for (id, end) in &ends {
            if let TaskEnd::Refused(why) | TaskEnd::Failed(why) = end {
                self.audit.withdraw(TASKS, &id.to_string(), why);
            } else if *end == TaskEnd::Public {
                self.audit.withdraw(TASKS, &id.to_string(), "it is public");
            }
        }
        let record = |(id, end): (&Id, &TaskEnd)| match end {
            TaskEnd::Deleted(files) => Some(Record::Deleted { task: *id, more: files.clone() }),
            TaskEnd::Refused(_) | TaskEnd::Public => Some(Record::Kept { task: *id }),
            // It may be deleted yet: the next run asks again.
            TaskEnd::Failed(_) | TaskEnd::Unknown(_) => None,
        };
        let records: Vec<Record> = ends.iter().filter_map(record).collect();
        self.append(&records)?;
        Ok(ends)
    }

    fn delete_models(
        &mut self,
        tools: &Tools,
        ids: Vec<String>,
        external: bool,
    ) -> Result<Vec<FileEnd>, CycleError> {
        Ok(delete::delete_models(tools, ids, external)?)
    }

    fn kept(&mut self, tasks: &[Id]) -> Result<(), CycleError> {
        let records: Vec<Record> = tasks.iter().map(|task| Record::Kept { task: *task }).collect();
        self.append(&records)
    }

    fn settled(
        &mut self,
        ends: BTreeMap<Id, Vec<FileEnd>>,
        open: &HashSet<Id>,
    ) -> Result<(), CycleError> {
        let mut records = Vec::new();
        for (task, mut outcomes) in ends {
            // The last part tells whether something is left.
            outcomes.sort_by_key(|end| match end.outcome {
                Ending::Failed => 2,
                Ending::Left => 1,
                Ending::Removed | Ending::Gone | Ending::Kept | Ending::LeftToServer => 0,
            });
            let mut parts = in_parts(outcomes, |end| end.url.len() + end.why.len());
            let last = parts.pop().unwrap_or_default();
            let part = |outcomes| Record::Files { task, complete: false, outcomes };
            records.extend(parts.into_iter().map(part));
            records.push(Record::Files { task, complete: !open.contains(&task), outcomes: last });
        }
        self.append(&records)
    }

    fn models_are_left(&self) -> bool {
        false
    }
}

/// How many bytes of addresses a line of the journal has at most, about.
const LONG: usize = 8 << 20;

/// Cuts a list so that no line of the journal is too long to be read again. There is one part at least.
fn in_parts<T>(items: Vec<T>, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for item in items {
        bytes += length(&item) + 64;
        if bytes > LONG {
            parts.push(Vec::new());
            bytes = length(&item);
        }
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

/// Does nothing, but finds out which tasks the server would refuse to delete.
#[derive(Debug, Default)]
pub struct Look {
    /// Those with models that tell.
    refused: HashMap<Id, &'static str>,
}

impl Executor for Look {
    fn begin(&mut self, plans: &[Plan]) -> Result<(), CycleError> {
        self.refused = plans.iter().filter_map(|plan| Some((plan.task, plan.refused?))).collect();
        Ok(())
    }

    fn delete(
        &mut self,
        tools: &Tools,
        ids: &[Id],
        mode: DeletionMode,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError> {
        let parents = if mode.force { HashSet::new() } else { with_published_child(tools, ids)? };
        let end = |id: &Id| match (self.refused.get(id), parents.contains(id)) {
            (Some(why), _) => TaskEnd::Refused((*why).to_owned()),
            (None, true) => TaskEnd::Refused(HAS_CHILD.to_owned()),
            (None, false) => TaskEnd::Deleted(Vec::new()),
        };
        Ok(ids.iter().map(|id| (*id, end(id))).collect())
    }

    fn delete_models(
        &mut self,
        _tools: &Tools,
        ids: Vec<String>,
        _external: bool,
    ) -> Result<Vec<FileEnd>, CycleError> {
        Ok(ids.into_iter().map(|id| delete::model_end(id, Ending::Removed, "")).collect())
    }

    fn kept(&mut self, _tasks: &[Id]) -> Result<(), CycleError> {
        Ok(())
    }

    fn settled(
        &mut self,
        _ends: BTreeMap<Id, Vec<FileEnd>>,
        _open: &HashSet<Id>,
    ) -> Result<(), CycleError> {
        Ok(())
    }

    fn models_are_left(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clearml::journal::Stage;

    struct NoAudit;

    impl Audit for NoAudit {
        fn write(&self, _zone: &str, _names: &[&str]) -> Result<(), String> {
            Ok(())
        }

        fn withdraw(&self, _zone: &str, _name: &str, _why: &str) {}
    }

    #[test]
    fn a_task_with_more_files_than_a_line_holds_takes_several_lines_and_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let task = Id::parse(&"a".repeat(32)).unwrap();
        let url = |n: usize| format!("http://f/{n}/{}", "x".repeat(1000));
        let files: Vec<TaskFile> =
            (0..20_000).map(|n| TaskFile { url: url(n), kind: Kind::Event }).collect();
        let plan = Plan { files: files.clone(), ..Plan::new(task) };
        let now = Moment::from_unix(7, 0);
        let mut real = Real { audit: &NoAudit, journal: &mut journal, now };
        real.begin(&[plan]).unwrap();
        let reopened = Journal::read(dir.path()).unwrap().unwrap();
        assert_eq!(reopened.unfinished(), [(task, Stage::Planned(7))]);
        assert_eq!(reopened.files_of(task).unwrap().files, files);
        let failed = |n: usize| if n == 0 { Ending::Failed } else { Ending::Removed };
        let end = |(n, file): (usize, TaskFile)| FileEnd {
            url: file.url,
            kind: file.kind,
            outcome: failed(n),
            why: String::new(),
        };
        let ends = files.into_iter().enumerate().map(end).collect();
        real.settled(BTreeMap::from([(task, ends)]), &HashSet::new()).unwrap();
        let reopened = Journal::read(dir.path()).unwrap().unwrap();
        assert_eq!(reopened.unfinished(), [(task, Stage::Failed)]);
        let left = reopened.files_of(task).unwrap();
        let failed = left.tried.iter().filter(|end| end.outcome == Ending::Failed);
        assert_eq!(failed.map(|end| end.url.clone()).collect::<Vec<_>>(), [url(0)]);
    }
}
