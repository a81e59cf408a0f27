//! The Helm chart: linted, and its objects are those of the kustomizations.

use std::process::Command;

use serde_json::{Value, json};

use super::kubernetes::{is_valid, kustomized, objects};
use super::{checked, file, python_tool};
use crate::world::Run;

/// All that the chart can make.
const EVERYTHING: &str = "serve.enabled=true,serve.podMonitor.enabled=true,shards.enabled=true,\
                          serve.prometheusRule.enabled=true,serve.dashboard.enabled=true";

/// What only the chart makes: the kustomizations leave the alerts and the dashboard as files.
const ONLY_HELMS: [&str; 2] = ["ConfigMap", "PrometheusRule"];

/// `helm` with these words, and a home directory of its own.
fn helm(words: &[&str]) -> Option<Command> {
    let helm = python_tool("helm")?;
    let mut command = Command::new(helm);
    // It makes directories for what it downloads, which is nothing here.
    command.args(words).env("HOME", env!("CARGO_TARGET_TMPDIR"));
    for directory in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(directory, env!("CARGO_TARGET_TMPDIR"));
    }
    Some(command)
}

/// `helm template` of a release of the chart.
fn template(version: &str, values: &str) -> Option<Command> {
    let mut command = helm(&["template", "cvat-sweeper", "--namespace", "cvat"])?;
    command.args(["--kube-version", version, "--set", values]).arg(file("helm/sweeper"));
    Some(command)
}

/// What the chart makes with these values.
fn rendered(values: &str) -> Option<String> {
    Some(checked(&mut template("1.37", values)?).stdout)
}

#[test]
fn helm_finds_no_fault_in_the_chart() {
    for values in ["cronJob.enabled=true", EVERYTHING, "cvat.release=anno,shards.count=3"] {
        let Some(mut lint) = helm(&["lint", "--strict", "--set", values]) else { return };
        let run = checked(lint.arg(file("helm/sweeper")));
        assert!(run.stdout.contains("1 chart(s) linted, 0 chart(s) failed"), "{}", run.stdout);
        let warning = run.stdout.lines().find(|line| line.contains("[WARNING]"));
        assert_eq!(warning, None);
    }
}

#[test]
fn the_image_is_that_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let read = |path: &str| std::fs::read_to_string(file(path)).unwrap();
    let chart = read("helm/sweeper/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\nappVersion: {version}\n")), "{chart}");
    let settings = read("kubernetes/settings/kustomization.yaml");
    assert!(settings.contains(&format!("newTag: {version}\n")), "{settings}");
}

/// An object without what only Helm adds: its labels, and the number of the revision in the name of a job.
fn without_helm(mut object: Value) -> Value {
    let labels = object["metadata"]["labels"].as_object_mut().unwrap();
    let of_helm = ["app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"];
    labels.retain(|name, _| !of_helm.contains(&name.as_str()));
    let name = object["metadata"]["name"].as_str().unwrap();
    object["metadata"]["name"] = json!(name.trim_end_matches("-1"));
    object
}

fn by_kind(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| object["kind"].as_str().unwrap().to_owned());
    objects
}

#[test]
fn the_chart_makes_the_same_objects_as_the_kustomizations() {
    let Some(text) = rendered(EVERYTHING) else { return };
    let Some(charts) = objects(&text) else { return };
    let mut others = Vec::new();
    for dir in ["", "serve", "shards"] {
        let Some(text) = kustomized(&file("kubernetes").join(dir)) else { return };
        others.extend(objects(&text).unwrap());
    }
    // This one is left out of its kustomization: not every cluster knows its kind.
    let text = std::fs::read_to_string(file("kubernetes/serve/podmonitor.yaml")).unwrap();
    let mut monitor = objects(&text).unwrap().pop().unwrap();
    monitor["metadata"]["namespace"] = json!("cvat");
    others.push(monitor);
    let mut charts: Vec<Value> = by_kind(charts).into_iter().map(without_helm).collect();
    charts.retain(|object| !ONLY_HELMS.contains(&object["kind"].as_str().unwrap()));
    let others = by_kind(others);
    assert_eq!(charts.len(), 4);
    for (chart, other) in charts.iter().zip(&others) {
        assert_eq!(chart, other, "the chart's:\n{chart:#}\nthe kustomization's:\n{other:#}");
    }
    let Some(text) = rendered("cronJob.enabled=true") else { return };
    assert_eq!(objects(&text).unwrap().len(), 1, "the others are made when they are asked for");
}

#[test]
fn what_it_makes_is_valid_for_three_recent_versions_and_for_the_smallest_that_it_names() {
    let chart = std::fs::read_to_string(file("helm/sweeper/Chart.yaml")).unwrap();
    assert!(chart.contains("\nkubeVersion: \">=1.29.0-0\"\n"));
    let values = "serve.enabled=true,shards.enabled=true,cvat.release=anno,env.SWEEPER_TTL=2d,image.pullPolicy=Always,\
                  image.pullSecrets[0].name=registry,nodeSelector.disk=fast,serve.dashboard.enabled=true,\
                  tolerations[0].operator=Exists,cvat.subPath=,cronJob.timeZone=Europe/Berlin,\
                  cronJob.suspend=true,priorityClassName=low,podLabels.team=a,podAnnotations.note=b,\
                  affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=kubernetes.io/hostname";
    for minor in [29, 35, 36, 37] {
        let Some(mut template) = template(&format!("1.{minor}"), values) else { return };
        let text = checked(&mut template).stdout;
        let Some(is_valid) = is_valid(&text, minor) else { return };
        assert!(is_valid, "1.{minor}:\n{text}");
    }
    // An older cluster is told so before anything is installed.
    let Some(template) = template("1.28", "shards.enabled=true") else { return };
    let run = Run::of(template);
    let refused = "which is incompatible with Kubernetes v1.28";
    assert!(run.exits(1).stderr.contains(refused), "{}", run.stderr);
}

#[test]
fn the_values_reach_the_objects_and_wrong_ones_are_refused() {
    let values = "cvat.release=anno,image.repository=images.example:5000/tools/sweeper,image.tag=1.2,\
                  cvat.redis.port=6380,cronJob.deadlineHours=5,shards.enabled=true,shards.count=3,\
                  env.SWEEPER_TTL=2d,serve.enabled=true,serve.dashboard.enabled=true,\
                  serve.dashboard.labels.folder=cvat,\
                  fullnameOverride=clean,cronJob.timeZone=Europe/Berlin,cronJob.suspend=true,priorityClassName=low,\
                  podLabels.team=data,podAnnotations.note=a,affinity.podAffinity.x=y";
    let Some(text) = rendered(values) else { return };
    let Some(all) = objects(&text) else { return };
    let text = json!(all).to_string();
    for part in [
        "\"image\":\"images.example:5000/tools/sweeper:1.2\"",
        "\"claimName\":\"anno-backend-data\"",
        "\"value\":\"anno-redis-master\"",
        "\"value\":\"6380\"",
        "\"name\":\"anno-redis-secret\"",
        "\"value\":\"5h\"",
        "\"activeDeadlineSeconds\":19800",
        "\"value\":\"$(JOB_COMPLETION_INDEX)/3\"",
        "\"completions\":3",
        "{\"name\":\"SWEEPER_TTL\",\"value\":\"2d\"}",
        "\"suspend\":true,\"timeZone\":\"Europe/Berlin\"",
        "\"folder\":\"cvat\",\"grafana_dashboard\":\"1\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (part, pods) in [
        ("\"priorityClassName\":\"low\"", 3),
        ("\"team\":\"data\"", 3),
        ("\"annotations\":{\"note\":\"a\"}", 3),
        ("\"affinity\":{\"podAffinity\":{\"x\":\"y\"}}", 3),
        ("\"name\":\"clean\"", 2),
    ] {
        assert_eq!(text.matches(part).count(), pods, "{part}: {text}");
    }
    for (values, word) in [
        ("cronjob.enabled=false", "cronjob"),
        ("shards.count=0", "count"),
        ("cvat.redis.port=x", "port"),
        ("serve.podMonitor.enabled=true", "needs serve.enabled"),
        ("serve.prometheusRule.enabled=true", "needs serve.enabled"),
        ("fullnameOverride=Upper", "fullnameOverride"),
    ] {
        let Some(template) = template("1.37", values) else { return };
        let run = Run::of(template);
        assert!(run.exits(1).stderr.contains(word), "{values}: {}", run.stderr);
    }
}

#[test]
fn every_name_is_one_that_kubernetes_takes_and_says_what_it_is() {
    // Helm's releases have names of up to 53 characters, a CronJob up to 52, and a pod's label up to 63.
    let long = "a".repeat(53);
    for (release, expected) in [
        ("cvat-sweeper", "cvat-sweeper"),
        ("sweeper", "sweeper"),
        // A chart that others depend on has the name of their release.
        ("cvat", "cvat-sweeper"),
        (&long, &long[..52]),
    ] {
        let Some(mut command) = helm(&["template", release]) else { return };
        command.args(["--kube-version", "1.37", "--set", EVERYTHING]).arg(file("helm/sweeper"));
        let Some(all) = objects(&checked(&mut command).stdout) else { return };
        for object in &all {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(name.starts_with(expected) && name.len() <= 63, "{name}");
            let is_cron = object["kind"] == "CronJob";
            assert!(!is_cron || name == expected, "{name}");
        }
        assert_eq!(all.len(), 6);
    }
}

#[test]
fn the_notes_name_what_was_installed_and_their_lines_can_be_pasted_again() {
    let notes = |values: &str| {
        let mut command = helm(&["install", "cvat-sweeper", "--dry-run=client", "--set", values])?;
        command.args(["--namespace", "cvat"]).arg(file("helm/sweeper"));
        let text = checked(&mut command).stdout;
        Some(text.split("\nNOTES:\n").nth(1).unwrap_or_else(|| panic!("{text}")).to_owned())
    };
    let Some(both) = notes(EVERYTHING) else { return };
    for part in [
        "job=sweep-$(date +%s)",
        "--from=cronjob/cvat-sweeper $job",
        "port-forward deploy/cvat-sweeper 9108",
        "cronJob.enabled=false",
        "job-name=cvat-sweeper-shards-1 ",
    ] {
        assert!(both.contains(part), "{part}: {both}");
    }
    let cron = notes("cronJob.timeZone=Europe/Berlin").unwrap();
    assert!(cron.contains("\"30 0,12 * * *\" (Europe/Berlin)"), "{cron}");
    assert!(!cron.contains("deploy/") && !cron.contains("shards"), "{cron}");
    assert!(notes("cronJob.suspend=true").unwrap().contains("is suspended"));
    assert!(notes("cronJob.enabled=false").unwrap().contains("Nothing is enabled"));
}

/// Reads an object into the operator's own model and writes it again: what the model does not know gets lost.
const ROUND_TRIP: &str = "
import json, sys
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
given = json.load(sys.stdin)
model = {'PodMonitor': PodMonitor, 'PrometheusRule': PrometheusRule}[given['kind']].model_validate(given)
extra = lambda part: getattr(part, 'model_extra', None) or any(
    extra(one) for value in vars(part).values()
    for one in (value if isinstance(value, list) else [value]) if hasattr(one, 'model_fields_set'))
assert not extra(model), model
print(model.model_dump_json(by_alias=True, exclude_unset=True))
";

#[test]
fn the_pod_monitor_and_the_rules_are_such_as_the_operator_knows() {
    let Some(python) = python_tool("python") else { return };
    let Some(text) = rendered(EVERYTHING) else { return };
    let Some(charts) = objects(&text) else { return };
    let monitor = charts.iter().find(|object| object["kind"] == "PodMonitor").unwrap();
    let round_trip = |object: &Value| {
        let input = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(input.path(), object.to_string()).unwrap();
        let mut command = Command::new(&python);
        command.args(["-c", ROUND_TRIP]).stdin(std::fs::File::open(input.path()).unwrap());
        let run = Run::of(command);
        (run.code == Some(0)).then(|| serde_json::from_str::<Value>(&run.stdout).unwrap())
    };
    assert_eq!(round_trip(monitor).as_ref(), Some(monitor));
    let rules = charts.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    assert_eq!(round_trip(rules).as_ref(), Some(rules));
    // They are those of the file that Prometheus itself checks, and the dashboard is the one that is tested.
    let file = super::yaml("monitoring/alerts.yml").unwrap();
    assert_eq!(rules["spec"], file);
    let board = charts.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    let text = std::fs::read_to_string(super::file("monitoring/dashboard.json")).unwrap();
    assert_eq!(board["data"]["sweeper.json"], text);
    let (mut unknown, mut wrong) = (monitor.clone(), monitor.clone());
    unknown["spec"]["podMetricEndpoints"] = json!([]);
    wrong["spec"]["podMetricsEndpoints"][0]["interval"] = json!("soon");
    assert!(round_trip(&unknown) != Some(unknown) && round_trip(&wrong).is_none());
    // It selects the pods of the service, and names their port.
    let service = charts.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &service["spec"]["template"];
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(pod["metadata"]["labels"][name], *value);
    }
    let port = &pod["spec"]["containers"][0]["ports"][0]["name"];
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], *port);
}
