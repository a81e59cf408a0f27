//! The Helm chart: linted, and its objects are those of the kustomizations.

use std::process::Command;

use serde_json::{Value, json};

use super::kubernetes::{is_valid, kustomized, objects};
use super::{checked, file, python_tool};
use crate::world::Run;

/// All that the chart can make.
const EVERYTHING: &str = "serve.enabled=true,serve.podMonitor.enabled=true,shards.enabled=true";

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
    labels.retain(|name, _| !name.contains('/'));
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
    let charts: Vec<Value> = by_kind(charts).into_iter().map(without_helm).collect();
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
                  image.pullSecrets[0].name=registry,nodeSelector.disk=fast,\
                  tolerations[0].operator=Exists,cvat.subPath=";
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
                  env.SWEEPER_TTL=2d";
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
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (values, word) in [
        ("cronjob.enabled=false", "cronjob"),
        ("shards.count=0", "count"),
        ("cvat.redis.port=x", "port"),
        ("serve.podMonitor.enabled=true", "needs serve.enabled"),
    ] {
        let Some(template) = template("1.37", values) else { return };
        let run = Run::of(template);
        assert!(run.exits(1).stderr.contains(word), "{values}: {}", run.stderr);
    }
}

/// Reads an object into the operator's own model and writes it again: what the model does not know gets lost.
const ROUND_TRIP: &str = "
import json, sys
from cloudcoil.models.prometheus_operator.v1 import PodMonitor
model = PodMonitor.model_validate(json.load(sys.stdin))
extra = lambda part: getattr(part, 'model_extra', None) or any(
    extra(one) for value in vars(part).values()
    for one in (value if isinstance(value, list) else [value]) if hasattr(one, 'model_fields_set'))
assert not extra(model), model
print(model.model_dump_json(by_alias=True, exclude_unset=True))
";

#[test]
fn the_pod_monitor_is_one_that_the_operator_knows() {
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
