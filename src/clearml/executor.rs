//! The two ways through a cleanup: with a journal, and without any effect.
//!
//! It must not delete before the journal is on disk.

use std::collections::{BTreeMap, HashMap};

use super::collect::Plan;
use super::cycle::Executor;
use super::delete::{self, Manner, TaskEnd};
use super::error::CycleError;
use super::journal::{FileEnd, Journal, Record};
use super::ledger::TASKS;
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
        let record = |plan: &Plan| Record::Plan {
            task: plan.task,
            at,
            told: plan.is_told,
            files: plan.files.clone(),
        };
        self.append(&plans.iter().map(record).collect::<Vec<_>>())
    }

    fn delete(
        &mut self,
        tools: &Tools,
        ids: &[Id],
        manner: Manner,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError> {
        let names: Vec<String> = ids.iter().map(Id::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.audit.write(TASKS, &names).map_err(CycleError::Journal)?;
        let ends = delete::delete_many(tools, ids, manner)?;
        for (id, end) in &ends {
            if let TaskEnd::Refused(why) | TaskEnd::Failed(why) = end {
                self.audit.withdraw(TASKS, &id.to_string(), why);
            } else if *end == TaskEnd::Public {
                self.audit.withdraw(TASKS, &id.to_string(), "it belongs to everyone");
            }
        }
        let record = |(id, end): (&Id, &TaskEnd)| match end {
            TaskEnd::Deleted(more) => Some(Record::Deleted { task: *id, more: more.clone() }),
            TaskEnd::Refused(_) | TaskEnd::Public => Some(Record::Kept { task: *id }),
            // It may be deleted yet: the next run asks again.
            TaskEnd::Failed(_) | TaskEnd::Unknown(_) => None,
        };
        let records: Vec<Record> = ends.iter().filter_map(record).collect();
        self.append(&records)?;
        Ok(ends)
    }

    fn delete_models(&mut self, tools: &Tools, ids: Vec<String>) -> Result<(), CycleError> {
        Ok(delete::delete_models(tools, ids)?)
    }

    fn kept(&mut self, tasks: &[Id]) -> Result<(), CycleError> {
        let records: Vec<Record> = tasks.iter().map(|task| Record::Kept { task: *task }).collect();
        self.append(&records)
    }

    fn settled(&mut self, ends: BTreeMap<Id, Vec<FileEnd>>) -> Result<(), CycleError> {
        let record = |(task, outcomes)| Record::Files { task, complete: true, outcomes };
        self.append(&ends.into_iter().map(record).collect::<Vec<_>>())
    }

    fn models_are_left(&self) -> bool {
        false
    }
}

/// Does nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Look;

impl Executor for Look {
    fn begin(&mut self, _plans: &[Plan]) -> Result<(), CycleError> {
        Ok(())
    }

    fn delete(
        &mut self,
        _tools: &Tools,
        ids: &[Id],
        _manner: Manner,
    ) -> Result<HashMap<Id, TaskEnd>, CycleError> {
        Ok(ids.iter().map(|id| (*id, TaskEnd::Deleted(Vec::new()))).collect())
    }

    fn delete_models(&mut self, _tools: &Tools, _ids: Vec<String>) -> Result<(), CycleError> {
        Ok(())
    }

    fn kept(&mut self, _tasks: &[Id]) -> Result<(), CycleError> {
        Ok(())
    }

    fn settled(&mut self, _ends: BTreeMap<Id, Vec<FileEnd>>) -> Result<(), CycleError> {
        Ok(())
    }

    fn models_are_left(&self) -> bool {
        true
    }
}
