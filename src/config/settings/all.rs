//! Every setting: those of sweeps, those of a full disk, and those of `sweeper clearml`.
//!
//! This module must not say anything about a setting.

use super::Setting;
use super::clearml::CLEARML;
use super::pressure::PRESSURE;
use super::table::SETTINGS;

/// Every setting, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    SETTINGS.iter().chain(&PRESSURE).chain(&CLEARML)
}

impl Setting {
    /// The setting with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        all().find(|setting| setting.key == key)
    }
}
