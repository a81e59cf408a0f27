//! Which kind of file system a directory is on.
//!
//! It must not be asked for every file: the answer is the same for a whole mount.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use crate::rules::FileSystem;

/// Magic numbers of `statfs(2)`.
const NFS: u32 = 0x6969;
const SMB: [u32; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
const FUSE: u32 = 0x6573_5546;
/// AFS (two clients), Ceph, Coda, 9p, Lustre, GPFS, `PanFS`, `BeeGFS`, `VirtualBox`.
const OTHERS: [u32; 10] = [
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x7375_7245,
    0x0102_1997,
    0x0bd0_0bd0,
    0x4750_4653,
    0xaad7_aaea,
    0x1983_0326,
    0x786f_4256,
];

/// The file system that an open file or directory is on. Where the system does not say, it is taken for a
/// server, of which less is believed.
pub fn of(handle: impl AsFd) -> FileSystem {
    let Ok(found) = fstatfs(handle) else { return FileSystem::Other };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits of flags")]
    let magic = found.f_type as u32;
    match magic {
        NFS => FileSystem::Nfs,
        FUSE => FileSystem::Fuse,
        magic if SMB.contains(&magic) => FileSystem::Smb,
        magic if OTHERS.contains(&magic) => FileSystem::Other,
        _ => FileSystem::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_this_kernel_keeps_is_local() {
        for path in ["/proc", "/sys"] {
            assert_eq!(of(File::open(path).unwrap()), FileSystem::Local, "{path}");
        }
        assert!(!FileSystem::Local.is_served() && FileSystem::Other.is_served());
    }
}
