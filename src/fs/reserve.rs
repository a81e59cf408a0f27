//! How much of an ext2, ext3 or ext4 file system is reserved for root, where `statvfs` does not tell.
//!
//! This module must not write to the device, nor assume anything that can be read. While others than root can write,
//! the space that is free and not available is all that is reserved. When root has used some of it, nothing is
//! available, and only the superblock and the kernel's own setting tell how much there is to be.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{fstat, fstatvfs, major, minor};

use super::file_system::magic;
use super::open;
use crate::rules::Space;

const EXT: u32 = 0xef53;

/// What a superblock says of the reserve, in blocks and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Superblock {
    block: u64,
    /// Clusters are larger than blocks only with `bigalloc`.
    cluster: u64,
    blocks: u64,
    for_root: u64,
    has_extents: bool,
}

/// How many bytes must be free before others than root can write again, beyond those that are free.
pub fn missing(handle: impl AsFd, space: &Space) -> u64 {
    if space.bytes_available > 0 || magic(&handle) != Some(EXT) {
        return 0;
    }
    let free = space.bytes.saturating_sub(space.bytes_used);
    let device = device_of(&handle);
    let found = device.as_ref().ok().and_then(|device| {
        let superblock = device.superblock().ok()?;
        Some(superblock.reserve(device.reserved_clusters()))
    });
    let block = || fstatvfs(&handle).map_or(4096, |all| all.f_frsize);
    found.unwrap_or_else(|| usual(space, block())).saturating_sub(free)
}

/// What `mkfs` reserves unless told otherwise, and what the file system reserves for itself. `mkfs` reserves a twentieth
/// of all blocks; the system shows only the blocks that files can have.
fn usual(space: &Space, block: u64) -> u64 {
    space.bytes / 17 + (space.bytes / 48).min(MOST_CLUSTERS * block)
}

/// The device of a file system.
#[derive(Debug)]
struct Device {
    number: u64,
    /// Its name in `/dev`.
    name: String,
}

fn device_of(handle: impl AsFd) -> io::Result<Device> {
    let number = fstat(handle)?.st_dev;
    let path = format!("/sys/dev/block/{}:{}/uevent", major(number), minor(number));
    let text = std::fs::read_to_string(path)?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or(io::ErrorKind::NotFound)?.to_owned();
    Ok(Device { number, name })
}

impl Device {
    /// Only root can read it, and in a container it is usually not there.
    fn superblock(&self) -> io::Result<Superblock> {
        let device = open::careful().read(true).open(Path::new("/dev").join(&self.name))?;
        let metadata = device.metadata()?;
        if !metadata.file_type().is_block_device() || metadata.rdev() != self.number {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut bytes = [0; 1024];
        device.read_exact_at(&mut bytes, 1024)?;
        Superblock::read(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// How many clusters the file system reserves for itself, as it is set now.
    fn reserved_clusters(&self) -> Option<u64> {
        let name = self.name.replace('/', "!");
        let path = format!("/sys/fs/ext4/{name}/reserved_clusters");
        let mut text = String::new();
        File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

/// At most so many clusters are reserved for the file system itself (`ext4_calculate_resv_clusters` in the kernel's
/// `fs/ext4/super.c`).
const MOST_CLUSTERS: u64 = 4096;

impl Superblock {
    /// The fields of `struct ext4_super_block` in the kernel's `fs/ext4/ext4.h`.
    fn read(bytes: &[u8; 1024]) -> Option<Self> {
        let word = |at: usize| {
            let found = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(found)))
        };
        let (incompatible, compatible) = (word(0x60)?, word(0x64)?);
        if word(0x38)? & 0xffff != u64::from(EXT) {
            return None;
        }
        let has_high_words = incompatible & 0x80 != 0;
        let number = |low: usize, high: usize| {
            Some(word(low)? | if has_high_words { word(high)? << 32 } else { 0 })
        };
        let size = |exponent: u64| (exponent <= 22).then(|| 1024_u64 << exponent);
        let block = size(word(0x18)?)?;
        let cluster = if compatible & 0x200 != 0 { size(word(0x1c)?)? } else { block };
        let (blocks, for_root) = (number(0x4, 0x150)?, number(0x8, 0x154)?);
        Some(Self { block, cluster, blocks, for_root, has_extents: incompatible & 0x40 != 0 })
    }

    /// How many bytes are reserved, with so many clusters for the file system itself.
    fn reserve(&self, clusters: Option<u64>) -> u64 {
        let bytes = self.blocks.saturating_mul(self.block);
        let usual =
            if self.has_extents { (bytes / self.cluster / 50).min(MOST_CLUSTERS) } else { 0 };
        let own = clusters.unwrap_or(usual).saturating_mul(self.cluster);
        self.for_root.saturating_mul(self.block).saturating_add(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `mkfs.ext4 -m 3 -b 1024` makes one of 2^33 blocks, with and without the high words.
    #[test]
    fn a_superblock_tells_the_reserve() {
        let mut bytes = [0; 1024];
        let mut set = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        for (at, word) in [(0x4, 7), (0x8, 100), (0x38, 0x1_ef53), (0x150, 2), (0x154, 1)] {
            set(at, word);
        }
        let small = Superblock::read(&bytes).unwrap();
        assert_eq!((small.block, small.blocks, small.for_root), (1024, 7, 100));
        assert_eq!((small.reserve(None), small.reserve(Some(2))), (100 << 10, 102 << 10));
        let mut set = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        set(0x60, 0xc0);
        let large = Superblock::read(&bytes).unwrap();
        assert_eq!((large.blocks, large.for_root), (0x2_0000_0007, 0x1_0000_0064));
        assert_eq!(large.reserve(None), (1 << 42) + (100 << 10) + (4096 << 10));
        bytes[0x38] = 0;
        assert_eq!(Superblock::read(&bytes), None, "no superblock");
    }
}
