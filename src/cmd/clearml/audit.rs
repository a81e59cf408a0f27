//! The audit log of a cleanup.
//!
//! This module must not decide what is written: it hands lines on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::clearml::executor::Audit;
use crate::cmd::Refusal;
use crate::config::Config;
use crate::os::clock;
use crate::protocol::Journal;
use crate::report::audit::AuditLog;
use crate::rules::ZoneName;
use crate::units;

/// The audit log, if there is one.
pub(super) struct Log(Option<AuditLog>);

impl Log {
    /// Opens it. A dry run leaves it alone. It is opened anew when `is_rotated` is raised.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn open(config: &Config, is_rotated: &Arc<AtomicBool>) -> Result<Self, Refusal> {
        let Some(path) = config.audit_log.as_ref().filter(|_| !config.dry_run) else {
            return Ok(Self(None));
        };
        let log = AuditLog::open(path, clock::seed(), clock::now, Arc::clone(is_rotated));
        log.map(|log| Self(Some(log))).map_err(|why| Refusal::Start(why.to_string()))
    }
}

impl Audit for Log {
    fn write(&self, zone: &str, names: &[&str]) -> Result<(), String> {
        match &self.0 {
            Some(log) if !names.is_empty() => log
                .write_names(&ZoneName::new(zone), names)
                .map_err(|error| format!("the audit log: {}", units::error(&error))),
            _ => Ok(()),
        }
    }

    fn withdraw(&self, zone: &str, name: &str, why: &str) {
        if let Some(log) = &self.0 {
            log.withdraw(&ZoneName::new(zone), Path::new(name), why);
        }
    }
}
