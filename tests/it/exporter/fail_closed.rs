//! No lock, no removal: a server that is unreachable or refuses when the pass begins.

use std::time::Instant;

use super::server::{Redis, with_clock_off};
use super::{assert_left_alone, run, with_five_exports};
use crate::wait::LIMIT;
use crate::world::{Run, assert_counts, zone};

#[test]
fn each_kind_of_error_is_reported_as_such() {
    let Some(redis) = Redis::start(&["--requirepass", "right"]) else { return };
    // A wrong password, and none.
    let refused = format!("refuses the login: redis://127.0.0.1:{}/0: WRONGPASS", redis.port);
    for (password, reason) in [("wrong", &*refused), ("", "asks for a password")] {
        let world = with_five_exports();
        let mut command = world.command(&["run", "--format", "json"]);
        command
            .env("CVAT_REDIS_INMEM_HOST", "127.0.0.1")
            .env("CVAT_REDIS_INMEM_PORT", redis.port.to_string())
            .env("CVAT_REDIS_INMEM_PASSWORD", password)
            .env("SWEEPER_CVAT_DATA", &world.root);
        assert_left_alone(&Run::of(command), &world, reason);
    }

    // A server that is gone, and a port that accepts connections and sends nothing.
    let mut gone = Redis::start(&[]).unwrap();
    gone.die();
    let unreached = with_five_exports();
    assert_left_alone(&run(&gone, &unreached, &[]), &unreached, "cannot be reached");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let start = Instant::now();
    for (scheme, reason) in [
        ("redis", "no answer within"),
        ("rediss", "this address is for a server with TLS: no answer within"),
    ] {
        let (url, world) = (format!("{scheme}://127.0.0.1:{port}"), with_five_exports());
        let run = world.run(&["run", "--format", "json", "--redis", &url, "--cvat-data", "/x"]);
        assert_left_alone(&run, &world, &format!("{url}/0: {reason}"));
    }
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());

    // A replica that is read-only, and a server without memory.
    for (command, reason) in [
        (&["REPLICAOF", "127.0.0.1", "1"][..], "read only"),
        (&["CONFIG", "SET", "maxmemory", "1"], "OOM"),
    ] {
        let refusing = Redis::start(&[]).unwrap();
        refusing.cli(command);
        let world = with_five_exports();
        assert_left_alone(&run(&refusing, &world, &[]), &world, reason);
    }
}

#[test]
fn a_clock_that_is_off_is_noted_and_one_that_is_far_off_excludes_the_zone() {
    let Some(redis) = Redis::start(&[]) else { return };
    for (shift, code) in [(90, 0), (-90, 0), (7200, 4), (-7200, 4)] {
        let world = with_five_exports();
        let url = format!("redis://127.0.0.1:{}", with_clock_off(&redis, shift));
        let root = world.root.to_str().unwrap();
        let run = world.run(&["run", "--format", "json", "--redis", &url, "--cvat-data", root]);
        let report = run.exits(code).json();
        let notes = zone(&report, "export")["notes"].to_string();
        let side = if shift > 0 { "behind" } else { "ahead of" };
        assert!(
            notes.contains("this machine's clock is") && notes.contains(side),
            "{shift}: {notes}"
        );
        let removed = if code == 0 { 5 } else { 0 };
        assert_counts(&report, "export", &[("removed", removed)]);
    }
}
