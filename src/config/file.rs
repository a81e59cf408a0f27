//! Reads the text of the settings file into values with their lines.
//!
//! This module must not open the file or check a value. It is the only user of the `toml` crate. No message quotes
//! a line of the file, because it may hold a password.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::closest::{closest, hint};
use super::origin::ConfigError;
use super::raw::SettingsFile;
use super::settings::{self, Setting};

/// What a settings file says.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    /// Settings by key.
    pub(super) values: BTreeMap<&'static str, Field>,
    /// The `[[zone]]` tables in their order.
    pub(super) zones: Vec<ZoneTable>,
    /// Where zones of the profile are, if not below the data root: `[zones.NAME]`.
    pub(super) places: Vec<Place>,
    /// Whether there is a table `[clearml]`.
    pub(super) has_clearml: bool,
}

/// A `[zones.NAME]` table.
#[derive(Debug)]
pub(super) struct Place {
    /// The name of the zone.
    pub(super) zone: String,
    /// The line of the path.
    pub(super) line: usize,
    /// The directory.
    pub(super) path: String,
}

/// A `[[zone]]` table.
#[derive(Debug)]
pub(super) struct ZoneTable {
    /// The line of its head.
    pub(super) line: usize,
    /// Its fields by key.
    pub(super) fields: BTreeMap<String, Field>,
}

/// A value.
#[derive(Debug)]
pub(super) struct Field {
    /// The line of its key.
    pub(super) line: usize,
    /// Its text; several if it is an array.
    pub(super) texts: Vec<String>,
}

impl FileSettings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// It is not TOML, or has a key that is not known or not of the right type.
    pub(super) fn parse(file: &SettingsFile) -> Result<Self, ConfigError> {
        let text = file.text.as_ref().map_err(|why| fail(&file.path, None, why.clone()))?;
        let reader = Reader { path: &file.path, text };
        let root = DeTable::parse(text).map_err(|error| {
            let line = error.span().map(|span| reader.line(span.start));
            let place = error.span().and_then(|span| text.get(span.start..span.end));
            fail(&file.path, line, not_toml(error.message(), text, place))
        })?;
        let mut settings = Self::default();
        for (key, value) in root.get_ref() {
            let line = reader.line(key.span().start);
            if key.get_ref() == "zone" {
                settings.zones = reader.zones(line, value)?;
                continue;
            }
            let name: &str = key.get_ref();
            if name == "zones"
                && let Some(table) = value.get_ref().as_table()
            {
                reader.places(table, &mut settings)?;
                continue;
            }
            if name == "zones" && has_tables(value.get_ref()) {
                let why = "write a zone of your own as [[zone]], without an s".to_owned();
                return Err(fail(&file.path, Some(line), why));
            }
            if name == "clearml"
                && let Some(table) = value.get_ref().as_table()
            {
                reader.clearml(table, &mut settings)?;
                continue;
            }
            let in_file = settings::all().filter(|setting| setting.is_in_file());
            let in_file = in_file.filter(|setting| setting.key_in_table().is_none());
            let Some(setting) = in_file.clone().find(|setting| setting.key == name) else {
                let known = in_file.map(|setting| setting.key).chain(["zone", "clearml"]);
                return Err(fail(&file.path, Some(line), unknown(name, value.get_ref(), known)));
            };
            settings.values.insert(setting.key, reader.field(setting, line, value.get_ref())?);
        }
        Ok(settings)
    }
}

/// What is wrong with a file that cannot be parsed, with what is probably meant by `place`.
fn not_toml(message: &str, text: &str, place: Option<&str>) -> String {
    let is_twice = message.starts_with("duplicate key") || message.starts_with("cannot extend");
    let name = place.unwrap_or_default().trim_matches(['[', ']', ' ']);
    let has = |start: &str| text.lines().any(|line| line.trim_start().starts_with(start));
    if is_twice && name.starts_with("zones") && has("zones") && has("[zones") {
        return "zones cannot be both a list and a table: beside [zones.NAME] write the list as sweep = [...] in the \
                table [zones]"
            .to_owned();
    }
    let is_escape = message.contains("escape") || message.contains("unicode value");
    let hint = if is_escape {
        "; in double quotes a backslash is special: write regular expressions in single quotes"
    } else {
        ""
    };
    format!("this is not TOML: {message}{hint}")
}

/// Whether it is an array with a table in it, as `[[zone]]` is.
fn has_tables(value: &DeValue<'_>) -> bool {
    let is_table = |one: &Spanned<DeValue<'_>>| one.get_ref().as_table().is_some();
    value.as_array().is_some_and(|all| all.iter().any(is_table))
}

/// What is wrong with an unknown key.
fn unknown<'a>(
    name: &str,
    value: &DeValue<'_>,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    if name == "config" {
        return "a settings file names no other: use --config or SWEEPER_CONFIG".to_owned();
    }
    if let Some(flag) = settings::flag_alone(name) {
        return format!("there is no setting {name:?}: {flag} is only a flag");
    }
    let of_clearml =
        |it: &&settings::Setting| [Some(it.key), it.key_in_table()].contains(&Some(name));
    if let Some(key) = settings::all().filter(of_clearml).find_map(settings::Setting::key_in_table)
    {
        return format!("{name} is a setting of ClearML: write {key} in the table [clearml]");
    }
    let closest = closest(name, known);
    let is_table = value.as_table().is_some() || has_tables(value);
    if is_table && closest.is_none() {
        return format!(
            "there is no table {name:?}: settings stand at the top of the file, in no table"
        );
    }
    let hint = hint(name, closest, "; `sweeper config` shows all");
    format!("there is no setting {name:?}{hint}")
}

/// An error about the settings file.
pub(super) fn fail(path: &Path, line: Option<usize>, why: String) -> ConfigError {
    ConfigError::File { path: path.to_owned(), line, why }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.split(|byte| *byte == b'\n').count()
    }

    /// The value of a setting.
    fn field(
        &self,
        setting: &Setting,
        line: usize,
        value: &DeValue<'_>,
    ) -> Result<Field, ConfigError> {
        match (value, setting.is_list()) {
            (DeValue::Array(_), false) => {
                let why = format!("{}: it takes one value, not an array", setting.key);
                Err(fail(self.path, Some(line), why))
            }
            _ => self.texts(setting.key, line, value),
        }
    }

    fn texts(&self, key: &str, line: usize, value: &DeValue<'_>) -> Result<Field, ConfigError> {
        let texts: Option<Vec<String>> = match value.as_array() {
            Some(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
            None => plain(value).map(|text| vec![text]),
        };
        let wrong = || {
            let why = format!("{key}: write text, a whole number, true or false");
            fail(self.path, Some(line), why)
        };
        Ok(Field { line, texts: texts.ok_or_else(wrong)? })
    }

    /// Reads the table `[clearml]`. Its numbers may be fractions, and keys may have the section before them
    /// under which ClearML itself shows them.
    fn clearml(&self, table: &DeTable<'_>, settings: &mut FileSettings) -> Result<(), ConfigError> {
        settings.has_clearml = true;
        for (key, value) in table {
            let (name, line) = (key.get_ref().to_string(), self.line(key.span().start));
            let plain_name = name.strip_prefix("General/").unwrap_or(&name);
            let in_table =
                settings::all().filter_map(|setting| Some((setting.key_in_table()?, setting)));
            let Some((_, setting)) = in_table.clone().find(|(own, _)| *own == plain_name) else {
                let known = in_table.map(|(own, _)| own);
                let hint = match plain_name {
                    "ttl" | "age" => "; did you mean delete_threshold_days?".to_owned(),
                    _ => hint(plain_name, known, "; `sweeper config` shows all"),
                };
                let why = format!("clearml has no setting {name:?}{hint}");
                return Err(fail(self.path, Some(line), why));
            };
            let field = if let DeValue::Float(number) = value.get_ref() {
                Field { line, texts: vec![number.as_str().replace('_', "")] }
            } else {
                self.field(setting, line, value.get_ref())?
            };
            if settings.values.insert(setting.key, field).is_some() {
                let why = format!("clearml.{plain_name} is set twice, with and without General/");
                return Err(fail(self.path, Some(line), why));
            }
        }
        Ok(())
    }

    /// Reads `[zones.NAME]` tables. Beside them the zones to sweep are `sweep = [...]` under `[zones]`,
    /// because `zones` cannot be both a list and a table.
    fn places(&self, tables: &DeTable<'_>, settings: &mut FileSettings) -> Result<(), ConfigError> {
        for (key, value) in tables {
            let (name, line) = (key.get_ref().to_string(), self.line(key.span().start));
            if name == "sweep" && value.get_ref().as_table().is_none() {
                settings.values.insert("zones", self.texts("zones.sweep", line, value.get_ref())?);
                continue;
            }
            if name == "zones" && value.get_ref().as_table().is_none() {
                let why = "zones.zones: write the list of the zones to sweep as sweep = [...]";
                return Err(fail(self.path, Some(line), why.to_owned()));
            }
            let wrong =
                |line, why: &str| Err(fail(self.path, Some(line), format!("zones.{name}: {why}")));
            let Some(table) = value.get_ref().as_table() else {
                return wrong(line, "write [zones.NAME] and path = \"/its/real/path\" below it");
            };
            let mut path = None;
            for (key, value) in table {
                let line = self.line(key.span().start);
                if key.get_ref() != "path" {
                    return wrong(line, "it has one key, path");
                }
                path = plain(value.get_ref()).map(|path| (line, path));
            }
            let Some((line, path)) = path else { return wrong(line, "path is missing") };
            settings.places.push(Place { zone: name, line, path });
        }
        Ok(())
    }

    fn zones(
        &self,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<ZoneTable>, ConfigError> {
        let wrong = || fail(self.path, Some(line), "write a zone as [[zone]]".to_owned());
        let tables = value.get_ref().as_array().ok_or_else(wrong)?;
        tables
            .iter()
            .map(|table| self.zone(table.get_ref().as_table().ok_or_else(wrong)?, table))
            .collect()
    }

    fn zone(
        &self,
        table: &DeTable<'_>,
        at: &Spanned<DeValue<'_>>,
    ) -> Result<ZoneTable, ConfigError> {
        let mut fields = BTreeMap::new();
        for (key, value) in table {
            let (name, line) = (key.get_ref().to_string(), self.line(key.span().start));
            let field = self.texts(&name, line, value.get_ref())?;
            fields.insert(name, field);
        }
        Ok(ZoneTable { line: self.line(at.span().start), fields })
    }
}

/// The text of a plain value.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(is_true) => Some(is_true.to_string()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FileSettings, String> {
        let file = SettingsFile {
            path: "/etc/s.toml".into(),
            text: Ok(text.to_owned()),
            is_regular: true,
        };
        FileSettings::parse(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_read_with_their_lines() {
        let file = parse(
            "# settings\nttl = '36h'\njobs = 1_6\r\nnice = true\n\nexclude = [\n  'a*',\n  'b*',\n]\n\
             [[zone]]\nname = 'a'\n\n[[zone]]\n  name = 'b'\n  names = ['x', 'y']\n",
        )
        .unwrap();
        let value = |key| {
            let field = &file.values[key];
            (field.line, field.texts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(value("ttl"), (2, vec!["36h"]));
        assert_eq!(value("jobs"), (3, vec!["16"]));
        assert_eq!(value("nice"), (4, vec!["true"]));
        assert_eq!(value("exclude"), (6, vec!["a*", "b*"]));
        let [a, b] = file.zones.as_slice() else { panic!("{:?}", file.zones) };
        assert_eq!((a.line, a.fields["name"].line, b.line), (10, 11, 13));
        assert_eq!(b.fields["names"].texts, ["x", "y"]);
    }

    #[test]
    fn each_refusal_names_the_file_and_the_line() {
        for (text, words) in [
            ("\ntttl = '5h'", "line 2: there is no setting \"tttl\"; did you mean ttl?"),
            ("retain = 5", "line 1: there is no setting \"retain\"; `sweeper config` shows all"),
            ("[clearml]\nttl = 5", "no setting \"ttl\"; did you mean delete_threshold_days?"),
            ("dry-run = true", "line 1: there is no setting \"dry-run\"; did you mean dry_run?"),
            ("[zones]\ntmp = '/x'", "line 2: zones.tmp: write [zones.NAME]"),
            ("[zones.tmp]\nttl = '1d'", "line 2: zones.tmp: it has one key, path"),
            ("\n[zones.tmp]", "line 2: zones.tmp: path is missing"),
            ("\n[Zone]", "line 2: there is no setting \"Zone\"; did you mean zone?"),
            ("\n[[zones]]\nname = 'x'", "line 2: write a zone of your own as [[zone]]"),
            ("\n[run]\nttl = '1h'", "line 2: there is no table \"run\": settings stand at the top"),
            ("now = 'x'", "there is no setting \"now\""),
            ("config = 'x'", "line 1: a settings file names no other: use --config"),
            ("quiet = true", "there is no setting \"quiet\": --quiet is only a flag"),
            ("clearml_keep_last = 3", "ClearML: write keep_last in the table [clearml]"),
            (
                "[clearml]\nkeep_last = 1\n'General/keep_last' = 2",
                "clearml.keep_last is set twice, with and without General/",
            ),
            ("ttl = 1.5", "line 1: ttl: write text"),
            ("ttl = 0x10", "line 1: ttl: write text"),
            ("ttl = ['1h']", "line 1: ttl: it takes one value"),
            ("exclude = [1.5]", "line 1: exclude: write text"),
            ("\n\n[zone]\nname = 'a'", "line 3: write a zone as [[zone]]"),
            ("zone = ['a']", "line 1: write a zone as [[zone]]"),
            ("ttl = '1h'\nnot toml", "line 2: this is not TOML"),
            (
                "[[zone]]\nnames = [\"project-\\d+\"]",
                "in double quotes a backslash is special: write regular expressions in single quotes",
            ),
            (
                "zones = ['tmp']\n[zones.tmp]\npath = '/x'",
                "line 2: zones cannot be both a list and",
            ),
            (
                "[zones.tmp]\npath = '/x'\n[zones]\nzones = ['tmp']",
                "line 4: zones.zones: write the list of",
            ),
            ("ttl = '1h'\nttl = '2h'", "line 2: this is not TOML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("settings file \"/etc/s.toml\""), "{error}");
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn no_message_quotes_the_file() {
        let error = parse("redis = 'redis://:hunter2@host").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = parse("redis = [['redis://:hunter2@host']]").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
