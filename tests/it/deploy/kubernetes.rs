//! The manifests: valid for three versions of Kubernetes, and their containers run by `runc` on a data root.

use std::process::Command;

use serde_json::{Value, json};

use super::container::{
    Bundle, Container, assert_swept, at_test_time, data_root, denied_by_docker,
};
use super::{checked, file, python_tool, seconds, yaml};
use crate::exporter::server::Redis;
use crate::world::{DAY, Run, World, export_name};

const FILES: [&str; 2] = ["kubernetes/cronjob.yaml", "kubernetes/indexed-job.yaml"];

#[test]
fn the_manifests_are_valid_for_three_recent_versions() {
    let Some(tool) = python_tool("kubernetes-validate") else { return };
    for version in ["1.35", "1.36", "1.37"] {
        let mut command = Command::new(&tool);
        command.args(["-k", version, "--strict"]).args(FILES.map(file));
        let run = checked(&mut command);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(said.matches(" passed ").count(), FILES.len(), "{said}");
    }
}

#[test]
fn they_can_be_changed_for_another_release_as_they_say() {
    let Some(tool) = python_tool("kubernetes-validate") else { return };
    let scratch = tempfile::tempdir().unwrap();
    for name in FILES {
        // The line that the file itself gives, with names put in: a registry has a port and a slash.
        let text = std::fs::read_to_string(file(name)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("#   sed ")).unwrap();
        let (sed, _) = line.split_once(" | kubectl").unwrap();
        let sed =
            sed.replace("<release>", "anno").replace("<image>", "images.example:5000/sweeper:1");
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("sed {sed}")).current_dir(env!("CARGO_MANIFEST_DIR"));
        let renamed = checked(&mut shell).stdout;
        let lines = renamed.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(!lines.clone().any(|line| line.contains("cvat-")), "{renamed}");
        for part in ["name: anno-sweeper", "claimName: anno-backend-data", "anno-redis-master"] {
            assert!(renamed.contains(part), "{part}: {renamed}");
        }
        assert!(renamed.contains("image: images.example:5000/sweeper:1"));
        let path = scratch.path().join("renamed.yaml");
        std::fs::write(&path, &renamed).unwrap();
        checked(Command::new(&tool).arg("--strict").arg(path));
    }
}

/// The only container of a pod, as the kubelet would start it in the pod with this index.
fn container_of(pod: &Value, password: &str, index: usize) -> Container {
    let mine = &pod["containers"][0];
    let (of_pod, of_mine) = (&pod["securityContext"], &mine["securityContext"]);
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(of_pod["runAsNonRoot"], true);
    assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault");
    assert!(of_pod.get("fsGroup").is_none());
    assert_eq!(of_mine["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(mine.get("command").is_none(), "the image has an entry point");
    let mounts = mine["volumeMounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0]["subPath"], "data");
    let claim = &pod["volumes"][0];
    assert_eq!(claim["name"], mounts[0]["name"]);
    assert_eq!(claim["persistentVolumeClaim"]["claimName"], "cvat-backend-data");
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in mine["env"].as_array().unwrap() {
        let from = &variable["valueFrom"];
        let value = if let Some(value) = variable["value"].as_str() {
            // Variables above are substituted; those below are not defined yet.
            env.iter().fold(value.to_owned(), |value, (name, it)| {
                value.replace(&format!("$({name})"), it)
            })
        } else if from.get("fieldRef").is_some() {
            let path = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
            assert_eq!(from["fieldRef"]["fieldPath"], path);
            index.to_string()
        } else {
            let key = json!({"name": "cvat-redis-secret", "key": "password"});
            assert_eq!(from["secretKeyRef"], key);
            password.to_owned()
        };
        assert!(!value.contains("$("), "{variable}");
        env.push((variable["name"].as_str().unwrap().to_owned(), value));
    }
    let args = mine["args"].as_array().unwrap().iter();
    Container {
        args: args.map(|arg| arg.as_str().unwrap().to_owned()).collect(),
        env,
        user: (of_pod["runAsUser"].as_u64().unwrap(), of_pod["runAsGroup"].as_u64().unwrap()),
        read_only: of_mine["readOnlyRootFilesystem"] == true,
        new_privileges: of_mine["allowPrivilegeEscalation"] != false,
        mounted_at: mounts[0]["mountPath"].as_str().unwrap().to_owned(),
        calls: denied_by_docker(),
    }
}

/// Runs the container of a pod on a data root, with the locks of a Redis server.
fn run_pod(pod: &Value, index: usize, redis: &Redis, world: &World) -> Option<Run> {
    let mut container = container_of(pod, "s3cret-word", index);
    assert!(container.read_only && !container.new_privileges);
    assert_eq!(container.user, (1000, 1000));
    assert_eq!(container.get("CVAT_REDIS_INMEM_HOST"), "cvat-redis-master");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    at_test_time(&mut container);
    Some(Bundle::of(&container, &world.root, "cvat-redis-master")?.run())
}

#[test]
fn the_cron_jobs_pod_sweeps() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let Some(whole) = yaml("kubernetes/cronjob.yaml") else { return };
    let pod = &whole["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let world = data_root();
    let Some(run) = run_pod(pod, 0, &redis, &world) else { return };
    assert_swept(&world, &run.exits(0).json());
    assert_eq!(run.stderr, "");
}

#[test]
fn a_cron_job_ends_before_the_next_one_begins() {
    let Some(whole) = yaml("kubernetes/cronjob.yaml") else { return };
    let spec = &whole["spec"];
    assert_eq!(spec["concurrencyPolicy"], "Forbid");
    assert_eq!(spec["schedule"], "30 0,12 * * *", "twelve hours apart");
    let job = &spec["jobTemplate"]["spec"];
    let ends = job["activeDeadlineSeconds"].as_u64().unwrap();
    assert!(ends < 12 * 3600);
    let container = container_of(&job["template"]["spec"], "", 0);
    assert!(seconds(container.get("SWEEPER_DEADLINE")) < ends);
}

#[test]
fn the_pods_of_the_indexed_job_remove_everything_together() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let Some(whole) = yaml("kubernetes/indexed-job.yaml") else { return };
    let spec = &whole["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!(spec["completions"], spec["parallelism"]);
    let pods = usize::try_from(spec["completions"].as_u64().unwrap()).unwrap();
    let pod = &spec["template"]["spec"];
    for index in 0..pods {
        let shard = container_of(pod, "", index);
        assert_eq!(shard.get("SWEEPER_SHARD"), format!("{index}/{pods}"));
    }
    let world = data_root();
    for number in 10..60 {
        let name = std::path::Path::new("cache/export").join(export_name(number));
        world.file(name, 2 * DAY);
    }
    world.chown(1000);
    let mut removed = Vec::new();
    for index in 0..pods {
        let Some(run) = run_pod(pod, index, &redis, &world) else { return };
        removed.push(run.exits(0).json()["totals"]["removed"].as_u64().unwrap());
    }
    assert_eq!(removed.iter().sum::<u64>(), 54, "{removed:?}");
    assert!(removed.iter().filter(|one| **one > 0).count() > 4, "{removed:?}");
}
