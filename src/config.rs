//! The settings: what was typed, the environment, a file and the defaults, in this order.
//!
//! It must not open the volume or change anything: a wrong value is refused before anything is
//! opened, with the place it came from. This is the only module that reads the environment.
//! [`settings`] is the table of what there is, `values` finds the strongest word on each and checks it.

pub mod service;
pub mod settings;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::disk::InUseProbe;
use crate::lock::FileLocks;
use crate::lock::guard::IfRunning;
use crate::lock::redis::Server;
use crate::report::Format;
use crate::retention::{Moment, Policy, Shard, TmpAge, Ttl, Zone};
use crate::units;
use crate::volume::Forbidden;
use values::Values;

/// Where a value came from, the stronger the greater.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The locks to take.
    pub locks: LockPlan,
    /// For how long in all to come back to what is busy.
    pub lock_wait: Duration,
    /// Whether to ask who has a file open.
    pub in_use: InUseProbe,
    /// How many workers.
    pub jobs: usize,
    /// Which part of the volume to sweep, if not all of it.
    pub shard: Option<Shard>,
    /// The list of what to look at, if not at everything; `-` is stdin.
    pub from0: Option<PathBuf>,
    /// How the report is written.
    pub format: Format,
    /// When progress is shown.
    pub progress: ProgressWhen,
    /// Whether nothing is to be removed.
    pub dry_run: bool,
    /// The moment to judge at, if not the present.
    pub now: Option<Moment>,
    /// Whether to stand back for others.
    pub nice: bool,
    /// How many files may be removed in a second.
    pub max_rate: Option<NonZeroU32>,
    /// When to stop.
    pub deadline: Option<Duration>,
    /// After how many removals to stop.
    pub max_removals: Option<u64>,
    /// What to do when another sweeper is at work, if anybody said.
    pub if_running: Option<IfRunning>,
    /// Where metrics go after a pass.
    pub metrics_file: Option<PathBuf>,
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

/// The locks to take.
#[derive(Debug)]
pub struct LockPlan {
    /// On the objects themselves.
    pub files: FileLocks,
    /// CVAT's own, for exports.
    pub exporter: Option<ExporterPlan>,
}

/// How CVAT's own locks are to be taken.
#[derive(Debug)]
pub struct ExporterPlan {
    /// Where.
    pub server: Server,
    /// The data root as CVAT sees it, if the user said.
    pub cvat_data: Option<PathBuf>,
    /// CVAT's own base directory, if it is set here.
    pub cvat_base: Option<PathBuf>,
    /// For how long.
    pub ttl: Duration,
    /// Whether a guess at CVAT's data root will not do (`--lock redis`).
    pub is_required: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// What was asked for; text if that cannot be said, and then an error is about to be logged.
    pub fn of(given: &Given) -> Self {
        match Values::gather(given).as_ref().map(|values| values.choice("log_format")) {
            Ok(Ok("json")) => Self::Json,
            _ => Self::Text,
        }
    }
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
        for (old, new) in [
            ("CVAT_DATASET_CACHE_TTL", "CVAT_EXPORT_CACHE_TTL"),
            ("CVAT_DATASET_EXPORT_LOCK_TTL", "CVAT_EXPORT_CACHE_LOCK_TTL"),
        ] {
            if given.env(old).is_some() {
                warnings.push(format!(
                    "{old} is deprecated and goes before {new}, as in CVAT; set {new}"
                ));
            }
        }
        let policy = Policy {
            export: values.ttls()?,
            retention: values.retention()?,
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
        values.choice("log_format")?;
        let config = Self {
            data: values.data_root(given),
            policy,
            zones: values.zones()?,
            locks: values.locks(given)?,
            lock_wait: values.parsed("lock_wait", units::duration)?,
            in_use: match values.choice("in_use")? {
                "ignore" => InUseProbe::Off,
                _ => InUseProbe::On,
            },
            jobs: jobs.unwrap_or_else(|| values.default_jobs()),
            shard: values.shard(given)?,
            from0: values.optional("from0", |path| Ok(PathBuf::from(path)))?,
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
            nice: values.switch("nice")?,
            max_rate: values.optional("max_rate", units::rate)?,
            deadline: values.optional("deadline", units::duration)?,
            max_removals: values.optional("max_removals", |text| {
                text.parse().map_err(|_| "not a whole number".to_owned())
            })?,
            if_running: values.optional_choice("if_running")?.map(|word| match word {
                "wait" => IfRunning::Wait,
                "share" => IfRunning::Share,
                _ => IfRunning::Exit,
            }),
            metrics_file: values.optional("metrics_file", |path| Ok(path.into()))?,
            forbidden: Forbidden { homes: homes(given), program: std::env::current_exe().ok() },
            warnings,
            rows: values.rows(),
        };
        Ok(config)
    }
}

/// Everybody's home: `$HOME`, and what `/etc/passwd` says if there is one.
fn homes(given: &Given) -> Vec<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = users.lines().filter_map(|line| line.split(':').nth(5)).map(PathBuf::from);
    given.env("HOME").map(PathBuf::from).into_iter().chain(listed).collect()
}
