//! What a setting is. Each row of the table makes a flag, a variable, a key in the settings file, a
//! default and a line of help.
//!
//! This module must not read or check a value.

mod all;
mod clearml;
mod pressure;
mod table;
mod uses;

pub use all::all;
pub use pressure::WHEN_FULL;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the flag is there or not.
    Nothing,
    /// One value, with this name in the help.
    One(&'static str),
    /// A list: one value each time the flag is given.
    Many(&'static str),
    /// Nothing, which means on, or `=true` or `=false`.
    OnOff,
}

/// The commands that take settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `sweeper run`
    Run,
    /// `sweeper plan`
    Plan,
    /// `sweeper apply`
    Apply,
    /// `sweeper serve`
    Serve,
    /// `sweeper legacy`
    Legacy,
    /// `sweeper usage`
    Usage,
    /// `sweeper why`
    Why,
    /// `sweeper hold`
    Hold,
    /// `sweeper health`
    Health,
    /// `sweeper merge`
    Merge,
    /// `sweeper clearml run`
    ClearmlRun,
    /// `sweeper clearml serve`
    ClearmlServe,
    /// `sweeper clearml orphans`
    ClearmlOrphans,
    /// `sweeper clearml journal`
    ClearmlJournal,
    /// `sweeper clearml why`
    ClearmlWhy,
}

impl Use {
    /// The command.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Serve => "serve",
            Self::Legacy => "legacy",
            Self::Usage => "usage",
            Self::Why => "why",
            Self::Hold => "hold",
            Self::Health => "health",
            Self::Merge => "merge",
            Self::ClearmlRun => "clearml run",
            Self::ClearmlServe => "clearml serve",
            Self::ClearmlOrphans => "clearml orphans",
            Self::ClearmlJournal => "clearml journal",
            Self::ClearmlWhy => "clearml why",
        }
    }
}

/// One setting. `sweeper config` takes all of them.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the settings file; with dashes for underscores, its flag.
    pub key: &'static str,
    /// Its default, if it has one that can be written down.
    pub default: Option<&'static str>,
    /// What its flag takes.
    pub takes: Takes,
    /// The words it allows; empty if it is not a choice.
    pub choices: &'static [&'static str],
    /// The commands that it applies to.
    pub used_by: &'static [Use],
    /// Its group in the help.
    pub group: &'static str,
    /// One sentence for the help.
    pub help: &'static str,
}

impl Setting {
    /// The name of its flag, without the dashes before it.
    pub fn long(&self) -> String {
        self.key_in_table().unwrap_or(self.key).replace('_', "-")
    }

    /// Its flag.
    pub fn flag(&self) -> String {
        format!("--{}", self.long())
    }

    /// Its key in the table `[clearml]` of the settings file, if it is there.
    pub fn key_in_table(&self) -> Option<&'static str> {
        self.key.strip_prefix(TABLE)
    }

    /// Its variable, if it has one.
    pub fn variable(&self) -> Option<String> {
        (!self.is_hidden()).then(|| {
            // Every command asks for that of every setting.
            let mut name = [PREFIX, self.key].concat();
            name.make_ascii_uppercase();
            name
        })
    }

    /// Whether another setting, of other commands, has the same flag.
    pub fn shares_flag(&self) -> bool {
        let name = |setting: &Self| setting.key_in_table().unwrap_or(setting.key);
        all().any(|other| other.key != self.key && name(other) == name(self))
    }

    /// Whether the settings file may have it.
    pub fn is_in_file(&self) -> bool {
        self.key != "config" && !self.is_hidden()
    }

    /// Whether it is for tests alone: only a flag, and not in the help.
    pub fn is_hidden(&self) -> bool {
        self.key == "now"
    }

    /// Whether it is a list.
    pub const fn is_list(&self) -> bool {
        matches!(self.takes, Takes::Many(_))
    }

    /// Whether it is either on or off.
    pub const fn is_switch(&self) -> bool {
        matches!(self.takes, Takes::Nothing)
    }

    /// Whether `command` offers it.
    pub fn applies_to(&self, command: Use) -> bool {
        self.used_by.contains(&command)
    }
}

/// What the keys of settings in the table `[clearml]` begin with.
const TABLE: &str = "clearml_";

/// What the name of every variable of ours begins with.
pub const PREFIX: &str = "SWEEPER_";

/// The flag that is no setting and has this name, in any case.
pub fn flag_alone(name: &str) -> Option<&'static str> {
    const FLAGS: [&str; 4] = ["--quiet", "--verbose", "--max-age", "--output"];
    let plain = name.replace('_', "-");
    FLAGS.into_iter().find(|flag| flag[2..].eq_ignore_ascii_case(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_name_and_a_sentence() {
        for (at, setting) in all().enumerate() {
            let mut before = all().take(at);
            let are_apart = |other: &Setting| {
                let is_shared = setting.used_by.iter().any(|by| other.applies_to(*by));
                other.key != setting.key && (other.flag() != setting.flag() || !is_shared)
            };
            assert!(before.all(are_apart), "{}", setting.key);
            assert!(!setting.help.is_empty() && !setting.used_by.is_empty(), "{}", setting.key);
            assert!(!setting.help.ends_with('.'), "{}", setting.key);
            if let (Some(default), [_, ..]) = (setting.default, setting.choices) {
                assert!(setting.choices.contains(&default), "{}", setting.key);
            }
        }
    }

    #[test]
    fn a_key_makes_a_flag_and_a_variable() {
        let setting = Setting::find("dry_run").unwrap();
        assert_eq!(setting.flag(), "--dry-run");
        assert_eq!(setting.variable().as_deref(), Some("SWEEPER_DRY_RUN"));
        let now = Setting::find("now").unwrap();
        assert!(now.variable().is_none() && !now.is_in_file());
        assert!(!Setting::find("config").unwrap().is_in_file());
    }
}
