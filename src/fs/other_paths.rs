//! The other paths of a directory: a bind mount shows it at a second one.
//!
//! This module must not decide what that means. It knows the mounts that this process sees, and no others.

use std::io;
use std::path::{Path, PathBuf};

use super::error::is_missing;
use super::mounts::{all, with_id};
use super::{open, stat};

/// The other paths of a directory, where other mounts show it, as far as the system tells. `real` has no links in it.
///
/// # Errors
/// The directory cannot be looked at. One that is gone has no paths.
pub fn of(real: &Path) -> io::Result<Vec<PathBuf>> {
    let identity = |path: &Path| open::seen_dir(path).and_then(stat::id_and_mount);
    let (id, mount) = match identity(real) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        found => found?,
    };
    // The paths in it need not be text: each byte is a character here.
    let lines = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines: String = lines.into_iter().map(char::from).collect();
    let mut others = shown_by(&lines, mount, real);
    // Another mount may hide what this one shows.
    others.retain(|other| match identity(other) {
        Ok((found, _)) => found == id,
        Err(error) => !is_missing(&error),
    });
    Ok(others)
}

/// Paths at which other mounts may show the directory `real`.
fn shown_by(lines: &str, mount: u64, real: &Path) -> Vec<PathBuf> {
    let Some(own) = with_id(lines, mount) else { return Vec::new() };
    let Some(place) = own.place_of(real) else { return Vec::new() };
    let others = all(lines).filter(|other| other.id != mount && other.device == own.device);
    others.filter_map(|other| other.path_of(&place)).filter(|other| other != real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_at_every_path_that_mounts_show_it_at() {
        let lines = "29 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     30 29 8:1 /srv/cvat\\040one/data /ctr/data rw - ext4 /dev/sda1 rw\n\
                     31 29 8:1 /srv/cvat\\040one/data/data/5 /media rw - ext4 /dev/sda1 rw\n\
                     32 29 8:2 /srv /other rw - ext4 /dev/sdb1 rw\n";
        let others = |mount, real: &str| shown_by(lines, mount, Path::new(real));
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let all = ["/srv/cvat one/data/data/5", "/ctr/data/data/5"];
        assert_eq!(others(31, "/media"), paths(&all));
        assert_eq!(others(30, "/ctr/data/tmp"), paths(&["/srv/cvat one/data/tmp"]));
        assert_eq!(
            others(29, "/srv/cvat one/data/data/5/x"),
            paths(&["/ctr/data/data/5/x", "/media/x"])
        );
        assert_eq!(others(29, "/var"), paths(&[]));
        assert_eq!(others(99, "/var"), paths(&[]));
        let lines = "7 1 0:39 / /data rw - nfs4 [fe80::1]:/srv/data rw\n\
                     8 1 0:39 / /exports rw - nfs4 [fe80::1]:/srv/exports rw\n\
                     9 1 0:39 / /x rw - nfs4 [fe80::1]:/srv/data/data/5 rw\n";
        let others = |mount, real: &str| shown_by(lines, mount, Path::new(real));
        assert_eq!(others(8, "/exports"), paths(&[]));
        assert_eq!(others(9, "/x"), paths(&["/data/data/5"]));
    }
}
