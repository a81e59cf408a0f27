//! The files in `deploy/`: each is run here, or checked by the usual checker of its kind.
//!
//! The binary is the static one that `deploy/build-static` makes; `tests/run` builds it and sets its path.

mod alone;
mod booted;
mod container;
mod helm;
mod image;
mod installed;
mod kubectl;
mod kubernetes;
mod monitoring;
mod sidecar;
mod systemd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::start::Start;
use crate::world::{Run, is_present, tool};

/// Whether a command is installed.
fn has(program: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    is_present(places.iter().any(|dir| Path::new(dir).join(program).exists()), program)
}

/// A command from the tests' own Python environment.
fn python_tool(program: &str) -> Option<PathBuf> {
    let python = std::env::var_os("SWEEPER_TESTS_PYTHON").map(PathBuf::from);
    let tool = python.map(|python| python.with_file_name(program)).filter(|path| path.exists());
    is_present(tool.is_some(), program).then(|| tool.unwrap())
}

/// The static binary.
fn static_binary() -> Option<PathBuf> {
    let path = std::env::var_os("SWEEPER_TESTS_STATIC").map(PathBuf::from);
    is_present(path.is_some(), "SWEEPER_TESTS_STATIC, what deploy/build-static has built")
        .then(|| path.unwrap())
}

/// A file below `deploy/`.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// A YAML file as JSON.
fn yaml(path: &str) -> Option<Value> {
    let python = python_tool("python")?;
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let run = checked(Command::new(python).args(["-c", script]).arg(file(path)));
    Some(serde_json::from_str(&run.stdout).unwrap())
}

/// Runs a checker, which must succeed.
#[track_caller]
fn checked(command: &mut Command) -> Run {
    let run = Run::from(command.finish().unwrap());
    run.exits(0);
    run
}

/// The seconds of a duration as settings write it.
fn seconds(duration: &str) -> u64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    number.parse::<u64>().unwrap() * if unit == "h" { 3600 } else { 60 }
}

/// Copies a program, by a process that does nothing else. If this process wrote it, a child of another test
/// could inherit it open for writing, and then the system would refuse to run it.
fn put(program: &Path, to: &Path) {
    tool("cp", &[program.as_os_str(), to.as_os_str()]);
}

/// A root directory with the binary and nothing else, which every user can enter.
fn root_with(binary: &Path) -> tempfile::TempDir {
    let root = tempfile::Builder::new().prefix("sweeper-root-").tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    put(binary, &root.path().join("sweeper"));
    root
}

/// The files below `deploy/`. A new one needs a test and a line here.
const KNOWN: &[&str] = &[
    "build-static",
    "clearml/cleanup_service.py",
    "clearml/sweeper.compose.yml",
    "cvat/swept.py",
    "debian/build",
    "debian/control",
    "debian/copyright",
    "debian/install",
    "debian/lintian-overrides",
    "debian/postinst",
    "debian/prerm",
    "debian/rules",
    "debian/sweeper.toml",
    "docker/Dockerfile",
    "docker/Dockerfile.dockerignore",
    "docker/archive",
    "docker/build",
    "docker/source.Dockerfile",
    "docker/sweeper.compose.yml",
    "helm/sweeper/Chart.yaml",
    "helm/sweeper/files/alerts.yml",
    "helm/sweeper/files/dashboard.json",
    "helm/sweeper/templates/NOTES.txt",
    "helm/sweeper/templates/_helpers.tpl",
    "helm/sweeper/templates/cronjob.yaml",
    "helm/sweeper/templates/dashboard.yaml",
    "helm/sweeper/templates/deployment.yaml",
    "helm/sweeper/templates/indexed-job.yaml",
    "helm/sweeper/templates/podmonitor.yaml",
    "helm/sweeper/templates/prometheusrule.yaml",
    "helm/sweeper/values.schema.json",
    "helm/sweeper/values.yaml",
    "kubernetes/cronjob.yaml",
    "kubernetes/kustomization.yaml",
    "kubernetes/serve/deployment.yaml",
    "kubernetes/serve/kustomization.yaml",
    "kubernetes/serve/podmonitor.yaml",
    "kubernetes/settings/kustomization.yaml",
    "kubernetes/shards/indexed-job.yaml",
    "kubernetes/shards/kustomization.yaml",
    "licenses",
    "machine",
    "monitoring/alerts.test.yml",
    "names-built-in.c",
    "release",
    "sbom",
    "systemd/sweeper-serve.service",
    "systemd/sweeper.service",
    "systemd/sweeper.timer",
    "wheel/build",
    "wheel/sweeper_django/__init__.py",
    "wheel/sweeper_django/__main__.py",
    "wheel/sweeper_django/management/__init__.py",
    "wheel/sweeper_django/management/commands/__init__.py",
    "wheel/sweeper_django/management/commands/exportcachecleanup.py",
];

#[test]
fn every_file_is_exercised_or_checked() {
    let mut all: Vec<String> = walkdir::WalkDir::new(file(""))
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(file("")).unwrap().to_str().unwrap().to_owned())
        .collect();
    all.sort();
    assert_eq!(all, KNOWN);
}
