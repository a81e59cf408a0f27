//! The metrics file of a single run (`--metrics-file`).
//!
//! This module must not count anything: the command does that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Refusal;
use super::new_file::{refuse_same, refuse_stdout};
use super::pass::{open_root, refuse_in_zone};
use crate::config::Config;
use crate::protocol::ExitCode;
use crate::rules::{Zone, ZoneName};
use crate::service::metrics::Metrics;
use crate::service::metrics::file::MetricsFile;

/// Where the metrics of a run go, if the settings say so.
pub(super) struct RunMetrics<'a> {
    file: Option<MetricsFile<'a>>,
    is_dry: bool,
}

impl<'a> RunMetrics<'a> {
    /// Before the run. When `stop` is raised, another run is not waited for much longer.
    ///
    /// # Errors
    /// The file is none that may be written.
    pub(super) fn of(config: &'a Config, stop: &'a AtomicBool) -> Result<Self, Refusal> {
        let is_dry = config.dry_run;
        let Some(path) = &config.metrics_file else { return Ok(Self { file: None, is_dry }) };
        refuse_stdout(path, "the report").map_err(|why| refused(path, &why))?;
        if let Some(log) = &config.audit_log {
            refuse_same(("audit_log", log), &[("metrics_file", &config.metrics_file)])
                .map_err(Refusal::Start)?;
        }
        let file = MetricsFile::at(path, stop).map_err(|why| Refusal::Start(why.to_string()))?;
        file.foresee().map_err(|why| Refusal::Start(why.to_string()))?;
        Ok(Self { file: Some(file), is_dry })
    }

    /// The same before a pass over `zones`, which must not remove the file.
    ///
    /// # Errors
    /// The file is none that may be written, or lies where entries are removed.
    pub(super) fn of_pass(
        config: &'a Config,
        zones: &[Arc<Zone>],
        stop: &'a AtomicBool,
    ) -> Result<Self, Refusal> {
        let metrics = Self::of(config, stop)?;
        let Some(path) = &config.metrics_file else { return Ok(metrics) };
        let root = open_root(config, zones)?;
        refuse_in_zone(path, config, &root).map_err(|why| refused(path, &why))?;
        Ok(metrics)
    }

    /// After the run, which ended with `code`: adds what `count` counts. The exit code says whether that succeeded.
    ///
    /// # Errors
    /// The names of the zones cannot be those of metrics.
    pub(super) fn add(
        self,
        zones: &[ZoneName],
        code: ExitCode,
        count: impl FnOnce(&Metrics),
    ) -> Result<ExitCode, Refusal> {
        let Some(file) = self.file else { return Ok(code) };
        let added = if self.is_dry {
            tracing::warn!("a dry run removes nothing, so {file} is not changed");
            Ok(())
        } else {
            file.add(&Metrics::new(zones).map_err(Refusal::Start)?, count)
        };
        Ok(match added {
            Ok(()) => code,
            Err(error) => {
                tracing::error!("{error}");
                code.max(ExitCode::SomeFailed)
            }
        })
    }
}

fn refused(path: &Path, why: &str) -> Refusal {
    Refusal::Start(format!("the metrics file {path:?}: {why}"))
}
