//! A pass for the tests of this folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::protocol::{
    Directory, ListedFailure, RunInfo, RunMode, Storage, Summary, Tally, ZoneSummary,
};
use crate::rules::{
    Action, Bytes, EntryKind, FileId, LastUse, Location, LockKind, Moment, Names, Zone, ZoneName,
};

/// A pass over `/data`.
pub(super) fn info() -> RunInfo<'static> {
    RunInfo {
        command: "run",
        mode: RunMode::Real,
        now: Moment::from_unix(1_767_323_045, 0),
        data_root: Path::new("/data"),
        shard: None,
    }
}

/// What that pass did: a zone where something of everything happened, and one without trouble.
pub(super) fn summary() -> Summary {
    let failure = ListedFailure {
        path: PathBuf::from("/data/cache/export/x.zip"),
        action: Action::Unlink,
        errno: Some(13),
        message: "Permission denied (os error 13); ask root".to_owned(),
    };
    let export = Tally {
        seen: 11,
        removed: 4,
        kept_by: [3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        skipped_by: [0, 1, 0, 0, 0, 0],
        failed: 1,
        freed: Bytes(16_384),
        failures: vec![failure],
        ..Tally::default()
    };
    let tmp = Tally { seen: 1234, removed: 1234, freed: Bytes(2 << 30), ..Tally::default() };
    let zone = |name: &str, path: &str, tally, notes: &[&str]| ZoneSummary {
        zone: ZoneName::new(name),
        path: PathBuf::from(path),
        tally,
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        no_lock: None,
    };
    Summary {
        zones: vec![
            zone("export", "/data/cache/export", export, &[]),
            zone("tmp", "/data/tmp", tmp, &["the probe cannot be used"]),
        ],
        stopped: None,
        relief: Vec::new(),
    }
}

/// The directory of a zone `tmp`. Its handle is some open directory.
pub(super) fn directory() -> Directory {
    let zone = Zone {
        name: ZoneName::new("tmp"),
        location: Location::flat("tmp"),
        entry: EntryKind::Any,
        names: Names::Any,
        last_use: LastUse::Tree,
        ttls: Vec::new(),
        lock: LockKind::Flock,
        describe_name: |_| None,
    };
    Directory {
        zone: Arc::new(zone),
        path: PathBuf::from("/data/tmp"),
        dir: PathBuf::from("tmp"),
        handle: File::open(".").unwrap().into(),
        id: FileId { dev: 1, ino: 2 },
        mount: 3,
        listed: None,
        storage: Storage::default(),
    }
}
