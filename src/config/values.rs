//! The value of each setting: which source wins, and the checks that many settings share.
//!
//! This module must not read the environment or a file: both are arguments. What is checked is also shown, so each
//! check puts the normalized value in its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{Field, FileSettings};
use super::origin::{ConfigError, EffectiveSetting, Origin};
use super::raw::RawSettings;
use super::settings::{self, Setting};
use super::words::Profile;
use crate::cvat::variables::{self, Variable};
use crate::rules::{Bytes, Ttl};
use crate::units;

/// The value of each setting that has one.
pub(super) struct Values<'a> {
    pub(super) raw: &'a RawSettings,
    pub(super) profile: Profile,
    by_key: BTreeMap<&'static str, Value>,
}

#[derive(Debug, Clone)]
struct Value {
    texts: Vec<String>,
    origin: Origin,
    /// The variable of CVAT that it comes from, with its own unit.
    variable: Option<&'static Variable>,
}

impl<'a> Values<'a> {
    pub(super) fn gather(raw: &'a RawSettings, file: &FileSettings) -> Result<Self, ConfigError> {
        let mut values = Self { raw, profile: Profile::None, by_key: BTreeMap::new() };
        for setting in settings::all() {
            if let Some(value) = values.pick(setting, file) {
                values.by_key.insert(setting.key, value);
            }
            // What comes after it in the table depends on it.
            if setting.key == "profile" && values.choice("profile")? == "cvat" {
                values.profile = Profile::Cvat;
            }
        }
        Ok(values)
    }

    /// The strongest value of a setting.
    fn pick(&self, setting: &Setting, file: &FileSettings) -> Option<Value> {
        let value = |texts, origin| Some(Value { texts, origin, variable: None });
        let listed = |text: &str| split(setting.key, text);
        if let Some(texts) = self.raw.flags.get(setting.key) {
            let texts = match setting.key {
                _ if setting.is_switch() => vec!["true".to_owned()],
                "zones" | "pressure_zones" | "schedule" => {
                    texts.iter().flat_map(|text| listed(text)).collect()
                }
                _ => texts.clone(),
            };
            return value(texts, Origin::Flag(setting.flag()));
        }
        if let Some(name) = setting.variable()
            && let Some(text) = self.raw.env(&name)
        {
            return value(texts_of_variable(setting, text), Origin::Env(name));
        }
        if let Some((variable, text)) = self.of_cvat(setting.key) {
            let origin = Origin::Env(variable.name.to_owned());
            return Some(Value { texts: vec![text.to_owned()], origin, variable: Some(variable) });
        }
        if let Some(field) = file.values.get(setting.key)
            && let Some(file) = &self.raw.file
        {
            let texts = texts_of_file(setting, field);
            return value(texts, Origin::File { path: file.path.clone(), line: field.line });
        }
        value(vec![setting.default?.to_owned()], Origin::Default)
    }

    /// CVAT's own variable for a setting.
    fn of_cvat(&self, key: &str) -> Option<(&'static Variable, &'a str)> {
        let mut all = variables::DURATIONS.iter().filter(|variable| variable.setting == key);
        all.find_map(|variable| Some((variable, self.env_of_cvat(variable.name)?)))
    }

    /// A variable of CVAT, if its profile is used.
    pub(super) fn env_of_cvat(&self, name: &str) -> Option<&'a str> {
        self.raw.env(name).filter(|_| self.profile == Profile::Cvat)
    }

    /// The last text of a setting.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.by_key.get(key)?.texts.last().map(String::as_str)
    }

    /// All texts of a setting.
    pub(super) fn texts(&self, key: &str) -> &[String] {
        self.by_key.get(key).map(|value| value.texts.as_slice()).unwrap_or_default()
    }

    /// Where the value of a setting comes from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.by_key.get(key).map_or(Origin::Default, |value| value.origin.clone())
    }

    /// Changes what is shown for a setting. A setting without a value gets it by default.
    pub(super) fn show(&mut self, key: &'static str, text: String) {
        let origin = self.origin(key);
        self.show_from(key, text, origin);
    }

    /// Changes what is shown for a setting, and where it comes from.
    pub(super) fn show_from(&mut self, key: &'static str, text: String, origin: Origin) {
        self.show_list(key, vec![text], origin);
    }

    /// The same for a list.
    pub(super) fn show_list(&mut self, key: &'static str, texts: Vec<String>, origin: Origin) {
        self.by_key.insert(key, Value { texts, origin, variable: None });
    }

    /// The path that a setting names. It is shown from `/` on, unless it means a stream.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        if path != Path::new("-") && !path.as_os_str().is_empty() {
            let full: PathBuf = self.raw.directory.join(&path).components().collect();
            self.show(key, full.to_string_lossy().into_owned());
        }
        Some(path)
    }

    /// The size that a setting names.
    pub(super) fn size(&mut self, key: &'static str) -> Result<Option<Bytes>, ConfigError> {
        self.shown_as(key, units::size, units::exact_size)
    }

    /// An error about the value of a setting.
    pub(super) fn wrong(&self, key: &str, why: impl Into<String>) -> ConfigError {
        self.wrong_text(key, self.text(key).unwrap_or_default(), why)
    }

    /// The same, about one text of several.
    pub(super) fn wrong_text(&self, key: &str, text: &str, why: impl Into<String>) -> ConfigError {
        let (key, value) = (key.to_owned(), shown_text(key, text).to_owned());
        ConfigError::Value { origin: self.origin(&key), key, value, why: why.into() }
    }

    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key).map(|text| parse(text).map_err(|why| self.wrong(key, why))).transpose()
    }

    /// The same, which is shown as `show` writes it.
    pub(super) fn shown_as<T: Copy>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(T) -> String,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.optional(key, parse)?;
        if let Some(value) = value {
            self.show(key, show(value));
        }
        Ok(value)
    }

    pub(super) fn optional_duration(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Duration>, ConfigError> {
        let variable = self.by_key.get(key).and_then(|value| value.variable);
        let read = |text: &str| match variable {
            Some(variable) => variable.read(text),
            None => units::duration(text),
        };
        self.shown_as(key, read, units::exact)
    }

    /// A duration that has a default.
    pub(super) fn duration(&mut self, key: &'static str) -> Result<Duration, ConfigError> {
        self.optional_duration(key)?.ok_or_else(|| self.wrong(key, "it is not set"))
    }

    pub(super) fn ttl(&mut self, key: &'static str) -> Result<Ttl, ConfigError> {
        self.duration(key).map(Ttl::from_duration)
    }

    /// The TTL of one class: its own, unless a stronger source sets the common one.
    pub(super) fn ttl_of_class(&mut self, key: &'static str) -> Result<Ttl, ConfigError> {
        let common = self.ttl("ttl")?;
        let own = self.optional_duration(key)?.map(Ttl::from_duration);
        match own {
            Some(ttl) if self.origin(key).strength() >= self.origin("ttl").strength() => Ok(ttl),
            _ => {
                let text = self.text("ttl").unwrap_or_default().to_owned();
                self.show_from(key, text, self.origin("ttl"));
                Ok(common)
            }
        }
    }

    /// A choice that has a default.
    pub(super) fn choice(&self, key: &'static str) -> Result<&str, ConfigError> {
        self.optional_choice(key)?.ok_or_else(|| self.wrong(key, "it is not set"))
    }

    pub(super) fn optional_choice(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        let allowed = Setting::find(key).map_or(&[][..], |setting| setting.choices);
        match self.text(key) {
            None => Ok(None),
            Some(text) => match one_of(allowed, text) {
                Ok(()) => Ok(Some(text)),
                Err(why) => Err(self.wrong(key, why)),
            },
        }
    }

    pub(super) fn switch(&mut self, key: &'static str) -> Result<bool, ConfigError> {
        let Some(text) = self.text(key) else { return Ok(false) };
        let is_on = on_or_off(text).map_err(|why| self.wrong(key, why))?;
        self.show(key, is_on.to_string());
        Ok(is_on)
    }

    /// Every setting as it is shown.
    pub(super) fn effective(&self) -> Vec<EffectiveSetting> {
        let row = |setting: &Setting| {
            let unset = if setting.is_switch() { "false" } else { "" };
            let texts = self.texts(setting.key);
            let between = if setting.key == "schedule" { "; " } else { "," };
            let value = match texts {
                [] => unset.to_owned(),
                [one] if !setting.is_list() => one.clone(),
                texts => Some(texts.join(between))
                    .filter(|joined| split(setting.key, joined) == texts)
                    // As the settings file has it, where commas would leave open what the items are.
                    .unwrap_or_else(|| format!("{texts:?}")),
            };
            EffectiveSetting {
                key: setting.key.to_owned(),
                value,
                items: setting.is_list().then(|| texts.to_vec()),
                origin: self.origin(setting.key),
            }
        };
        settings::all().filter(|setting| setting.is_in_file()).map(row).collect()
    }
}

/// The texts in a variable.
pub(super) fn texts_of_variable(setting: &Setting, text: &str) -> Vec<String> {
    if setting.is_list() { split(setting.key, text) } else { vec![text.to_owned()] }
}

/// The texts of a setting in the settings file.
pub(super) fn texts_of_file(setting: &Setting, field: &Field) -> Vec<String> {
    match setting.key {
        key @ ("zones" | "pressure_zones" | "schedule") => {
            field.texts.iter().flat_map(|text| split(key, text)).collect()
        }
        _ => field.texts.clone(),
    }
}

/// A value in a message. A URL may hold a password.
pub(super) fn shown_text<'a>(key: &str, text: &'a str) -> &'a str {
    if key == "redis" { "(not shown)" } else { text }
}

/// Whether a switch is on.
pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A whole number.
pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is not a whole number".to_owned())
}

/// A path that begins with `/`.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("write an absolute path".to_owned()) }
}

/// Whether a word is one of those that are allowed.
pub(super) fn one_of(allowed: &[&str], text: &str) -> Result<(), String> {
    let is_one = allowed.contains(&text);
    if is_one { Ok(()) } else { Err(format!("write one of {}", allowed.join(", "))) }
}

/// The items of a list in one text: separated by commas, but not by those in braces or brackets, which
/// belong to a glob. Empty items of a variable are left out.
fn split(key: &str, text: &str) -> Vec<String> {
    if key == "schedule" {
        return split_schedule(text);
    }
    let (mut items, mut depth) = (vec![String::new()], 0_u32);
    for character in text.chars() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(character);
        }
    }
    let items = items.into_iter().map(|item| item.trim().to_owned());
    items.filter(|item| matches!(key, "zones" | "pressure_zones") || !item.is_empty()).collect()
}

/// Schedules are separated by semicolons, or by commas as other lists. Commas in cron expressions are not
/// followed by a zone and `=`.
fn split_schedule(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for part in text.split(';') {
        let mut is_first = true;
        for piece in part.split(',') {
            match items.last_mut() {
                Some(item) if !is_first && !piece.contains('=') => {
                    item.push(',');
                    item.push_str(piece);
                }
                _ => items.push(piece.to_owned()),
            }
            is_first = false;
        }
    }
    let items = items.into_iter().map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_commas_outside_of_globs() {
        for (text, items) in [
            ("*.zip,*.csv", vec!["*.zip", "*.csv"]),
            (" a , b ,", vec!["a", "b"]),
            ("{a,b}*.zip,c[,]d", vec!["{a,b}*.zip", "c[,]d"]),
            ("", vec![]),
        ] {
            assert_eq!(split("exclude", text), items, "{text}");
        }
        for key in ["zones", "pressure_zones"] {
            assert_eq!(split(key, "export,,tmp"), ["export", "", "tmp"]);
        }
    }

    #[test]
    fn schedules_are_split_where_a_zone_begins() {
        for (text, items) in [
            ("export=0 0,12 * * *", vec!["export=0 0,12 * * *"]),
            ("export=0 0,12 * * *;tmp=0 18 * * *;", vec!["export=0 0,12 * * *", "tmp=0 18 * * *"]),
            (
                "export=0 0,12 * * *, tmp=1,2 * * * *",
                vec!["export=0 0,12 * * *", "tmp=1,2 * * * *"],
            ),
            ("0 0 * * *", vec!["0 0 * * *"]),
        ] {
            assert_eq!(split("schedule", text), items, "{text}");
        }
    }
}
