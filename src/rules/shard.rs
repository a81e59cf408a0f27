//! Which of several sweepers an entry belongs to, by its path alone.
//!
//! This module must not look at anything but the path below the data root, so that machines that share a volume
//! agree without communicating. The function is fixed, so that other programs can compute it.
//!
//! The path is that of the entry, relative to the data root, without a leading or trailing `/`:
//! `cache/export/NAME`, `tmp/NAME`, `tasks/ID/tmp/NAME`, `tasks/ID/export_cache`. In a zone outside the data
//! root it is the absolute path. Its bytes are hashed with 64-bit FNV-1a, the hash is mixed by the last steps
//! of `SplitMix64`, and the remainder of a division by the number of shards is the index:
//!
//! | Path | Hash | of 3 | of 8 |
//! |---|---|---|---|
//! | (empty) | `f52a15e9a9b5e89b` | 0 | 3 |
//! | `tmp/a` | `80b9968a8f55b21c` | 0 | 4 |
//! | `cache/export/task-1-backup-instance1.5.zip` | `f7e37f15ed290b49` | 0 | 1 |
//! | `tasks/7/tmp/` and the bytes FF 0A | `ad5223d4fcbf939d` | 1 | 5 |
//!
//! Paths decide, not inodes: of a file with hard links in several shards, the shard that removes the last
//! link reports the freed space. In a dry run no link is removed, so no shard reports it.

use std::ffi::CStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One of several sweepers that share a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// The sweeper `index`, from 0, of `count`.
    ///
    /// # Errors
    /// The index is out of range.
    pub fn new(index: u32, count: u32) -> Result<Self, String> {
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(format!("write an index from 0 to {}", i64::from(count) - 1))
        }
    }

    /// From `INDEX/COUNT`.
    ///
    /// # Errors
    /// It is malformed, or the index is out of range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (index, count) = text.split_once('/').unwrap_or_default();
        match (index.parse(), count.parse()) {
            (Ok(_), Ok(0)) => Err("there are no shards".to_owned()),
            (Ok(index), Ok(count)) => Self::new(index, count),
            _ => Err("write it as INDEX/COUNT, like 0/8".to_owned()),
        }
    }

    /// The index, from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The number of shards.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Whether the entry `name` in `dir` belongs to this shard. `dir` is relative to the data root.
    pub fn owns(self, dir: &Path, name: &CStr) -> bool {
        hash(dir, name) % u64::from(self.count) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// The hash of a path.
fn hash(dir: &Path, name: &CStr) -> u64 {
    let dir = dir.as_os_str().as_bytes();
    let between: &[u8] = if dir.is_empty() || name.is_empty() { b"" } else { b"/" };
    digest_of(0, dir.iter().chain(between).chain(name.to_bytes()))
}

/// A number that shows whether bytes were changed by accident, different for every seed.
pub(crate) fn digest(seed: u64, bytes: &[u8]) -> u64 {
    digest_of(seed, bytes.iter())
}

/// 64-bit FNV-1a, and a last step: names that differ in their last character alone differ in few bits of it.
fn digest_of<'a>(seed: u64, bytes: impl Iterator<Item = &'a u8>) -> u64 {
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(fnv)
}

/// A number each bit of which depends on every bit of `number`: the last steps of `SplitMix64`.
pub(crate) const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published values: a change would make shards of different versions disagree.
    #[test]
    fn the_hashes_are_the_published_ones() {
        let vectors: [(&str, &CStr, u64, u32, u32); 4] = [
            ("", c"", 0xf52a_15e9_a9b5_e89b, 0, 3),
            ("tmp", c"a", 0x80b9_968a_8f55_b21c, 0, 4),
            ("cache/export", c"task-1-backup-instance1.5.zip", 0xf7e3_7f15_ed29_0b49, 0, 1),
            ("tasks/7/tmp", c"\xff\n", 0xad52_23d4_fcbf_939d, 1, 5),
        ];
        for (dir, name, wanted, of_3, of_8) in vectors {
            assert_eq!(hash(Path::new(dir), name), wanted, "{dir} {name:?}");
            for (count, index) in [(3, of_3), (8, of_8), (1, 0)] {
                assert!(Shard::new(index, count).unwrap().owns(Path::new(dir), name));
            }
        }
    }

    #[test]
    fn everything_belongs_to_exactly_one_and_the_parts_are_even() {
        for count in [1, 2, 3, 8, 100] {
            let mut parts = vec![0_u32; count as usize];
            for number in 0..20_000 {
                let name = format!("task-{number}-backup-instance1736428000.5.zip");
                let name = std::ffi::CString::new(name).unwrap();
                let owners: Vec<u32> = (0..count)
                    .filter(|index| {
                        let shard = Shard::new(*index, count).unwrap();
                        shard.owns(Path::new("cache/export"), &name)
                    })
                    .collect();
                assert_eq!(owners.len(), 1);
                parts[owners[0] as usize] += 1;
            }
            let fair = 20_000 / count;
            let most = fair + fair / 2;
            assert!(parts.iter().all(|part| *part > fair / 2 && *part < most), "{parts:?}");
        }
    }

    #[test]
    fn a_shard_is_written_index_of_count() {
        for text in ["0/1", "0/8", "7/8", "4294967294/4294967295"] {
            assert_eq!(Shard::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "1", "/", "8/8", "-1/8", "1/0", "0/0", "1/2/3", "a/b", " 1/2", "1.0/2"] {
            assert!(Shard::parse(text).is_err(), "{text}");
        }
    }
}
