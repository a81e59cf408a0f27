//! Which kind of file system a directory is on.
//!
//! This module must not guess: an unknown one is treated as one that a server keeps, which is trusted less. It must not
//! be asked for every file: the answer is the same for a whole mount.

use std::os::fd::AsFd;

use rustix::fs::{IFlags, fstatfs, fstatvfs, ioctl_getflags};

use super::mounts::{self, Mount};
use super::stat;
use crate::rules::{FileId, FileSystem};

/// Magic numbers of `statfs(2)`.
const NFS: u32 = 0x6969;
const SMB: [u32; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
const FUSE: u32 = 0x6573_5546;

/// ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, F2FS, ZFS, bcachefs: local, and a rename moves the ctime.
const RENAME_MOVES_CTIME: [u32; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
];

/// JFS, `ReiserFS`, NILFS, ramfs, FAT, exFAT, NTFS, UDF, `SquashFS`, EROFS, `eCryptfs`: local, too.
const OTHER_LOCAL: [u32; 11] = [
    0x3153_464a,
    0x5265_4973,
    0x3434,
    0x8584_58f6,
    0x4d44,
    0x2011_bab0,
    0x7366_746e,
    0x1501_3346,
    0x7371_7368,
    0xe0f5_e1e2,
    0xf15f,
];

/// The file system that an open file or directory is on.
pub fn of(handle: impl AsFd) -> FileSystem {
    let found = magic(&handle).map_or(FileSystem::Other, by_magic);
    if found == FileSystem::Local && is_of_server(&handle) { FileSystem::Other } else { found }
}

/// Whether a file system that looks local is one of a server: 9P passes on the number of what the server has
/// (`v9fs_statfs` in the kernel's `fs/9p/vfs_super.c`). It has no block device. Where `/proc` does not know the mount,
/// the number is believed.
fn is_of_server(handle: impl AsFd) -> bool {
    let Ok((FileId { dev, .. }, mount)) = stat::id_and_mount(handle) else { return false };
    let has_block_device = dev >> 32 != 0;
    !has_block_device
        && mounts::with_id(&mounts::read(), mount).is_some_and(|mount| mount.kind == "9p")
}

/// The file system with a magic number.
fn by_magic(magic: u32) -> FileSystem {
    match magic {
        NFS => FileSystem::Nfs,
        FUSE => FileSystem::Fuse,
        magic if SMB.contains(&magic) => FileSystem::Smb,
        magic if RENAME_MOVES_CTIME.contains(&magic) || OTHER_LOCAL.contains(&magic) => {
            FileSystem::Local
        }
        // Such as Ceph, 9p, Lustre and what is not known.
        _ => FileSystem::Other,
    }
}

/// Whether what is moved into a directory on a local file system certainly has a newer ctime afterwards.
pub fn rename_moves_ctime(handle: impl AsFd) -> bool {
    magic(handle).is_some_and(|magic| RENAME_MOVES_CTIME.contains(&magic))
}

/// What the device numbers of one file system have in common, if it can have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    id: u32,
    blocks: u64,
}

/// The file system that an open directory is on, if it can have several device numbers.
pub fn shared(handle: impl AsFd) -> Option<Shared> {
    const BTRFS: u32 = 0x9123_683e;
    if magic(&handle)? != BTRFS {
        return None;
    }
    let all = fstatvfs(handle).ok()?;
    // The second word also has the number of the subvolume (`btrfs_statfs` in the kernel's `fs/btrfs/super.c`).
    let id = u32::try_from(all.f_fsid & u64::from(u32::MAX)).ok()?;
    Some(Shared { id, blocks: all.f_blocks })
}

/// Whether what is made in a directory belongs to a project, which may have a quota (ext4, XFS).
pub fn is_of_project(directory: impl AsFd) -> bool {
    const HAVE_PROJECTS: [u32; 2] = [0xef53, 0x5846_5342];
    magic(&directory).is_some_and(|magic| HAVE_PROJECTS.contains(&magic))
        && ioctl_getflags(directory).is_ok_and(|flags| flags.contains(IFlags::PROJECT_INHERIT))
}

/// Whether a directory certainly has the owner and the rights that it was made with: on a local file system that
/// keeps them.
pub fn has_owners(handle: impl AsFd) -> bool {
    rename_moves_ctime(&handle) && !is_of_server(handle)
}

/// Whether the servers of all NFS mounts have the locks that are taken on their files. With the mount option
/// `local_lock` or `nolock` (nfs(5)) this kernel keeps them for itself.
pub fn nfs_keeps_locks() -> bool {
    have_locks_on_servers(&mounts::read())
}

/// The same, by the lines of all mounts. Without a mount in them that says so, it is not known.
fn have_locks_on_servers(lines: &str) -> bool {
    let is_nfs = |mount: &Mount<'_>| matches!(mount.kind, "nfs" | "nfs4");
    let mut nfs = mounts::all(lines).filter(is_nfs).peekable();
    nfs.peek().is_some() && nfs.all(|mount| mount.file_system_has("local_lock=none"))
}

/// Its magic number.
pub(super) fn magic(handle: impl AsFd) -> Option<u32> {
    let found = fstatfs(handle).ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits of flags")]
    Some(found.f_type as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_system_that_is_not_known_is_not_local() {
        let (shm, proc) = (File::open("/dev/shm").unwrap(), File::open("/proc").unwrap());
        assert_eq!(of(&shm), FileSystem::Local, "tmpfs");
        assert!(rename_moves_ctime(&shm));
        assert!(!is_of_server(&shm) && !is_of_server(File::open(std::env::temp_dir()).unwrap()));
        assert_eq!(of(&proc), FileSystem::Other, "proc");
        assert!(!rename_moves_ctime(&proc));
        // Ceph, 9p and one that does not exist.
        for unknown in [0x00c3_6400, 0x0102_1997, 0x1234] {
            assert_eq!(by_magic(unknown), FileSystem::Other);
        }
        assert!(!FileSystem::Local.is_served() && FileSystem::Other.is_served());
    }

    #[test]
    fn locks_are_on_the_servers_if_every_nfs_mount_says_so() {
        let ext4 = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                    30 25 0:38 / /proc/fs/nfsd rw,relatime shared:9 - nfsd nfsd rw\n";
        let nfs = |options: &str| format!("36 25 0:40 / /mnt rw - nfs4 server:/srv rw,{options}\n");
        let (kept, local) = (nfs("vers=4.2,local_lock=none,addr=::1"), nfs("local_lock=flock"));
        for (mounts, expected) in [
            (kept.clone(), true),
            (format!("{ext4}{kept}{kept}"), true),
            (format!("{kept}{local}"), false),
            (format!("{local}{kept}"), false),
            (nfs("nolock,local_lock=all"), false),
            (nfs("vers=3"), false),
            (ext4.to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(have_locks_on_servers(&mounts), expected, "{mounts}");
        }
    }
}
