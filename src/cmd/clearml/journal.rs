//! `sweeper clearml journal`: what earlier cleanups left undone.
//!
//! This module must not delete anything by itself: `retry` is a cleanup that only finishes the journal.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::connect::flags;
use super::pass::{CleanupRequest, alone, cleanup};
use crate::clearml::journal::{Ending, FileEnd, Journal, Stage};
use crate::cli::JournalAction;
use crate::cmd::{Refusal, printed};
use crate::config::{ClearmlConfig, Config, Verbosity};
use crate::protocol::ExitCode;
use crate::report::{Format, json};
use crate::units;

/// A task that is not finished.
#[derive(Serialize)]
struct Unfinished {
    task: String,
    stage: &'static str,
    files: Vec<File>,
}

/// A file of it.
#[derive(Serialize)]
struct File {
    url: String,
    outcome: &'static str,
    why: String,
}

/// Lists, finishes or forgets what is in the journal.
pub(super) fn journal(
    config: &Config,
    options: &ClearmlConfig,
    action: JournalAction,
    verbosity: Verbosity,
    out: &mut (impl Write + Send),
) -> Result<ExitCode, Refusal> {
    if config.dry_run && action != JournalAction::List {
        let why = "dry_run is set, and there is no dry run of this: `sweeper clearml journal` lists \
                   what it would finish";
        return Err(Refusal::Start(why.to_owned()));
    }
    if action == JournalAction::Retry {
        let (stop, is_rotated) = &flags(config)?;
        let (command, is_retry) = ("clearml journal", true);
        let request =
            CleanupRequest { command, config, options, verbosity, stop, is_rotated, is_retry };
        return Ok(cleanup(&request, BufWriter::new(io::stdout()))?.code);
    }
    let state = options.state.clone()?;
    if action == JournalAction::Forget {
        let _alone = alone(&state).map_err(Refusal::Start)?;
        let mut journal = Journal::open(&state).map_err(Refusal::Start)?;
        let count = journal.forget(|stage| stage == Stage::Left).map_err(Refusal::Start)?;
        let text = format!("forgot the files of {count} tasks, which nothing deletes");
        return Ok(printed(writeln!(out, "{text}"), ExitCode::Done));
    }
    let Some(journal) = Journal::read(&state).map_err(Refusal::Start)? else {
        return Ok(printed(writeln!(out, "there is no journal in {state:?}"), ExitCode::Done));
    };
    let mut tasks = Vec::new();
    for (task, stage) in journal.unfinished() {
        let left = journal.files_of(task).map_err(Refusal::Start)?;
        let untried = left.files.into_iter().map(|file| File {
            url: file.url,
            outcome: "not_tried",
            why: String::new(),
        });
        let files = untried.chain(left.tried.into_iter().filter_map(shown)).collect();
        tasks.push(Unfinished { task: task.to_string(), stage: word(stage), files });
    }
    let written = match config.format {
        Format::Text => text(&tasks, out),
        Format::Json | Format::Jsonl => json::write_whole(out, &tasks),
    };
    Ok(printed(written, ExitCode::Done))
}

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Planned(_) => "planned",
        Stage::Deleted => "deleted",
        Stage::Failed => "failed",
        Stage::Left => "left",
    }
}

/// A file that is still there, as far as is known.
fn shown(end: FileEnd) -> Option<File> {
    let outcome = match end.outcome {
        Ending::Failed => "failed",
        Ending::Left => "left",
        Ending::Kept => "kept",
        Ending::LeftToServer => "left_to_server",
        Ending::Removed | Ending::Gone => return None,
    };
    Some(File { url: end.url, outcome, why: end.why })
}

fn text(tasks: &[Unfinished], out: &mut impl Write) -> io::Result<()> {
    if tasks.is_empty() {
        return writeln!(out, "nothing is unfinished");
    }
    for Unfinished { task, stage, files } in tasks {
        writeln!(out, "task {task}: {stage}")?;
        for File { url, outcome, why } in files {
            let url = units::quoted(url.as_ref());
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            writeln!(out, "  {} {url}{why}", outcome.replace('_', " "))?;
        }
    }
    Ok(())
}
