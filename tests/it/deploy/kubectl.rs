//! The lines of the documentation that begin with `kubectl` and `helm`. There is no cluster here: the real programs
//! say whether they know the words, and one that plays a cluster runs the lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::python_tool;
use crate::start::Start;
use crate::world::{DAY, Run, World, export_name};

/// The files that have such lines.
const FILES: [&str; 3] = ["README.md", "docs/deployment.md", "docs/troubleshooting.md"];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The shell blocks with a line that runs one of these programs.
fn blocks_with(programs: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in FILES {
        let text = read(file);
        let blocks = text.split("```sh\n").skip(1).map(|part| part.split("```").next().unwrap());
        let runs = |block: &&str| programs.iter().any(|program| block.contains(program));
        found.extend(blocks.filter(runs).map(str::to_owned));
    }
    assert!(found.len() >= 5, "{found:#?}");
    found
}

/// Runs the real program, which finds no cluster.
const REAL: &str = "#!/bin/bash
echo \"RAN $(basename \"$0\") $*\" >&2
case $(basename \"$0\") in
  kubectl) \"$REAL_KUBECTL\" --server=http://127.0.0.1:1 --request-timeout=1s \"$@\" < /dev/null ;;
  helm) \"$REAL_HELM\" --kube-apiserver http://127.0.0.1:1 \"$@\" ;;
esac
exit 0
";

fn put_program(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
    fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

fn shell(block: &str, dir: &Path) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-uc", block]).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    shell.env("PATH", format!("{}:/usr/bin:/bin", dir.display())).env("HOME", dir);
    shell
}

#[test]
fn kubectl_and_helm_know_every_word_of_the_documented_lines() {
    let Some(kubectl) = python_tool("kubectl") else { return };
    let Some(helm) = python_tool("helm") else { return };
    let dir = tempfile::tempdir().unwrap();
    for program in ["kubectl", "helm"] {
        put_program(dir.path(), program, REAL);
    }
    // Conditions come at once: nothing is waited for.
    put_program(dir.path(), "grep", "#!/bin/bash\ncat\n");
    let mut said = String::new();
    for block in blocks_with(&["kubectl ", "helm "]) {
        let block = block.replace("< sweeper", "");
        let mut shell = shell(&block, dir.path());
        shell.env("REAL_KUBECTL", &kubectl).env("REAL_HELM", &helm);
        said += &Run::from(shell.finish().unwrap()).stderr;
    }
    assert!(said.matches("RAN kubectl").count() >= 9, "{said}");
    assert!(said.matches("RAN helm").count() >= 3, "{said}");
    // Each of them got as far as to ask for the cluster.
    for one in said.split("RAN ").skip(1) {
        assert!(one.contains("127.0.0.1:1"), "{one}");
        for word in ["unknown", "Usage", "invalid", "must be specified", "no such file"] {
            assert!(!one.contains(word), "{word}: {one}");
        }
    }
}

/// Plays a cluster that refuses what a real one does: a name that is taken, a change of a job, the log of a container
/// that has not started, a pod picked from a list, where it may be one that is ending.
const CLUSTER: &str = r#"#!/bin/bash
set -euo pipefail
refuse() { echo "kubectl: $1" | tee -a "$STATE/refused" >&2; exit 1; }
# The container of a job runs at the third look.
look() {
  [ -e "$STATE/$1" ] || refuse "NotFound: $1"
  echo >> "$STATE/looks"
  [ "$(wc -l < "$STATE/looks")" -gt 2 ] || return 1
  rm "$STATE/looks"
}
[ "$1" != -n ] || { [ "$2" = cvat ] || refuse "namespace $2"; shift 2; }
case "$1" in
  exec)
    [ "$2" != -i ] || shift
    [ "$2 $3 $4 $5" = "deploy/cvat-backend-worker-utils -c cvat-backend --" ] || refuse "exec $2"
    shift 5
    exec "${@//\/tmp\//$STATE/}" ;;
  apply)
    [ "$2" = -k ] && [ -e "$3/kustomization.yaml" ] || refuse "$*"
    [ "$3" != deploy/kubernetes/shards ] || refuse "a job cannot be changed"
    [ "$3" != deploy/kubernetes ] || touch "$STATE/cronjob" ;;
  replace)
    [ "$2 $3" = "--force -k" ] && [ -e "$4/kustomization.yaml" ] || refuse "$*"
    touch "$STATE/cvat-sweeper-shards" ;;
  create)
    [ "$2 $3" = "job --from=cronjob/cvat-sweeper" ] && [ -e "$STATE/cronjob" ] || refuse "$*"
    [ ! -e "$STATE/$4" ] || refuse "AlreadyExists: $4"
    touch "$STATE/$4" ;;
  get)
    [ "$2" = job/cvat-sweeper-shards ] || refuse "$*"
    look "${2#job/}" || { echo SuccessCriteriaMet; exit; }
    echo SuccessCriteriaMet Complete ;;
  logs)
    case "$2 ${3-}" in
      "-f job/"*) look "${3#job/}" || { echo "ContainerCreating" >&2; exit 1; } ;;
      "-l job-name="*) [ -e "$STATE/${3#job-name=}" ] || refuse "NotFound: $*" ;;
      "deploy/cvat-sweeper ") ;;
      *) refuse "$*" ;;
    esac
    echo report >> "$STATE/reports" ;;
  *) refuse "$*" ;;
esac
"#;

#[test]
fn what_the_documentation_runs_in_a_cluster_works_when_it_is_pasted_twice() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 400 * DAY);
    let dir = tempfile::tempdir().unwrap();
    put_program(dir.path(), "kubectl", CLUSTER);
    put_program(dir.path(), "sleep", "#!/bin/bash\n");
    super::put(Path::new(env!("CARGO_BIN_EXE_sweeper")), &dir.path().join("sweeper"));
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    // Variables that one block sets are used by later ones, as in one terminal.
    let pasted = blocks_with(&["kubectl "]).concat().replace("< sweeper", "< \"$HOME/sweeper\"");
    for time in 1..=2 {
        // The name of a job has the second in it; the next paste is later.
        let mut shell = shell(&format!("set -e\ndate() {{ echo {time}; }}\n{pasted}"), dir.path());
        shell.env("STATE", &state).env("SWEEPER_DATA", &world.root);
        let run = Run::from(shell.finish().unwrap());
        run.exits(0);
        assert!(run.stdout.contains("would remove 1 of 1") || time == 2, "{}", run.stdout);
    }
    assert!(!state.join("refused").exists(), "{:?}", fs::read_to_string(state.join("refused")));
    let reports = fs::read_to_string(state.join("reports")).unwrap();
    assert_eq!(reports.lines().count(), 6, "each report is read, though its container starts late");
    assert!(!world.path("cache/export").join(export_name(1)).exists(), "one of them removes");
}
