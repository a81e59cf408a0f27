//! Keys that have the name of a lock and are none, or that never end: each costs its own entry, and is named.

use std::path::Path;

use super::server::{Redis, start_python};
use super::{export, key, run};
use crate::world::{NOW, Run, World, assert_counts, sweeper, zone};

/// Three hundred exports; the path of the 250th.
fn world() -> (World, std::path::PathBuf) {
    let world = World::new();
    let mut all: Vec<_> = (0..300).map(|number| export(&world, number)).collect();
    (world, all.swap_remove(250))
}

#[track_caller]
fn notes(run: &Run) -> String {
    zone(&run.exits(0).json(), "export")["notes"].to_string()
}

fn why(redis: &Redis, world: &World, path: &Path) -> String {
    let mut why = sweeper(&["why", "--redis", &redis.url(), "--now", NOW, "--cvat-data"]);
    why.arg(&world.root).arg("--data").arg(&world.root).arg(path);
    Run::of(why).exits(0).stdout.clone()
}

/// Asserts that `hold` does not run its command, and says why.
#[track_caller]
fn assert_not_held(redis: &Redis, world: &World, path: &Path, reason: &str) {
    let mut hold = sweeper(&["hold", "--redis", &redis.url(), "--lock-wait", "0"]);
    hold.arg("--data").arg(&world.root).arg("--cvat-data").arg(&world.root).arg(path);
    hold.args(["--", "/bin/true"]);
    let run = Run::of(hold);
    assert!(run.exits(4).stderr.contains(reason), "{}", run.stderr);
}

#[test]
fn a_key_of_another_type_is_locked_and_named_and_the_rest_is_swept() {
    for (kind, make) in [
        ("list", &["LPUSH", "x"][..]),
        ("hash", &["HSET", "a", "b"]),
        ("set", &["SADD", "x"]),
        ("zset", &["ZADD", "1", "x"]),
        ("stream", &["XADD", "*", "a", "b"]),
    ] {
        let Some(redis) = Redis::start(&[]) else { return };
        let (world, odd) = world();
        let key = key(&odd);
        redis.cli(&[&[make[0], &key], &make[1..]].concat());
        for args in [&["--dry-run"][..], &[]] {
            let run = run(&redis, &world, &[&["--lock-wait", "200ms"], args].concat());
            let counts = [("removed", 299), ("skipped_by.locked", 1), ("failed", 0)];
            assert_counts(&run.exits(0).json(), "export", &counts);
            let notes = notes(&run);
            assert!(notes.contains(&key) && notes.contains("wrong type"), "{kind}: {notes}");
            assert_eq!(notes.matches("wrong type").count(), 1, "{kind}: {notes}");
            assert_eq!(redis.keys(), [key.as_str()], "{kind}: it is left, and nothing else");
        }
        assert!(odd.exists(), "{kind}");
        let said = why(&redis, &world, &odd);
        assert!(said.contains(&format!("wrong type ({kind})")), "{said}");
        assert!(said.contains("would skip it"), "{said}");
        // `hold` says what is in the way, too.
        assert_not_held(&redis, &world, &odd, "wrong type");
    }
}

#[test]
fn a_token_that_is_not_utf_8_is_a_lock_like_any_other() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (world, odd) = world();
    let set = "import redis as r; r.Redis(port=PORT).set('redlock:export_lock:' + path, \
               b'\\xff\\xfe\\x1b\\x01', px=3600000)";
    let set = set.replace("PORT", &redis.port.to_string());
    assert!(start_python(&set, &redis, &odd).wait().unwrap().success());
    let run = run(&redis, &world, &["--lock-wait", "0"]);
    let counts = [("removed", 299), ("skipped_by.locked", 1), ("failed", 0)];
    assert_counts(&run.exits(0).json(), "export", &counts);
    assert_eq!(notes(&run), "[]", "an ordinary lock");
    let said = why(&redis, &world, &odd);
    assert!(said.contains("held by CVAT in Redis for another 3"), "{said}");
    assert!(said.contains("\\u{1b}\\u{1}") && !said.contains('\x1b'), "{said:?}");
}

#[test]
fn locks_without_an_expiry_are_counted_in_a_note() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (world, odd) = world();
    for number in 0..7 {
        let path = world.path("cache/export").join(crate::world::export_name(number));
        redis.cli(&["SET", &key(&path), "theirs"]);
    }
    // Tried many times, counted once.
    let run = run(&redis, &world, &["--lock-wait", "300ms"]);
    let counts = [("removed", 293), ("skipped_by.locked", 7)];
    assert_counts(&run.exits(0).json(), "export", &counts);
    let notes = notes(&run);
    assert!(notes.contains("7 locks in Redis, such as ") && notes.contains("no expiry"), "{notes}");
    assert!(!odd.exists());
    let path = world.path("cache/export").join(crate::world::export_name(3));
    let said = why(&redis, &world, &path);
    assert!(said.contains("without an expiry (token \"theirs\"): delete the key"), "{said}");
    assert_not_held(&redis, &world, &path, "no expiry");
}

/// What a server has sent so far, in bytes.
fn sent(redis: &Redis) -> u64 {
    let stats = redis.cli(&["INFO", "stats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_token_of_any_length_is_compared_and_not_read() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (world, odd) = world();
    let set = "import redis as r; r.Redis(port=PORT).set('redlock:export_lock:' + path, \
               b'x' * (1 << 20), px=3600000)";
    let set = set.replace("PORT", &redis.port.to_string());
    assert!(start_python(&set, &redis, &odd).wait().unwrap().success());
    let before = sent(&redis);
    let run = run(&redis, &world, &["--lock-wait", "0"]);
    assert_counts(&run.exits(0).json(), "export", &[("removed", 299), ("skipped_by.locked", 1)]);
    assert!(why(&redis, &world, &odd).len() < 4096);
    let bytes = sent(&redis) - before;
    assert!(bytes < 1 << 19, "the server has sent {bytes} bytes");
}
