//! The mounts that this process sees: the lines of `/proc/self/mountinfo` (proc(5)).
//!
//! This module must not be read for every file: it is as long as the machine has mounts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount, of a line such as `68 45 0:39 / /data rw shared:1 - nfs4 host:/srv rw,local_lock=none`.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number, as `statx` tells it.
    pub id: u64,
    /// The device of its file system. On Btrfs, that of a file is another one.
    pub device: (u32, u32),
    /// Which directory of its file system it shows, and where, both as the kernel writes them.
    shows: &'a str,
    at: &'a str,
    /// The options of the mount itself.
    options: &'a str,
    /// The kind of its file system.
    pub kind: &'a str,
    /// The options of the file system.
    file_system_options: &'a str,
}

impl<'a> Mount<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = mount.split(' ');
        let id = words.next()?.parse().ok()?;
        let (major, minor) = words.nth(1)?.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let (shows, at, options) = (words.next()?, words.next()?, words.next()?);
        let mut words = file_system.split(' ');
        let (kind, source, file_system_options) = (words.next()?, words.next()?, words.next()?);
        // A mount of NFS shows the directory of the server that its source names, and says that it shows the top.
        let of_server = source.split_once(":/").filter(|_| kind.starts_with("nfs"));
        let shows = of_server.map_or(shows, |(server, _)| &source[server.len() + 1..]);
        Some(Self { id, device, shows, at, options, kind, file_system_options })
    }

    /// Where it is mounted.
    pub fn at(&self) -> PathBuf {
        plain(self.at)
    }

    /// Which directory of its file system it shows.
    pub fn shown(&self) -> PathBuf {
        plain(self.shows)
    }

    /// Where in its file system a directory below this mount is.
    pub fn place_of(&self, path: &Path) -> Option<PathBuf> {
        Some(self.shown().join(path.strip_prefix(self.at()).ok()?))
    }

    /// The path at which this mount shows a place in its file system.
    pub fn path_of(&self, place: &Path) -> Option<PathBuf> {
        Some(self.at().join(place.strip_prefix(self.shown()).ok()?))
    }

    /// Whether the mount itself has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|own| own == option)
    }

    /// Whether its file system has this option.
    pub fn file_system_has(&self, option: &str) -> bool {
        self.file_system_options.split(',').any(|own| own == option)
    }
}

/// The lines; none where `/proc` is not mounted. The name of a mount need not be text.
pub fn read() -> String {
    let lines = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    String::from_utf8_lossy(&lines).into_owned()
}

/// The mounts in these lines.
pub fn all(lines: &str) -> impl Iterator<Item = Mount<'_>> {
    lines.lines().filter_map(Mount::of)
}

/// The mount with this number.
pub fn with_id(lines: &str, id: u64) -> Option<Mount<'_>> {
    all(lines).find(|mount| mount.id == id)
}

/// A path as it is, of characters that are bytes: the kernel writes white space and backslashes as three octal digits.
fn plain(written: &str) -> PathBuf {
    let mut bytes = written.chars().filter_map(|byte| u8::try_from(byte).ok());
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        let octal =
            |value: u8, digit: u8| value.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'));
        path.push(if byte == b'\\' { bytes.by_ref().take(3).fold(0, octal) } else { byte });
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::super::stat;
    use super::*;

    #[test]
    fn a_mount_is_read_as_the_kernel_writes_it() {
        let lines = "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                     7 29 0:39 / /mnt/a\\040-\\040b rw,idmapped - 9p host rw,access=any\n\
                     77 29 0:40 / /mnt/9p rw shared:2 master:3 - tmpfs 9p rw\nnonsense\n";
        let kinds = [29, 7, 77, 2].map(|id| with_id(lines, id).map(|mount| mount.kind));
        assert_eq!(kinds, [Some("ext4"), Some("9p"), Some("tmpfs"), None]);
        let devices: Vec<(u32, u32)> = all(lines).map(|mount| mount.device).collect();
        assert_eq!(devices, [(8, 1), (0, 39), (0, 40)]);
        let idmapped: Vec<u64> =
            all(lines).filter(|mount| mount.has("idmapped")).map(|mount| mount.id).collect();
        assert_eq!(idmapped, [7]);
        let any = with_id(lines, 7).unwrap();
        assert!(any.file_system_has("access=any") && !any.file_system_has("access"));
    }

    #[test]
    fn every_line_of_this_machine_is_a_mount_and_that_of_proc_is_one() {
        let lines = read();
        assert_eq!(all(&lines).count(), lines.lines().count());
        let (id, mount) = stat::id_and_mount(std::fs::File::open("/proc").unwrap()).unwrap();
        let proc = with_id(&lines, mount).unwrap();
        let (major, minor) = proc.device;
        assert_eq!((proc.kind, u64::from(major) << 32 | u64::from(minor)), ("proc", id.dev));
    }
}
