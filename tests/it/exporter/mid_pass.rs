//! No lock, no removal: a server that fails in the middle of a pass.
//!
//! What the server said is relied on for a tenth of a second. Removals are slowed down, so that this is a
//! number of removals on a machine of any speed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Redis;
use super::{export, key, with_locks};
use crate::company::{count, has_tool, log_beside, slowed};
use crate::start::Start;
use crate::wait::{LIMIT, wait_until};
use crate::world::{DAY, Run, World, assert_counts, export_name, zone};

/// The pause before each removal.
const PAUSE: Duration = Duration::from_millis(5);

/// A tenth of a second is 20 pauses. More removals than this show that an old answer was relied on.
const MOST_AFTER: usize = 60;

fn redis() -> Option<Redis> {
    has_tool("strace", "a server that fails in the middle of a pass").then(|| Redis::start(&[]))?
}

fn left(world: &World) -> usize {
    count(world.path("cache/export"))
}

fn command(redis: &Redis, world: &World) -> Command {
    let args = with_locks(redis, world);
    let mut command = world.command(&args.each_ref().map(String::as_str));
    command.args(["--jobs", "1"]);
    command
}

/// A slow pass over some exports that has begun: some are removed already.
fn begun_slowly(redis: &Redis, world: &World, exports: u32) -> Child {
    for number in 0..exports {
        export(world, number);
    }
    let child = slowed(&command(redis, world), PAUSE, &log_beside(world)).start().unwrap();
    wait_until("some are removed", || left(world) < exports as usize);
    child
}

/// A pass at full speed that has begun. The exports are empty: in memory there may be little room.
fn begun(redis: &Redis, world: &World, exports: u32) -> Child {
    for number in 0..exports {
        world.file_of(Path::new("cache/export").join(export_name(number)), 2 * DAY, b"");
    }
    let mut command = command(redis, world);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    wait_until("some are removed", || left(world) < exports as usize);
    child
}

#[test]
fn a_server_that_dies_is_noticed_in_the_middle_of_a_batch() {
    // All locks of the batch are ours, or most are those of other processes.
    for locked in [0, 700] {
        let Some(mut redis) = redis() else { return };
        let world = World::new();
        let keys: Vec<String> = (0..locked).map(|number| key(&export(&world, number))).collect();
        redis.lock_all(&keys);
        let child = begun_slowly(&redis, &world, 1000);
        redis.die();
        let at_death = left(&world);
        let run = Run::from(child.wait_with_output().unwrap());
        run.exits(4);
        let after = at_death - left(&world);
        assert!(after < MOST_AFTER, "{after} were removed after the server had died");
    }
}

#[test]
fn an_error_in_the_middle_of_a_pass_ends_its_removals_at_once() {
    type Break = fn(&mut Redis);
    let breaks: [(&str, Break, usize); 4] = [
        ("killed", |redis| redis.die(), MOST_AFTER),
        ("stopped", |redis| redis.signal("-STOP"), MOST_AFTER),
        ("paused", |redis| drop(redis.cli(&["CLIENT", "PAUSE", "600000", "ALL"])), MOST_AFTER),
        // The locks that the server has are still held, and it says so: those of one batch.
        ("read-only", |redis| drop(redis.cli(&["REPLICAOF", "127.0.0.1", "1"])), 1024),
    ];
    for (what, break_it, most) in breaks {
        let Some(mut redis) = redis() else { return };
        let world = World::in_dir(Path::new("/dev/shm"));
        world.file("tmp/old", 20 * DAY);
        let child = begun_slowly(&redis, &world, 3000);
        break_it(&mut redis);
        let (start, at_error) = (Instant::now(), left(&world));
        let run = Run::from(child.wait_with_output().unwrap());
        assert!(start.elapsed() < LIMIT, "{what}: {:?}", start.elapsed());
        let report = run.exits(4).json();
        let after = at_error - left(&world);
        assert!(after < most, "{what}: {after} removed without a lock");
        assert!(left(&world) > 0, "{what}: it was over before the error");
        // The report is complete: what it counts as removed is gone.
        let removed = report["zones"][0]["removed"].as_u64().unwrap();
        assert_eq!(removed + left(&world) as u64, 3000, "{what}: {report:#}");
        assert_counts(&report, "tmp", &[("removed", 1)]);
    }
}

#[test]
fn a_server_that_is_back_after_a_restart_is_used_again() {
    let Some(mut redis) = redis() else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let child = begun_slowly(&redis, &world, 1000);
    redis.restart();
    assert!(left(&world) > 0, "it was over before the restart");
    let run = Run::from(child.wait_with_output().unwrap());
    // Either the pass asked while the server was gone, and left the rest alone; or it reconnected.
    let report = run.json();
    let removed = report["zones"][0]["removed"].as_u64().unwrap();
    assert_eq!(removed + left(&world) as u64, 1000, "{report:#}");
    match run.code {
        Some(0) => assert_eq!(report["totals"]["failed"], 0),
        Some(4) => assert!(left(&world) > 0),
        code => panic!("{code:?}: {report:#}"),
    }
}

#[test]
fn a_lost_connection_is_made_again_and_leaves_no_lock_behind() {
    for is_slow in [false, false, false, true] {
        let Some(redis) = redis() else { return };
        let world = World::in_dir(Path::new("/dev/shm"));
        let exports = if is_slow { 500 } else { 30_000 };
        let begin = if is_slow { begun_slowly } else { begun };
        let child = begin(&redis, &world, exports);
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert!(!is_slow || left(&world) > 0, "it was over before the connection was lost");
        let run = Run::from(child.wait_with_output().unwrap());
        let report = run.exits(0).json();
        assert_counts(&report, "export", &[("removed", exports.into()), ("failed", 0)]);
        let keys = redis.keys().len();
        assert_eq!(keys, 0, "locks were left behind");
    }
}

#[test]
fn a_password_that_changes_in_the_middle_of_a_pass_is_reported() {
    let Some(redis) = redis() else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let child = begun_slowly(&redis, &world, 3000);
    redis.cli(&["CONFIG", "SET", "requirepass", "new"]);
    // Existing connections stay logged in; those that are lost cannot be made again.
    let mut killer = Command::new("redis-cli");
    killer.args(["-p", &redis.port.to_string(), "--no-auth-warning", "-a", "new"]);
    killer.args(["CLIENT", "KILL", "TYPE", "normal"]).finish().unwrap();
    assert!(left(&world) > 0, "it was over before the password changed");
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(4).json();
    let notes = zone(&report, "export")["notes"].to_string();
    assert!(notes.contains("asks for a password"), "{notes}");
    let removed = report["zones"][0]["removed"].as_u64().unwrap();
    assert_eq!(removed + left(&world) as u64, 3000);
}
