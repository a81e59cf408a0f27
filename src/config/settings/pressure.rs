//! The settings of pressure: what is removed when the disk is too full.
//!
//! This module must not contain code: all that is said about a setting is in its row.

use super::uses::PASSES;
use super::{Setting, Takes};

/// Their group.
pub const WHEN_FULL: &str = "When the disk is full";

const BASE: Setting = Setting {
    key: "",
    default: None,
    takes: Takes::One("PCT"),
    choices: &[],
    used_by: PASSES,
    group: WHEN_FULL,
    help: "",
};

/// The settings of pressure, in the order of the help.
pub(super) static PRESSURE: [Setting; 5] = [
    Setting {
        key: "pressure",
        help: "When more than this share of the disk or its inodes is in use after a pass, such as \
               85%, remove exports that have not expired, the least recently used first",
        ..BASE
    },
    Setting {
        key: "relieve",
        help: "Remove exports until no more than this share is in use [default: --pressure]",
        ..BASE
    },
    Setting {
        key: "keep_free",
        takes: Takes::One("SIZE"),
        help: "Remove exports until at least this much space is available, such as 50GiB",
        ..BASE
    },
    Setting {
        key: "min_age",
        default: Some("1h"),
        takes: Takes::One("DUR"),
        help: "Keep entries used within this time, however full the disk is",
        ..BASE
    },
    Setting {
        key: "pressure_zones",
        takes: Takes::Many("ZONES"),
        help: "When all exports are gone, also remove entries of these zones, those that expire \
               soonest first",
        ..BASE
    },
];
