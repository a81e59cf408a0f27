//! No lock, no removal: a server that is away, refuses, or goes away in the middle of a pass.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::server::{Redis, with_clock_off};
use super::{export, run};
use crate::start::Start;
use crate::world::{DAY, Run, World, assert_counts, zone};

/// Asserts that the exports were left alone for a reason, that `tmp` was swept, and how it ended.
#[track_caller]
fn assert_left_alone(run: &Run, world: &World, reason: &str) {
    let report = run.exits(4).json();
    assert_eq!(report["exit"], 4);
    let notes = zone(&report, "export")["notes"].to_string();
    assert!(notes.contains(reason), "{reason}: {notes}");
    assert_counts(&report, "export", &[("removed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 1)]);
    assert!(!world.has("tmp/old"));
}

fn world() -> World {
    let world = World::new();
    for number in 0..5 {
        export(&world, number);
    }
    world.file("tmp/old", 20 * DAY);
    world
}

#[test]
fn each_kind_of_trouble_is_told_apart_at_the_start() {
    let Some(redis) = Redis::start(&["--requirepass", "right"]) else { return };
    // A wrong password, and none.
    for password in ["wrong", ""] {
        let world = world();
        let mut command = world.command(&["run", "--format", "json"]);
        command
            .env("CVAT_REDIS_INMEM_HOST", "127.0.0.1")
            .env("CVAT_REDIS_INMEM_PORT", redis.port.to_string())
            .env("CVAT_REDIS_INMEM_PASSWORD", password)
            .env("SWEEPER_CVAT_DATA", &world.root);
        assert_left_alone(&Run::of(command), &world, "refuses the login");
    }

    // Nobody there; and a port that accepts and says nothing.
    let mut gone = Redis::start(&[]).unwrap();
    gone.die();
    let unreached = world();
    assert_left_alone(&run(&gone, &unreached, &[]), &unreached, "cannot be reached");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let unanswered = world();
    let start = Instant::now();
    let run_it = unanswered.run(&["run", "--format", "json", "--redis", &url, "--cvat-data", "/x"]);
    assert_left_alone(&run_it, &unanswered, "no answer within");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());

    // A replica that is read-only, and a server without memory.
    for (command, reason) in [
        (&["REPLICAOF", "127.0.0.1", "1"][..], "read only"),
        (&["CONFIG", "SET", "maxmemory", "1"], "OOM"),
    ] {
        let refusing = Redis::start(&[]).unwrap();
        refusing.cli(command);
        let world = world();
        assert_left_alone(&run(&refusing, &world, &[]), &world, reason);
    }
}

#[test]
fn a_clock_that_is_off_is_said_and_one_that_is_far_off_refuses_the_zone() {
    let Some(redis) = Redis::start(&[]) else { return };
    for (shift, code) in [(90, 0), (-90, 0), (7200, 4), (-7200, 4)] {
        let world = world();
        let url = format!("redis://127.0.0.1:{}", with_clock_off(&redis, shift));
        let root = world.root.to_str().unwrap();
        let run = world.run(&["run", "--format", "json", "--redis", &url, "--cvat-data", root]);
        let report = run.exits(code).json();
        let notes = zone(&report, "export")["notes"].to_string();
        let side = if shift > 0 { "behind" } else { "ahead of" };
        assert!(notes.contains("our clock is") && notes.contains(side), "{shift}: {notes}");
        let removed = if code == 0 { 5 } else { 0 };
        assert_counts(&report, "export", &[("removed", removed)]);
    }
}

/// A server that dies while a batch is worked on slowly, some of its locks being others': what it said
/// before is not trusted for longer than a tenth of a second.
#[test]
fn a_server_that_dies_is_noticed_in_the_middle_of_a_batch() {
    for busy in [0, 700] {
        let Some(mut redis) = Redis::start(&[]) else { return };
        let world = World::new();
        for number in 0..1000 {
            let path = export(&world, number);
            if number < busy {
                redis.cli(&["SET", &super::key(&path), "somebody", "PX", "60000"]);
            }
        }
        let url = redis.url();
        let root = world.root.to_str().unwrap();
        let inner = world.command(&[
            "run",
            "--format",
            "json",
            "--jobs",
            "1",
            "--redis",
            &url,
            "--cvat-data",
            root,
        ]);
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=unlinkat", "-e"]);
        command.arg("inject=unlinkat:delay_enter=5000").arg(inner.get_program());
        let child = command
            .args(inner.get_args())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .start()
            .unwrap();
        let start = Instant::now();
        while left(&world) == 1000 {
            assert!(start.elapsed() < Duration::from_secs(30));
        }
        redis.die();
        let at_death = left(&world);
        let run = Run::from(child.wait_with_output().unwrap());
        run.exits(4);
        // 100 ms are 20 removals of 5 ms; a stall of the machine may add to them, not multiply them.
        let after = at_death - left(&world);
        assert!(after < 60, "{after} were removed after the server had died");
    }
}

/// A pass over many exports, begun: some are removed already.
fn begun(redis: &Redis, world: &World, count: u32) -> Child {
    for number in 0..count {
        export(world, number);
    }
    let url = redis.url();
    let root = world.root.to_str().unwrap();
    let args = ["run", "--format", "json", "--jobs", "1", "--redis", &url, "--cvat-data", root];
    let mut command = world.command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap();
    let start = Instant::now();
    while left(world) == count as usize {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    child
}

fn left(world: &World) -> usize {
    std::fs::read_dir(world.path("cache/export")).unwrap().count()
}

#[test]
fn trouble_in_the_middle_of_a_pass_ends_its_removals_within_seconds() {
    type Trouble = fn(&mut Redis);
    let troubles: [(&str, Trouble); 4] = [
        ("killed", |redis| redis.die()),
        ("stopped", |redis| redis.signal("-STOP")),
        ("paused", |redis| drop(redis.cli(&["CLIENT", "PAUSE", "60000", "ALL"]))),
        ("read-only", |redis| drop(redis.cli(&["REPLICAOF", "127.0.0.1", "1"]))),
    ];
    for (what, trouble) in troubles {
        let Some(mut redis) = Redis::start(&[]) else { return };
        let world = World::in_dir(Path::new("/dev/shm"));
        world.file("tmp/old", 20 * DAY);
        let mut child = begun(&redis, &world, 40_000);
        trouble(&mut redis);
        let start = Instant::now();
        // Whatever was already claimed is dealt with for at most as long as the server's last word is
        // trusted; then nothing more goes.
        std::thread::sleep(Duration::from_millis(400));
        let after_trust = left(&world);
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let code = child.wait().unwrap().code();
        assert!(start.elapsed() < Duration::from_secs(15), "{what}: {:?}", start.elapsed());
        let run = Run { code, stdout, stderr: String::new() };
        let report = run.exits(4).json();
        assert_eq!(left(&world), after_trust, "{what}: removed without a lock");
        assert!(after_trust > 0, "{what}: it was over before the trouble");
        // The report is complete: what it says is gone is what is gone.
        let removed = report["zones"][0]["removed"].as_u64().unwrap();
        assert_eq!(removed + after_trust as u64, 40_000, "{what}: {report:#}");
        assert_counts(&report, "tmp", &[("removed", 1)]);
    }
}

#[test]
fn a_server_that_is_back_after_a_restart_is_used_again() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let child = begun(&redis, &world, 60_000);
    redis.restart();
    let run = Run::from(child.wait_with_output().unwrap());
    // Either the pass asked while nobody was there, and left the rest alone; or it reconnected.
    let report = run.json();
    let removed = report["zones"][0]["removed"].as_u64().unwrap();
    assert_eq!(removed + left(&world) as u64, 60_000, "{report:#}");
    match run.code {
        Some(0) => assert_eq!(report["totals"]["failed"], 0),
        Some(4) => assert!(left(&world) > 0),
        code => panic!("{code:?}: {report:#}"),
    }
}

#[test]
fn a_connection_that_is_lost_is_made_again_and_leaves_no_lock_behind() {
    for _ in 0..4 {
        let Some(redis) = Redis::start(&[]) else { return };
        let world = World::in_dir(Path::new("/dev/shm"));
        let child = begun(&redis, &world, 30_000);
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        let run = Run::from(child.wait_with_output().unwrap());
        let report = run.exits(0).json();
        assert_counts(&report, "export", &[("removed", 30_000), ("failed", 0)]);
        let keys = redis.keys().len();
        assert_eq!(keys, 0, "locks were left behind");
    }
}

#[test]
fn a_password_that_changes_in_the_middle_of_a_pass_is_told() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let child = begun(&redis, &world, 60_000);
    redis.cli(&["CONFIG", "SET", "requirepass", "new"]);
    // Existing connections stay logged in; those that are lost cannot come back.
    let mut killer = std::process::Command::new("redis-cli");
    killer.args(["-p", &redis.port.to_string(), "--no-auth-warning", "-a", "new"]);
    killer.args(["CLIENT", "KILL", "TYPE", "normal"]).finish().unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    let report = run.exits(4).json();
    let notes = zone(&report, "export")["notes"].to_string();
    assert!(notes.contains("refuses the login"), "{notes}");
    let removed = report["zones"][0]["removed"].as_u64().unwrap();
    assert_eq!(removed + left(&world) as u64, 60_000);
}
