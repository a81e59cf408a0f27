//! How a cleanup has ended.
//!
//! This module must not report it: it only finds out, and notes it in the zones.

use crate::clearml::error::{ApiError, CycleError};
use crate::clearml::ledger::ZoneLedger;
use crate::cmd::Refusal;
use crate::protocol::StopReason;

/// Why it was stopped, if it was. What went wrong otherwise is noted in the zones.
pub(super) fn reason(
    end: Result<Option<StopReason>, CycleError>,
    zones: &mut [&mut ZoneLedger],
) -> Result<Option<StopReason>, Refusal> {
    match end {
        Ok(stopped) => Ok(stopped),
        Err(CycleError::Api(ApiError::Stopped)) => Ok(Some(StopReason::Signal)),
        Err(CycleError::Api(ApiError::Late)) => Ok(Some(StopReason::Deadline)),
        // Once something was done, there is something to report.
        Err(error @ CycleError::Usage(_)) if zones.iter().all(|zone| zone.is_empty()) => {
            Err(Refusal::Start(error.to_string()))
        }
        Err(error @ CycleError::Guard(_)) => {
            tracing::error!("{error}");
            if let Some(zone) = zones.first() {
                zone.note(error.to_string());
            }
            Ok(Some(StopReason::TooMany))
        }
        Err(error) => {
            tracing::error!("{error}");
            for zone in zones {
                zone.left_alone = Some(error.to_string());
            }
            Ok(None)
        }
    }
}
