//! `sweeper hold` and CVAT's lock.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fake::{self, Answer, line};
use super::server::{Redis, start_python};
use super::{export, key};
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{Run, World, export_name, sweeper};

/// Starts `sweeper hold` with a command that runs until its stdin is closed.
fn start(redis: &Redis, world: &World, path: &Path, args: &[&str]) -> Child {
    start_at(&redis.url(), world, path, args)
}

/// The same, with the server at this URL.
fn start_at(url: &str, world: &World, path: &Path, args: &[&str]) -> Child {
    let mut hold: Command = sweeper(&["hold", "--redis", url]);
    hold.args(args).arg("--data").arg(&world.root).arg("--cvat-data").arg(&world.root).arg(path);
    hold.args(["--", "/bin/sh", "-c", "echo ready; read line; exit 0"]);
    hold.stdin(Stdio::piped()).stdout(Stdio::piped()).start().unwrap()
}

/// Waits until a lock was extended some times.
fn wait_for_extensions(redis: &Redis, key: &str, times: u32) {
    let (mut seen, mut last) = (0, i64::MAX);
    wait_until("the lock is extended", || {
        let left: i64 = redis.cli(&["PTTL", key]).trim().parse().unwrap();
        seen += u32::from(left > last);
        last = left;
        seen >= times
    });
}

#[test]
fn a_lock_that_we_hold_makes_pottery_wait_and_then_succeed() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let mut hold = start(&redis, &world, &path, &["--lock-ttl", "6s"]);
    wait_until("the lock is taken", || !redis.keys().is_empty());
    let token = redis.cli(&["GET", &key(&path)]);
    let mut pottery = start_python(
        "lock = pottery.Redlock(key='export_lock:' + path, masters={server}, auto_release_time=30)\n\
         assert not lock.acquire(blocking=False), 'held by us, and taken by pottery'\n\
         print('waits', flush=True); assert lock.acquire(blocking=True, timeout=600)\n\
         print('acquired', flush=True); lock.release()",
        &redis,
        &path,
    );
    let mut said = BufReader::new(pottery.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "waits\n");
    // It is extended after each third of its TTL, so this is longer than the TTL.
    wait_for_extensions(&redis, &key(&path), 4);
    assert_eq!(redis.cli(&["GET", &key(&path)]), token, "pottery has it");
    drop(hold.stdin.take());
    assert!(hold.wait().unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "acquired\n");
    assert!(pottery.wait().unwrap().success());
    assert!(path.exists());
}

#[test]
fn hold_takes_the_right_lock_however_the_path_is_spelled() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let name = export_name(1);
    for (from, spelled) in [
        ("tmp", format!("../cache/export/{name}")),
        ("cache/export", format!("../export/{name}")),
        ("cache/export", name.clone()),
    ] {
        let mut hold = sweeper(&["hold", "--redis", &redis.url(), "--data"]);
        hold.arg(&world.root).arg("--cvat-data").arg(&world.root).arg(&spelled);
        hold.args(["--", "redis-cli", "-p", &redis.port.to_string(), "--raw", "KEYS", "*"]);
        hold.current_dir(world.path(from)).env("PATH", std::env::var_os("PATH").unwrap());
        let run = Run::of(hold);
        assert_eq!(run.exits(0).stdout.trim(), key(&path), "{spelled} from {from}");
        assert!(redis.keys().is_empty());
    }
}

#[test]
fn hold_extends_its_lock_while_it_waits_for_the_file_lock_and_takes_a_lost_one_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let other = std::fs::File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&other).unwrap();
    let mut hold = start(&redis, &world, &path, &["--lock-ttl", "6s", "--lock-wait", "10m"]);
    wait_until("the lock is taken", || !redis.keys().is_empty());
    let token = redis.cli(&["GET", &key(&path)]);
    // Longer than the TTL.
    wait_for_extensions(&redis, &key(&path), 4);
    assert_eq!(redis.keys(), [key(&path)]);
    drop(other);
    let mut line = String::new();
    BufReader::new(hold.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the command runs once both locks are held");
    redis.cli(&["FLUSHALL"]);
    wait_until("the lock is taken again", || redis.keys() == [key(&path)]);
    assert_eq!(redis.cli(&["GET", &key(&path)]), token);
    drop(hold.stdin.take());
    assert!(hold.wait().unwrap().success());
    assert!(redis.keys().is_empty());
}

#[test]
fn hold_asks_on_a_new_connection_after_an_answer_that_did_not_come() {
    let world = World::new();
    let path = export(&world, 1);
    let (logins, extensions) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let url = fake::serve({
        let (logins, extensions) = (Arc::clone(&logins), Arc::clone(&extensions));
        move |command| {
            let is_extension = fake::script(command).is_some() && command[1].contains("PEXPIRE");
            logins.fetch_add(usize::from(command[0] == "PING"), Ordering::SeqCst);
            match is_extension.then(|| extensions.fetch_add(1, Ordering::SeqCst)) {
                // It could still come, and would then be taken for the answer to the next question.
                Some(0) => Answer::Bytes(Vec::new()),
                Some(_) => line(":1"),
                None => fake::good(command),
            }
        }
    });
    let mut hold = start_at(&url, &world, &path, &["--lock-ttl", "3s"]);
    wait_until("it asks again", || extensions.load(Ordering::SeqCst) > 1);
    assert_eq!(logins.load(Ordering::SeqCst), 2);
    drop(hold.stdin.take());
    assert!(hold.wait().unwrap().success());
}
