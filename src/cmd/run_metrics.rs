//! The metrics file of a single run (`--metrics-file`).
//!
//! It must not count anything: the command does that.

use std::sync::atomic::AtomicBool;

use super::Refusal;
use super::new_file::refuse_stdout;
use crate::config::Config;
use crate::protocol::ExitCode;
use crate::rules::ZoneName;
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
        let refused = |why| Refusal::Start(format!("the metrics file {path:?}: {why}"));
        refuse_stdout(path, "the report").map_err(refused)?;
        let file = MetricsFile::at(path, stop).map_err(|why| Refusal::Start(why.to_string()))?;
        Ok(Self { file: Some(file), is_dry })
    }

    /// After the run, which ended with `code`: adds what `count` counts. The exit code says whether that succeeded,
    /// and in a dry run whether it would.
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
            file.foresee().map(|()| {
                tracing::warn!("a dry run removes nothing, so {file} is not changed");
            })
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
