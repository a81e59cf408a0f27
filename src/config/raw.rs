//! Settings as they were given, before any check: flags, environment and the text of the settings file.
//!
//! This is the only place that reads the environment. Everything is read once, so that a settings file may
//! be a pipe. It must not interpret a value, except to find the settings file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::closest::closest;
use super::origin::{ConfigError, Origin};
use super::settings::{self, PREFIX, Setting};
use crate::units;

/// Flags by the key of their setting; a switch has an empty value.
pub type Flags = BTreeMap<&'static str, Vec<String>>;

/// A settings file is not longer than this.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Settings as they were given, and what else the machine says.
#[derive(Debug, Clone, Default)]
pub struct RawSettings {
    /// The flags.
    pub flags: Flags,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The settings file, if one is named.
    pub file: Option<SettingsFile>,
    /// The home directories of this machine.
    pub homes: Vec<PathBuf>,
    /// The running program.
    pub program: Option<PathBuf>,
    /// Why one of these is not known, if that is so: a data root could be it.
    pub unknown: Option<String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The number of processors that this process may use; 0: unknown.
    pub processors: usize,
}

/// The settings file.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    /// Its path.
    pub path: PathBuf,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
    /// Whether it can be read again; a pipe cannot.
    pub is_regular: bool,
}

impl RawSettings {
    /// The flags, with the environment of this process and the settings file that they name.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn read(flags: Flags) -> Self {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| {
                let is_ours = name.as_bytes().starts_with(PREFIX.as_bytes());
                // Bytes that are not UTF-8 are neither a name nor a value of ours; with replacement
                // characters they are refused.
                let name = if is_ours {
                    name.to_string_lossy().into_owned()
                } else {
                    name.into_string().ok()?
                };
                Some((name, value.to_string_lossy().into_owned()))
            })
            .collect();
        let home = std::env::vars_os().find(|(name, _)| name == "HOME");
        let mut raw = Self {
            flags,
            env,
            file: None,
            homes: Vec::new(),
            unknown: None,
            program: None,
            directory: std::env::current_dir().unwrap_or_default(),
            // This respects the CPU affinity and the quotas of containers.
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        };
        raw.homes.extend(home.map(|(_, home)| PathBuf::from(home)));
        raw.find_homes(Path::new("/etc/passwd"));
        raw.find_program(std::env::current_exe());
        raw.file = raw.file_path().map(|path| SettingsFile::read(&path));
        raw
    }

    /// The same flags and environment with the settings file read again. A settings file that is a pipe
    /// keeps its text.
    #[must_use]
    pub fn read_again(&self) -> Self {
        let file = self.file.as_ref().map(|file| {
            if file.is_regular { SettingsFile::read_again(&file.path) } else { file.clone() }
        });
        Self { file, ..self.clone() }
    }

    /// A variable that is set and not empty. Compose files set missing variables to an empty text.
    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Refuses flags with an empty value, which a variable of the shell leaves that is not set.
    pub(super) fn check_flags(&self) -> Result<(), ConfigError> {
        let is_empty = |key: &str| self.flags[key].iter().any(String::is_empty);
        let mut given = settings::all().filter(|setting| self.flags.contains_key(setting.key));
        match given.find(|setting| !setting.is_switch() && is_empty(setting.key)) {
            None => Ok(()),
            Some(setting) => Err(ConfigError::Value {
                key: setting.key.to_owned(),
                value: String::new(),
                origin: Origin::Flag(setting.flag()),
                why: "it is empty; is a shell variable not set?".to_owned(),
            }),
        }
    }

    /// Refuses variables with our prefix that are no settings.
    pub(super) fn check_variables(&self) -> Result<(), ConfigError> {
        let known: Vec<String> = settings::all().filter_map(Setting::variable).collect();
        let unknown = self.env.iter().find(|(name, value)| {
            name.starts_with(PREFIX) && !known.contains(name) && !is_of_kubernetes(name, value)
        });
        match unknown {
            None => Ok(()),
            Some((name, _)) => {
                Err(ConfigError::Variable { name: name.clone(), hint: meant(name, &known) })
            }
        }
    }

    fn file_path(&self) -> Option<PathBuf> {
        let flag = self.flags.get("config").and_then(|values| values.last());
        let variable = Setting::find("config").and_then(Setting::variable)?;
        flag.map(String::as_str).or_else(|| self.env(&variable)).map(PathBuf::from)
    }

    /// Reads the list of users. Names in it may have any bytes. A machine without it has no users.
    fn find_homes(&mut self, passwd: &Path) {
        let users = match std::fs::read(passwd) {
            Ok(users) => users,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.unknown = Some(format!(
                    "it could be a home directory, and {passwd:?} cannot be read: {}",
                    units::error(&error)
                ));
                Vec::new()
            }
        };
        let home = |line: &[u8]| {
            let home = line.split(|byte| *byte == b':').nth(5)?;
            Some(PathBuf::from(OsStr::from_bytes(home)))
        };
        let listed = users.split(|byte| *byte == b'\n').filter_map(home);
        self.homes.extend(listed);
        // Many users share one, and each is looked at.
        self.homes.sort_unstable();
        self.homes.dedup();
    }

    /// Without `/proc` it is not known which program this is.
    fn find_program(&mut self, program: std::io::Result<PathBuf>) {
        match program {
            Ok(program) => self.program = Some(program),
            // Without `/proc`, as in an empty root, std has an error of its own.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    || error.raw_os_error().is_none() => {}
            Err(error) => {
                let error = units::error(&error);
                self.unknown = Some(format!(
                    "it could contain this program, whose path is not known: {error}"
                ));
            }
        }
    }
}

impl SettingsFile {
    /// Reads a regular file. A pipe that has its name now would keep a running service waiting.
    fn read_again(path: &Path) -> Self {
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            let text = Err("it is not a regular file any more".to_owned());
            return Self { path: path.to_owned(), text, is_regular: true };
        }
        Self::read(path)
    }

    fn read(path: &Path) -> Self {
        let (path, mut is_regular) = (path.to_owned(), false);
        let mut read = || -> Result<String, String> {
            let file = File::open(&path).map_err(|error| units::error(&error))?;
            is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
            let mut bytes = Vec::new();
            let mut start = file.take(MAX_FILE_BYTES + 1);
            start.read_to_end(&mut bytes).map_err(|error| units::error(&error))?;
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err("it is longer than 1 MiB".to_owned());
            }
            String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
        };
        let text = read();
        Self { path, text, is_regular }
    }
}

/// What is probably meant by a variable that is not among those that are known.
fn meant(name: &str, known: &[String]) -> String {
    let own = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some(flag) = settings::flag_alone(own) {
        return format!("{flag} is only a flag");
    }
    let of_clearml = format!("{PREFIX}CLEARML_{own}");
    let of_clearml = known.iter().find(|known| **known == of_clearml).cloned();
    // The prefix, which all have, says nothing about how near a name is.
    let names = known.iter().map(|name| name.strip_prefix(PREFIX).unwrap_or(name));
    let meant = of_clearml.or_else(|| closest(own, names).map(|it| format!("{PREFIX}{it}")));
    meant.map_or_else(
        || "`sweeper config` shows all".to_owned(),
        |meant| format!("did you mean {meant}?"),
    )
}

/// Whether Kubernetes sets this variable for a service called `sweeper` or `sweeper-<something>`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    if rest.starts_with("SERVICE_") || rest.starts_with("PORT") {
        return true;
    }
    let is_port = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || (rest.ends_with("_PORT") && value.contains("://"))
        || rest.find("_PORT_").is_some_and(|at| is_port(at + "_PORT_".len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), String> {
        let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let raw = RawSettings { env, ..RawSettings::default() };
        raw.check_variables().map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_variable_is_refused_and_the_closest_named() {
        for (name, closest) in [
            ("SWEEPER_DRYRUN", "SWEEPER_DRY_RUN"),
            ("SWEEPER_RETENTON", "SWEEPER_RETENTION"),
            ("SWEEPER_MAX_REMOVAL", "SWEEPER_MAX_REMOVALS"),
            ("SWEEPER_PROJECT", "SWEEPER_CLEARML_PROJECT?"),
            ("SWEEPER_DELETE_THRESHOLD_DAYS", "SWEEPER_CLEARML_DELETE_THRESHOLD_DAYS?"),
            ("SWEEPER_LISTEN_PORT", "SWEEPER_LISTEN"),
        ] {
            let error = check(name, "1").unwrap_err();
            assert!(error.contains(&format!("{name}: ")), "{error}");
            assert!(error.contains(&format!("did you mean {closest}")), "{error}");
        }
        for name in ["SWEEPER_", "SWEEPER_PASSWORD", "SWEEPER_TESTS_ALL"] {
            let error = check(name, "1").unwrap_err();
            assert!(error.ends_with("`sweeper config` shows all"), "{error}");
        }
    }

    #[test]
    fn what_is_a_flag_alone_is_said_to_be_one() {
        for (name, flag) in [
            ("SWEEPER_QUIET", "--quiet"),
            ("SWEEPER_VERBOSE", "--verbose"),
            ("SWEEPER_MAX_AGE", "--max-age"),
            ("SWEEPER_OUTPUT", "--output"),
        ] {
            let error = check(name, "1").unwrap_err();
            assert!(error.ends_with(&format!("{flag} is only a flag")), "{error}");
        }
        let now = check("SWEEPER_NOW", "1").unwrap_err();
        assert!(!now.contains("flag"), "it is for tests: {now}");
    }

    #[test]
    fn variables_of_kubernetes_and_of_others_pass() {
        for (name, value) in [
            ("SWEEPER_SERVICE_HOST", "10.0.0.7"),
            ("SWEEPER_SERVICE_PORT_HTTP", "9108"),
            ("SWEEPER_PORT", "tcp://10.0.0.7:9108"),
            ("SWEEPER_PORT_9108_TCP_ADDR", "10.0.0.7"),
            ("SWEEPER_METRICS_SERVICE_HOST", "10.0.0.7"),
            ("SWEEPER_METRICS_SERVICE_PORT_HTTP", "9108"),
            ("SWEEPER_METRICS_PORT", "tcp://10.0.0.7:9108"),
            ("SWEEPER_METRICS_PORT_9108_TCP_PROTO", "tcp"),
            ("SWEEPER_METRICS_FILE", "/m"),
            ("SWEEPERS", "2"),
            ("HOME", "/root"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn an_empty_value_of_a_flag_is_refused_and_switches_have_none() {
        let flags = |key, value: &str| RawSettings {
            flags: Flags::from([(key, vec![value.to_owned()])]),
            ..RawSettings::default()
        };
        let error = flags("data", "").check_flags().unwrap_err().to_string();
        assert!(error.contains("(flag --data): it is empty; is a shell variable"), "{error}");
        assert_eq!(flags("data", "/data").check_flags(), Ok(()));
        assert_eq!(flags("dry_run", "").check_flags(), Ok(()));
    }

    #[test]
    fn a_pipe_is_read_once_and_a_file_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.toml");
        std::fs::write(&path, "jobs = 1").unwrap();
        let flags =
            |path: &Path| Flags::from([("config", vec![path.to_str().unwrap().to_owned()])]);
        let text = |raw: &RawSettings| raw.file.as_ref().unwrap().text.clone();
        let raw = RawSettings::read(flags(&path));
        std::fs::write(&path, "jobs = 2").unwrap();
        assert_eq!(text(&raw).as_deref(), Ok("jobs = 1"));
        assert_eq!(text(&raw.read_again()).as_deref(), Ok("jobs = 2"));

        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let path = pipe.clone();
        let writer = std::thread::Builder::new().spawn(move || {
            let mut pipe = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            std::io::Write::write_all(&mut pipe, b"dry_run = true").unwrap();
        });
        let raw = RawSettings::read(flags(&pipe));
        writer.unwrap().join().unwrap();
        assert_eq!(text(&raw).as_deref(), Ok("dry_run = true"));
        assert_eq!(text(&raw.read_again()).as_deref(), Ok("dry_run = true"));

        // A pipe that takes the name of a file is not waited for.
        let path = dir.path().join("settings.toml");
        let raw = RawSettings::read(flags(&path));
        std::fs::rename(&pipe, &path).unwrap();
        assert!(text(&raw.read_again()).unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn all_homes_are_known_or_it_is_known_that_they_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let passwd = dir.path().join("passwd");
        // A name may have any bytes.
        let users = b"root:x:0:0:root:/root:/bin/sh\nr\xe9mi:x:1:1:R\xe9mi:/home/r:\nbackup:x:2:2::/root:\n";
        std::fs::write(&passwd, users).unwrap();
        let found = |path: &Path| {
            let mut raw = RawSettings::default();
            raw.find_homes(path);
            (raw.homes, raw.unknown)
        };
        assert_eq!(found(&passwd), (vec!["/home/r".into(), "/root".into()], None));
        assert_eq!(found(&dir.path().join("none")), (Vec::new(), None));
        let (_, unknown) = found(dir.path());
        assert!(unknown.unwrap().contains("cannot be read: Is a directory"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_remembered_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes, word) in [
            ("missing", None, "No such file"),
            ("binary", Some(vec![0xff]), "UTF-8"),
            ("endless", Some(vec![b'#'; (1 << 20) + 1]), "1 MiB"),
        ] {
            let path = dir.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            let file = SettingsFile::read(&path);
            assert!(file.text.unwrap_err().contains(word), "{name}");
        }
    }
}
