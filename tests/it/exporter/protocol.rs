//! What is sent to the server is what CVAT sends, for the same keys.

use super::server::Redis;
use super::{export, key, run};
use crate::world::{DAY, Run, World, export_name, sweeper};

#[test]
fn the_protocol_is_the_one_that_cvat_speaks() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let watched = redis.watch(|| {
        run(&redis, &world, &["--lock-ttl", "30s"]).exits(0);
    });
    let set = watched.iter().find(|line| line.contains("\"SET\"")).expect("no SET");
    assert!(set.contains(&format!("\"{}\"", key(&path))), "{set}");
    assert!(set.contains("\"NX\" \"PX\" \"30000\""), "{set}");
    // Released by a script that compares the token, and never by a plain DEL.
    let deleted = watched.iter().find(|line| line.contains("\"DEL\"")).expect("no DEL");
    assert!(deleted.contains("lua]"), "{deleted}");
    let compared = watched.iter().position(|line| line.contains("GET\"") && line.contains("lua]"));
    assert!(compared < watched.iter().position(|line| line.contains("\"DEL\"")));
    assert!(!watched.iter().any(|line| line.contains("\"AUTH\"")), "no password, no AUTH");
    assert!(redis.keys().is_empty());
    assert!(!path.exists());
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
        // CVAT says where its data is, so nothing is guessed and there is no warning.
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
fn a_prefix_that_is_a_guess_is_noted_and_is_refused_with_lock_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    export(&world, 1);
    let url = redis.url();
    let run = world.run(&["run", "--redis", &url, "--dry-run"]);
    assert!(run.exits(0).stderr.contains("--cvat-data"), "{}", run.stderr);
    assert!(run.stdout.contains("where sweeper sees the data"), "{}", run.stdout);
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
    let none = world.run(&["run", "--lock", "redis"]);
    assert!(none.exits(2).stderr.contains("CVAT_REDIS_INMEM_HOST"), "{}", none.stderr);
}

#[test]
fn locks_of_cvat_for_other_paths_alone_leave_the_exports_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let (path, url) = (export(&world, 1), redis.url());
    let tmp = world.file("tmp/old", 30 * DAY);
    let lock = |path: &str, token: &str, expiry: &[&str]| {
        let key = format!("redlock:export_lock:{path}/cache/export/x.zip");
        redis.cli(&[&["SET", &key, token][..], expiry].concat());
    };
    lock("/opt/cvat/data", "t", &["PX", "600000"]);
    let args = ["run", "--redis", &url];
    let dry_run = ["--cvat-data", "/mnt/x", "--dry-run"];
    for more in [&dry_run[..], &["--cvat-data", "/mnt/x"], &[]] {
        let run = world.run(&[&args[..], more].concat());
        let report = &run.exits(4).stdout;
        for words in ["left alone", "\"/opt/cvat/data/cache/export\"", "do not stop CVAT"] {
            assert!(report.contains(words), "{words}: {report}");
        }
        assert!(report.contains("set --cvat-data") && report.contains("--lock flock"), "{report}");
        assert!(path.exists(), "{more:?}");
    }
    assert!(!tmp.exists(), "the other zones are swept");
    // A lock that CVAT holds for our path shows that ours is right, although another program uses the server, too.
    lock("/mnt/x", "t", &["PX", "600000"]);
    world.run(&[&args[..], &dry_run].concat()).exits(0);
    // Neither other sweepers nor keys that nobody holds say anything about the path of CVAT.
    redis.cli(&["FLUSHALL"]);
    lock("/opt/cvat/data", "sw-1", &["PX", "600000"]);
    lock("/srv/cvat/data", "t", &[]);
    redis.cli(&["LPUSH", "redlock:export_lock:/srv/y/cache/export/y.zip", "a"]);
    world.run(&[&args[..], &["--cvat-data", "/mnt/x"]].concat()).exits(0);
    assert!(!path.exists());
}
