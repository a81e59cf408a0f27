//! The kustomizations: valid for the versions of Kubernetes that they name, and their containers run by `runc` on
//! a data root.
//!
//! `kubectl kustomize` makes the objects, as `kubectl apply -k` would. No cluster takes them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::container::{
    Bundle, Container, assert_swept, at_test_time, data_root, denied_by_docker,
};
use super::sidecar::next_report;
use super::{checked, file, python_tool, seconds};
use crate::exporter::server::Redis;
use crate::service::metrics::get;
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, export_name, tool};

/// Each kustomization, and the manifest in it that says what it needs.
const KUSTOMIZATIONS: [(&str, &str); 3] = [
    ("", "cronjob.yaml"),
    ("serve", "serve/deployment.yaml"),
    ("shards", "shards/indexed-job.yaml"),
];

/// The oldest version that the validator knows.
const OLDEST_KNOWN: u32 = 25;

/// What a kustomization in `dir` makes.
pub fn kustomized(dir: &Path) -> Option<String> {
    let kubectl = python_tool("kubectl")?;
    Some(checked(Command::new(kubectl).arg("kustomize").arg(dir)).stdout)
}

/// The objects in a YAML text.
pub fn objects(text: &str) -> Option<Vec<Value>> {
    let python = python_tool("python")?;
    let scratch = tempfile::NamedTempFile::new().unwrap();
    fs::write(scratch.path(), text).unwrap();
    let script = "import json, sys, yaml; \
                  print(json.dumps([one for one in yaml.safe_load_all(open(sys.argv[1])) if one]))";
    let run = checked(Command::new(python).args(["-c", script]).arg(scratch.path()));
    Some(serde_json::from_str(&run.stdout).unwrap())
}

/// The one object that a kustomization makes.
fn object_of(dir: &str) -> Option<Value> {
    let mut all = objects(&kustomized(&file("kubernetes").join(dir))?)?;
    assert_eq!(all.len(), 1, "{all:#?}");
    all.pop()
}

/// Whether every object is valid for Kubernetes 1.`minor`. What the validator has no schema of is refused too.
pub fn is_valid(text: &str, minor: u32) -> Option<bool> {
    let validate = python_tool("kubernetes-validate")?;
    let scratch = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(scratch.path(), text).unwrap();
    let mut command = Command::new(validate);
    command.args(["-k", &format!("1.{minor}"), "--strict"]).arg(scratch.path());
    let run = Run::of(command);
    let passed = format!("{}{}", run.stdout, run.stderr).matches(" passed ").count();
    Some(run.code == Some(0) && passed == text.matches("\nkind: ").count())
}

/// What a manifest says of the smallest version: `Needs Kubernetes 1.26 or later`.
fn smallest(manifest: &str) -> u32 {
    let text = fs::read_to_string(file("kubernetes").join(manifest)).unwrap();
    let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
    let comment = comment.join(" ");
    let rest = comment.split("Needs Kubernetes 1.").nth(1);
    let rest = rest.unwrap_or_else(|| panic!("{manifest}: {comment}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_manifests_are_valid_for_three_recent_versions_and_for_the_smallest_that_they_name() {
    for (dir, manifest) in KUSTOMIZATIONS {
        let Some(text) = kustomized(&file("kubernetes").join(dir)) else { return };
        for minor in [smallest(manifest).max(OLDEST_KNOWN), 35, 36, 37] {
            let Some(is_valid) = is_valid(&text, minor) else { return };
            assert!(is_valid, "{manifest} for 1.{minor}:\n{text}");
        }
    }
    // The validator refuses what a version does not have: a field, or a kind.
    let Some(shards) = kustomized(&file("kubernetes/shards")) else { return };
    assert_eq!(
        is_valid(&shards, 28),
        Some(false),
        "rules without pod conditions are not valid there"
    );
    assert_eq!(is_valid(&shards.replace("kind: Job", "kind: Jobs"), 37), Some(false));
}

/// The kustomizations with settings as another operator would write them.
fn of_another_release(scratch: &Path) -> PathBuf {
    let copy = scratch.join("kubernetes");
    tool("cp", &["-r".as_ref(), file("kubernetes").as_os_str(), copy.as_os_str()]);
    let path = copy.join("settings/kustomization.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let edits = [
        ("namespace: cvat", "namespace: annotation"),
        ("newName: sweeper", "newName: images.example:5000/tools/sweeper"),
        ("newTag: 0.1.0", "newTag: \"1.2\""),
        ("value: cvat-backend-data", "value: anno-backend-data"),
        ("value: cvat-redis-master", "value: redis.example"),
        ("{name: cvat-redis-secret, key: password}", "{name: anno, key: redis-password}"),
    ];
    let edited = edits.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(&path, edited).unwrap();
    copy
}

#[test]
fn the_settings_reach_every_object() {
    let scratch = tempfile::tempdir().unwrap();
    let copy = of_another_release(scratch.path());
    let serve = copy.join("serve/kustomization.yaml");
    let text = fs::read_to_string(&serve).unwrap();
    fs::write(&serve, text.replace("  # - podmonitor.yaml", "  - podmonitor.yaml")).unwrap();
    let mut kinds = Vec::new();
    for (dir, _) in KUSTOMIZATIONS {
        let Some(text) = kustomized(&copy.join(dir)) else { return };
        let Some(all) = objects(&text) else { return };
        for object in all {
            assert_eq!(object["metadata"]["namespace"], "annotation", "{object:#}");
            let kind = object["kind"].as_str().unwrap().to_owned();
            if kind != "PodMonitor" {
                let text = object.to_string();
                for part in [
                    "\"image\":\"images.example:5000/tools/sweeper:1.2\"",
                    "{\"claimName\":\"anno-backend-data\"}",
                    "{\"name\":\"CVAT_REDIS_INMEM_HOST\",\"value\":\"redis.example\"}",
                    "{\"secretKeyRef\":{\"key\":\"redis-password\",\"name\":\"anno\"}}",
                ] {
                    assert!(text.contains(part), "{part}: {text}");
                }
                assert!(!text.replace("cvat-sweeper", "").contains("cvat-"), "{text}");
            }
            kinds.push(kind);
        }
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["CronJob", "Deployment", "Job", "PodMonitor"]);
}

/// What a job does with a pod that ended with this exit code, or `Count` against its limit of tries.
fn on_exit(job: &Value, code: u64) -> &str {
    let rules = job["podFailurePolicy"]["rules"].as_array().unwrap();
    // Kubernetes takes the first rule that matches.
    let matches = |rule: &&Value| {
        let on = &rule["onExitCodes"];
        assert!(on.is_null() || (on["operator"] == "In" && on["containerName"] == "sweeper"));
        on["values"].as_array().is_some_and(|codes| codes.iter().any(|one| *one == code))
    };
    rules.iter().find(matches).map_or("Count", |rule| rule["action"].as_str().unwrap())
}

#[test]
fn only_what_another_try_may_mend_is_tried_again() {
    let Some(cron) = object_of("") else { return };
    let Some(shards) = object_of("shards") else { return };
    let (cron, shards) = (&cron["spec"]["jobTemplate"]["spec"], &shards["spec"]);
    // 1: entries failed. 2: settings. 3: stopped. 4: a lock server that cannot be used.
    for (code, of_cron, of_shard) in [
        (1, "FailJob", "FailIndex"),
        (2, "FailJob", "FailJob"),
        (3, "FailJob", "FailIndex"),
        (4, "Count", "Count"),
    ] {
        assert_eq!(
            (on_exit(cron, code), on_exit(shards, code)),
            (of_cron, of_shard),
            "exit {code}"
        );
    }
    // A pod that is evicted exits with 3, so this rule stands before those of exit codes.
    let evicted = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    for job in [cron, shards] {
        assert_eq!(job["podFailurePolicy"]["rules"][0], evicted);
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "the policy needs it");
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

/// The container of a pod, with the locks of a Redis server.
fn pod_beside(redis: &Redis, pod: &Value, index: usize) -> Container {
    let mut container = container_of(pod, "s3cret-word", index);
    assert!(container.read_only && !container.new_privileges);
    assert_eq!(container.user, (1000, 1000));
    assert_eq!(container.get("CVAT_REDIS_INMEM_HOST"), "cvat-redis-master");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    at_test_time(&mut container);
    container
}

/// Runs the container of a pod on a data root, with the locks of a Redis server.
fn run_pod(pod: &Value, index: usize, redis: &Redis, world: &World) -> Option<Run> {
    let container = pod_beside(redis, pod, index);
    Some(Bundle::of(&container, &world.root, "cvat-redis-master")?.run())
}

#[test]
fn the_cron_jobs_pod_sweeps() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let Some(whole) = object_of("") else { return };
    let pod = &whole["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let world = data_root();
    let Some(run) = run_pod(pod, 0, &redis, &world) else { return };
    assert_swept(&world, &run.exits(0).json());
    assert_eq!(run.stderr, "");
}

#[test]
fn a_cron_job_ends_before_the_next_one_begins() {
    let Some(whole) = object_of("") else { return };
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
fn jobs_and_pods_have_the_limits_that_a_cluster_expects() {
    let Some(cron) = object_of("") else { return };
    let (shards, serve) = (object_of("shards").unwrap(), object_of("serve").unwrap());
    let job = &cron["spec"]["jobTemplate"]["spec"];
    for pod in [&job["template"], &shards["spec"]["template"], &serve["spec"]["template"]] {
        let resources = &pod["spec"]["containers"][0]["resources"];
        // Memory has a limit. The processor has none: it would only make a pass take longer.
        let expected =
            json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}});
        assert_eq!(*resources, expected);
        assert_eq!(pod["metadata"]["labels"]["app.kubernetes.io/name"], "sweeper");
    }
    // A second pod of the service would wait for the first one, which would not end.
    assert_eq!(
        (&serve["spec"]["strategy"]["type"], &serve["spec"]["replicas"]),
        (&"Recreate".into(), &1.into())
    );
    // A lock server that is away gets two more chances, and a start that is missed by an hour waits for the next.
    assert_eq!(
        (&job["backoffLimit"], &shards["spec"]["backoffLimitPerIndex"]),
        (&2.into(), &2.into())
    );
    assert_eq!(cron["spec"]["startingDeadlineSeconds"], 3600);
    // What has ended can be read for a while and does not pile up.
    let history =
        ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"].map(|key| &cron["spec"][key]);
    assert_eq!(history, [&3, &3]);
    assert_eq!(shards["spec"]["ttlSecondsAfterFinished"], 7 * 24 * 3600);
}

#[test]
fn the_pods_of_the_indexed_job_remove_everything_together() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let Some(whole) = object_of("shards") else { return };
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

#[test]
fn the_pod_of_the_service_is_ready_and_has_metrics() {
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let Some(deployment) = object_of("serve") else { return };
    let pod = &deployment["spec"]["template"]["spec"];
    let port = &pod["containers"][0]["ports"][0];
    let probe = &pod["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!((&port["name"], &probe["port"]), (&"metrics".into(), &"metrics".into()));
    assert!(pod["containers"][0].get("livenessProbe").is_none(), "a restart would not help");
    let mut container = pod_beside(&redis, pod, 0);
    let listen = container.args.iter_mut().find(|arg| arg.contains(':')).unwrap();
    assert_eq!(*listen, format!("0.0.0.0:{}", port["containerPort"]));
    // The network is that of this machine, where the port may be taken.
    *listen = "127.0.0.1:0".to_owned();
    container.set("SWEEPER_AT_START", "true");
    let world = data_root();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat-redis-master") else { return };
    let mut child = bundle.start();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("/metrics") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it does not listen");
    }
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let report = next_report(&mut child);
    assert_swept(&world, &report);
    // The report is printed a moment before the pass has ended.
    let counted = "sweeper_removed_total{zone=\"export\"} 2\n";
    wait_until("metrics", || get(address, "GET /metrics").1.contains(counted));
    let path = probe["path"].as_str().unwrap();
    wait_until("health", || get(address, &format!("GET {path}")).1.contains("without problems"));
    assert_eq!(get(address, &format!("GET {path}")).0, 200);
    assert!(bundle.signal("TERM"));
    Run::from(child.wait_with_output().unwrap()).exits(0);
}
