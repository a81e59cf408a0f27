//! The settings of `sweeper clearml`: what to delete, and where its state is.
//!
//! This module must not connect or read `clearml.conf`: it passes on the environment for that.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::file::FileSettings;
use super::origin::{ConfigError, Origin};
use super::raw::RawSettings;
use super::settings::Takes;
use super::values::{Values, on_or_off, whole};
use crate::clearml::options::{FilesMode, Filters, Options, Overrides, STATUSES, Stores};
use crate::rules::Ttl;
use crate::units;

/// The settings of `sweeper clearml`.
#[derive(Debug, Clone)]
pub struct ClearmlConfig {
    /// What a cleanup does.
    pub options: Options,
    /// The time between two cleanups of the service.
    pub period: Duration,
    /// Whether to be a service, if that is set.
    pub run_as_service: Option<bool>,
    /// Whether to print the lines of the script that this replaces.
    pub compat_output: bool,
    /// The directory of the journal.
    pub state: Result<PathBuf, ConfigError>,
    /// The directory of the file server.
    pub fileserver_root: Option<PathBuf>,
    /// Where files of this machine may be deleted.
    pub local_roots: Vec<PathBuf>,
    /// How long a folder without a task is kept.
    pub grace: Ttl,
    /// Whether a cleanup also removes folders without a task.
    pub orphans: bool,
    /// How many requests are made at once.
    pub connections: usize,
    /// The longest time for a request.
    pub request_timeout: Duration,
    /// Whether the settings file has a table for it.
    pub is_in_file: bool,
    /// The environment, for the addresses and keys of ClearML.
    pub environment: Environment,
}

/// Variables of the environment, some of which are keys: its `Debug` shows none.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(not shown)")
    }
}

const THRESHOLD: &str = "clearml_delete_threshold_days";
const PERIOD: &str = "clearml_cleanup_period_in_days";
const OLD_THRESHOLD: &str = "clearml_archived_age_cleanup_in_days";

impl ClearmlConfig {
    pub(super) fn resolve(
        values: &mut Values<'_>,
        file: &FileSettings,
    ) -> Result<Self, ConfigError> {
        let root = values.optional("clearml_fileserver_root", path)?;
        values.path("clearml_fileserver_root");
        let (files, stores) = files(values, root.is_some())?;
        let options = Options {
            threshold: threshold(values)?,
            force: values.switch("clearml_force_delete")?,
            filters: filters(values)?,
            keep_last: values.optional("clearml_keep_last", whole)?.unwrap_or(0),
            overrides: overrides(values)?,
            max_tasks: values.optional("clearml_max_tasks", whole)?,
            max_share: values
                .shown_as("clearml_max_share", units::share, |share| share.to_string())?,
            files,
            stores,
        };
        let time = days(values, PERIOD)?;
        period(time).map_err(|why| values.wrong(PERIOD, why))?;
        let run_as_service = match values.text("clearml_run_as_service") {
            Some(_) => Some(values.switch("clearml_run_as_service")?),
            None => None,
        };
        let connections = values.optional("clearml_connections", connections)?;
        let request_timeout = values.duration("clearml_request_timeout")?;
        timeout(request_timeout).map_err(|why| values.wrong("clearml_request_timeout", why))?;
        let local_roots = values.texts("clearml_local_root").iter().map(|text| path(text));
        let local_roots: Result<Vec<PathBuf>, String> = local_roots.collect();
        Ok(Self {
            options,
            period: time,
            run_as_service,
            compat_output: values.switch("clearml_compat_output")?,
            state: state(values),
            local_roots: local_roots.map_err(|why| values.wrong("clearml_local_root", why))?,
            grace: values.ttl("clearml_grace")?,
            orphans: orphans(values, root.is_some())?,
            fileserver_root: root,
            connections: connections.unwrap_or(8),
            request_timeout,
            is_in_file: file.has_clearml,
            environment: Environment(values.raw.env.clone()),
        })
    }

    /// The directory of the user, if it is known.
    pub fn home(&self) -> Option<PathBuf> {
        self.environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
    }
}

/// The script has two names for it, of which the new one wins if both come from the same place.
fn threshold(values: &mut Values<'_>) -> Result<Duration, ConfigError> {
    let old_wins = values.text(OLD_THRESHOLD).is_some()
        && values.origin(OLD_THRESHOLD).strength() > values.origin(THRESHOLD).strength();
    let threshold = days(values, if old_wins { OLD_THRESHOLD } else { THRESHOLD })?;
    if old_wins {
        let (text, origin) =
            (values.text(OLD_THRESHOLD).unwrap_or_default(), values.origin(OLD_THRESHOLD));
        values.show_from(THRESHOLD, text.to_owned(), origin);
    }
    Ok(threshold)
}

/// A number of days, which need not be whole.
fn days(values: &Values<'_>, key: &'static str) -> Result<Duration, ConfigError> {
    values.optional(key, read_days)?.ok_or_else(|| values.wrong(key, "it is not set"))
}

fn read_days(text: &str) -> Result<Duration, String> {
    let days = text.trim().parse();
    let days: f64 = days.map_err(|_| "write a number of days, such as 30 or 0.5".to_owned())?;
    if !(0.0..=36_500.0).contains(&days) {
        return Err("it is not a number of days from 0 to 36500".to_owned());
    }
    Duration::try_from_secs_f64(days * 86_400.0).map_err(|error| error.to_string())
}

/// Checks one value by itself.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(key: &str, takes: Takes, text: &str) -> Result<(), String> {
    match (key, takes) {
        (PERIOD, _) => period(read_days(text)?).map_err(str::to_owned),
        ("clearml_connections", _) => connections(text).map(drop),
        ("clearml_request_timeout", _) => timeout(units::duration(text)?).map_err(str::to_owned),
        ("clearml_max_share", _) => units::share(text).map(drop),
        ("clearml_status", _) => status(text),
        ("clearml_name", _) => name(text).map(drop),
        (_, Takes::Nothing | Takes::OnOff) => on_or_off(text).map(drop),
        (_, Takes::One("DUR")) => units::duration(text).map(drop),
        (_, Takes::One("DAYS")) => read_days(text).map(drop),
        (_, Takes::One("N")) => whole(text).map(drop),
        (_, Takes::One("DIR") | Takes::Many("DIR")) => path(text).map(drop),
        (_, Takes::Many(_)) => item(text).map_err(str::to_owned),
        (_, Takes::One(_)) => Ok(()),
    }
}

fn period(period: Duration) -> Result<(), &'static str> {
    if period < Duration::from_secs(1) { Err("it is less than a second") } else { Ok(()) }
}

fn timeout(timeout: Duration) -> Result<(), &'static str> {
    if timeout.is_zero() { Err("it is zero") } else { Ok(()) }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err("it is not a number from 1 to 64".to_owned()),
    }
}

fn status(text: &str) -> Result<(), String> {
    let is_one = STATUSES.contains(&text);
    if is_one { Ok(()) } else { Err(format!("the statuses are {}", STATUSES.join(", "))) }
}

/// Checks what a task must have. The server reads some texts as the opposite, or as operators.
fn item(text: &str) -> Result<(), &'static str> {
    let is_odd = text.is_empty() || text.starts_with(['-', '_']);
    if is_odd { Err("it must not be empty or begin with - or _") } else { Ok(()) }
}

/// The server drops a condition that is empty.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn filters(values: &mut Values<'_>) -> Result<Filters, ConfigError> {
    let list = |key| values.texts(key).to_vec();
    let mut filters = Filters {
        projects: list("clearml_project"),
        tags: list("clearml_tag"),
        types: list("clearml_type"),
        users: list("clearml_user"),
        name: values.optional("clearml_name", name)?,
        statuses: list("clearml_status"),
        hidden: false,
    };
    for text in &filters.statuses {
        status(text).map_err(|why| values.wrong_text("clearml_status", text, why))?;
    }
    filters.hidden = values.switch("clearml_hidden")?;
    if values.switch("clearml_draft_only")? {
        if !filters.statuses.is_empty() && filters.statuses != ["created"] {
            let why = "draft_only selects only the status created";
            return Err(values.wrong("clearml_status", why));
        }
        filters.statuses = vec!["created".to_owned()];
    }
    for key in ["clearml_project", "clearml_tag", "clearml_type", "clearml_user", "clearml_status"]
    {
        for text in values.texts(key) {
            item(text).map_err(|why| values.wrong_text(key, text, why))?;
        }
    }
    Ok(filters)
}

fn overrides(values: &mut Values<'_>) -> Result<Overrides, ConfigError> {
    Ok(Overrides {
        published_tasks: values.switch("clearml_delete_published")?,
        published_models: values.switch("clearml_delete_published_models")?,
        running: values.switch("clearml_delete_running")?,
        dataset_parents: values.switch("clearml_delete_dataset_parents")?,
        shared_files: values.switch("clearml_delete_shared_files")?,
    })
}

/// Who deletes files, on the file server and in object stores.
fn files(values: &mut Values<'_>, has_root: bool) -> Result<(FilesMode, Stores), ConfigError> {
    let files = match values.choice("clearml_files")? {
        "mount" if !has_root => {
            let why = "name the directory of the file server with fileserver_root";
            return Err(values.wrong("clearml_files", why));
        }
        "mount" => FilesMode::Mount,
        "none" => FilesMode::Server,
        _ => FilesMode::Http,
    };
    let stores = match values.choice("clearml_object_stores")? {
        "nobody" => Stores::Nobody,
        _ => Stores::Server,
    };
    Ok((files, stores))
}

fn orphans(values: &mut Values<'_>, has_root: bool) -> Result<bool, ConfigError> {
    let orphans = values.switch("clearml_orphans")?;
    if orphans && !has_root {
        let why = "name the directory of the file server with fileserver_root";
        return Err(values.wrong("clearml_orphans", why));
    }
    Ok(orphans)
}

fn state(values: &mut Values<'_>) -> Result<PathBuf, ConfigError> {
    if let Some(state) = values.optional("clearml_state", path)? {
        values.path("clearml_state");
        return Ok(state);
    }
    let raw: &RawSettings = values.raw;
    let base = raw.env("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base =
        base.or_else(|| raw.env("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    let state = base.map(|base| base.join("sweeper/clearml")).ok_or(ConfigError::Missing {
        key: "clearml_state",
        why: "there is no home directory, so name a directory for the journal with --state"
            .to_owned(),
    })?;
    values.show_from("clearml_state", state.to_string_lossy().into_owned(), Origin::Default);
    Ok(state)
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, raw};
    use super::*;

    fn resolve(
        flags: &[(&'static str, &str)],
        env: &[(&str, &str)],
    ) -> Result<ClearmlConfig, String> {
        let config = config(&raw(flags, env)).map_err(|error| error.to_string())?;
        config.clearml.map_err(|error| error.to_string())
    }

    #[test]
    fn days_may_be_fractions_and_the_old_name_is_known() {
        let threshold = |flags: &[(&'static str, &str)], env: &[(&str, &str)]| {
            resolve(flags, env).unwrap().options.threshold.as_secs()
        };
        assert_eq!(threshold(&[], &[]), 30 * 86_400);
        assert_eq!(threshold(&[(THRESHOLD, "0.5")], &[]), 43_200);
        assert_eq!(threshold(&[], &[("SWEEPER_CLEARML_DELETE_THRESHOLD_DAYS", "7.0")]), 604_800);
        assert_eq!(threshold(&[(OLD_THRESHOLD, "2")], &[]), 172_800);
        assert_eq!(threshold(&[(OLD_THRESHOLD, "2"), (THRESHOLD, "3")], &[]), 259_200);
        for wrong in ["-1", "soon", "nan", "inf", "1d", ""] {
            let error = resolve(&[(THRESHOLD, wrong)], &[]).unwrap_err();
            assert!(error.contains("flag --delete-threshold-days"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (key, value, words) in [
            ("clearml_files", "mount", "fileserver_root"),
            ("clearml_orphans", "", "fileserver_root"),
            ("clearml_tag", "-x", "must not be empty or begin"),
            ("clearml_project", "", "it is empty; is a shell variable not set?"),
            ("clearml_status", "done", "the statuses are created, queued"),
            ("clearml_max_share", "120", "from 0% to 100%"),
            ("clearml_max_share", "50", "write 50%"),
            ("clearml_connections", "0", "from 1 to 64"),
            ("clearml_cleanup_period_in_days", "0", "less than a second"),
            ("clearml_run_as_service", "maybe", "true or false"),
        ] {
            let error = resolve(&[(key, value)], &[]).unwrap_err();
            assert!(error.contains(words), "{key}={value}: {error}");
        }
        let both = [("clearml_draft_only", ""), ("clearml_status", "failed")];
        assert!(resolve(&both, &[]).unwrap_err().contains("draft_only"));
    }

    #[test]
    fn the_journal_has_a_place_without_a_setting() {
        let state = |env| resolve(&[], env).unwrap().state;
        assert_eq!(state(&[("HOME", "/h")]), Ok("/h/.local/state/sweeper/clearml".into()));
        let env = [("HOME", "/h"), ("XDG_STATE_HOME", "/s")];
        assert_eq!(state(&env), Ok("/s/sweeper/clearml".into()));
        assert!(state(&[]).unwrap_err().to_string().contains("--state"));
    }
}
