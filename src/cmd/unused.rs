//! Warnings about settings of a file or a variable that protect something, and that the command does not use.
//!
//! This module must not change a setting. A flag needs no warning: a command refuses those that do not apply to it.

use crate::config::settings::{Setting, Use};
use crate::config::{Config, EffectiveSetting, Origin};

/// The settings that limit what is removed, or record it.
const PROTECTING: [&str; 11] = [
    "exclude",
    "deadline",
    "max_removals",
    "max_bytes",
    "max_share",
    "shard",
    "from0",
    "metrics_file",
    "audit_log",
    "clearml_max_tasks",
    "clearml_max_share",
];

const OF_CLEARML: &str = "it does not limit a cleanup of ClearML, whose limits are --max-tasks and --max-share: \
                          max_tasks and max_share in the table [clearml] of the settings file, or \
                          SWEEPER_CLEARML_MAX_TASKS and SWEEPER_CLEARML_MAX_SHARE";

/// Says of each setting that protects something, and that `command` does not use although it is set, why.
pub(super) fn warn(config: &Config, command: Use) {
    let why = match command {
        Use::Serve => "a list of paths is for a single pass, not for a service",
        Use::Apply => {
            "apply removes only entries of the plan, and the plan does not say how many entries a zone \
             has"
        }
        Use::ClearmlJournal => {
            "a retry deletes what earlier cleanups began to delete, within their limits, and is not \
             counted in a metrics file"
        }
        Use::ClearmlRun | Use::ClearmlServe | Use::ClearmlOrphans => OF_CLEARML,
        // Everything that protects applies to these, or they remove nothing.
        Use::Run
        | Use::Legacy
        | Use::Plan
        | Use::Usage
        | Use::Why
        | Use::Hold
        | Use::Health
        | Use::Merge
        | Use::ClearmlWhy => return,
    };
    let is_service = matches!(command, Use::Serve | Use::ClearmlServe);
    let is_metrics = |key: &&str| is_service && *key == "metrics_file";
    let (metrics, others): (Vec<&str>, Vec<&str>) = unused(command).partition(is_metrics);
    warn_of_unused(config, &metrics, "a service shows its metrics on the address of --listen");
    warn_of_unused(config, &others, why);
}

/// Says of each flag that has no effect on the zones that are swept, why.
pub(super) fn warn_of_useless(config: &Config) {
    for why in &config.useless_flags {
        tracing::warn!("{why}");
    }
}

/// The settings that protect something, and that `command` does not use.
fn unused(command: Use) -> impl Iterator<Item = &'static str> {
    // A plan also says what goes early.
    let early: &[&str] = if command == Use::Apply { &["pressure", "keep_free"] } else { &[] };
    let is_of_clearml = command.command().starts_with("clearml");
    let is_for_others = move |key: &&str| {
        let setting = Setting::find(key);
        setting.is_some_and(|setting| {
            !setting.applies_to(command) && (is_of_clearml || setting.key_in_table().is_none())
        })
    };
    early.iter().copied().chain(PROTECTING).filter(is_for_others)
}

/// Says of settings that a file or a variable has, and that this command does not use, why.
pub(super) fn warn_of_unused(config: &Config, keys: &[&str], why: &str) {
    let is_set = |row: &&EffectiveSetting| {
        keys.contains(&row.key.as_str()) && row.origin != Origin::Default && !row.value.is_empty()
    };
    let set: Vec<String> = config
        .settings
        .iter()
        .filter(is_set)
        .map(|row| format!("{} = {} ({})", row.key, row.value, row.origin))
        .collect();
    if !set.is_empty() {
        tracing::warn!("{} does not apply here: {why}", set.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_ends_whatever_removes() {
        let deadline = Setting::find("deadline").unwrap();
        for command in
            Setting::find("dry_run").unwrap().used_by.iter().chain(&[Use::ClearmlJournal])
        {
            assert!(deadline.applies_to(*command), "{command:?}");
        }
    }

    #[test]
    fn whatever_protects_applies_to_a_command_or_is_warned_about() {
        for command in [
            Use::Run,
            Use::Apply,
            Use::Serve,
            Use::Legacy,
            Use::ClearmlRun,
            Use::ClearmlServe,
            Use::ClearmlOrphans,
            Use::ClearmlJournal,
        ] {
            let warned: Vec<&str> = unused(command).collect();
            let is_of_clearml = command.command().starts_with("clearml");
            for key in PROTECTING {
                let setting = Setting::find(key).unwrap();
                let is_meant = is_of_clearml || setting.key_in_table().is_none();
                assert_eq!(
                    warned.contains(&key),
                    is_meant && !setting.applies_to(command),
                    "{key} {command:?}"
                );
            }
        }
        assert_eq!(unused(Use::Run).chain(unused(Use::Legacy)).next(), None);
    }
}
