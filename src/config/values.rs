//! The strongest word on each setting, checked.
//!
//! It must not read the environment or the command line itself: both are handed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{SETTINGS, Setting};
use super::{ConfigError, DataRoot, ExporterPlan, Given, LockPlan, Origin, Row};
use crate::lock::FileLocks;
use crate::lock::redis::Server;
use crate::retention::{Exclude, ExportTtls, Shard, Ttl, Zone};
use crate::units;

/// What a settings file says, by key.
type FileValues = BTreeMap<String, Vec<String>>;

/// Every setting's text and where it came from.
pub(super) struct Values(BTreeMap<&'static str, Value>);

struct Value {
    texts: Vec<String>,
    origin: Origin,
}

impl Values {
    pub(super) fn gather(given: &Given) -> Result<Self, ConfigError> {
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
                return Some(Value { texts: vec![text.clone()], origin: Origin::Env(name) });
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
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // Without the line itself, which may hold a password.
            let line = error.span().map_or(0, |at| text[..at.start].lines().count().max(1));
            fail(format!("not TOML, line {line}: {}", error.message()))
        })?;
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

    pub(super) fn wrong(&self, key: &str, why: String) -> ConfigError {
        let (value, origin) = self.get(key).unwrap_or(("", &Origin::Default));
        // A URL may hold a password.
        let value = if key == "redis" { "(not shown)" } else { value };
        ConfigError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: origin.clone(),
            why,
        }
    }

    /// Everything that a setting was given.
    pub(super) fn texts(&self, key: &str) -> &[String] {
        self.0.get(key).map(|value| value.texts.as_slice()).unwrap_or_default()
    }

    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|(text, _)| parse(text).map_err(|why| self.wrong(key, why))).transpose()
    }

    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?.ok_or_else(|| self.wrong(key, "missing".to_owned()))
    }

    pub(super) fn ttl(&self, key: &'static str) -> Result<Ttl, ConfigError> {
        self.parsed(key, units::duration).map(Ttl::from_duration)
    }

    /// CVAT's own setting counts days.
    pub(super) fn retention(&mut self) -> Result<Ttl, ConfigError> {
        match self.get("retention") {
            Some((days, Origin::Env("TMP_FILE_OR_DIR_RETENTION_DAYS"))) => {
                let days = days.parse::<u64>();
                let days =
                    days.map_err(|_| self.wrong("retention", "not whole days".to_owned()))?;
                let origin = Origin::Env("TMP_FILE_OR_DIR_RETENTION_DAYS");
                self.0.insert("retention", Value { texts: vec![format!("{days}d")], origin });
                Ok(Ttl::from_secs(days.saturating_mul(86_400)))
            }
            _ => self.ttl("retention"),
        }
    }

    /// The TTL of each class: its own, unless the common one was given more strongly.
    pub(super) fn ttls(&mut self) -> Result<ExportTtls, ConfigError> {
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
    pub(super) fn choice(&self, key: &'static str) -> Result<&str, ConfigError> {
        self.optional_choice(key)?.ok_or_else(|| self.wrong(key, "missing".to_owned()))
    }

    /// The same, of a setting that need not be given.
    pub(super) fn optional_choice(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        let allowed =
            SETTINGS.iter().find(|setting| setting.key == key).map_or(&[][..], |s| s.choices);
        match self.get(key) {
            Some((text, _)) if !allowed.contains(&text) => {
                Err(self.wrong(key, format!("not one of {}", allowed.join(", "))))
            }
            given => Ok(given.map(|(text, _)| text)),
        }
    }

    pub(super) fn switch(&self, key: &'static str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None | Some(("0" | "false" | "no", _)) => Ok(false),
            Some(("" | "1" | "true" | "yes", _)) => Ok(true),
            Some(_) => Err(self.wrong(key, "neither true nor false".to_owned())),
        }
    }

    pub(super) fn zones(&self) -> Result<Vec<Zone>, ConfigError> {
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

    pub(super) fn locks(&mut self, given: &Given) -> Result<LockPlan, ConfigError> {
        let backend = self.choice("lock")?.to_owned();
        let server = self.server(given)?;
        let ttl = self.parsed("lock_ttl", |text| match units::duration(text)? {
            ttl if ttl < Duration::from_secs(1) => Err("less than a second".to_owned()),
            ttl if ttl > Duration::from_secs(86_400) => Err("more than a day".to_owned()),
            ttl => Ok(ttl),
        })?;
        // CVAT refuses to start with such a pair; whoever set it should hear of it here too.
        for name in
            ["CVAT_DATASET_CACHE_LOCK_TIMEOUT", "CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT"]
        {
            if let Some(text) = given.env(name) {
                let why = match units::duration(text) {
                    Ok(wait) if wait > ttl => break,
                    Ok(_) => format!("not longer than the lock's TTL of {} s", ttl.as_secs()),
                    Err(why) => why,
                };
                let (key, value) = (name.to_owned(), text.clone());
                return Err(ConfigError::Value { key, value, origin: Origin::Env(name), why });
            }
        }
        let asked = match (backend.as_str(), server) {
            ("auto" | "redis", Some(server)) => Some(server),
            ("redis", None) => {
                let why = "no Redis server is named: set --redis or CVAT_REDIS_INMEM_HOST";
                return Err(self.wrong("lock", why.to_owned()));
            }
            _ => None,
        };
        let files = if backend == "none" { FileLocks::Unlocked } else { FileLocks::Flock };
        let exporter = asked.map(|server| ExporterPlan {
            server,
            cvat_data: self.get("cvat_data").map(|(path, _)| PathBuf::from(path)),
            cvat_base: given.env("CVAT_BASE_DIR").map(PathBuf::from),
            ttl,
            is_required: backend == "redis",
        });
        Ok(LockPlan { files, exporter })
    }

    /// The Redis server: its URL, or CVAT's own settings. What is shown of it has no password.
    fn server(&mut self, given: &Given) -> Result<Option<Server>, ConfigError> {
        let password = given.env("CVAT_REDIS_INMEM_PASSWORD").map(String::as_str);
        let (server, origin) = if let Some((url, origin)) = self.get("redis") {
            let server = Server::from_url(url).map_err(|why| self.wrong("redis", why))?;
            if matches!(origin, Origin::Flag(_)) && server.has_password() {
                let why = "a password on the command line can be read by everybody with `ps`: set \
                           SWEEPER_REDIS, or CVAT_REDIS_INMEM_PASSWORD beside a URL without";
                return Err(self.wrong("redis", why.to_owned()));
            }
            let server = server.or_password(password);
            (server, origin.clone())
        } else if let Some(host) = given.env("CVAT_REDIS_INMEM_HOST") {
            let port = match given.env("CVAT_REDIS_INMEM_PORT") {
                None => 6379,
                Some(text) => text.parse().map_err(|_| ConfigError::Value {
                    key: "redis".to_owned(),
                    value: text.clone(),
                    origin: Origin::Env("CVAT_REDIS_INMEM_PORT"),
                    why: "not a port".to_owned(),
                })?,
            };
            let origin = Origin::Env("CVAT_REDIS_INMEM_HOST");
            let server = Server::of_cvat(host, port).map_err(|why| self.wrong("redis", why))?;
            (server.or_password(password), origin)
        } else {
            return Ok(None);
        };
        self.0.insert("redis", Value { texts: vec![server.shown()], origin });
        Ok(Some(server))
    }

    pub(super) fn exclude(&self) -> Result<Exclude, ConfigError> {
        let globs = self.0.get("exclude").map(|value| value.texts.as_slice()).unwrap_or_default();
        Exclude::of(globs).map_err(|why| self.wrong("exclude", why))
    }

    /// Which part of the volume; Kubernetes tells each pod of an Indexed Job its number.
    pub(super) fn shard(&mut self, given: &Given) -> Result<Option<Shard>, ConfigError> {
        let shard = self.optional("shard", |text| {
            let Some(count) = text.strip_prefix("auto/") else { return Shard::parse(text) };
            let index = given.env("JOB_COMPLETION_INDEX");
            let index = index.ok_or("JOB_COMPLETION_INDEX is not set: this is no Indexed Job")?;
            Shard::parse(&format!("{index}/{count}"))
                .map_err(|why| format!("{why} (JOB_COMPLETION_INDEX is {index:?})"))
        })?;
        if let (Some(shard), Some(value)) = (shard, self.0.get_mut("shard")) {
            value.texts = vec![shard.to_string()];
        }
        Ok(shard)
    }

    pub(super) fn data_root(&mut self, given: &Given) -> DataRoot {
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
    pub(super) fn default_jobs(&mut self) -> usize {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let texts = vec![jobs.to_string()];
        self.0.insert("jobs", Value { texts, origin: Origin::Default });
        jobs
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |setting: &Setting| {
            let Some(value) = self.0.get(setting.key) else {
                let none = if setting.is_switch() { "false" } else { "" };
                let (key, value) = (setting.key, none.to_owned());
                return Row { key, value, origin: Origin::Default };
            };
            let text = if setting.is_switch() {
                let text = value.texts.last().map(String::as_str);
                (!matches!(text, Some("0" | "false" | "no"))).to_string()
            } else {
                value.texts.join(" ")
            };
            Row { key: setting.key, value: text, origin: value.origin.clone() }
        };
        SETTINGS.iter().filter(|setting| setting.in_file()).map(row).collect()
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
