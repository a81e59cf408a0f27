//! How it logs in, and what it says when that or a command is refused.

use std::path::Path;

use super::server::{Redis, start_python};
use super::{export, key};
use crate::world::{Run, World, assert_counts, zone};

fn run_with(world: &World, env: &[(&str, &str)]) -> Run {
    let mut command = world.command(&["run", "--format", "json", "--zones", "export"]);
    command.envs(env.iter().copied()).env("SWEEPER_CVAT_DATA", &world.root);
    Run::of(command)
}

#[test]
fn a_password_that_the_server_does_not_ask_for_is_no_error_as_for_cvats_own_client() {
    let Some(redis) = Redis::start(&[]) else { return };
    let client = "client = redis.Redis(port=PORT, password='superfluous'); assert client.ping()\n\
                  lock = pottery.Redlock(key='export_lock:' + path, masters={client})\n\
                  assert lock.acquire(blocking=False)";
    let client = client.replace("PORT", &redis.port.to_string());
    let theirs = start_python(&client, &redis, Path::new("/x")).wait_with_output().unwrap();
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    assert_eq!(redis.keys(), [key(Path::new("/x"))]);
    // A lock for another path would show that ours is wrong.
    redis.cli(&["FLUSHALL"]);
    let world = World::new();
    export(&world, 1);
    let (port, url) = (redis.port.to_string(), redis.url().replace("redis://", "redis://:any@"));
    for env in [
        &[("CVAT_REDIS_INMEM_PORT", port.as_str()), ("CVAT_REDIS_INMEM_PASSWORD", "any")][..],
        &[("SWEEPER_REDIS", &url)],
    ] {
        export(&world, 1);
        let report = run_with(&world, env).exits(0).json();
        assert_counts(&report, "export", &[("removed", 1)]);
    }
}

#[test]
fn a_user_of_the_access_list_logs_in_and_what_it_may_not_do_is_said_in_the_servers_words() {
    let Some(redis) = Redis::start(&[]) else { return };
    let set_user = |name: &str, rules: &[&str]| {
        let said = redis.cli(&[&["ACL", "SETUSER", name, "on", ">pw"], rules].concat());
        assert_eq!(said.trim(), "OK");
    };
    set_user("able", &["~redlock:export_lock:*", "+@all"]);
    set_user("no-scripts", &["~*", "+@all", "-eval", "-evalsha"]);
    set_user("other-keys", &["~other:*", "+@all"]);
    let world = World::new();
    export(&world, 1);
    let url = |name: &str, password: &str| {
        redis.url().replace("redis://", &format!("redis://{name}:{password}@"))
    };
    for (name, words) in
        [("no-scripts", &["NOPERM", "eval"][..]), ("other-keys", &["NOPERM", "keys"])]
    {
        let report = run_with(&world, &[("SWEEPER_REDIS", &url(name, "pw"))]).exits(4).json();
        let notes = zone(&report, "export")["notes"].to_string();
        for word in words {
            assert!(notes.contains(word), "{name}: {notes}");
        }
        assert!(!notes.contains("password") && !notes.contains("released"), "{name}: {notes}");
    }
    let report = run_with(&world, &[("SWEEPER_REDIS", &url("able", "wrong"))]).exits(4).json();
    let notes = zone(&report, "export")["notes"].to_string();
    assert!(notes.contains("WRONGPASS") && notes.contains("check the password"), "{notes}");
    let report = run_with(&world, &[("SWEEPER_REDIS", &url("able", "pw"))]).exits(0).json();
    assert_counts(&report, "export", &[("removed", 1)]);
    // A name alone logs in nowhere, and is not ignored.
    let run = run_with(&world, &[("SWEEPER_REDIS", "redis://able@127.0.0.1:1")]);
    let words = "a user name and no password: for a password alone write redis://:PASSWORD@HOST";
    assert!(run.exits(2).stderr.contains(words), "{}", run.stderr);
}

#[test]
fn a_server_that_asks_for_a_password_or_has_no_such_database_is_told_how_to_be_used() {
    let Some(redis) = Redis::start(&["--requirepass", "pw"]) else { return };
    let world = World::new();
    export(&world, 1);
    let notes = |env: &[(&str, &str)]| {
        let report = run_with(&world, env).exits(4).json();
        zone(&report, "export")["notes"].to_string().replace('\\', "")
    };
    let address = format!("redis://127.0.0.1:{}", redis.port);
    let said = notes(&[("SWEEPER_REDIS", &address)]);
    let words = format!("the Redis server {address}/0 asks for a password (\"NOAUTH ");
    assert!(said.contains(&words) && said.contains("set CVAT_REDIS_INMEM_PASSWORD"), "{said}");
    assert!(!said.contains("check the password"), "{said}");
    let url = format!("{}/999", address.replace("://", "://:pw@"));
    let said = notes(&[("SWEEPER_REDIS", &url)]);
    assert!(said.contains("DB index is out of range"), "{said}");
    assert!(said.contains(&format!("({address}/999); CVAT's locks are in database 0")), "{said}");
    let said = notes(&[("CVAT_REDIS_INMEM_HOST", "no-such-host.invalid")]);
    assert!(said.contains("cannot find the host: "), "{said}");
    let port = run_with(&world, &[("CVAT_REDIS_INMEM_HOST", "127.0.0.1:6399")]);
    let words =
        "it is the name or the address of a host: write the port into CVAT_REDIS_INMEM_PORT";
    assert!(port.exits(2).stderr.contains(words), "{}", port.stderr);
    // An address of version 6 has colons.
    let said = notes(&[("CVAT_REDIS_INMEM_HOST", "::1"), ("CVAT_REDIS_INMEM_PORT", "1")]);
    assert!(said.contains("redis://[::1]:1/0"), "{said}");
}
