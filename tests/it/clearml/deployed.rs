//! The files in `deploy/clearml`: the script with the SDK's three calls in its place, and the sidecar's settings.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::double::{Double, python};
use super::seeds::{id, task, task_of};
use crate::start::Start;
use crate::world::{Run, is_present, sweeper};

/// The part of the official SDK that the script uses. It writes down each call.
const SDK: &str = r#"
import json, os, sys

def note(what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(what) + "\n")

class Task:
    class TaskTypes:
        service = "service"

    @classmethod
    def init(cls, project_name, task_name, task_type):
        note(["init", project_name, task_name, task_type])
        return cls()

    @staticmethod
    def running_locally():
        return True

    def connect(self, parameters):
        note(["connect", parameters])
        return {**parameters, **json.loads(os.environ["EDITED"])}

    def execute_remotely(self, queue_name, exit_process):
        note(["execute_remotely", queue_name, exit_process])
        sys.exit(0)
"#;

/// Runs the script with parameters that were edited in the web interface.
fn script(double: &Double, edited: &str) -> (Run, String) {
    let dir = double.path("sdk");
    fs::create_dir_all(dir.join("clearml")).unwrap();
    fs::write(dir.join("clearml/__init__.py"), SDK).unwrap();
    let copy = dir.join("cleanup_service.py");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/clearml/cleanup_service.py");
    fs::copy(original, &copy).unwrap();
    let program = dir.join("sweeper");
    if !program.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sweeper"), &program).unwrap();
    }
    let mut command = Command::new(python());
    command.arg(copy).env_clear().stdin(std::process::Stdio::null());
    for (name, value) in double.command(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("NOTES", dir.join("notes")).env("EDITED", edited);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let run = Run::from(command.finish().unwrap());
    (run, fs::read_to_string(dir.join("notes")).unwrap())
}

#[test]
fn the_script_makes_the_service_task_connects_four_parameters_and_runs_with_them() {
    // The script judges at the present moment, long after that of the other tests.
    let double = Double::with_tasks(&[task("old", &[]), task_of("older", 80 * 86_400, &[])]);
    let (run, notes) =
        script(&double, r#"{"run_as_service": "False", "delete_threshold_days": "15000"}"#);
    assert_eq!(run.exits(0).stdout, "Starting cleanup\n", "{}", run.stderr);
    assert_eq!(double.left("tasks").len(), 2);
    assert!(notes.contains(r#"["init", "DevOps", "Cleanup Service", "service"]"#), "{notes}");
    let parameters = r#"["connect", {"delete_threshold_days": 30.0, "cleanup_period_in_days": 1.0, "run_as_service": true, "force_delete": false}]"#;
    assert!(notes.contains(parameters), "{notes}");
    let (run, notes) = script(&double, r#"{"run_as_service": false, "force_delete": "True"}"#);
    assert_eq!(run.exits(0).stdout, "Starting cleanup\nDeleting 2 tasks\n", "{}", run.stderr);
    assert!(!double.left("tasks").contains(&id("old")));
    assert!(!notes.contains("execute_remotely"));
    assert_eq!(double.bodies("tasks.delete_many")[0]["force"], true);
}

#[test]
fn the_settings_of_the_sidecar_are_known_and_the_journal_outlives_the_container() {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/clearml/sweeper.compose.yml");
    let output = Command::new(python()).args(["-c", script]).arg(file).finish().unwrap();
    let has_yaml =
        output.status.success() || !String::from_utf8_lossy(&output.stderr).contains("No module");
    if !is_present(has_yaml, "PyYAML") {
        return;
    }
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let service = &whole["services"]["clearml_sweeper"];
    let mut command = sweeper(&["config"]);
    for (name, value) in service["environment"].as_object().unwrap() {
        // ${NAME:-default}, with nothing set.
        let value = value.as_str().unwrap();
        let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        command.env(name, inner.map_or(value, |inner| inner.split_once(":-").unwrap().1));
    }
    let config = Run::of(command);
    let shown = &config.exits(0).stdout;
    for (key, value) in [
        ("clearml_files", "mount"),
        ("clearml_fileserver_root", "/mnt/fileserver"),
        ("clearml_state", "/state"),
        ("clearml_delete_threshold_days", "30"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        assert!(line.contains(&format!("\"{value}\"")), "{line}");
    }
    let volumes: Vec<&str> =
        service["volumes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(
        volumes,
        ["/opt/clearml/data/fileserver:/mnt/fileserver", "clearml_sweeper_state:/state"]
    );
    assert_eq!(service["command"], serde_json::json!(["clearml", "serve"]));
    assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
    assert!(service.get("depends_on").is_none(), "Compose would create that service anew");
    assert_eq!(service["healthcheck"]["test"], serde_json::json!(["CMD", "/sweeper", "health"]));
}
