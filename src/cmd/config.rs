//! `sweeper config`: the effective settings, each with its origin.
//!
//! This module must not look into the data root, and shows no password. Of several places where the data root may be,
//! it says which one a run would use.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::data_root::{open_root, refuse_forbidden};
use super::{Refusal, printed};
use crate::config::{Config, DataRoot, EffectiveSetting};
use crate::fs::RootError;
use crate::protocol::ExitCode;
use crate::report::{Format, json};
use crate::units::{quoted, shown};

/// Writes the settings.
pub(super) fn config(config: &Config, out: &mut impl Write) -> Result<ExitCode, Refusal> {
    refuse_forbidden(config)?;
    if let Err(error) = &config.service {
        return Err(error.clone().into());
    }
    if let Err(error) = &config.pressure {
        return Err(error.clone().into());
    }
    if let Err(error) = &config.clearml {
        return Err(error.clone().into());
    }
    let written = match config.format {
        Format::Text => text(&config.settings, &used_root(config), out),
        Format::Json | Format::Jsonl => as_json(&config.settings, out),
    };
    Ok(printed(written, ExitCode::Done))
}

/// Which of several places a run would use as its data root.
fn used_root(config: &Config) -> String {
    if !matches!(config.data, Ok(DataRoot::AnyOf(_))) {
        return String::new();
    }
    match open_root(config, &[]) {
        Ok(root) => format!("; a run here uses {}", shown(root.path())),
        Err(Refusal::Root { why: RootError::NoneFound { .. }, .. }) => {
            "; no data root is there".to_owned()
        }
        Err(why) => format!("; it cannot be used: {why}"),
    }
}

/// Writes a line for each setting. That of the data root ends with `used_root`.
fn text(settings: &[EffectiveSetting], used_root: &str, out: &mut dyn Write) -> io::Result<()> {
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    for EffectiveSetting { key, value, items, origin } in settings {
        let used = if key == "data" { used_root } else { "" };
        let items = items.as_deref().filter(|items| !items.is_empty());
        let items = items.map(|items| items.iter().map(|item| quoted(item.as_ref())).collect());
        let shown = items.map_or_else(|| quoted(value.as_ref()), |items: Vec<_>| items.join(", "));
        writeln!(out, "{key:<width$} {shown:<24} {origin}{used}")?;
    }
    Ok(())
}

fn as_json(settings: &[EffectiveSetting], out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Shown<'a> {
        value: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        items: Option<&'a [String]>,
        origin: String,
    }
    let shown = |setting: &EffectiveSetting| setting.origin.to_string();
    let all: BTreeMap<&str, Shown<'_>> = settings
        .iter()
        .map(|setting| {
            let items = setting.items.as_deref();
            let value = Shown { value: &setting.value, items, origin: shown(setting) };
            (setting.key.as_str(), value)
        })
        .collect();
    json::write_whole(out, &all)
}
