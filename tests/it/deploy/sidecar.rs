//! The sidecar of the compose file, run by `runc`: one pass, a service, and what the system refuses to a
//! container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::container::{
    Bundle, Calls, Container, DENIED, NO_SUCH_CALL, NOT_PERMITTED, assert_sweeps, assert_swept,
    at_test_time, data_root, denied_by_docker,
};
use super::{checked, file, python_tool, yaml};
use crate::exporter::server::Redis;
use crate::wait::{AT_ONCE, wait_until};
use crate::world::{Run, assert_counts, export_name};

/// The sidecar, with the defaults of Compose.
fn sidecar() -> Option<Container> {
    let whole = yaml("docker/sweeper.compose.yml")?;
    let service = &whole["services"]["cvat_sweeper"];
    let strings = |value: &Value| -> Vec<String> {
        let all = value.as_array().unwrap_or_else(|| panic!("{value}"));
        all.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(strings(&service["cap_drop"]), ["ALL"]);
    assert!(service.get("privileged").is_none() && service.get("cap_add").is_none());
    // Compose creates a service that another one depends on anew when its files differ, without the ports that an
    // override of the operator gives it.
    assert!(
        service.get("depends_on").is_none() && whole["services"].as_object().unwrap().len() == 1
    );
    assert_eq!(service["healthcheck"]["test"], json!(["CMD", "/sweeper", "health"]));
    let (user, group) = service["user"].as_str().unwrap().split_once(':').unwrap();
    let mounts = strings(&service["volumes"]);
    let (name, mounted_at) = mounts[0].split_once(':').unwrap();
    assert_eq!((name, mounts.len()), ("cvat_data", 1));
    let env = service["environment"].as_object().unwrap().iter().map(|(name, value)| {
        // ${NAME:-default}, with nothing set.
        let value = value.as_str().unwrap();
        let default = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let value = default.map_or(value, |inner| inner.split_once(":-").unwrap().1);
        (name.clone(), value.to_owned())
    });
    Some(Container {
        args: strings(&service["command"]),
        env: env.collect(),
        user: (user.parse().unwrap(), group.parse().unwrap()),
        read_only: service["read_only"] == true,
        new_privileges: strings(&service["security_opt"]) != ["no-new-privileges:true"],
        mounted_at: mounted_at.to_owned(),
        calls: denied_by_docker(),
    })
}

/// The sidecar with one pass instead of a schedule.
fn sidecar_that_runs(redis: &Redis) -> Option<Container> {
    sidecar_beside(redis, "run")
}

/// The sidecar with the Redis server of the test, and `command` in place of `serve`.
fn sidecar_beside(redis: &Redis, command: &str) -> Option<Container> {
    let mut container = sidecar()?;
    assert_eq!(container.args, ["serve"]);
    container.args = vec![command.to_owned()];
    at_test_time(&mut container);
    assert_eq!(container.get("CVAT_REDIS_INMEM_HOST"), "cvat_redis_inmem");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    Some(container)
}

/// Reads the next report of a service from its stdout.
#[track_caller]
pub fn next_report(child: &mut Child) -> Value {
    let mut reports = serde_json::Deserializer::from_reader(child.stdout.as_mut().unwrap());
    Value::deserialize(&mut reports).unwrap()
}

#[test]
fn the_sidecar_needs_nothing_but_the_data_root() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(container) = sidecar_that_runs(&redis) else { return };
    assert!(container.read_only && !container.new_privileges);
    assert_eq!(container.user, (1000, 1000));
    let world = data_root();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let watched = redis.watch(|| {
        let run = bundle.run();
        assert_swept(&world, &run.exits(0).json());
        assert_eq!(run.stderr, "", "no terminal, no progress, nothing to warn about");
    });
    let key = format!("redlock:export_lock:/home/django/data/cache/export/{}", export_name(1));
    assert!(watched.iter().any(|line| line.contains("\"SET\"") && line.contains(&key)));
}

#[test]
fn the_sidecar_serves_until_it_is_stopped() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_beside(&redis, "serve") else { return };
    container.set("SWEEPER_AT_START", "true");
    let world = data_root();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let mut child = bundle.start();
    let report = next_report(&mut child);
    let start = Instant::now();
    assert!(bundle.signal("TERM"));
    let run = Run::from(child.wait_with_output().unwrap());
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_swept(&world, &report);
    assert_eq!(run.exits(0).stdout.trim(), "", "one pass was due");
    assert!(run.stderr.contains("next pass: export at"), "{}", run.stderr);
    assert!(redis.keys().is_empty());
}

#[test]
fn in_a_container_open_files_are_skipped_and_a_note_says_where_the_system_does_not_tell() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(container) = sidecar_that_runs(&redis) else { return };
    let world = data_root();
    // One is open in another container on this kernel: here, outside of any container.
    let open = world.path("cache/export").join(export_name(1));
    let reader = fs::File::open(&open).unwrap();
    // Another belongs to another user; without CAP_LEASE the system does not tell whether it is open.
    let foreign = world.path("cache/export").join(export_name(2));
    std::os::unix::fs::chown(&foreign, Some(0), Some(0)).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o644)).unwrap();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let report = bundle.run().exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("skipped_by.in_use", 1)]);
    assert!(open.exists() && !foreign.exists());
    assert!(report["zones"][0]["notes"].to_string().contains("CAP_LEASE"), "{report:#}");
    drop(reader);
    let report = bundle.run().exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("skipped", 0)]);
    assert!(!report["zones"][0]["notes"].to_string().contains("CAP_LEASE"), "{report:#}");
}

#[test]
fn before_docker_20_10_10_there_is_no_second_thread_and_one_worker_sweeps() {
    // They deny clone3 with an error that makes current libraries give up.
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    let denied = DENIED.iter().chain(&["clone3"]).map(|&name| (name, NOT_PERMITTED));
    container.calls = Calls::But(denied.collect());
    container.set("SWEEPER_JOBS", "1");
    let world = data_root();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    assert_swept(&world, &bundle.run().exits(0).json());
}

#[test]
fn a_kernel_without_the_newer_system_calls_is_enough() {
    // Those of Linux 4.18 to 5.14. CVAT 2.0 ran on Ubuntu 18.04, which has Linux 4.15.
    let newer = [
        "clone3",
        "close_range",
        "epoll_pwait2",
        "faccessat2",
        "io_uring_setup",
        "openat2",
        "pidfd_getfd",
        "pidfd_open",
        "quotactl_fd",
        "rseq",
    ];
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    container.calls = Calls::But(newer.iter().map(|&name| (name, NO_SUCH_CALL)).collect());
    assert_sweeps(&container, "cvat_redis_inmem");
}

#[test]
fn a_container_that_is_stopped_ends_at_once() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    container.args.extend(["--lock-wait".to_owned(), "10m".to_owned()]);
    let world = data_root();
    // One is locked for longer than the test takes, so the pass waits.
    let held = fs::File::open(world.path("cache/export").join(export_name(1))).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let child = bundle.start();
    let free = world.path("cache/export").join(export_name(2));
    wait_until("the pass begins", || !free.exists());
    // It is the first process of the container, for which signals have no default action.
    let start = Instant::now();
    assert!(bundle.signal("TERM"));
    let run = Run::from(child.wait_with_output().unwrap());
    let took = start.elapsed();
    assert_eq!(run.exits(3).json()["stopped"], "signal");
    assert!(took < AT_ONCE, "{took:?}");
    assert!(redis.keys().is_empty());
}

#[test]
fn the_compose_files_are_valid_and_have_names_that_replace_no_file_of_an_operator() {
    let Some(tool) = python_tool("check-jsonschema") else { return };
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    for folder in ["docker", "clearml"] {
        let own = file(&format!("{folder}/sweeper.compose.yml"));
        checked(Command::new(&tool).args(schema).arg(&own));
        // Compose reads these by itself, in place of those that are there.
        for entry in fs::read_dir(own.parent().unwrap()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                !name.contains("override")
                    && !name.starts_with("compose.")
                    && !name.starts_with("docker-compose")
            );
        }
    }
}

#[test]
fn every_line_with_compose_names_both_files_and_starts_the_sidecar_alone() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lines = Vec::new();
    for path in [
        "README.md",
        "docs/deployment.md",
        "docs/clearml.md",
        "docs/troubleshooting.md",
        "deploy/docker/sweeper.compose.yml",
        "deploy/clearml/sweeper.compose.yml",
    ] {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let own = text.lines().map(|line| line.trim_start_matches(['#', ' ']).to_owned());
        lines.extend(own.filter(|line| line.starts_with("docker compose ")));
    }
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        let files: Vec<&str> = line.split(" -f ").skip(1).collect();
        assert!(files.len() == 2 && files[0] == "docker-compose.yml", "{line}");
        assert!(files[1].contains("/sweeper.compose.yml"), "{line}");
        let starts = line.contains(" up ");
        assert!(!starts || line.contains(" up -d --no-deps "), "{line}");
    }
}
