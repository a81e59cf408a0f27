//! What changes between the survey of a small tree and its removal, which follows at once and does not
//! read again what the survey saw milliseconds ago. Whether it was that quick makes no difference to what
//! is asked here.

use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use retention_sweeper::condemn::{
    Claim, Condemned, Disk, Failure, Fate, Place, Removed, Reprieve, Seen, Step,
};
use retention_sweeper::disk::{InUseProbe, RealDisk, Scan};
use retention_sweeper::lock::Backend;
use retention_sweeper::retention::{Exclude, ExportTtls, Moment, Policy, TmpAge, Ttl, Zone};
use retention_sweeper::stop::Stop;
use retention_sweeper::sweep::{Audience, Outcome, Pass, Tally};
use retention_sweeper::volume::{Forbidden, Volume};
use retention_sweeper::workers::Workers;

use rustix::fs::inotify;

use crate::world::{DAY, NOW_SECS, World, set_age};

/// A real disk, on which something happens between the survey of a tree and its removal.
struct Between<'v, F>(RealDisk<'v>, F);

impl<F: Fn(&Condemned) + Sync> Disk for Between<'_, F> {
    type Scan = Scan;
    fn open_zone(&self, zone: Zone) -> Result<Option<Scan>, Failure> {
        self.0.open_zone(zone)
    }
    fn sight<'s>(
        &self,
        scan: &'s Scan,
        buffer: &mut Vec<u8>,
        each: &mut impl FnMut(Seen<'_>),
    ) -> Step<'s> {
        self.0.sight(scan, buffer, each)
    }
    fn look_again(
        &self,
        claim: Claim,
        policy: &Policy,
        now: Moment,
    ) -> Result<Condemned, Reprieve> {
        self.0.look_again(claim, policy, now)
    }
    fn remove(&self, condemned: Condemned, now: Moment) -> Result<Removed, Reprieve> {
        (self.1)(&condemned);
        self.0.remove(condemned, now)
    }
    fn notes(&self, zone: Zone) -> Vec<String> {
        self.0.notes(zone)
    }
}

/// Hears the fates.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Audience for Heard {
    fn begins(&self, _zone: Zone) {}
    fn tell(&self, outcome: &Outcome<'_>) {
        let fate = match &outcome.fate {
            Fate::Removed => format!("removed {}", outcome.freed.0),
            Fate::Kept(kept) => kept.why.key().to_owned(),
            Fate::Spared(why) => why.key().to_owned(),
            Fate::Failed(failure) => failure.to_string(),
        };
        self.0.lock().unwrap().push(fate);
    }
    fn so_far(&self, _root: &Place, _names: u64, _handful: &Tally) {}
}

/// Sweeps `tmp/` while that happens; what was said of the one tree in it.
fn sweep(world: &World, happens: impl Fn(&Condemned) + Sync) -> String {
    let volume = Volume::open(&world.root, &Forbidden::default()).unwrap();
    let (stop, workers, heard) = (Stop::default(), Workers::one(), Heard::default());
    let policy = Policy {
        export: ExportTtls::all(Ttl::from_secs(86_400)),
        retention: Ttl::from_secs(14 * 86_400),
        tmp_age: TmpAge::Tree,
        older_than: None,
        exclude: Exclude::default(),
    };
    let disk = RealDisk::new(&volume, InUseProbe::On, &stop, &workers);
    let pass = Pass {
        disk: &Between(disk, happens),
        locks: &Backend::flock(),
        policy: &policy,
        now: Moment::from_unix(NOW_SECS, 0),
        stop: &stop,
        workers: &workers,
        lock_wait: Duration::ZERO,
    };
    pass.sweep(&[Zone::Tmp], &heard);
    let mut heard = heard.0.into_inner().unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard.remove(0)
}

/// A volume with a small tree that has expired: `tmp/tree` with five files and two directories, one in
/// the other, with five each.
fn world() -> World {
    let world = World::new();
    for dir in ["", "sub/", "sub/deeper/"] {
        for file in 0..5 {
            world.file(format!("tmp/tree/{dir}{file}"), 20 * DAY);
        }
    }
    world.age_dirs("tmp", 20 * DAY);
    world
}

/// What became of a small tree to which that happened; the survivors must be there afterwards.
fn when(happens: impl Fn(&World) + Sync, survivors: &[&str]) -> String {
    let world = world();
    let fate = sweep(&world, |_| happens(&world));
    for path in survivors {
        assert!(world.has(path), "{path} is gone: {fate}");
    }
    fate
}

#[test]
fn a_small_tree_is_removed_as_it_was_surveyed() {
    let world = world();
    let blocks = |path: &Path| crate::world::Stat::of(path).allocated();
    let freed: u64 = walkdir::WalkDir::new(world.path("tmp/tree"))
        .into_iter()
        .map(|entry| blocks(entry.unwrap().path()))
        .sum();
    let known = Mutex::new(None);
    let fate = sweep(&world, |condemned| {
        let inventory = condemned.inventory().unwrap();
        let dirs = (0..).map_while(|at| inventory.dir(at));
        let held = dirs.map(|dir| (dir.names.count(), dir.subdirs.len())).collect::<Vec<_>>();
        *known.lock().unwrap() = Some(held);
    });
    assert_eq!(fate, format!("removed {freed}"));
    assert_eq!(known.into_inner().unwrap().unwrap(), [(5, 1), (5, 1), (5, 0)]);
    assert!(!world.has("tmp/tree") && world.has("tmp"));
}

#[test]
fn of_a_large_tree_nothing_is_remembered() {
    let many_files = World::new();
    (0..600).for_each(|file| drop(many_files.file(format!("tmp/tree/{file}"), 20 * DAY)));
    let many_dirs = World::new();
    (0..12).for_each(|dir| drop(many_dirs.file(format!("tmp/tree/{dir}/file"), 20 * DAY)));
    let linked = World::new();
    let file = linked.file("tmp/tree/one", 20 * DAY);
    fs::hard_link(&file, linked.path("tmp/tree/other")).unwrap();
    for world in [many_files, many_dirs, linked] {
        world.age_dirs("tmp", 20 * DAY);
        let fate = sweep(&world, |condemned| {
            assert!(condemned.inventory().is_none());
        });
        assert!(fate.starts_with("removed"), "{fate}");
        assert!(!world.has("tmp/tree"));
    }
}

#[test]
fn what_came_into_a_small_tree_since_is_not_removed() {
    let came = ["tmp/tree/came", "tmp/tree/sub/came", "tmp/tree/sub/deeper/came"];
    for path in came {
        for age in [0, 20 * DAY] {
            let fate = when(|world| drop(world.file(path, age)), &[path]);
            assert!(!fate.starts_with("removed"), "{path} of age {age}: {fate}");
        }
    }
}

#[test]
fn what_took_the_place_of_something_in_a_small_tree_is_not_removed() {
    let replaced = |world: &World| {
        let new = world.file("tmp.new", 20 * DAY);
        fs::rename(new, world.path("tmp/tree/sub/3")).unwrap();
    };
    assert_eq!(when(replaced, &["tmp/tree/sub/3"]), "used");
    let other_dir = |world: &World| {
        fs::rename(world.path("tmp/tree/sub"), world.path("was-sub")).unwrap();
        world.file("tmp/tree/sub/3", 20 * DAY);
        world.file("tmp/tree/sub/deeper/1", 20 * DAY);
        world.age_dirs("tmp/tree", 20 * DAY);
    };
    let survivors = ["tmp/tree/sub/3", "tmp/tree/sub/deeper/1", "was-sub/3", "was-sub/deeper/1"];
    assert_eq!(when(other_dir, &survivors), "used");
    let other_tree = |world: &World| {
        fs::rename(world.path("tmp/tree"), world.path("was-tree")).unwrap();
        world.file("tmp/tree/sub/3", 20 * DAY);
        world.age_dirs("tmp/tree", 20 * DAY);
    };
    let fate = when(other_tree, &["tmp/tree/sub/3"]);
    assert!(!fate.starts_with("removed"), "{fate}");
}

#[test]
fn what_is_moved_out_of_a_small_tree_is_not_followed() {
    let moved = |world: &World| {
        fs::rename(world.path("tmp/tree/sub/deeper"), world.path("deeper")).unwrap();
        set_age(&world.path("tmp/tree/sub"), 20 * DAY);
    };
    let fate = when(moved, &["deeper/0", "deeper/4"]);
    assert!(fate.contains("used"), "{fate}");
}

#[test]
fn a_while_later_everything_is_looked_at_again() {
    let used = |world: &World| {
        std::thread::sleep(Duration::from_millis(20));
        set_age(&world.path("tmp/tree/sub/deeper/2"), 0);
    };
    let fate = when(used, &["tmp/tree/sub/deeper/2"]);
    assert!(fate.contains("remove all of") && fate.contains("used, after"), "{fate}");
}

#[test]
fn no_directory_is_opened_a_second_time_if_that_is_quick() {
    let opened = || {
        let world = world();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let watch = watch.unwrap();
        let fate = sweep(&world, |_| {
            let sub = world.path("tmp/tree/sub");
            inotify::add_watch(&watch, sub, inotify::WatchFlags::OPEN).unwrap();
        });
        assert!(fate.starts_with("removed"), "{fate}");
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        std::iter::from_fn(|| events.next().ok().map(|event| event.events()))
            .any(|events| events.contains(inotify::ReadFlags::OPEN))
    };
    assert!((0..50).any(|_| !opened()), "each of 50 removals has listed the directory again");
}

#[test]
fn whenever_the_memory_runs_out_all_of_the_tree_goes() {
    for tenths in 0..70 {
        let world = world();
        let fate = sweep(&world, |_| std::thread::sleep(Duration::from_micros(tenths * 100)));
        assert!(fate.starts_with("removed") && !world.has("tmp/tree"), "after {tenths}: {fate}");
    }
}
