//! The settings of guards: how much a pass may remove at most.
//!
//! This module must not count anything.

use super::origin::ConfigError;
use super::values::{Values, whole};
use crate::rules::{Bytes, Share};
use crate::units;

/// How much a pass may remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct GuardSettings {
    /// How many entries, in all zones together.
    pub removals: Option<u64>,
    /// How much space, in all zones together.
    pub bytes: Option<Bytes>,
    /// Which share of the entries of each zone.
    pub share: Option<Share>,
}

impl GuardSettings {
    pub(super) fn resolve(values: &mut Values<'_>) -> Result<Self, ConfigError> {
        let removals = values.shown_as("max_removals", whole, |most| most.to_string())?;
        let bytes = values.size("max_bytes")?;
        let share = values.optional("max_share", units::share)?;
        if share.is_some() && values.text("from0").is_some() {
            let why = "a list of paths does not say how many entries a zone has: set max_removals instead";
            return Err(values.wrong("max_share", why));
        }
        if let Some(share) = share {
            values.show("max_share", share.to_string());
        }
        Ok(Self { removals, bytes, share })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, raw};
    use super::*;

    #[test]
    fn guards_are_read_with_their_units() {
        let flags = [("max_bytes", "2KiB"), ("max_removals", "7"), ("max_share", "12.50 %")];
        let config = config(&raw(&flags, &[])).unwrap();
        assert_eq!((config.guards.bytes, config.guards.removals), (Some(Bytes(2048)), Some(7)));
        assert_eq!(config.guards.share, Share::from_hundredths(1250));
        let shown = config.settings.iter().find(|row| row.key == "max_share").unwrap();
        assert_eq!(shown.value, "12.5%");
    }

    #[test]
    fn a_share_of_a_list_is_refused() {
        let flags = [("max_share", "50%"), ("from0", "-")];
        let error = config(&raw(&flags, &[])).unwrap_err().to_string();
        assert!(error.contains("flag --max-share") && error.contains("max_removals"), "{error}");
    }
}
