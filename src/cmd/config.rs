//! `sweeper config`: the effective settings, each with its origin.
//!
//! It must not open the data root, and shows no password.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Refusal, printed};
use crate::config::{Config, EffectiveSetting};
use crate::protocol::ExitCode;
use crate::report::{Format, json};
use crate::units::quoted;

/// Writes the settings.
pub(super) fn config(config: &Config, out: &mut impl Write) -> Result<ExitCode, Refusal> {
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
        Format::Text => text(&config.settings, out),
        Format::Json | Format::Jsonl => as_json(&config.settings, out),
    };
    Ok(printed(written, ExitCode::Done))
}

fn text(settings: &[EffectiveSetting], out: &mut impl Write) -> io::Result<()> {
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    for EffectiveSetting { key, value, origin } in settings {
        writeln!(out, "{key:<width$} {:<24} {origin}", quoted(value.as_ref()))?;
    }
    Ok(())
}

fn as_json(settings: &[EffectiveSetting], out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Shown<'a> {
        value: &'a str,
        origin: String,
    }
    let shown = |setting: &EffectiveSetting| setting.origin.to_string();
    let all: BTreeMap<&str, Shown<'_>> = settings
        .iter()
        .map(|setting| {
            let value = Shown { value: &setting.value, origin: shown(setting) };
            (setting.key.as_str(), value)
        })
        .collect();
    json::write_whole(out, &all)
}
