//! Whether a file system is on this machine.
//!
//! It must not guess: one that is not known is not local.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// File systems whose answers are always current, by the magic numbers of `statfs(2)`: ext2 to ext4, XFS,
/// Btrfs, tmpfs, overlay, F2FS, ZFS, bcachefs.
const LOCAL: [i64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
];

/// Whether an open file is on a file system that never answers from a cache of what a server has said.
pub fn is_local(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|found| LOCAL.contains(&(found.f_type & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_system_that_is_not_known_is_not_local() {
        assert!(is_local(File::open("/dev/shm").unwrap()), "tmpfs");
        assert!(!is_local(File::open("/proc").unwrap()), "proc");
    }
}
