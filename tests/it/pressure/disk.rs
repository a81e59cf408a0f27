//! An image of a file system, filled as far as a test needs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs, syncfs};
use serde_json::Value;

use crate::company::file_systems::Mounted;
use crate::start::written;
use crate::world::{Stat, World, set_age};

/// A mounted image with a data root on it.
pub struct Disk {
    mounted: Mounted,
    pub world: World,
}

impl Disk {
    pub fn new(mkfs: &str, args: &[&str], megabytes: u64) -> Self {
        let mounted = Mounted::image(mkfs, args, megabytes);
        Self { world: World::at(&mounted.path().join("data")), mounted }
    }

    pub fn mount(&self) -> PathBuf {
        self.mounted.path()
    }

    fn stat(&self) -> StatVfs {
        statvfs(self.mount()).unwrap()
    }

    /// The bytes in use, and those that `df` calculates its percentage from.
    pub fn bytes(&self) -> (u64, u64) {
        let stat = self.stat();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        (used, used + stat.f_bavail * stat.f_frsize)
    }

    /// So much to keep free that everything must go that may.
    pub fn nearly_all(&self) -> String {
        format!("{}B", self.bytes().1 - 1)
    }

    /// The inodes in use, and all.
    pub fn inodes(&self) -> (u64, u64) {
        let stat = self.stat();
        (stat.f_files - stat.f_ffree, stat.f_files)
    }

    /// Fills the disk with a file outside the zones, up to this share of its bytes, in percent.
    pub fn fill(&self, percent: u64) {
        let (used, all) = self.bytes();
        let length = (all * percent / 100).saturating_sub(used);
        allocate(&self.mount().join("other"), length);
    }

    /// Writes everything out.
    pub fn sync(&self) {
        syncfs(File::open(self.mount()).unwrap()).unwrap();
    }

    /// Passes until one says that the file system is relieved: its report. A file system that frees space when it
    /// commits may take longer for that than a pass waits, on a slow machine, and then the pass must have waited.
    pub fn relieved(&self, args: &[&str]) -> Value {
        for _ in 0..20 {
            let report = self.world.run(args).json();
            let state = &report["pressure"][0]["state"];
            if state == "relieved" {
                assert_eq!(report["exit"], 0, "{report:#}");
                return report;
            }
            assert_eq!(state, "not_freed", "{report:#}");
            assert!(report["elapsed_s"].as_f64() >= Some(10.0), "{report:#}");
            self.sync();
        }
        panic!("it is never relieved");
    }

    /// A file in the data root of this size, used `age` seconds ago, all of it allocated.
    pub fn file(&self, path: impl AsRef<Path>, age: i64, size: u64) -> PathBuf {
        let path = self.world.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        written(|| allocate(&path, size));
        set_age(&path, age);
        path
    }
}

fn allocate(path: &Path, size: u64) {
    let file = File::create(path).unwrap();
    if size > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
    }
}

/// Whether `used` of `all` is more than a share in percent.
pub const fn is_above(used: u64, all: u64, percent: u64) -> bool {
    used * 100 > all * percent
}

/// What the removal of a file gives back.
pub fn size(path: &Path) -> u64 {
    Stat::of(path).allocated()
}
