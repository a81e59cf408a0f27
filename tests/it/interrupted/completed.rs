//! What becomes of an interrupted removal when something else has changed since: the directory that it came from, or which
//! shards there are.

use std::ffi::CString;
use std::fs;

use retention_sweeper::rules::Shard;

use super::{has_strace, tampered_with, tmp};
use crate::world::{DAY, World, assert_counts};

/// Its instance was removed or renamed after the crash.
#[test]
fn an_old_cache_whose_directory_is_gone_is_judged_by_the_path_that_it_had() {
    if !has_strace() {
        return;
    }
    let inner = "7%tmp%export_cache";
    // The first rename takes the tree out of reach, and the second one follows the last look at it.
    for (call, what) in [("renameat2", "signal=KILL:when=2"), ("unlinkat", "error=EIO:when=2")] {
        for excluded in [false, true] {
            let world = World::new();
            for file in 0..4 {
                world.file(format!("tasks/7/tmp/export_cache/{file}"), 400 * DAY);
            }
            world.age_dirs("tasks/7", 400 * DAY);
            tampered_with(&world, &["legacy"], call, what);
            fs::rename(world.path("tasks/7"), world.path("tasks/moved")).unwrap();
            let exclude = if excluded { &["--exclude", "tasks/7/**"][..] } else { &[] };
            let args = [&["legacy", "--format", "json"], exclude].concat();
            let foreseen = world.run(&[&args[..], &["--dry-run"]].concat()).json();
            let report = world.run(&args).json();
            let (is_whole, about) = (call == "renameat2", format!("{call} {excluded}: {report:#}"));
            let stays = excluded;
            for report in [&foreseen, &report] {
                assert_counts(report, "legacy", &[("removed", u64::from(!stays))]);
            }
            assert_eq!(world.has(format!("tasks/{inner}")), stays, "{about}");
            let words = if is_whole { "because its directory is gone" } else { "excluded; some" };
            assert_eq!(report.to_string().contains(words), stays, "{about}");
        }
    }
}

#[test]
fn a_shard_completes_what_it_has_begun_and_no_other_shard_does() {
    if !has_strace() {
        return;
    }
    for tree in ["a", "b", "c", "d", "e", "f"] {
        let world = World::new();
        for file in 0..4 {
            world.file(format!("tmp/{tree}/{file}"), 40 * DAY);
        }
        world.age_dirs(format!("tmp/{tree}"), 40 * DAY);
        let name = CString::new(tree).unwrap();
        let is_own = |shard: &&str| Shard::parse(shard).unwrap().owns("tmp".as_ref(), &name);
        let mut shards = ["0/3", "1/3", "2/3"];
        shards.sort_by_key(is_own);
        let own = shards[2];
        tampered_with(&world, &["run", "--shard", own], "unlinkat", "error=EIO:when=2");
        assert!(tmp(&world).iter().all(|name| name.starts_with(".sweeper-")), "{tree}");
        for shard in shards {
            let run = world.run(&["run", "--zones", "tmp", "--format", "json", "--shard", shard]);
            let count = u64::from(shard == own);
            let counts = [("seen", count), ("removed", count)];
            assert_counts(&run.exits(0).json(), "tmp", &counts);
        }
        assert_eq!(tmp(&world), [""; 0], "{tree}");
    }
}
