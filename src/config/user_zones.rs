//! Zones of the settings file: one `[[zone]]` table makes one zone.
//!
//! This module must not look at the file system: an absolute path is checked again when it is opened. Whether zones
//! overlap is checked in `overlap`.

use std::path::{Component, Path, PathBuf};

use super::closest::hint;
use super::file::{Field, ZoneTable, fail};
use super::origin::{ConfigError, EffectiveSetting, Origin};
use super::settings::Setting;
use crate::rules::names::Patterns;
use crate::rules::{EntryKind, Expiry, LastUse, Location, LockKind, Names, Ttl, Zone, ZoneName};
use crate::units;

/// The keys of a table.
const KEYS: [&str; 7] = ["name", "path", "entry", "names", "used", "ttl", "lock"];

/// A zone of the settings file.
#[derive(Debug)]
pub(super) struct UserZone {
    /// The zone.
    pub(super) zone: Zone,
    /// The settings file.
    file: PathBuf,
    /// Its directory.
    pub(super) path: PathBuf,
    /// The line of its name.
    pub(super) name_line: usize,
    /// The line of its path.
    pub(super) path_line: usize,
    /// How it is shown.
    pub(super) shown: EffectiveSetting,
}

impl UserZone {
    /// Makes a zone from a table of `file`.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its line.
    pub(super) fn read(file: &Path, table: &ZoneTable) -> Result<Self, ConfigError> {
        let reader = Reader { file, table };
        reader.check_keys()?;
        let (name, name_line) = reader.parsed("name", zone_name)?;
        let (path, path_line) = reader.parsed("path", directory)?;
        let (entry, _) = reader.parsed("entry", entry_kind)?;
        let names = reader.names(entry)?;
        let last_use = match reader.optional("used", last_use)? {
            Some(last_use) => last_use,
            None if entry == EntryKind::File => LastUse::Mtime,
            None => LastUse::Tree,
        };
        let (ttl, _) = reader.parsed("ttl", units::duration)?;
        let lock = reader.optional("lock", lock_kind)?.unwrap_or(LockKind::Flock);
        let shown = EffectiveSetting {
            key: format!("zone.{name}"),
            value: format!(
                "path = {path:?}, entry = {:?}, {}used = {:?}, ttl = {:?}, lock = {:?}",
                if entry == EntryKind::File { "file" } else { "tree" },
                match table.fields.get("names") {
                    Some(names) => format!("names = {:?}, ", names.texts),
                    None => String::new(),
                },
                used_word(last_use),
                units::exact(ttl),
                if lock == LockKind::Flock { "flock" } else { "none" },
            ),
            items: None,
            origin: Origin::File { path: file.to_owned(), line: table.line },
        };
        let zone = Zone {
            name: ZoneName::new(&name),
            location: Location::flat(&path),
            entry,
            names,
            last_use,
            ttls: vec![Expiry::After(Ttl::from_duration(ttl))],
            lock,
            describe_name: |_| None,
        };
        Ok(Self { zone, file: file.to_owned(), path, name_line, path_line, shown })
    }
}

impl UserZone {
    /// Where its path is written.
    pub(super) fn path_origin(&self) -> Origin {
        Origin::File { path: self.file.clone(), line: self.path_line }
    }
}

struct Reader<'a> {
    file: &'a Path,
    table: &'a ZoneTable,
}

impl Reader<'_> {
    /// An error in this table.
    fn wrong(&self, line: usize, why: &str) -> ConfigError {
        let name = self.table.fields.get("name").and_then(|field| field.texts.first());
        let zone = name.map_or_else(|| "a zone".to_owned(), |name| format!("zone {name:?}"));
        fail(self.file, Some(line), format!("{zone}: {why}"))
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        let unknown = self.table.fields.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
        let Some((key, field)) = unknown.min_by_key(|(_, field)| field.line) else { return Ok(()) };
        let why = if Setting::find(key).is_some_and(Setting::is_in_file) {
            format!("{key} is a setting: write it above the first [[zone]]")
        } else {
            let all = format!("; there are {}", KEYS.join(", "));
            let hint = match key.as_str() {
                "age" | "retention" | "max_age" => "; did you mean ttl?".to_owned(),
                _ => hint(key, KEYS, &all),
            };
            format!("there is no key {key:?}{hint}")
        };
        Err(self.wrong(field.line, &why))
    }

    /// A field with one value.
    fn one(&self, key: &str) -> Result<Option<(&str, usize)>, ConfigError> {
        let Some(Field { line, texts }) = self.table.fields.get(key) else { return Ok(None) };
        match texts.as_slice() {
            [text] => Ok(Some((text, *line))),
            _ => Err(self.wrong(*line, &format!("{key}: write one value"))),
        }
    }

    /// A field that may be left out.
    fn optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((text, line)) = self.one(key)? else { return Ok(None) };
        let parsed = parse(text);
        parsed.map(Some).map_err(|why| self.wrong(line, &format!("{key} = {text:?}: {why}")))
    }

    /// A field that may not be left out, and its line.
    fn parsed<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<(T, usize), ConfigError> {
        let line = self.table.fields.get(key).map_or(self.table.line, |field| field.line);
        match self.optional(key, parse)? {
            Some(value) => Ok((value, line)),
            None => Err(self.wrong(line, &format!("{key} is missing"))),
        }
    }

    fn names(&self, entry: EntryKind) -> Result<Names, ConfigError> {
        match self.table.fields.get("names") {
            Some(Field { line, texts }) => {
                let patterns = Patterns::new(texts);
                let patterns = patterns.map_err(|why| self.wrong(*line, &format!("names: {why}")));
                Ok(Names::Patterns(patterns?))
            }
            None if entry == EntryKind::File => {
                let why = "names is missing: write regular expressions for the names of the files";
                Err(self.wrong(self.table.line, why))
            }
            None => Ok(Names::Any),
        }
    }
}

fn zone_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(is_allowed) {
        return Err("a name consists of the characters a to z, 0 to 9 and -".to_owned());
    }
    Ok(text.to_owned())
}

/// A path without `.` and superfluous slashes.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text.contains('\0') {
        return Err("a path has no NUL character".to_owned());
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err("a path has no ..".to_owned());
    }
    let path: PathBuf =
        path.components().filter(|component| *component != Component::CurDir).collect();
    if path.as_os_str().is_empty() {
        return Err("write the path of a directory below the data root".to_owned());
    }
    if path == Path::new("/") {
        return Err("this is the root of the file system".to_owned());
    }
    Ok(path)
}

fn entry_kind(text: &str) -> Result<EntryKind, String> {
    match text {
        "file" => Ok(EntryKind::File),
        "tree" => Ok(EntryKind::Tree),
        _ => Err("write file or tree".to_owned()),
    }
}

fn last_use(text: &str) -> Result<LastUse, String> {
    match text {
        "mtime" => Ok(LastUse::Mtime),
        "tree" => Ok(LastUse::Tree),
        "atime" => Ok(LastUse::Atime),
        "entry" => Ok(LastUse::Entry),
        _ => Err("write mtime, tree, atime or entry".to_owned()),
    }
}

const fn used_word(last_use: LastUse) -> &'static str {
    match last_use {
        LastUse::Mtime => "mtime",
        LastUse::Tree => "tree",
        LastUse::Atime => "atime",
        LastUse::Entry => "entry",
    }
}

fn lock_kind(text: &str) -> Result<LockKind, String> {
    match text {
        "flock" => Ok(LockKind::Flock),
        "none" => Ok(LockKind::Unlocked),
        _ => Err("write flock or none".to_owned()),
    }
}
