//! A file in use is seen on every file system that CVAT runs on.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Other, export, has_tool, outcome_of};
use crate::start::{Start, unlock};
use crate::wait::wait_until;
use crate::world::{DAY, World, assert_counts, can_be_root, tool, zone};

/// A mounted file system, in an image or special.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    pub fn image(mkfs: &str, args: &[&str], megabytes: u64) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        all.push(image.as_os_str());
        tool(mkfs, &all);
        let at = scratch.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        tool("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
        Self(scratch)
    }

    fn special(kind: &str, options: impl Fn(&Path) -> String) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().join("mnt");
        for dir in ["mnt", "lower", "upper", "work"] {
            std::fs::create_dir(scratch.path().join(dir)).unwrap();
        }
        let options = options(scratch.path());
        let args: [&OsStr; 6] = [
            "-t".as_ref(),
            kind.as_ref(),
            "-o".as_ref(),
            options.as_ref(),
            kind.as_ref(),
            at.as_ref(),
        ];
        tool("mount", &args);
        Self(scratch)
    }

    fn overlay() -> Self {
        Self::special("overlay", |dir| {
            // Its upper directory is on a tmpfs: an overlay cannot be on every kind of file system.
            let upper = dir.join("upper");
            let args: [&OsStr; 4] =
                ["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), upper.as_ref()];
            tool("mount", &args);
            for sub in ["up", "work"] {
                std::fs::create_dir(upper.join(sub)).unwrap();
            }
            let dir = dir.display();
            format!("lowerdir={dir}/lower,upperdir={dir}/upper/up,workdir={dir}/upper/work")
        })
    }

    /// The directory `lower` once more, through FUSE.
    fn fuse() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (lower, at) = (scratch.path().join("lower"), scratch.path().join("mnt"));
        std::fs::create_dir(&lower).unwrap();
        std::fs::create_dir(&at).unwrap();
        tool("bindfs", &[lower.as_ref(), at.as_ref()]);
        Self(scratch)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }

    /// The path behind a path in a FUSE mount.
    fn behind(&self, path: &Path) -> PathBuf {
        self.0.path().join("lower").join(path.strip_prefix(self.path()).unwrap())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // An overlay has both.
        for at in ["mnt", "upper"] {
            let mut umount = Command::new("umount");
            let _ = umount.arg("-l").arg(self.0.path().join(at)).stderr(Stdio::null()).ended();
        }
    }
}

#[test]
fn a_file_in_use_is_seen_on_every_file_system_that_cvat_runs_on() {
    if !can_be_root("in use on ext4, xfs, btrfs, tmpfs, overlayfs") {
        return;
    }
    let file_systems: [(&str, Mounted); 5] = [
        ("ext4", Mounted::image("mkfs.ext4", &["-q"], 32)),
        ("xfs", Mounted::image("mkfs.xfs", &["-q"], 320)),
        ("btrfs", Mounted::image("mkfs.btrfs", &["-q"], 128)),
        ("tmpfs", Mounted::special("tmpfs", |_| "size=16m".to_owned())),
        ("overlay", Mounted::overlay()),
    ];
    for (name, mounted) in &file_systems {
        let world = World::in_dir(&mounted.path());
        let path = export(&world, 1, 2 * DAY);
        world.file("tmp/tree/deep/file", 20 * DAY);
        world.file("tmp/free/deep/file", 20 * DAY);
        world.age_dirs("tmp", 20 * DAY);
        let open =
            [File::open(&path).unwrap(), File::open(world.path("tmp/tree/deep/file")).unwrap()];
        assert_eq!(outcome_of(&world, &path, &["--zones", "export"]), "in_use", "{name}");
        let report = world.run(&["run", "--format", "json"]);
        let counts = [("removed", 1), ("skipped_by.in_use", 1), ("failed", 0)];
        assert_counts(&report.exits(0).json(), "tmp", &counts);
        drop(open);
        let lock = File::open(world.path("tmp")).unwrap();
        fs2::FileExt::lock_exclusive(&lock).unwrap();
        let report = world.run(&["run", "--zones", "tmp", "--format", "json"]).exits(4).json();
        let notes = zone(&report, "tmp")["notes"].to_string();
        assert!(notes.contains(&format!("process {} ", std::process::id())), "{name}: {notes}");
        unlock(lock);
        let has_any = || path.exists() || world.has("tmp/tree");
        wait_until("what was open is removed", || {
            world.run(&["run"]).exits(0);
            !has_any()
        });
    }
}

#[test]
fn on_fuse_a_granted_lease_proves_nothing_and_the_report_says_so() {
    if !can_be_root("in use on FUSE") || !has_tool("bindfs", "in use on FUSE") {
        return;
    }
    let mounted = Mounted::fuse();
    let world = World::in_dir(&mounted.path());
    let notes = |zone_name: &str| {
        let run = world.run(&["run", "--dry-run", "--format", "json"]);
        zone(&run.exits(0).json(), zone_name)["notes"].to_string()
    };
    for path in ["cache/export/events-1.csv", "tmp/single", "tmp/tree/deep/file"] {
        let path = world.file(path, 20 * DAY);
        world.age_dirs("tmp", 20 * DAY);
        let zone_name = if path.starts_with(world.path("tmp")) { "tmp" } else { "export" };
        let entry = if path.ends_with("deep/file") { world.path("tmp/tree") } else { path.clone() };
        // Who has it open behind FUSE is not seen, as on a server; so nothing is claimed about that.
        let behind = File::open(mounted.behind(&path)).unwrap();
        assert!(notes(zone_name).contains("does not say whether"), "{entry:?}");
        drop(behind);
        // What is open or locked through the mount itself is seen.
        let open = File::open(&path).unwrap();
        assert_eq!(outcome_of(&world, &entry, &["--dry-run"]), "in_use", "{entry:?}");
        drop(open);
        wait_until("it is closed", || outcome_of(&world, &entry, &["--dry-run"]) == "removed");
        let lock = "f = open(path, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)";
        let other = Other::python(lock, &path);
        assert_eq!(outcome_of(&world, &entry, &["--dry-run"]), "locked", "{entry:?}");
        drop(other);
        assert_eq!(outcome_of(&world, &entry, &[]), "removed", "{entry:?}");
    }
}
