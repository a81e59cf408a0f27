//! What changes between the survey of a small tree and its removal, which follows at once and does not
//! read again what the survey saw milliseconds ago. Whether it was that quick makes no difference to what
//! is asked here.

use std::fs;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use retention_sweeper::condemn::Condemned;
use retention_sweeper::retention::Zone;
use retention_sweeper::stop::Stop;
use rustix::fs::inotify;

use crate::seams::{sweep_until, sweep_while};
use crate::world::{DAY, Stat, World, set_age};

/// Sweeps `tmp/` while that happens after the survey; what was said of the one tree in it.
fn sweep(world: &World, happens: impl Fn(&Condemned) + Sync) -> String {
    sweep_while(world, Zone::Tmp, || {}, happens).0
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
    let blocks = |path: &Path| Stat::of(path).allocated();
    let freed: u64 = walkdir::WalkDir::new(world.path("tmp/tree"))
        .into_iter()
        .map(|entry| blocks(entry.unwrap().path()))
        .sum();
    let known = Mutex::new(None);
    let said = sweep_while(
        &world,
        Zone::Tmp,
        || {},
        |condemned| {
            let inventory = condemned.inventory().unwrap();
            let dirs = (0..).map_while(|at| inventory.dir(at));
            let held = dirs.map(|dir| (dir.names.count(), dir.subdirs.len())).collect::<Vec<_>>();
            *known.lock().unwrap() = Some(held);
        },
    );
    assert_eq!(said, ("removed".to_owned(), freed));
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
        assert_eq!(fate, "removed");
        assert!(!world.has("tmp/tree"));
    }
}

#[test]
fn what_came_into_a_small_tree_since_is_not_removed() {
    let came = ["tmp/tree/came", "tmp/tree/sub/came", "tmp/tree/sub/deeper/came"];
    for path in came {
        for age in [0, 20 * DAY] {
            let fate = when(|world| drop(world.file(path, age)), &[path]);
            assert_ne!(fate, "removed", "{path} of age {age}: {fate}");
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
    assert_ne!(fate, "removed", "{fate}");
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
        assert_eq!(fate, "removed");
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
        assert!(fate == "removed" && !world.has("tmp/tree"), "after {tenths}: {fate}");
    }
}

#[test]
fn what_is_used_while_a_removal_waits_for_its_rate_is_not_removed() {
    let world = World::new();
    let files = ["tmp/tree/one", "tmp/tree/other"];
    for file in files {
        world.file(file, 20 * DAY);
    }
    world.age_dirs("tmp", 20 * DAY);
    let stop = Stop::default().at_most(NonZeroU32::new(2));
    let (fate, _) = std::thread::scope(|scope| {
        // The first name goes at once, the second half a second later.
        let use_the_rest = |_: &Condemned| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                files.iter().filter(|file| world.has(file)).for_each(|file| {
                    set_age(&world.path(file), 0);
                });
            });
        };
        sweep_until(&world, Zone::Tmp, &stop, || {}, use_the_rest)
    });
    assert!(fate.contains("used, after 1 of its entries"), "{fate}");
    assert!(files.iter().any(|file| world.has(file)));
}
