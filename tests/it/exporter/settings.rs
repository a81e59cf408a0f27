//! Settings of the lock, and passwords, which are shown nowhere.

use super::export;
use super::server::Redis;
use crate::world::{Run, World};

#[test]
fn settings_of_the_lock_have_cvats_names() {
    let world = World::new();
    let with = |env: &[(&str, &str)]| {
        let mut command = world.command(&["config", "--format", "json"]);
        command.envs(env.iter().copied());
        Run::of(command)
    };
    let json = with(&[("CVAT_EXPORT_CACHE_LOCK_TTL", "20")]).exits(0).json();
    assert_eq!(json["lock_ttl"]["value"], "20s");
    let old = with(&[("CVAT_EXPORT_CACHE_LOCK_TTL", "20"), ("CVAT_DATASET_EXPORT_LOCK_TTL", "25")]);
    assert_eq!(old.exits(0).json()["lock_ttl"]["value"], "25s");
    assert!(old.stderr.contains("CVAT_DATASET_EXPORT_LOCK_TTL is deprecated"), "{}", old.stderr);
    // CVAT refuses to start with such a pair.
    let pair = [
        ("CVAT_EXPORT_CACHE_LOCK_TTL", "50"),
        ("CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT", "50"),
    ];
    let run = with(&pair);
    assert!(run.exits(2).stderr.contains("ACQUISITION_TIMEOUT"), "{}", run.stderr);
    // Without that variable CVAT waits 50 seconds.
    for name in ["CVAT_EXPORT_CACHE_LOCK_TTL", "CVAT_DATASET_EXPORT_LOCK_TTL"] {
        for ttl in ["50", "60"] {
            let run = with(&[(name, ttl)]);
            assert!(run.exits(2).stderr.contains("CVAT waits 50s for a lock"), "{}", run.stderr);
            with(&[(name, ttl), ("CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT", "61")]).exits(0);
        }
        with(&[(name, "49")]).exits(0);
    }
    with(&[("SWEEPER_LOCK_TTL", "60s")]).exits(0);
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
    // Everyone can see it on the command line with `ps`, so it is refused there.
    let run = world.run(&["run", "--redis", &url]);
    assert!(
        run.exits(2).stderr.contains("`ps`") && !run.stderr.contains("s3cret"),
        "{}",
        run.stderr
    );
    assert!(path.exists());
}
