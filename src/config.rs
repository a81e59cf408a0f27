//! The settings: what was typed, the environment, a file and the defaults, in this order.
//!
//! It must not open the volume or change anything: a wrong value is refused before anything is
//! opened, with the place it came from. This is the only module that reads the environment.
//! [`settings`] is the table of what there is; this module resolves and checks it.

pub mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::InUseProbe;
use crate::lock::Backend;
use crate::report::Format;
use crate::retention::{Exclude, ExportTtls, Moment, Policy, TmpAge, Ttl, Zone};
use crate::units;
use crate::volume::Forbidden;
use settings::{SETTINGS, Setting};

/// Where a value came from, the stronger the greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in.
    Default,
    /// The settings file.
    File(PathBuf),
    /// This variable.
    Env(&'static str),
    /// This flag.
    Flag(String),
}

impl Origin {
    /// Flags over environment over file over defaults.
    const fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", units::shown(path)),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting as `sweeper config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key, as in the settings file.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Where that came from.
    pub origin: Origin,
}

/// A setting is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value cannot be used.
    #[error("{key} = {value:?} ({origin}): {why}")]
    Value {
        /// Of which setting.
        key: String,
        /// The value.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        why: String,
    },
    /// The settings file cannot be used.
    #[error("settings file {path:?}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What was given, before it is checked.
#[derive(Debug, Default)]
pub struct Given {
    /// Flags by the key of their setting; a switch has an empty value.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

impl Given {
    /// Flags, and the environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn with_environment(flags: BTreeMap<&'static str, Vec<String>>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| {
                // A name or value that is not text cannot be one of ours; lossily, it is refused as one.
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .collect();
        Self { flags, env }
    }

    fn env(&self, name: &str) -> Option<&String> {
        self.env.get(name).filter(|value| !value.is_empty())
    }
}

/// The settings of a command, all of them checked.
#[derive(Debug)]
pub struct Config {
    /// Where the data root may be, and whether the user named it.
    pub data: DataRoot,
    /// The rules.
    pub policy: Policy,
    /// The zones of `run`.
    pub zones: Vec<Zone>,
    /// The lock backend.
    pub lock: Backend,
    /// For how long in all to come back to what is busy.
    pub lock_wait: Duration,
    /// Whether to ask who has a file open.
    pub in_use: InUseProbe,
    /// How many workers.
    pub jobs: usize,
    /// How the report is written.
    pub format: Format,
    /// When progress is shown.
    pub progress: ProgressWhen,
    /// Whether nothing is to be removed.
    pub dry_run: bool,
    /// The moment to judge at, if not the present.
    pub now: Option<Moment>,
    /// When to stop.
    pub deadline: Option<Duration>,
    /// After how many removals to stop.
    pub max_removals: Option<u64>,
    /// Directories that are never a data root.
    pub forbidden: Forbidden,
    /// Every setting with its origin.
    pub rows: Vec<Row>,
    /// What the user should know about them.
    pub warnings: Vec<String>,
}

/// Where the data root may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataRoot {
    /// The user said where.
    Named(PathBuf),
    /// The first of these that is one.
    AnyOf(Vec<PathBuf>),
}

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressWhen {
    /// When stderr is a terminal.
    Auto,
    /// Even when it is not.
    Always,
    /// Not at all.
    Never,
}

impl Config {
    /// Resolves and checks what was given, reading the settings file if one is named.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn resolve(given: &Given) -> Result<Self, ConfigError> {
        let mut values = Values::gather(given)?;
        let mut warnings = Vec::new();
        if given.env("CVAT_DATASET_CACHE_TTL").is_some() {
            warnings.push(
                "CVAT_DATASET_CACHE_TTL is deprecated and goes before CVAT_EXPORT_CACHE_TTL, as in \
                 CVAT; set CVAT_EXPORT_CACHE_TTL"
                    .to_owned(),
            );
        }
        let policy = Policy {
            export: values.ttls()?,
            retention: values.ttl("retention")?,
            tmp_age: match values.choice("tmp_age")? {
                "entry" => TmpAge::Entry,
                _ => TmpAge::Tree,
            },
            older_than: values.optional("older_than", units::duration)?.map(Ttl::from_duration),
            exclude: values.exclude()?,
        };
        let jobs = values.optional("jobs", |text| match text.parse() {
            Ok(jobs @ 1..=256) => Ok(jobs),
            _ => Err("not a number from 1 to 256".to_owned()),
        })?;
        let config = Self {
            data: values.data_root(given),
            policy,
            zones: values.zones()?,
            lock: values.backend()?,
            lock_wait: values.parsed("lock_wait", units::duration)?,
            in_use: match values.choice("in_use")? {
                "ignore" => InUseProbe::Off,
                _ => InUseProbe::On,
            },
            jobs: jobs.unwrap_or_else(|| values.default_jobs()),
            format: match values.choice("format")? {
                "json" => Format::Json,
                "jsonl" => Format::Jsonl,
                _ => Format::Text,
            },
            progress: match values.choice("progress")? {
                "always" => ProgressWhen::Always,
                "never" => ProgressWhen::Never,
                _ => ProgressWhen::Auto,
            },
            dry_run: values.switch("dry_run")?,
            now: values.optional("now", units::moment)?,
            deadline: values.optional("deadline", units::duration)?,
            max_removals: values.optional("max_removals", |text| {
                text.parse().map_err(|_| "not a whole number".to_owned())
            })?,
            forbidden: Forbidden {
                home: given.env("HOME").map(PathBuf::from),
                program: std::env::current_exe().ok(),
            },
            warnings,
            rows: values.rows(),
        };
        Ok(config)
    }
}

/// What a settings file says, by key.
type FileValues = BTreeMap<String, Vec<String>>;

/// Every setting's text and where it came from.
struct Values(BTreeMap<&'static str, Value>);

struct Value {
    texts: Vec<String>,
    origin: Origin,
}

impl Values {
    fn gather(given: &Given) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        let file = Self::file(given)?;
        for setting in &SETTINGS {
            if let Some(value) = Self::pick(setting, given, file.as_ref()) {
                values.insert(setting.key, value);
            }
        }
        Ok(Self(values))
    }

    /// The strongest word on a setting.
    fn pick(
        setting: &Setting,
        given: &Given,
        file: Option<&(PathBuf, FileValues)>,
    ) -> Option<Value> {
        if let Some(texts) = given.flags.get(setting.key) {
            return Some(Value { texts: texts.clone(), origin: Origin::Flag(setting.flag()) });
        }
        for name in setting.env {
            if let Some(text) = given.env(name) {
                let text = match *name {
                    // CVAT's own setting counts days.
                    "TMP_FILE_OR_DIR_RETENTION_DAYS" => format!("{text}d"),
                    _ => text.clone(),
                };
                return Some(Value { texts: vec![text], origin: Origin::Env(name) });
            }
        }
        if let Some((path, table)) = file
            && let Some(texts) = table.get(setting.key)
        {
            return Some(Value { texts: texts.clone(), origin: Origin::File(path.clone()) });
        }
        let text = setting.default?.to_owned();
        Some(Value { texts: vec![text], origin: Origin::Default })
    }

    /// The settings file, if one is named.
    fn file(given: &Given) -> Result<Option<(PathBuf, FileValues)>, ConfigError> {
        let named = given.flags.get("config").and_then(|texts| texts.last());
        let Some(path) = named.or_else(|| given.env("SWEEPER_CONFIG")).map(PathBuf::from) else {
            return Ok(None);
        };
        let fail = |why: String| ConfigError::File { path: path.clone(), why };
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error| fail(format!("{error}")))?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let known = SETTINGS.iter().find(|setting| setting.key == key && setting.in_file());
            let Some(setting) = known else {
                return Err(fail(format!("there is no setting {key:?}")));
            };
            let texts = if let (toml::Value::Array(items), true) = (&value, setting.is_list()) {
                items.iter().map(plain).collect::<Option<Vec<_>>>()
            } else {
                plain(&value).map(|text| vec![text])
            };
            let texts = texts.ok_or_else(|| {
                fail(format!("{key} is neither a text nor a whole number nor true or false"))
            })?;
            values.insert(key, texts);
        }
        Ok(Some((path, values)))
    }

    fn get(&self, key: &str) -> Option<(&str, &Origin)> {
        let value = self.0.get(key)?;
        Some((value.texts.last()?, &value.origin))
    }

    fn wrong(&self, key: &str, why: String) -> ConfigError {
        let (value, origin) = self.get(key).unwrap_or(("", &Origin::Default));
        ConfigError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: origin.clone(),
            why,
        }
    }

    fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|(text, _)| parse(text).map_err(|why| self.wrong(key, why))).transpose()
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?.ok_or_else(|| self.wrong(key, "missing".to_owned()))
    }

    fn ttl(&self, key: &'static str) -> Result<Ttl, ConfigError> {
        self.parsed(key, units::duration).map(Ttl::from_duration)
    }

    /// The TTL of each class: its own, unless the common one was given more strongly.
    fn ttls(&mut self) -> Result<ExportTtls, ConfigError> {
        let common = self.ttl("ttl")?;
        let common_origin = self.get("ttl").map_or(Origin::Default, |(_, origin)| origin.clone());
        let mut of = |key: &'static str| -> Result<Ttl, ConfigError> {
            let own = self.optional(key, units::duration)?.map(Ttl::from_duration);
            let own_strength = self.get(key).map_or(0, |(_, origin)| origin.strength());
            match own {
                Some(ttl) if own_strength >= common_origin.strength() => Ok(ttl),
                _ => {
                    let texts = self.0.get("ttl").map(|ttl| ttl.texts.clone()).unwrap_or_default();
                    self.0.insert(key, Value { texts, origin: common_origin.clone() });
                    Ok(common)
                }
            }
        };
        Ok(ExportTtls {
            project: of("ttl_project")?,
            task: of("ttl_task")?,
            job: of("ttl_job")?,
            events: of("ttl_events")?,
        })
    }

    /// One of the words that a setting allows.
    fn choice(&self, key: &'static str) -> Result<&str, ConfigError> {
        let allowed =
            SETTINGS.iter().find(|setting| setting.key == key).map_or(&[][..], |s| s.choices);
        let (text, _) = self.get(key).unwrap_or(("", &Origin::Default));
        if allowed.contains(&text) {
            Ok(text)
        } else {
            Err(self.wrong(key, format!("not one of {}", allowed.join(", "))))
        }
    }

    fn switch(&self, key: &'static str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None | Some(("0" | "false" | "no", _)) => Ok(false),
            Some(("" | "1" | "true" | "yes", _)) => Ok(true),
            Some(_) => Err(self.wrong(key, "neither true nor false".to_owned())),
        }
    }

    fn zones(&self) -> Result<Vec<Zone>, ConfigError> {
        let texts = self.0.get("zones").map(|value| value.texts.as_slice()).unwrap_or_default();
        let mut zones = Vec::new();
        for word in texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
            zones.push(match word {
                // CVAT's own job ids name the two sweeps that replace them.
                "export" | "cron_export_cache_directory_cleanup" => Zone::Export,
                "tmp" | "cron_tmp_directory_cleanup" => Zone::Tmp,
                "instance-tmp" => Zone::InstanceTmp,
                "legacy" => {
                    let why = "old caches are removed by `sweeper legacy`, not by a pass";
                    return Err(self.wrong("zones", why.to_owned()));
                }
                other => {
                    let why = format!("{other:?} is none of export, tmp, instance-tmp");
                    return Err(self.wrong("zones", why));
                }
            });
        }
        zones.sort_unstable();
        zones.dedup();
        Ok(zones)
    }

    fn backend(&self) -> Result<Backend, ConfigError> {
        if self.get("redis").is_some() {
            return Err(self.wrong("redis", "this version does not take Redis locks".to_owned()));
        }
        match self.choice("lock")? {
            "none" => Ok(Backend::Unlocked),
            "redis" => Err(self.wrong("lock", "this version does not take Redis locks".to_owned())),
            _ => Ok(Backend::Flock),
        }
    }

    fn exclude(&self) -> Result<Exclude, ConfigError> {
        let globs = self.0.get("exclude").map(|value| value.texts.as_slice()).unwrap_or_default();
        Exclude::of(globs).map_err(|why| self.wrong("exclude", why))
    }

    fn data_root(&mut self, given: &Given) -> DataRoot {
        if let Some((path, _)) = self.get("data") {
            return DataRoot::Named(PathBuf::from(path));
        }
        let base = given.env("CVAT_BASE_DIR").map(|base| Path::new(base).join("data"));
        let usual = [PathBuf::from("./data"), PathBuf::from("/home/django/data")];
        let tried: Vec<PathBuf> = base.clone().into_iter().chain(usual).collect();
        let origin = if base.is_some() { Origin::Env("CVAT_BASE_DIR") } else { Origin::Default };
        let text = tried.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(" or ");
        self.0.insert("data", Value { texts: vec![text], origin });
        DataRoot::AnyOf(tried)
    }

    /// As many as the container may use: std reads affinity and cgroup quotas.
    fn default_jobs(&mut self) -> usize {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let texts = vec![jobs.to_string()];
        self.0.insert("jobs", Value { texts, origin: Origin::Default });
        jobs
    }

    fn rows(&self) -> Vec<Row> {
        let row = |setting: &Setting| {
            let value = self.0.get(setting.key)?;
            let text = if setting.is_switch() {
                (!matches!(value.texts.last()?.as_str(), "0" | "false" | "no")).to_string()
            } else {
                value.texts.join(" ")
            };
            Some(Row { key: setting.key, value: text, origin: value.origin.clone() })
        };
        SETTINGS.iter().filter(|setting| setting.key != "config").filter_map(row).collect()
    }
}

/// The text of a plain TOML value.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}
