//! CVAT's own lock, against a real Redis server and real pottery clients in processes of their own.

mod fail_closed;
pub mod server;
mod soak;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, assert_counts, export_name, sweeper};
use server::{Pottery, Redis, python};

fn export(world: &World, number: u32) -> PathBuf {
    world.file(Path::new("cache/export").join(export_name(number)), 2 * DAY)
}

fn key(path: &Path) -> String {
    format!("redlock:export_lock:{}", path.display())
}

/// Runs a pass that takes CVAT's locks for paths as we see them, which is how the tests' exporters
/// see them too.
fn run(redis: &Redis, world: &World, args: &[&str]) -> Run {
    let url = redis.url();
    let root = world.root.to_str().unwrap();
    let common = ["run", "--format", "json", "--redis", &url, "--cvat-data", root];
    world.run(&[&common, args].concat())
}

#[test]
fn a_lock_that_pottery_holds_makes_us_spare_the_file() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let (held, free) = (export(&world, 1), export(&world, 2));
    let holder = Pottery::hold(&redis, &held, 30);
    for args in [&["--dry-run"][..], &[]] {
        let report = run(&redis, &world, &[&["--lock-wait", "200ms"], args].concat());
        assert_counts(
            &report.exits(0).json(),
            "export",
            &[("removed", 1), ("spared_by.busy", 1), ("failed", 0)],
        );
        assert_eq!(redis.keys(), [key(&held)], "all but pottery's are given back");
    }
    assert!(held.exists() && !free.exists());
    // Its token was not disturbed: pottery can still release.
    assert_eq!(holder.release(), "released");
    let report = run(&redis, &world, &[]);
    assert_counts(&report.exits(0).json(), "export", &[("removed", 1)]);
}

#[test]
fn a_lock_that_we_hold_makes_pottery_wait_and_then_succeed() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let mut hold = sweeper(&["hold", "--lock-ttl", "2s", "--redis", &redis.url(), "--data"]);
    hold.arg(&world.root).arg("--cvat-data").arg(&world.root).arg(&path);
    // Longer than the lock's TTL: it is extended.
    hold.args(["--", "/bin/sleep", "3"]);
    let started = Instant::now();
    let mut hold = hold.start().unwrap();
    while redis.keys().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    let waited = python(
        "lock = pottery.Redlock(key='export_lock:' + path, masters={server}, auto_release_time=30)\n\
         assert not lock.acquire(blocking=False), 'held by us, and taken by pottery'\n\
         t = time.monotonic(); assert lock.acquire(blocking=True, timeout=30)\n\
         print(time.monotonic() - t); lock.release()",
        &redis,
        &path,
    );
    let waited: f64 = waited.trim().parse().unwrap();
    assert!(hold.wait().unwrap().success());
    assert!(waited > 1.5, "pottery waited {waited} s only");
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
fn hold_keeps_its_lease_while_it_waits_for_the_file_lock_and_takes_a_forgotten_one_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let other = std::fs::File::open(&path).unwrap();
    fs2::FileExt::lock_exclusive(&other).unwrap();
    let mut hold = sweeper(&["hold", "--lock-ttl", "1s", "--lock-wait", "20s", "--redis"]);
    hold.arg(redis.url()).arg("--data").arg(&world.root).arg("--cvat-data").arg(&world.root);
    hold.arg(&path).args(["--", "/bin/sleep", "2"]);
    let mut hold = hold.start().unwrap();
    // More than twice the TTL.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(redis.keys(), [key(&path)]);
    drop(other);
    std::thread::sleep(Duration::from_millis(500));
    redis.cli(&["FLUSHALL"]);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(redis.keys(), [key(&path)], "taken again");
    assert!(hold.wait().unwrap().success());
    assert!(redis.keys().is_empty());
}

#[test]
fn what_pottery_holds_for_a_moment_is_removed_at_the_end() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let held = export(&world, 1);
    for number in 2..40 {
        export(&world, number);
    }
    let holder = Pottery::hold(&redis, &held, 1);
    let report = run(&redis, &world, &["--lock-wait", "20s"]);
    assert_counts(&report.exits(0).json(), "export", &[("removed", 39), ("spared", 0)]);
    drop(holder);
}

#[test]
fn a_key_without_an_end_and_a_foreign_token_are_left_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    redis.cli(&["SET", &key(&path), "somebody"]);
    let report = run(&redis, &world, &["--lock-wait", "0"]);
    assert_counts(&report.exits(0).json(), "export", &[("spared_by.busy", 1)]);
    assert_eq!(redis.cli(&["GET", &key(&path)]).trim(), "somebody");
    // `why` says who is in the way, and that it will not end by itself.
    let mut why = sweeper(&["why", "--redis", &redis.url(), "--now", NOW, "--cvat-data"]);
    why.arg(&world.root).arg("--data").arg(&world.root).arg(&path);
    let said = Run::of(why);
    assert!(said.exits(0).stdout.contains("somebody"), "{}", said.stdout);
    assert!(said.stdout.contains("without an end"), "{}", said.stdout);
    redis.cli(&["SET", &key(&path), "cvat-uuid", "PX", "20000"]);
    let mut why = sweeper(&["why", "--redis", &redis.url(), "--now", NOW, "--cvat-data"]);
    why.arg(&world.root).arg("--data").arg(&world.root).arg(&path);
    let said = Run::of(why).stdout;
    assert!(said.contains("held by CVAT in Redis for") && said.contains("s more"), "{said}");
}

#[test]
fn the_wire_is_the_protocol_that_cvat_speaks() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let watched = redis.watch(|| {
        run(&redis, &world, &["--lock-ttl", "30s"]).exits(0);
    });
    let set = watched.iter().find(|line| line.contains("\"SET\"")).expect("no SET");
    assert!(set.contains(&format!("\"{}\"", key(&path))), "{set}");
    assert!(set.contains("\"NX\" \"PX\" \"30000\""), "{set}");
    // Given back by comparison, in a script, and never by a plain DEL.
    let deleted = watched.iter().find(|line| line.contains("\"DEL\"")).expect("no DEL");
    assert!(deleted.contains("lua]"), "{deleted}");
    let compared = watched.iter().position(|line| line.contains("GET\"") && line.contains("lua]"));
    assert!(compared < watched.iter().position(|line| line.contains("\"DEL\"")));
    assert!(!watched.iter().any(|line| line.contains("\"AUTH\"")), "no password, no AUTH");
    assert!(redis.keys().is_empty());
    assert!(!path.exists());
}

#[test]
fn a_rehearsal_takes_and_gives_back_the_same_locks() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    for number in 0..50 {
        export(&world, number);
    }
    let taken = |args: &[&str]| {
        let watched = redis.watch(|| {
            run(&redis, &world, args).exits(0);
        });
        let mut keys: Vec<String> = watched
            .iter()
            .filter(|line| line.contains("\"SET\""))
            .map(|line| line.split('"').nth(3).unwrap().to_owned())
            .collect();
        keys.sort();
        assert!(redis.keys().is_empty());
        keys
    };
    let rehearsed = taken(&["--dry-run"]);
    assert_eq!(rehearsed.len(), 50);
    assert_eq!(rehearsed, taken(&[]));
}

#[test]
fn with_cvats_own_variables_alone_it_takes_cvats_own_lock() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let base = world.root.parent().unwrap();
    // As `docker exec` finds it: CVAT's variables, its working directory, and no flag at all.
    let run_with = |password: &str| {
        let mut command = sweeper(&["run"]);
        command
            .current_dir(base)
            .env("CVAT_BASE_DIR", base)
            .env("CVAT_REDIS_INMEM_HOST", "127.0.0.1")
            .env("CVAT_REDIS_INMEM_PORT", redis.port.to_string())
            .env("CVAT_REDIS_INMEM_PASSWORD", password)
            .env("CVAT_EXPORT_CACHE_LOCK_TTL", "17");
        command
    };
    let watched = redis.watch(|| {
        let run = Run::of(run_with("s3cret-word"));
        run.exits(0);
        // Where CVAT says its data is, nothing has to be guessed or warned about.
        assert_eq!(run.stderr, "");
        assert!(!run.stdout.contains("note"), "{}", run.stdout);
    });
    let set = watched.iter().find(|line| line.contains("\"SET\"")).expect("no SET");
    assert!(set.contains(&key(&path)) && set.contains("\"17000\""), "{set}");
    assert!(!path.exists());

    // An empty password is no password.
    let Some(open) = Redis::start(&[]) else { return };
    let path = export(&world, 1);
    let mut command = run_with("");
    command.env("CVAT_REDIS_INMEM_PORT", open.port.to_string());
    Run::of(command).exits(0);
    assert!(!path.exists());
}

#[test]
fn the_password_is_shown_nowhere() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let url = format!("redis://:s3cret-word@127.0.0.1:{}", redis.port);
    let wrong = format!("redis://:wrong-s3cret-word@127.0.0.1:{}", redis.port);
    let broken = "redis://:s3cret-word@127.0.0.1:notaport";
    for (url, code) in [(url.as_str(), 0), (&wrong, 4), (broken, 2)] {
        for args in [&["run", "-v", "--dry-run"][..], &["config"], &["why"]] {
            let mut command = world.command(args);
            if args == ["why"] {
                command.arg(&path);
            }
            command.env("SWEEPER_REDIS", url).env("SWEEPER_CVAT_DATA", &world.root);
            let run = Run::of(command);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(!said.contains("s3cret"), "{said}");
            if args[0] == "run" {
                run.exits(code);
            }
        }
    }
    let file = world.file_of("settings.toml", 0, format!("redis = '{url}'").as_bytes());
    let run = world.run(&["config", "--config", file.to_str().unwrap()]);
    assert!(run.exits(0).stdout.contains(&format!("127.0.0.1:{}", redis.port)), "{}", run.stdout);
    assert!(!run.stdout.contains("s3cret"));
    let file = world.file_of("broken.toml", 0, format!("redis = '{url}\n").as_bytes());
    let run = world.run(&["config", "--config", file.to_str().unwrap()]);
    assert!(run.exits(2).stderr.contains("line 1"), "{}", run.stderr);
    assert!(!run.stderr.contains("s3cret"), "{}", run.stderr);
    let run = world.run(&["run", "--redis", "unix:///tmp/x.sock?pass=s3cret"]);
    assert!(
        run.exits(2).stderr.contains("`ps`") && !run.stderr.contains("s3cret"),
        "{}",
        run.stderr
    );
    // On the command line everybody could read it with ps, so it is refused there.
    let run = world.run(&["run", "--redis", &url]);
    assert!(
        run.exits(2).stderr.contains("`ps`") && !run.stderr.contains("s3cret"),
        "{}",
        run.stderr
    );
    assert!(path.exists());
}

#[test]
fn a_prefix_that_is_only_a_guess_is_said_and_will_not_do_for_lock_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    export(&world, 1);
    let url = redis.url();
    let run = world.run(&["run", "--redis", &url, "--dry-run"]);
    assert!(run.exits(0).stderr.contains("--cvat-data"), "{}", run.stderr);
    assert!(run.stdout.contains("as if it had the volume at"), "{}", run.stdout);
    let run = world.run(&["run", "--redis", &url, "--lock", "redis"]);
    assert!(run.exits(2).stderr.contains("--cvat-data"), "{}", run.stderr);
    // With a mapping the key is CVAT's, byte by byte.
    let watched = redis.watch(|| {
        let args =
            ["run", "--redis", &url, "--lock", "redis", "--cvat-data", "/home/django//data/"];
        let run = world.run(&args);
        assert_eq!(run.exits(0).stderr, "");
    });
    let expected = format!("redlock:export_lock:/home/django/data/cache/export/{}", export_name(1));
    assert!(watched.iter().any(|line| line.contains(&format!("\"SET\" \"{expected}\""))));
    // Live locks that lie elsewhere show that the prefix is wrong, and say what CVAT's is.
    export(&world, 2);
    redis.cli(&[
        "SET",
        "redlock:export_lock:/opt/cvat/data/cache/export/x.zip",
        "t",
        "PX",
        "60000",
    ]);
    let run = world.run(&["run", "--redis", &url, "--cvat-data", "/mnt/x", "--dry-run"]);
    assert!(run.exits(0).stdout.contains("\"/opt/cvat/data/cache/export\""), "{}", run.stdout);
    assert!(run.stdout.contains("nobody is kept out"), "{}", run.stdout);
    let none = world.run(&["run", "--lock", "redis"]);
    assert!(none.exits(2).stderr.contains("CVAT_REDIS_INMEM_HOST"), "{}", none.stderr);
}

#[test]
fn without_redis_the_report_says_who_is_not_excluded() {
    let world = World::new();
    export(&world, 1);
    for args in [&["run", "--dry-run"][..], &["run", "--dry-run", "--lock", "flock"]] {
        let run = world.run(args);
        assert!(run.exits(0).stdout.contains("exporters are not excluded"), "{}", run.stdout);
    }
}

#[test]
fn settings_of_the_lock_have_cvats_names() {
    let world = World::new();
    let with = |env: &[(&str, &str)]| {
        let mut command = world.command(&["config", "--format", "json"]);
        command.envs(env.iter().copied());
        Run::of(command)
    };
    let json = with(&[("CVAT_EXPORT_CACHE_LOCK_TTL", "20")]).exits(0).json();
    assert_eq!(json["lock_ttl"]["value"], "20");
    let old = with(&[("CVAT_EXPORT_CACHE_LOCK_TTL", "20"), ("CVAT_DATASET_EXPORT_LOCK_TTL", "25")]);
    assert_eq!(old.exits(0).json()["lock_ttl"]["value"], "25");
    assert!(old.stderr.contains("CVAT_DATASET_EXPORT_LOCK_TTL is deprecated"), "{}", old.stderr);
    // CVAT refuses to start with such a pair.
    let pair = [
        ("CVAT_EXPORT_CACHE_LOCK_TTL", "50"),
        ("CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT", "50"),
    ];
    let run = with(&pair);
    assert!(run.exits(2).stderr.contains("ACQUISITION_TIMEOUT"), "{}", run.stderr);
    for ttl in ["0", "18446744073709551615", "2d"] {
        let run = with(&[("CVAT_EXPORT_CACHE_LOCK_TTL", ttl)]);
        assert!(run.exits(2).stderr.contains("LOCK_TTL"), "{ttl}: {}", run.stderr);
    }
    let host = with(&[("CVAT_REDIS_INMEM_HOST", "cvat_redis_inmem")]).exits(0).json();
    assert_eq!(host["redis"]["value"], "redis://cvat_redis_inmem:6379/0");
    assert_eq!(host["redis"]["origin"], "environment CVAT_REDIS_INMEM_HOST");
    let run = with(&[("CVAT_REDIS_INMEM_HOST", "x"), ("CVAT_REDIS_INMEM_PORT", "many")]);
    assert!(run.exits(2).stderr.contains("CVAT_REDIS_INMEM_PORT"), "{}", run.stderr);
}

#[test]
fn a_killed_sweeper_leaves_no_lock_that_outlasts_its_ttl() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::in_dir(Path::new("/dev/shm"));
    let mut seen = 0;
    for round in 0..25_u64 {
        for number in 0..1500 {
            export(&world, number);
        }
        let url = redis.url();
        let mut command = world.command(&["run", "--redis", &url, "--lock-ttl", "5s"]);
        command.arg("--cvat-data").arg(&world.root).stdout(std::process::Stdio::null());
        let mut child = command.start().unwrap();
        std::thread::sleep(Duration::from_millis(8 + round * 3));
        let _ = child.kill();
        child.wait().unwrap();
        // What is left of each key's life, all at once.
        let script = "local left = {} for i, key in ipairs(redis.call('KEYS', '*')) do \
                      left[i] = redis.call('PTTL', key) end return left";
        for left in redis.cli(&["EVAL", script, "0"]).lines().filter(|line| !line.is_empty()) {
            let left: i64 = left.parse().unwrap();
            assert!(left != -1 && left <= 5000, "{left} ms");
            seen += 1;
        }
        redis.cli(&["FLUSHALL"]);
    }
    assert!(seen > 0, "no kill hit a pass that held locks: this test has proved nothing");
}
