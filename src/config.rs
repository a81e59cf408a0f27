//! The settings: from flags, the environment, a file and defaults, checked once.
//!
//! [`RawSettings::read`] reads all that was given, and is the only place that reads the environment.
//! [`Config::resolve`] checks it and makes it typed, before anything is opened. It must not open a data
//! root or change anything. Only the modules `cmd` and `cli` use this one.
//!
//! - [`settings`]: the table of settings.
//! - `file`: the settings file as values with lines.
//! - `checks`: every value by itself; `values`: which source wins.
//! - `misspelt`: variables that are probably meant and are not read; `effect`: settings that have no effect.
//! - `zones`, `user_zones`, `overlap`: which zones there are.
//! - `guards`, `pressure`, `locks`, [`service`], [`clearml`]: the settings of these parts.

mod checks;
pub mod clearml;
mod closest;
mod effect;
mod file;
mod guards;
mod locks;
mod misspelt;
mod origin;
mod overlap;
mod pressure;
mod raw;
pub mod service;
pub mod settings;
mod user_zones;
mod values;
mod words;
mod zones;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cvat;
use crate::report::Format;
use crate::rules::{Exclude, Moment, Shard, Zone, ZoneName};
use crate::units;
pub use clearml::ClearmlConfig;
pub use closest::is_near;
use effect::Useless;
use file::FileSettings;
pub use guards::GuardSettings;
pub use locks::{ApplicationLock, LockPlan};
pub use origin::{ConfigError, EffectiveSetting, Origin};
pub use pressure::PressureSettings;
pub use raw::{Flags, RawSettings, SettingsFile};
pub use service::ServiceConfig;
use values::Values;
pub use words::{
    ColorWhen, FileLocks, IfRunning, InUse, LogFormat, Profile, ProgressWhen, Verbosity,
};
use zones::Zones;

/// The settings of a command, all of them checked.
#[derive(Debug)]
pub struct Config {
    /// Which zones there are besides those of the settings file.
    pub profile: Profile,
    /// Where the data root may be; an error if nothing says so.
    pub data: Result<DataRoot, ConfigError>,
    /// A data root has at least two of these directories, or is named and has the first.
    pub marks: &'static [&'static str],
    /// The zones to sweep, in this order.
    pub zones: Vec<Arc<Zone>>,
    /// The zone of `sweeper legacy`; the profile may have none.
    pub legacy: Option<Arc<Zone>>,
    /// Zones of the profile whose directory is not below the data root, and where it is.
    pub places: Vec<(ZoneName, PathBuf)>,
    /// Where the path of each zone of the settings file is written.
    pub zone_paths: Vec<(ZoneName, Origin)>,
    /// Every zone, in the order in which a path is looked up.
    pub all_zones: Vec<Arc<Zone>>,
    /// What the user asked to keep.
    pub exclude: Exclude,
    /// The locks to take.
    pub locks: LockPlan,
    /// For how long in all to retry locked entries.
    pub lock_wait: Duration,
    /// Whether to check if an entry is in use.
    pub in_use: InUse,
    /// The number of workers.
    pub jobs: usize,
    /// Which part of the work to do, if not all of it.
    pub shard: Option<Shard>,
    /// The list of the entries to sweep, if not all of them; `-` is stdin.
    pub from0: Option<PathBuf>,
    /// How old a plan may be.
    pub max_plan_age: Duration,
    /// The format of the report.
    pub format: Format,
    /// When to show progress.
    pub progress: ProgressWhen,
    /// When to use color.
    pub color: ColorWhen,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// Whether to remove nothing.
    pub dry_run: bool,
    /// The moment to judge at, if not the present.
    pub now: Option<Moment>,
    /// Whether to run at low priority.
    pub nice: bool,
    /// How many files per second may be removed.
    pub max_rate: Option<NonZeroU32>,
    /// After which time to stop a pass.
    pub deadline: Option<Duration>,
    /// How much a pass may remove.
    pub guards: GuardSettings,
    /// When entries go before they expire; an error matters to `run`, `serve` and `config`.
    pub pressure: Result<Option<PressureSettings>, ConfigError>,
    /// Where to write down each removal before it is made.
    pub audit_log: Option<PathBuf>,
    /// What to do if another sweeper is at work; the default depends on the command.
    pub if_running: Option<IfRunning>,
    /// Where to write metrics after a pass.
    pub metrics_file: Option<PathBuf>,
    /// Where to write the page of a usage.
    pub html: Option<PathBuf>,
    /// Home directories, which are never a data root.
    pub homes: Vec<PathBuf>,
    /// The running program: no data root contains it.
    pub program: Option<PathBuf>,
    /// Why one of these is not known, if that is so. Then no data root can be used.
    pub unknown: Option<String>,
    /// The settings of `sweeper serve`; an error matters to that command and to `config`.
    pub service: Result<ServiceConfig, ConfigError>,
    /// The settings of `sweeper clearml`; an error matters to those commands and to `config`.
    pub clearml: Result<ClearmlConfig, ConfigError>,
    /// Every setting and zone of the settings file, with its origin.
    pub settings: Vec<EffectiveSetting>,
    /// What the user should know about the settings.
    pub warnings: Vec<String>,
    /// Flags that have no effect on the zones that are swept, each with the reason.
    pub useless_flags: Vec<String>,
}

/// Where the data root may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataRoot {
    /// Here, as the user says.
    Named(PathBuf),
    /// In the first of these places that has one.
    AnyOf(Vec<PathBuf>),
}

impl Config {
    /// A setting as it is shown.
    pub fn setting(&self, key: &str) -> Option<&EffectiveSetting> {
        self.settings.iter().find(|row| row.key == key)
    }

    /// Where the directory of a zone is, if not below the data root.
    pub fn place_of(&self, name: &ZoneName) -> Option<&Path> {
        self.places.iter().find(|(zone, _)| zone == name).map(|(_, place)| place.as_path())
    }

    /// Checks what was given.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn resolve(raw: &RawSettings) -> Result<Self, ConfigError> {
        raw.check_variables()?;
        raw.check_flags()?;
        let file = read_file(raw)?;
        let given = checks::given(raw, &file);
        checks::values(&given)?;
        let mut values = Values::gather(raw, &file)?;
        let data = data_root(&mut values);
        let roots = data.as_ref().map(|data| data.absolute(raw)).unwrap_or_default();
        let zones = Zones::resolve(&mut values, &file, &roots)?;
        let Useless { warnings, flags: useless_flags } = warnings(&values, &zones.swept)?;
        let all_zones = zones.all();
        checks::names(&given, &values, &zones.known, &all_zones)?;
        let exclude = zones::exclude(&values, &all_zones)?;
        let service = ServiceConfig::resolve(&mut values, &zones);
        let clearml = ClearmlConfig::resolve(&mut values, &file);
        let pressure = PressureSettings::resolve(&mut values, &zones);
        let mut config = Self {
            profile: values.profile,
            data,
            marks: if values.profile == Profile::Cvat { &cvat::MARKS } else { &[] },
            all_zones,
            exclude,
            locks: LockPlan::resolve(&mut values)?,
            lock_wait: values.duration("lock_wait")?,
            in_use: if values.choice("in_use")? == "ignore" { InUse::Ignore } else { InUse::Skip },
            jobs: jobs(&mut values)?,
            shard: shard(&mut values)?,
            from0: values.path("from0"),
            max_plan_age: values.duration("max_plan_age")?,
            format: format(&values)?,
            progress: progress(&values)?,
            color: color(&values)?,
            log_format: log_format(&values)?,
            dry_run: values.switch("dry_run")?,
            now: values.optional("now", units::moment)?,
            nice: values.switch("nice")?,
            max_rate: max_rate(&mut values)?,
            deadline: values.optional_duration("deadline")?,
            guards: GuardSettings::resolve(&mut values)?,
            pressure,
            audit_log: values.path("audit_log"),
            if_running: if_running(&mut values)?,
            metrics_file: values.path("metrics_file"),
            html: values.path("html"),
            homes: raw.homes.clone(),
            program: raw.program.clone(),
            unknown: raw.unknown.clone(),
            service,
            clearml,
            settings: Vec::new(),
            warnings,
            useless_flags,
            zones: zones.swept,
            zone_paths: zones.paths,
            places: zones.places,
            legacy: zones.legacy,
        };
        config.settings = values.effective();
        config.settings.extend(zones.shown);
        Ok(config)
    }
}

impl LogFormat {
    /// The format that was asked for. Text if that is not known, because an error is about to be logged.
    pub fn of(raw: &RawSettings) -> Self {
        let file = read_file(raw).unwrap_or_default();
        let values = Values::gather(raw, &file);
        values.and_then(|values| log_format(&values)).unwrap_or(Self::Text)
    }
}

impl DataRoot {
    /// Every place as an absolute path.
    fn absolute(&self, raw: &RawSettings) -> Vec<PathBuf> {
        let absolute = |path: &PathBuf| zones::absolute(&raw.directory, Path::new(path));
        match self {
            Self::Named(path) => vec![absolute(path)],
            Self::AnyOf(paths) => paths.iter().map(absolute).collect(),
        }
    }
}

fn read_file(raw: &RawSettings) -> Result<FileSettings, ConfigError> {
    raw.file.as_ref().map(FileSettings::parse).transpose().map(Option::unwrap_or_default)
}

fn data_root(values: &mut Values<'_>) -> Result<DataRoot, ConfigError> {
    if let Some(path) = values.path("data") {
        return Ok(DataRoot::Named(path));
    }
    if values.profile == Profile::None {
        let why = "with profile none there is no default data root: name it with --data".to_owned();
        return Err(ConfigError::Missing { key: "data", why });
    }
    let base = values.env_of_cvat(cvat::variables::BASE_DIR);
    let origin = match base {
        Some(_) => Origin::Env(cvat::variables::BASE_DIR.to_owned()),
        None => Origin::Default,
    };
    let paths = cvat::data_roots(base);
    let shown: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    values.show_from("data", shown.join(" or "), origin);
    Ok(DataRoot::AnyOf(paths))
}

/// By default as many workers as there are processors.
fn jobs(values: &mut Values<'_>) -> Result<usize, ConfigError> {
    let jobs = values.optional("jobs", checks::jobs)?;
    let jobs = jobs.unwrap_or_else(|| values.raw.processors.clamp(1, 256));
    values.show("jobs", jobs.to_string());
    Ok(jobs)
}

/// Which part of the work. Kubernetes gives each pod of an Indexed Job its number.
fn shard(values: &mut Values<'_>) -> Result<Option<Shard>, ConfigError> {
    const INDEX: &str = "JOB_COMPLETION_INDEX";
    let shard = values.optional("shard", |text| {
        let Some(count) = text.strip_prefix("auto/") else { return Shard::parse(text) };
        let index = values.raw.env(INDEX);
        let index =
            index.ok_or_else(|| format!("{INDEX} is not set, so this is not an Indexed Job"))?;
        Shard::parse(&format!("{index}/{count}"))
            .map_err(|why| format!("{why} ({INDEX} is {index:?})"))
    })?;
    if let Some(shard) = shard {
        values.show("shard", shard.to_string());
    }
    Ok(shard)
}

fn format(values: &Values<'_>) -> Result<Format, ConfigError> {
    Ok(match values.choice("format")? {
        "json" => Format::Json,
        "jsonl" => Format::Jsonl,
        _ => Format::Text,
    })
}

fn progress(values: &Values<'_>) -> Result<ProgressWhen, ConfigError> {
    Ok(match values.choice("progress")? {
        "always" => ProgressWhen::Always,
        "never" => ProgressWhen::Never,
        _ => ProgressWhen::Auto,
    })
}

/// By default on terminals that know color, unless the user does not want any (<https://no-color.org>).
fn color(values: &Values<'_>) -> Result<ColorWhen, ConfigError> {
    let is_unwanted =
        values.raw.env("NO_COLOR").is_some() || values.raw.env("TERM") == Some("dumb");
    Ok(match values.choice("color")? {
        "always" => ColorWhen::Always,
        "auto" if !is_unwanted => ColorWhen::Auto,
        _ => ColorWhen::Never,
    })
}

fn log_format(values: &Values<'_>) -> Result<LogFormat, ConfigError> {
    Ok(if values.choice("log_format")? == "json" { LogFormat::Json } else { LogFormat::Text })
}

/// By default it depends on the command.
fn if_running(values: &mut Values<'_>) -> Result<Option<IfRunning>, ConfigError> {
    let what = values.optional_choice("if_running")?.map(|word| match word {
        "wait" => IfRunning::Wait,
        "share" => IfRunning::Share,
        _ => IfRunning::Exit,
    });
    if what.is_none() {
        values.show("if_running", "exit (serve: wait)".to_owned());
    }
    Ok(what)
}

fn max_rate(values: &mut Values<'_>) -> Result<Option<NonZeroU32>, ConfigError> {
    values.shown_as("max_rate", units::rate, |rate| format!("{rate}/s"))
}

/// What the user should know about the settings, though they are right.
fn warnings(values: &Values<'_>, swept: &[Arc<Zone>]) -> Result<Useless, ConfigError> {
    let deprecated = cvat::variables::DURATIONS.iter().filter_map(|variable| {
        let (old, new) = (variable.name, variable.successor?);
        values.env_of_cvat(old)?;
        Some(format!(
            "{old} is deprecated: set {new} instead. As in CVAT, {old} wins if both are set"
        ))
    });
    let is_variable = matches!(values.origin("exclude"), Origin::Env(_));
    let has_comma = |glob: &&String| !is_variable && glob.contains(',') && !glob.contains('{');
    let globs = values.texts("exclude").iter().filter(has_comma);
    let one_glob = globs.map(|glob| {
        let more = match values.origin("exclude") {
            Origin::File { .. } => "Write an array for more: exclude = [\"A\", \"B\"]",
            Origin::Default | Origin::Env(_) | Origin::Flag(_) => "Repeat --exclude for more",
        };
        format!("exclude {glob:?} is one glob: the comma is part of it. {more}")
    });
    let misspelt = misspelt::warnings(values.raw, values.profile);
    let useless = effect::check(values, swept)?;
    let all = deprecated.chain(one_glob).chain(misspelt).chain(useless.warnings);
    Ok(Useless { warnings: all.collect(), ..useless })
}

#[cfg(test)]
mod tests;
