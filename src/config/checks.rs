//! Checks each value of the environment and of the settings file by itself, whatever the command, and also those that
//! another source wins over.
//!
//! This module must not compare settings with each other: that matters only where they are used.

use std::sync::Arc;

use super::clearml;
use super::file::FileSettings;
use super::locks;
use super::origin::{ConfigError, Origin};
use super::pressure;
use super::raw::RawSettings;
use super::service;
use super::settings::{self, PREFIX, Setting, Takes};
use super::values::{
    Values, absolute, on_or_off, one_of, shown_text, texts_of_file, texts_of_variable, whole,
};
use super::words::Profile;
use super::zones::Zones;
use crate::cvat::{self, zones};
use crate::lock::redis::Server;
use crate::rules::{Exclude, Shard, Share, Zone};
use crate::service::schedule::{LocalTime, Rule};
use crate::units;

/// A value that was given.
pub(super) struct Given {
    setting: &'static Setting,
    text: String,
    origin: Origin,
}

impl Given {
    fn wrong(&self, why: String) -> ConfigError {
        let key = self.setting.key;
        let (value, origin) = (shown_text(key, &self.text).to_owned(), self.origin.clone());
        ConfigError::Value { key: key.to_owned(), value, origin, why }
    }
}

/// Checks every value by itself.
///
/// # Errors
/// The first that is wrong.
pub(super) fn values(given: &[Given]) -> Result<(), ConfigError> {
    given
        .iter()
        .try_for_each(|given| check(given.setting, &given.text).map_err(|why| given.wrong(why)))
}

/// Checks the names of zones and the globs in every value.
///
/// # Errors
/// The first that is wrong.
pub(super) fn names(
    given: &[Given],
    values: &Values<'_>,
    known: &[Arc<Zone>],
    all: &[Arc<Zone>],
) -> Result<(), ConfigError> {
    let zones: Vec<&Zone> = all.iter().map(|zone| &**zone).collect();
    for given in given {
        let checked = match given.setting.key {
            "zones" | "pressure_zones" => zone(values, known, &given.text),
            "schedule" => {
                zone(values, known, given.text.split_once('=').map_or("", |(zone, _)| zone.trim()))
            }
            // Without the profile, a glob may be meant for a zone of it. Those that apply are checked where they are read.
            "exclude"
                if values.profile == Profile::Cvat && given.origin != values.origin("exclude") =>
            {
                Exclude::new(std::slice::from_ref(&given.text), &zones).map(drop)
            }
            _ => Ok(()),
        };
        checked.map_err(|why| given.wrong(why))?;
    }
    Ok(())
}

/// All values of the environment and the settings file.
pub(super) fn given(raw: &RawSettings, file: &FileSettings) -> Vec<Given> {
    let mut all = Vec::new();
    for name in raw.env.keys().filter(|name| name.starts_with(PREFIX)) {
        let is_it = |setting: &&Setting| setting.variable().as_ref() == Some(name);
        if let (Some(setting), Some(text)) = (settings::all().find(is_it), raw.env(name)) {
            let origin = || Origin::Env(name.clone());
            let texts = texts_of_variable(setting, text).into_iter();
            all.extend(texts.map(|text| Given { setting, text, origin: origin() }));
        }
    }
    let path = raw.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
    for (key, field) in &file.values {
        let Some(setting) = Setting::find(key) else { continue };
        let origin = || Origin::File { path: path.clone(), line: field.line };
        let texts = texts_of_file(setting, field).into_iter();
        all.extend(texts.map(|text| Given { setting, text, origin: origin() }));
    }
    all
}

/// Whether there is such a zone, with the profile or without.
fn zone(values: &Values<'_>, known: &[Arc<Zone>], word: &str) -> Result<(), String> {
    const OF_CVAT: [&str; 4] = [zones::EXPORT, zones::TMP, zones::INSTANCE_TMP, zones::CHUNK_CACHE];
    match Zones::find(values, known, word) {
        Err(_) if OF_CVAT.contains(&cvat::zone_of_job(word)) => Ok(()),
        found => found.map(drop),
    }
}

/// Checks one value.
fn check(setting: &Setting, text: &str) -> Result<(), String> {
    if !setting.choices.is_empty() {
        return one_of(setting.choices, text);
    }
    match setting.key {
        "jobs" => return jobs(text).map(drop),
        "every" => return Rule::every(units::duration(text)?).map(drop),
        "lock_ttl" => return locks::check_ttl(units::duration(text)?).map_err(str::to_owned),
        "cvat_data" => return absolute(text).map(drop),
        "redis" => return Server::from_url(text).map(drop),
        "shard" => return shard(text),
        "schedule" => return schedule(text),
        "listen" => return service::address(text).map(drop),
        "keep_free" if units::size(text)?.0 == 0 => return Err(pressure::NOTHING_FREE.to_owned()),
        "pressure" | "relieve" if units::share(text)? == Share::percent(0) => {
            return Err(pressure::NEVER_MET.to_owned());
        }
        key if setting.key_in_table().is_some() => return clearml::check(key, setting.takes, text),
        _ => {}
    }
    match setting.takes {
        Takes::Nothing | Takes::OnOff => on_or_off(text).map(drop),
        Takes::One("DUR") => units::duration(text).map(drop),
        Takes::One("PCT") => units::share(text).map(drop),
        Takes::One("SIZE") => units::size(text).map(drop),
        Takes::One("N/s") => units::rate(text).map(drop),
        Takes::One("N") => whole(text).map(drop),
        Takes::One(_) | Takes::Many(_) => Ok(()),
    }
}

/// A number of workers.
///
/// # Errors
/// What is wrong with it.
pub(super) fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=256) => Ok(jobs),
        _ => Err("it is not a number from 1 to 256".to_owned()),
    }
}

fn shard(text: &str) -> Result<(), String> {
    // Which part it is, is known only where there is one.
    let part = text.strip_prefix("auto/").map(|count| format!("0/{count}"));
    Shard::parse(part.as_deref().unwrap_or(text)).map(drop)
}

fn schedule(text: &str) -> Result<(), String> {
    let (_, cron) = text.split_once('=').ok_or(service::LIKE_A_SCHEDULE)?;
    Rule::cron(cron.trim(), &LocalTime::system()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, raw};
    use super::*;

    /// A value that can be used.
    fn good(setting: &Setting) -> &'static str {
        let takes = match setting.takes {
            Takes::One(name) | Takes::Many(name) => name,
            Takes::Nothing | Takes::OnOff => "BOOL",
        };
        setting.default.or(setting.choices.first().copied()).unwrap_or(match takes {
            "BOOL" => "true",
            "DUR" => "1h",
            "PCT" => "50%",
            "SIZE" => "1GiB",
            "N/s" => "1/s",
            "I/N" => "0/1",
            "URL" => "redis://r",
            "ZONES" => "tmp",
            "ZONE=CRON" => "tmp=@daily",
            "STATUS" => "failed",
            "DIR" | "FILE" => "/x",
            _ => "1",
        })
    }

    #[test]
    fn a_wrong_value_of_any_setting_is_refused_also_where_a_flag_wins() {
        // Any text may be the name of a file or a regular expression.
        let is_checked = |setting: &&Setting| match setting.takes {
            Takes::One(name) | Takes::Many(name) => {
                !["FILE", "DIR", "REGEX"].contains(&name) || setting.key == "cvat_data"
            }
            Takes::Nothing | Takes::OnOff => true,
        };
        let (mut count, mut refused) = (0, Vec::new());
        for setting in settings::all().filter(is_checked) {
            let Some(name) = setting.variable() else { continue };
            count += 1;
            let wrong = if setting.key == "exclude" { "a[b" } else { "-!" };
            let alone = raw(&[], &[(&name, wrong)]);
            let beaten = raw(&[(setting.key, good(setting))], &[(&name, wrong)]);
            for raw in [alone, beaten] {
                match config(&raw) {
                    Err(error) => assert!(error.to_string().contains(&name), "{error}"),
                    Ok(_) => refused.push(name.clone()),
                }
            }
            let accepted = config(&raw(&[], &[(&name, good(setting))]));
            assert!(accepted.is_ok() || setting.key == "lock", "{name}: {:?}", accepted.err());
        }
        assert_eq!(refused, Vec::<String>::new(), "these are accepted");
        assert!(count > 55, "{count}");
    }

    #[test]
    fn what_is_wrong_with_another_profile_or_zone_alone_is_no_wrong_value() {
        let file = "zones = ['export', 'own']\nschedule = ['export=@daily']\n\
                    [[zone]]\nname = 'own'\npath = 'o'\nentry = 'tree'\nttl = '1d'\n";
        let flags = [("profile", "none"), ("zones", "own"), ("data", "/data")];
        let mut raw = raw(&flags, &[("SWEEPER_SHARD", "auto/3"), ("JOB_COMPLETION_INDEX", "1")]);
        let text = Ok(file.to_owned());
        let path = "/etc/s.toml".into();
        raw.file = Some(super::super::SettingsFile { path, text, is_regular: true });
        assert!(config(&raw).is_ok(), "{:?}", config(&raw).err());
    }
}
