//! The path in a key is what CVAT writes: byte by byte as Python's pathlib makes it of `CVAT_BASE_DIR`.

use std::path::Path;

use super::export;
use super::server::{Redis, start_python};
use crate::world::{Run, World, export_name, sweeper};

/// The key of an export as CVAT makes it of `CVAT_BASE_DIR`: `BASE_DIR / "data" / "cache" / "export" / name`.
fn key_by_pathlib(redis: &Redis, base: &str, name: &str) -> String {
    let script = format!(
        "import pathlib\nexports = pathlib.Path(path) / 'data' / 'cache' / 'export'\n\
         print('redlock:export_lock:' + str(exports / {name:?}))"
    );
    let output = start_python(&script, redis, Path::new(base)).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
}

#[test]
fn the_key_is_that_of_pathlib_for_every_form_of_the_base_directory() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    export(&world, 1);
    let base = world.root.parent().unwrap();
    let (dir, leaf) = (base.parent().unwrap(), base.file_name().unwrap().to_str().unwrap());
    std::fs::create_dir(base.join("x")).unwrap();
    std::os::unix::fs::symlink(base.join("x"), base.join("link")).unwrap();
    let (base, dir) = (base.to_str().unwrap(), dir.to_str().unwrap());
    let forms = [
        base.to_owned(),
        format!("{base}/"),
        format!("{base}///"),
        format!("{base}/."),
        format!("{dir}//{leaf}"),
        format!("{dir}/./{leaf}/./"),
        format!("/{base}"),
        format!("//{base}"),
        format!("{base}/x/.."),
        format!("{dir}/../{}/{leaf}", Path::new(dir).file_name().unwrap().to_str().unwrap()),
        format!("{base}/link/../"),
        leaf.to_owned(),
        format!("./{leaf}//x/.."),
        format!("{leaf}/link/./.."),
    ];
    let mut keys = std::collections::BTreeSet::new();
    for form in &forms {
        let expected = key_by_pathlib(&redis, form, &export_name(1));
        let mut command = sweeper(&["run", "--dry-run", "--zones", "export"]);
        command.current_dir(dir).env("CVAT_BASE_DIR", form);
        command.env("CVAT_REDIS_INMEM_PORT", redis.port.to_string());
        let watched = redis.watch(|| {
            let run = Run::of(command);
            assert!(run.exits(0).stdout.contains("1 to remove") || run.stdout.contains('1'));
            // CVAT says where its data is, so nothing is guessed.
            assert_eq!(run.stderr, "", "{form}");
        });
        let set = watched.iter().find(|line| line.contains("\"SET\"")).expect("no SET");
        assert!(set.contains(&format!("\"{expected}\"")), "{form}: {expected} is not in {set}");
        keys.insert(expected);
    }
    assert!(keys.len() > 5, "these forms have different keys: {keys:?}");
}

#[test]
fn locks_in_another_database_than_cvats_are_warned_about() {
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let words = "CVAT's locks are in database 0, and ";
    for (database, is_told) in [("", false), ("/0", false), ("/5", true)] {
        let url = format!("{}{database}", redis.url().trim_end_matches("/0"));
        let at = ["--redis", &url, "--cvat-data", world.root.to_str().unwrap()];
        let run = world.run(&[&["run", "--dry-run", "--zones", "export"], &at[..]].concat());
        assert_eq!(run.exits(0).stdout.contains(words), is_told, "{url}: {}", run.stdout);
        let mut hold = sweeper(&[&["hold", "--data", at[3]], &at[..]].concat());
        hold.arg(&path).args(["--", "/bin/true"]);
        let run = Run::of(hold);
        assert_eq!(run.exits(0).stderr.contains(words), is_told, "{url}: {}", run.stderr);
    }
}

#[test]
fn a_relative_path_of_cvats_data_is_refused() {
    let world = World::new();
    for path in ["data", "./data", "../home/django/data"] {
        let run = world.run(&["run", "--redis", "redis://127.0.0.1:1", "--cvat-data", path]);
        assert!(run.exits(2).stderr.contains("write an absolute path"), "{}", run.stderr);
    }
}

#[test]
fn a_port_or_a_password_without_a_host_means_localhost_as_in_cvat() {
    let Some(redis) = Redis::start(&["--requirepass", "pw"]) else { return };
    let world = World::new();
    let path = export(&world, 1);
    let mut command = world.command(&["run", "--format", "json", "--zones", "export"]);
    command.env("CVAT_REDIS_INMEM_PORT", redis.port.to_string());
    command.env("CVAT_REDIS_INMEM_PASSWORD", "pw").env("SWEEPER_CVAT_DATA", &world.root);
    let watched = redis.watch(|| {
        Run::of(command).exits(0);
    });
    assert!(watched.iter().any(|line| line.contains("\"SET\"")), "{watched:?}");
    assert!(!path.exists());
    for (name, value, expected) in [
        ("CVAT_REDIS_INMEM_PORT", "7", "redis://localhost:7/0"),
        ("CVAT_REDIS_INMEM_PASSWORD", "pw", "redis://localhost:6379/0"),
    ] {
        let mut command = world.command(&["config", "--format", "json"]);
        command.env(name, value);
        let json = Run::of(command).exits(0).json();
        assert_eq!(json["redis"]["value"], expected, "{name}");
        assert_eq!(json["redis"]["origin"], format!("environment {name}"));
    }
}
