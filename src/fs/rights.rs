//! Whether this process may remove a name, as far as the system says in advance.
//!
//! This module must not change anything. The checks are those of `may_delete` in the kernel's `fs/namei.c`, in its
//! order. What it finds is certain; what it does not find may be refused all the same.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, StatVfsMountFlags, Statx, StatxAttributes, fgetxattr_query, fstatvfs, statx,
};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::{mounts, open, stat};

/// The permission bit that restricts removals to owners (`S_ISVTX`).
const STICKY: u16 = 0o1000;

/// What prevents a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The directory may not be written.
    Directory(Errno),
    /// The directory only takes new names (`chattr +a`).
    AppendOnlyDirectory,
    /// The directory cannot be changed (`chattr +i`).
    ImmutableDirectory,
    /// Only owners may remove from the directory.
    Sticky,
    /// The entry can only grow (`chattr +a`).
    AppendOnly,
    /// The entry cannot be changed (`chattr +i`).
    Immutable,
    /// The owner of the entry has no number on this mount.
    Unmapped,
}

impl Obstacle {
    /// The error that a removal would get.
    pub const fn errno(self) -> Errno {
        match self {
            Self::Directory(errno) => errno,
            Self::AppendOnlyDirectory
            | Self::ImmutableDirectory
            | Self::Sticky
            | Self::AppendOnly
            | Self::Immutable => Errno::PERM,
            Self::Unmapped => Errno::OVERFLOW,
        }
    }
}

/// A directory, as far as it matters for removals from it.
#[derive(Debug, Clone, Copy)]
pub struct DirRights {
    obstacle: Option<Obstacle>,
    /// Its owner, if that matters.
    sticky_of: Option<u32>,
    /// Whether owners are numbered anew on its mount.
    is_idmapped: bool,
}

impl DirRights {
    /// Looks at an open directory.
    pub fn of(dir: impl AsFd) -> Self {
        let seen = statx(&dir, c"", AtFlags::EMPTY_PATH, stat::WANTED).ok();
        let has = |flag| seen.as_ref().is_some_and(|seen| seen.stx_attributes.contains(flag));
        let obstacle = match open::may_remove_from(&dir) {
            Err(_) if has(StatxAttributes::IMMUTABLE) => Some(Obstacle::ImmutableDirectory),
            Err(errno) => Some(Obstacle::Directory(errno)),
            Ok(()) if has(StatxAttributes::APPEND) => Some(Obstacle::AppendOnlyDirectory),
            Ok(()) => None,
        };
        let is_sticky = |seen: &&Statx| seen.stx_mode & STICKY != 0;
        let sticky_of = seen.as_ref().filter(is_sticky).map(|seen| seen.stx_uid);
        let is_idmapped = seen.is_some_and(|seen| ids().is_idmapped(seen.stx_mnt_id));
        Self { obstacle, sticky_of, is_idmapped }
    }

    /// What prevents the removal of `name` from `dir`, which is this directory.
    pub fn obstacle(&self, dir: impl AsFd, name: &CStr) -> Option<Obstacle> {
        if self.obstacle.is_some() && !self.is_idmapped {
            return self.obstacle;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let seen = statx(dir, name, flags, stat::WANTED).ok()?;
        let has = |flag| seen.stx_attributes.contains(flag);
        let ids = ids();
        if self.is_idmapped && seen.stx_uid == ids.overflow_uid {
            return Some(Obstacle::Unmapped);
        }
        if self.obstacle.is_some() {
            return self.obstacle;
        }
        let owners = self.sticky_of.map(|dir| [dir, seen.stx_uid]);
        // The capability counts for owners that have a number in this container.
        let may_remove_any = ids.is_privileged && !ids.is_foreign(seen.stx_uid, seen.stx_gid);
        if owners.is_some_and(|owners| !owners.contains(&ids.own) && !may_remove_any) {
            Some(Obstacle::Sticky)
        } else if has(StatxAttributes::APPEND) {
            Some(Obstacle::AppendOnly)
        } else if has(StatxAttributes::IMMUTABLE) {
            Some(Obstacle::Immutable)
        } else {
            None
        }
    }
}

/// Whether the mount of an open directory is read-only. If not, a snapshot on it may be.
pub(super) fn is_mounted_read_only(dir: impl AsFd) -> bool {
    fstatvfs(dir).is_ok_and(|vfs| vfs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether a directory has an access control list, which its mode does not show.
pub(super) fn has_access_list(dir: impl AsFd) -> bool {
    fgetxattr_query(dir, c"system.posix_acl_access").is_ok_and(|size| size > 0)
}

/// Who this process is, and how owners are numbered for it.
struct Ids {
    own: u32,
    /// It may remove what belongs to others from a sticky directory.
    is_privileged: bool,
    /// What an owner without a number is shown as; `None` where every owner has one.
    unmapped_uid: Option<u32>,
    unmapped_gid: Option<u32>,
    /// Mounts on which owners are numbered anew.
    idmapped: Vec<u64>,
    overflow_uid: u32,
}

fn ids() -> &'static Ids {
    static IDS: OnceLock<Ids> = OnceLock::new();
    IDS.get_or_init(Ids::read)
}

impl Ids {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| read(path).trim().parse().unwrap_or(65_534);
        let overflow =
            ["uid", "gid"].map(|kind| number(&format!("/proc/sys/kernel/overflow{kind}")));
        let is_foreign = |map: &str, id: u32| !map.is_empty() && !maps(map, id);
        let caps = capabilities(None).map(|caps| caps.effective);
        Self {
            own: rustix::process::geteuid().as_raw(),
            is_privileged: caps.is_ok_and(|caps| caps.contains(CapabilitySet::FOWNER)),
            unmapped_uid: is_foreign(&read("/proc/self/uid_map"), overflow[0])
                .then_some(overflow[0]),
            unmapped_gid: is_foreign(&read("/proc/self/gid_map"), overflow[1])
                .then_some(overflow[1]),
            idmapped: mounts::all(&mounts::read())
                .filter(|mount| mount.has("idmapped"))
                .map(|mount| mount.id)
                .collect(),
            overflow_uid: overflow[0],
        }
    }

    fn is_idmapped(&self, mount: u64) -> bool {
        self.idmapped.contains(&mount)
    }

    /// Whether an owner has no number in this container.
    fn is_foreign(&self, uid: u32, gid: u32) -> bool {
        self.unmapped_uid == Some(uid) || self.unmapped_gid == Some(gid)
    }
}

/// Whether `id` has a number outside, by the lines of `/proc/self/uid_map`: inside, outside, count.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let (Some(first), Some(count)) = (first, count) else { return false };
        (first..first + count).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_a_number_if_a_range_contains_it() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (id, is_mapped) in [(0, true), (1, true), (65_536, true), (65_537, false)] {
            assert_eq!(maps(map, id), is_mapped, "{id}");
        }
        assert!(maps("         0          0 4294967295\n", 65_534) && !maps("", 1));
    }

    #[test]
    fn a_directory_of_our_own_has_no_obstacle() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        let dir = std::fs::File::open(scratch.path()).unwrap();
        assert_eq!(DirRights::of(&dir).obstacle(&dir, c"file"), None);
        assert_eq!(DirRights::of(&dir).obstacle(&dir, c"none"), None);
        assert!(!is_mounted_read_only(&dir) && !has_access_list(&dir));
    }
}
