//! The alert rules and the dashboard, asked of a real Prometheus that reads a real service.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{checked, file, has, python_tool, yaml};
use crate::service::metrics::get;
use crate::service::{Serving, export};
use crate::start::Start;
use crate::wait::LIMIT;
use crate::world::{DAY, HOUR, World};

/// How long a test waits for what should come soon.

#[test]
fn the_alert_rules_pass_their_own_tests_and_each_has_one() {
    if !has("promtool") {
        return;
    }
    let (rules, tests) = (file("monitoring/alerts.yml"), file("monitoring/alerts.test.yml"));
    checked(Command::new("promtool").args(["check", "rules", "--lint-fatal"]).arg(&rules));
    checked(Command::new("promtool").args(["test", "rules"]).arg(&tests));
    // A rule without a test, or one that no longer tests anything.
    let Some(tests) = yaml("monitoring/alerts.test.yml") else { return };
    let cases = tests["tests"].as_array().unwrap().iter();
    let cases: Vec<&Value> =
        cases.filter_map(|test| test["alert_rule_test"].as_array()).flatten().collect();
    for rule in rules_of_alerts().unwrap() {
        let of_rule = |case: &&&Value| case["alertname"] == rule["alert"];
        let count = |fires: bool| {
            let fired = |case: &&&Value| !case["exp_alerts"].as_array().unwrap().is_empty();
            cases.iter().filter(of_rule).filter(|case| fired(case) == fires).count()
        };
        assert!(count(true) > 0, "{} is never seen to fire", rule["alert"]);
    }
    let broken = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(&rules).unwrap();
    let changed = text.replace("sweeper_left_alone == 1", "sweeper_left_alone == 2");
    fs::write(broken.path().join("alerts.yml"), changed).unwrap();
    fs::copy(file("monitoring/alerts.test.yml"), broken.path().join("alerts.test.yml")).unwrap();
    let mut command = Command::new("promtool");
    command.args(["test", "rules"]).arg(broken.path().join("alerts.test.yml"));
    assert!(!command.finish().unwrap().status.success(), "the tests notice a rule that is wrong");
}

/// The rules of `alerts.yml`.
fn rules_of_alerts() -> Option<Vec<Value>> {
    let groups = yaml("monitoring/alerts.yml")?;
    let groups = groups["groups"].as_array().unwrap().iter();
    Some(groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect())
}

/// An expression, and the texts that name labels of what it finds.
struct Query {
    expression: String,
    labels: BTreeSet<String>,
}

/// The labels that texts with `{{zone}}` or `{{ $labels.zone }}` name.
fn named_in(text: &str) -> BTreeSet<String> {
    let inner = text.split("{{").skip(1).map(|part| part.split("}}").next().unwrap().trim());
    let names = inner.map(|name| name.strip_prefix("$labels.").unwrap_or(name).to_owned());
    names.filter(|name| !name.starts_with('$')).collect()
}

/// The queries of the dashboard, with its variables as Grafana would fill them in.
fn queries_of_dashboard() -> Vec<Query> {
    let text = fs::read_to_string(file("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    let all: Vec<Query> = targets
        .map(|target| {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$instance", ".+")
                .replace("$zone", ".+")
                .replace("$__rate_interval", "30s");
            assert!(!expression.contains('$'), "{expression}: an unknown variable");
            let labels = named_in(target["legendFormat"].as_str().unwrap());
            Query { expression, labels }
        })
        .collect();
    assert!(all.len() > 14, "{}", all.len());
    all
}

fn queries_of_alerts() -> Option<Vec<Query>> {
    let queries = rules_of_alerts()?.into_iter().map(|rule| {
        let texts = rule["annotations"].as_object().unwrap().values();
        let labels = texts.flat_map(|text| named_in(text.as_str().unwrap())).collect();
        Query { expression: rule["expr"].as_str().unwrap().to_owned(), labels }
    });
    Some(queries.collect())
}

/// The selectors in an expression, such as `sweeper_seen_total{zone="tmp"}`.
fn selectors(expression: &str) -> Vec<String> {
    let starts = expression.match_indices("sweeper_").map(|(at, _)| &expression[at..]);
    let selector = |rest: &str| {
        let name =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let matchers =
            if rest[name..].starts_with('{') { rest.find('}').unwrap() + 1 } else { name };
        rest[..matchers].to_owned()
    };
    let all: Vec<String> = starts.map(selector).collect();
    assert!(!all.is_empty(), "{expression}");
    all
}

/// The labels that an expression groups or matches by.
fn grouped_by(expression: &str) -> BTreeSet<String> {
    let words = ["by (", "on (", "ignoring (", "without (", "group_left ("];
    let lists = words.iter().flat_map(|word| expression.split(word).skip(1));
    let names = lists.flat_map(|list| list.split(')').next().unwrap().split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// A Prometheus that reads one service every second, ended with the test.
struct Prometheus {
    child: Child,
    address: String,
    _scratch: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\n\
             scrape_configs: [{{job_name: sweeper, static_configs: [{{targets: [{target:?}]}}]}}]\n",
            file("monitoring/alerts.yml")
        );
        // Another process could take the free port before it does, so this is tried again.
        for _ in 0..10 {
            let scratch = tempfile::tempdir().unwrap();
            fs::write(scratch.path().join("prometheus.yml"), &config).unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut this = Self::on(format!("127.0.0.1:{port}"), scratch);
            let start = Instant::now();
            while this.child.try_wait().unwrap().is_none() && start.elapsed() < LIMIT {
                let is_up = std::net::TcpStream::connect(&this.address).is_ok();
                if is_up && get(&this.address, "GET /-/ready").0 == 200 {
                    return this;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("no Prometheus starts");
    }

    fn on(address: String, scratch: tempfile::TempDir) -> Self {
        let at = |name: &str| scratch.path().join(name);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", at("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", at("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.start().unwrap();
        Self { child, address, _scratch: scratch }
    }

    /// An answer of its API.
    fn api(&self, path: &str) -> Value {
        let (status, text) = get(&self.address, &format!("GET /api/v1/{path}"));
        let text = unchunked(&text);
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!((status, &answer["status"]), (200, &"success".into()), "{path}: {text}");
        answer["data"].clone()
    }

    /// What an expression finds now: the labels of each sample.
    fn found(&self, expression: &str) -> Vec<Value> {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let escaped: String = expression.bytes().map(escape).collect();
        let data = self.api(&format!("query?query={escaped}"));
        let samples = data["result"].as_array().unwrap().iter();
        samples.map(|sample| sample["metric"].clone()).collect()
    }

    /// Waits until an expression finds something.
    #[track_caller]
    fn waits_for(&self, expression: &str) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let found = self.found(expression);
            if !found.is_empty() {
                return found;
            }
            assert!(start.elapsed() < LIMIT, "{expression} finds nothing");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The text of an answer that was sent in chunks: each after a line with its length.
fn unchunked(text: &str) -> String {
    if text.starts_with('{') {
        return text.to_owned();
    }
    let mut rest = text;
    let mut whole = String::new();
    while let Some((length, chunk)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole += &chunk[..length];
        rest = chunk[length..].trim_start_matches("\r\n");
    }
    whole
}

/// A service with data in every metric, one of whose zones cannot be locked.
fn service() -> (World, Serving, String) {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/young", HOUR);
    let args = ["--every", "1s", "--at-start", "--listen", "0", "--redis", "redis://127.0.0.1:1"];
    let mut service = Serving::on(&world, &args);
    let line = service.says("/metrics");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    (world, service, address)
}

#[test]
fn every_query_of_the_alerts_and_of_the_dashboard_finds_what_a_service_exposes() {
    if !has("prometheus") {
        return;
    }
    let Some(alerts) = queries_of_alerts() else { return };
    let (_world, _service, address) = service();
    let prometheus = Prometheus::start(&address);
    prometheus.waits_for("sweeper_last_success_timestamp_seconds");
    let metrics = get(&address, "GET /metrics").1;
    // Where the file system has no limit, there is no share of it.
    let has_inodes = !metrics.contains("sweeper_volume_inodes{state=\"size\"} 0\n");
    let is_expected = |text: &str| has_inodes || !text.contains("sweeper_volume_inodes");
    let dashboard = queries_of_dashboard();
    for query in dashboard.iter().filter(|query| is_expected(&query.expression)) {
        let found = prometheus.waits_for(&query.expression);
        for name in &query.labels {
            let has_it = |labels: &Value| labels.get(name).is_some();
            assert!(found.iter().all(has_it), "{name} of {}: {found:?}", query.expression);
        }
    }
    // An alert finds nothing while all is well, but each of its parts does.
    for query in dashboard.iter().chain(&alerts) {
        let mut exposed = BTreeSet::new();
        for selector in selectors(&query.expression).iter().filter(|text| is_expected(text)) {
            let found = prometheus.waits_for(selector);
            let names = found.iter().flat_map(|labels| labels.as_object().unwrap().keys().cloned());
            exposed.extend(names);
        }
        let named = query.labels.union(&grouped_by(&query.expression)).cloned().collect();
        let unknown: Vec<String> = BTreeSet::difference(&named, &exposed).cloned().collect();
        assert!(exposed.is_empty() || unknown.is_empty(), "{unknown:?} in {}", query.expression);
    }
    // The zone that cannot be locked is noticed, and no other.
    for alert in ["SweeperLockUnavailable", "SweeperZoneUnhealthy"] {
        let pending = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"pending\"}}");
        let found = prometheus.waits_for(&pending);
        assert!(found.iter().all(|labels| labels["zone"] == "export"), "{found:?}");
    }
    let groups = prometheus.api("rules")["groups"].as_array().unwrap().clone();
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), alerts.len());
    for rule in rules {
        assert_eq!((&rule["health"], rule.get("lastError")), (&"ok".into(), None), "{rule:#}");
    }
}

/// Reads a dashboard into Grafana's own model and writes it again: what the model does not know gets lost, and is printed.
const GRAFANA: &str = "
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
given = json.load(open(sys.argv[1]))
def compare(ours, theirs, path):
    if isinstance(ours, dict):
        for key, value in ours.items():
            if key not in theirs:
                print(path + '/' + key)
            else:
                compare(value, theirs[key], path + '/' + key)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, (one, other) in enumerate(zip(ours, theirs)):
            compare(one, other, f'{path}/{at}')
    elif ours != theirs:
        print(path)
compare(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given))), '')
";

#[test]
fn grafanas_own_model_knows_every_field_of_the_dashboard() {
    let Some(python) = python_tool("python") else { return };
    let lost = |path: &std::path::Path| {
        let run = checked(Command::new(&python).args(["-c", GRAFANA]).arg(path));
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let path = file("monitoring/dashboard.json");
    // Grafana writes this one itself for a variable with a query, though its model has no name for it.
    let own = ["/templating/list/1/definition", "/templating/list/2/definition"];
    assert_eq!(lost(&path), own);
    let changed = tempfile::NamedTempFile::new().unwrap();
    let text = fs::read_to_string(path).unwrap().replacen("\"gridPos\"", "\"gridPosition\"", 1);
    fs::write(changed.path(), text).unwrap();
    assert!(lost(changed.path()).contains(&"/panels/0/gridPosition".to_owned()));
}

#[test]
fn the_panels_of_the_dashboard_do_not_cover_each_other() {
    let text = fs::read_to_string(file("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        assert!(at("x") + at("w") <= 24, "{panel:#}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let names: Vec<&str> = variables.map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "zone"]);
}
