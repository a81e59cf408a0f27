//! Where directories are on their file systems, whatever path leads there: a bind mount shows one at a second path.
//!
//! This module must not decide what that means. It knows the mounts that this process sees, and no others. Where
//! `/proc` does not tell them, nothing is known, which is an error.

use std::io;
use std::path::{Path, PathBuf};

use super::error::is_missing;
use super::mounts::{self, Mount};
use super::{open, stat};
use crate::rules::FileId;

/// Where the kernel lists the mounts.
pub const LIST: &str = "/proc/self/mountinfo";

/// The mounts at one moment.
#[derive(Debug)]
pub struct Mounts {
    /// The paths in them need not be text: each byte is a character here.
    lines: String,
}

/// Where something is on its file system.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    device: (u32, u32),
    path: PathBuf,
}

impl Mounts {
    /// Those of now.
    ///
    /// # Errors
    /// What the system says.
    pub fn read() -> io::Result<Self> {
        let lines = std::fs::read(LIST)?;
        Ok(Self { lines: lines.into_iter().map(char::from).collect() })
    }

    /// Where the file or directory `real` is; `None` if it is gone. The path has no links in it.
    ///
    /// # Errors
    /// It cannot be looked at, or its mount is not listed though another one of its file system is.
    pub fn place_of(&self, real: &Path) -> io::Result<Option<Place>> {
        match identity(real) {
            Ok((id, mount)) => self.place_on(id, mount, real).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for everything that is mounted below `real` and is not hidden by another mount, with the paths of both;
    /// `real` itself comes first.
    ///
    /// # Errors
    /// As [`Self::place_of`].
    pub fn within(&self, real: &Path) -> io::Result<Vec<(PathBuf, Place)>> {
        let Some(own) = self.place_of(real)? else { return Ok(Vec::new()) };
        let mut found = vec![(real.to_owned(), own)];
        for mount in mounts::all(&self.lines) {
            let at = mount.at();
            let is_seen = || match identity(&at) {
                Ok((_, seen)) => seen == mount.id,
                Err(error) => !is_missing(&error),
            };
            if at != real && at.starts_with(real) && is_seen() {
                let place = Place::on(&mount, mount.shown());
                found.push((at, place));
            }
        }
        Ok(found)
    }

    /// The other paths of a directory, where other mounts show it.
    ///
    /// # Errors
    /// As [`Self::place_of`].
    pub fn other_paths(&self, real: &Path) -> io::Result<Vec<PathBuf>> {
        let (id, mount) = match identity(real) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            found => found?,
        };
        let mut others = self.shown_by(id, mount, real)?;
        // Another mount may hide what this one shows.
        others.retain(|other| match identity(other) {
            Ok((found, _)) => found == id,
            Err(error) => !is_missing(&error),
        });
        Ok(others)
    }

    /// Paths at which other mounts may show the directory `real`.
    fn shown_by(&self, id: FileId, mount: u64, real: &Path) -> io::Result<Vec<PathBuf>> {
        let place = self.place_on(id, mount, real)?;
        let others = mounts::all(&self.lines)
            .filter(|other| other.id != mount && other.device == place.device);
        Ok(others
            .filter_map(|other| other.path_of(&place.path))
            .filter(|other| other != real)
            .collect())
    }

    fn place_on(&self, id: FileId, mount: u64, real: &Path) -> io::Result<Place> {
        if let Some(own) = mounts::with_id(&self.lines, mount)
            && let Some(path) = own.place_of(real)
        {
            return Ok(Place::on(&own, path));
        }
        // The root of a `chroot` need not be a mount. Then no mount shows what is in it, if none has its device.
        let part = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        let device = (part(id.dev >> 32), part(id.dev & u64::from(u32::MAX)));
        if mounts::all(&self.lines).any(|mount| mount.device == device) {
            let why =
                format!("its mount is not listed in {LIST}, and another one of its file system is");
            return Err(io::Error::other(why));
        }
        Ok(Place { device, path: real.to_owned() })
    }
}

impl Place {
    fn on(mount: &Mount<'_>, path: PathBuf) -> Self {
        Self { device: mount.device, path }
    }

    /// Whether the other place is this one or lies in it.
    pub fn has(&self, other: &Self) -> bool {
        self.is_beside(other) && other.path.starts_with(&self.path)
    }

    /// Whether one is the other or lies in it.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.has(other) || other.has(self)
    }

    /// Where in this one the other lies.
    pub fn path_to<'a>(&self, other: &'a Self) -> Option<&'a Path> {
        other.path.strip_prefix(&self.path).ok().filter(|_| self.is_beside(other))
    }

    /// Whether both are on one file system. Two mounts of one server may have devices of their own, and are not known to be:
    /// different servers have one name behind a tunnel, where each has a port of its own.
    fn is_beside(&self, other: &Self) -> bool {
        self.device == other.device
    }
}

/// What a path leads to, and the mount that it is on.
fn identity(path: &Path) -> io::Result<(FileId, u64)> {
    stat::id_and_mount(open::seen(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "29 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                         30 29 8:1 /srv/cvat\\040one/data /ctr/data rw - ext4 /dev/sda1 rw\n\
                         31 29 8:1 /srv/cvat\\040one/data/data/5 /media rw - ext4 /dev/sda1 rw\n\
                         32 29 8:2 /srv /other rw - ext4 /dev/sdb1 rw\n";

    const OF_SERVERS: &str = "7 1 0:39 / /data rw - nfs4 [fe80::1]:/srv/data rw\n\
                              8 1 0:39 / /exports rw - nfs4 [fe80::1]:/srv/exports rw\n\
                              9 1 0:39 / /x rw - nfs4 [fe80::1]:/srv/data/data/5 rw\n\
                              10 1 0:40 / /else rw - nfs4 [fe80::1]:/srv/data/data rw,port=2 rw\n";

    /// Something on 8:1.
    const ID: FileId = FileId { dev: 8 << 32 | 1, ino: 2 };

    fn mounts(lines: &str) -> Mounts {
        Mounts { lines: lines.to_owned() }
    }

    #[test]
    fn a_directory_is_found_at_every_path_that_mounts_show_it_at() {
        let others = |mount, real: &str| {
            mounts(LINES).shown_by(ID, mount, Path::new(real)).unwrap_or_default()
        };
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let all = ["/srv/cvat one/data/data/5", "/ctr/data/data/5"];
        assert_eq!(others(31, "/media"), paths(&all));
        assert_eq!(others(30, "/ctr/data/tmp"), paths(&["/srv/cvat one/data/tmp"]));
        assert_eq!(
            others(29, "/srv/cvat one/data/data/5/x"),
            paths(&["/ctr/data/data/5/x", "/media/x"])
        );
        assert_eq!(others(29, "/var"), paths(&[]));
        let others =
            |mount, real: &str| mounts(OF_SERVERS).shown_by(ID, mount, Path::new(real)).unwrap();
        assert_eq!(others(8, "/exports"), paths(&[]));
        assert_eq!(others(9, "/x"), paths(&["/data/data/5"]));
    }

    #[test]
    fn places_overlap_whatever_path_leads_there() {
        let place = |lines, mount, real: &str| {
            mounts(lines).place_on(ID, mount, Path::new(real)).unwrap_or_else(|e| panic!("{e}"))
        };
        let (srv, data, media) =
            (place(LINES, 29, "/srv"), place(LINES, 30, "/ctr/data"), place(LINES, 31, "/media/1"));
        assert!(srv.has(&data) && data.has(&media) && !media.has(&data) && media.overlaps(&srv));
        assert_eq!(data.path_to(&media), Some(Path::new("data/5/1")));
        let (other, var) = (place(LINES, 32, "/other/x"), place(LINES, 29, "/var"));
        assert!(!srv.overlaps(&other) && !srv.overlaps(&var));
        let of = |mount, real: &str| place(OF_SERVERS, mount, real);
        assert!(of(7, "/data").has(&of(9, "/x")) && !of(7, "/data").overlaps(&of(8, "/exports")));
        assert!(!of(7, "/data/data").overlaps(&of(10, "/else")), "another server behind a tunnel");
    }

    #[test]
    fn a_mount_that_is_not_listed_is_an_error_if_others_show_its_file_system() {
        let error = mounts(LINES).place_on(ID, 99, Path::new("/var")).unwrap_err();
        assert!(error.to_string().contains("not listed"), "{error}");
        let elsewhere = mounts("29 1 8:2 / /x rw - ext4 /dev/sdb1 rw\n");
        let place = |path: &str| elsewhere.place_on(ID, 99, Path::new(path)).unwrap();
        assert!(place("/var").has(&place("/var/tmp")) && !place("/var").has(&place("/srv")));
        assert_eq!(mounts("").place_of(Path::new("/nonexistent/x")).unwrap(), None);
    }
}
