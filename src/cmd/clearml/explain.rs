//! `sweeper clearml why`: what a cleanup would do with each task.
//!
//! This module must not delete anything.

use std::io::{self, Write};

use serde::Serialize;

use super::connect::{now, stop_flag, tools};
use crate::clearml::error::CycleError;
use crate::clearml::explain::{Explanation, explain};
use crate::clearml::select::Conditions;
use crate::clearml::tools::Tools;
use crate::cmd::data_root::absolute;
use crate::cmd::{Refusal, printed};
use crate::config::{ClearmlConfig, Config};
use crate::protocol::ExitCode;
use crate::report::{Format, json};
use crate::units;

/// Explains each of these tasks.
pub(super) fn why(
    config: &Config,
    options: &ClearmlConfig,
    tasks: &[String],
    out: &mut impl Write,
) -> Result<ExitCode, Refusal> {
    // What deletes nothing has no deadline.
    let tools = Tools { deadline: None, ..tools(config, options, &stop_flag()?)? };
    let roots: Vec<_> = options.local_roots.iter().map(|root| absolute(root)).collect();
    let answers = Conditions::new(&tools, &options.options, now(config))
        .and_then(|conditions| explain(&tools, &options.options, &conditions, &roots, tasks));
    let answers = match answers {
        Ok(answers) => answers,
        Err(error @ CycleError::Usage(_)) => return Err(Refusal::Start(error.to_string())),
        Err(error) => {
            tracing::error!("{error}");
            return Ok(ExitCode::NoLock);
        }
    };
    let written = match config.format {
        Format::Text => answers.iter().try_for_each(|answer| text(answer, out)),
        Format::Json | Format::Jsonl => {
            json::write_whole(out, &answers.iter().map(Shown::from).collect::<Vec<_>>())
        }
    };
    Ok(printed(written, ExitCode::Done))
}

fn text(answer: &Explanation, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", units::quoted(answer.task.as_ref()))?;
    if let Some(status) = &answer.status {
        writeln!(out, "  status: {}", units::quoted(status.as_ref()))?;
    }
    if let Some(changed) = answer.changed {
        writeln!(out, "  changed: {}", units::rfc3339(changed))?;
    }
    for (file, stays) in &answer.files {
        let why = stays.as_ref().map(|why| format!(" (stays: {why})")).unwrap_or_default();
        writeln!(out, "  file: {}{why}", units::quoted(file.url.as_ref()))?;
    }
    writeln!(out, "  {}", answer.verdict)
}

#[derive(Serialize)]
struct Shown<'a> {
    task: &'a str,
    status: Option<&'a str>,
    status_changed: Option<String>,
    would_delete: bool,
    verdict: &'a str,
    files: Vec<ShownFile<'a>>,
}

#[derive(Serialize)]
struct ShownFile<'a> {
    url: &'a str,
    stays: Option<&'a str>,
}

impl<'a> From<&'a Explanation> for Shown<'a> {
    fn from(answer: &'a Explanation) -> Self {
        let files = answer.files.iter();
        Self {
            task: &answer.task,
            status: answer.status.as_deref(),
            status_changed: answer.changed.map(units::rfc3339),
            would_delete: answer.would_delete,
            verdict: &answer.verdict,
            files: files
                .map(|(file, stays)| ShownFile { url: &file.url, stays: stays.as_deref() })
                .collect(),
        }
    }
}
