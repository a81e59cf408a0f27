//! The lines of a plan: a header, and one for each entry that would be removed.
//!
//! This module must not judge. A line ends with a digest of itself and of the header, so that lines can be left out,
//! but not changed or moved to another plan. An entry that is unchanged has the same line again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::audit::{RuleObject, rule_object};
use super::json::{self, Pathname};
use super::merge::path;
use crate::protocol::Expired;
use crate::rules::shard::digest;
use crate::rules::{Bytes, FileId, Moment, Ttl};
use crate::units;

/// The version of the format.
const VERSION: u32 = 1;

/// What every plan begins with: enough that other files in JSON do not.
pub const BEGINNING: &[u8] = b"{\"plan\":1,\"created\":\"";

/// The text before the digest, and after it.
const BEFORE: &str = ",\"digest\":\"";
const AFTER: &str = "\"}";

/// The first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    plan: u32,
    /// When the plan was made.
    pub created: String,
    /// Different in every plan.
    run: String,
    /// The data root, for people.
    pub data_root: String,
    device: u64,
    inode: u64,
    /// The settings that decide what is removed.
    pub settings: BTreeMap<String, String>,
}

/// An entry.
#[derive(Serialize)]
struct Line<'a> {
    zone: &'a str,
    #[serde(flatten)]
    path: Pathname<'a>,
    kind: &'static str,
    device: u64,
    inode: u64,
    size: u64,
    allocated_bytes: u64,
    mtime: String,
    /// Not of a file with other names: the removal of one of them moves it.
    ctime: Option<String>,
    used: String,
    ttl_s: Option<i64>,
    rule: RuleObject,
}

/// What of an entry is read back.
#[derive(Deserialize)]
struct Read {
    path: String,
    path_hex: Option<String>,
}

impl Header {
    /// Of a plan over the data root `root`, which is shown as `data_root`.
    pub fn new(
        created: String,
        run: u64,
        data_root: String,
        root: FileId,
        settings: BTreeMap<String, String>,
    ) -> Self {
        let (device, inode) = (json::device_number(root.dev), root.ino);
        Self {
            plan: VERSION,
            created,
            run: format!("{run:016x}"),
            data_root,
            device,
            inode,
            settings,
        }
    }

    /// Whether it is about the data root `root`.
    pub const fn is_of(&self, root: FileId) -> bool {
        self.device == json::device_number(root.dev) && self.inode == root.ino
    }

    /// Its line, and the seed of the digests of all others.
    ///
    /// # Errors
    /// A text has no form in JSON.
    pub fn line(&self) -> io::Result<(Vec<u8>, u64)> {
        signed(0, self)
    }

    /// Reads the line of a header.
    ///
    /// # Errors
    /// It is none, or was changed.
    pub fn read(line: &[u8]) -> Result<(Self, u64), String> {
        let (body, seed) = checked(0, line)?;
        let header: Self = json::read(&body)?;
        if header.plan != VERSION {
            return Err(format!(
                "version {} is unknown; this version reads {VERSION}",
                header.plan
            ));
        }
        Ok((header, seed))
    }
}

/// The line of an entry that was judged at `now` and whose content takes up `size`, and its digest. `has_ctime`: the ctime
/// counts. That of a file with other names moves when one of these is removed.
///
/// # Errors
/// A text has no form in JSON.
pub fn entry(
    seed: u64,
    entry: &Expired,
    size: Bytes,
    now: Moment,
    has_ctime: bool,
) -> io::Result<(Vec<u8>, u64)> {
    let (directory, metadata) = (entry.directory(), entry.metadata());
    let path = directory.dir.join(OsStr::from_bytes(entry.name().to_bytes()));
    let used = entry.rule().last_use.read(metadata, now);
    let line = Line {
        zone: directory.zone.name.as_str(),
        path: Pathname::new(&path),
        kind: metadata.kind.key(),
        device: json::device_number(metadata.id.dev),
        inode: metadata.id.ino,
        size: metadata.size.0,
        allocated_bytes: size.0,
        mtime: units::rfc3339_exact(metadata.mtime),
        ctime: has_ctime.then(|| units::rfc3339_exact(metadata.ctime)),
        used: units::rfc3339_exact(used),
        ttl_s: entry.rule().expiry.ttl().map(Ttl::as_secs),
        rule: rule_object(entry.rule(), used),
    };
    signed(seed, &line)
}

/// Reads the line of an entry: its path, and its digest.
///
/// # Errors
/// It is none of this plan, or was changed.
pub fn read_entry(seed: u64, line: &[u8]) -> Result<(PathBuf, u64), String> {
    let (body, digest) = checked(seed, line)?;
    let Read { path: text, path_hex } = json::read(&body)?;
    Ok((path(text, path_hex.as_deref())?, digest))
}

/// An object as a line with its digest.
fn signed(seed: u64, value: &impl Serialize) -> io::Result<(Vec<u8>, u64)> {
    let mut line = Vec::with_capacity(512);
    json::write_line(&mut line, value)?;
    let digest = digest(seed, line.trim_ascii_end());
    line.truncate(line.trim_ascii_end().len() - 1);
    line.extend_from_slice(format!("{BEFORE}{digest:016x}{AFTER}\n").as_bytes());
    Ok((line, digest))
}

/// The object that a line was made of, and its digest.
fn checked(seed: u64, line: &[u8]) -> Result<(Vec<u8>, u64), String> {
    let wrong = || "it was changed, or is not a line of this plan".to_owned();
    let line = line.trim_ascii_end();
    let length = BEFORE.len() + 16 + AFTER.len();
    let (body, end) = line.split_at_checked(line.len().saturating_sub(length)).ok_or_else(wrong)?;
    let mut body = body.to_vec();
    body.push(b'}');
    let digest = digest(seed, &body);
    let is_right = end == format!("{BEFORE}{digest:016x}{AFTER}").as_bytes();
    if is_right { Ok((body, digest)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let settings = BTreeMap::from([("ttl".to_owned(), "24h".to_owned())]);
        let root = FileId { dev: 1, ino: 2 };
        Header::new("2026-01-02T03:04:05Z".to_owned(), 7, "/data".to_owned(), root, settings)
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_not_when_a_byte_was_changed() {
        let (line, seed) = header().line().unwrap();
        assert!(line.starts_with(BEGINNING));
        assert_eq!(Header::read(&line).unwrap(), (header(), seed));
        let line = line.trim_ascii_end();
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(Header::read(&changed).is_err(), "{}", String::from_utf8_lossy(&changed));
            assert!(Header::read(&line[..at]).is_err());
        }
    }

    #[test]
    fn a_line_of_another_plan_is_refused() {
        let (line, _) = signed(1, &BTreeMap::from([("path", "tmp/a")])).unwrap();
        assert_eq!(read_entry(1, &line).unwrap().0, PathBuf::from("tmp/a"));
        assert!(read_entry(2, &line).is_err());
    }
}
