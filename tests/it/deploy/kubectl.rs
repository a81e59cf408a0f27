//! The lines of the documentation that begin with `kubectl` and `helm`. There is no cluster here: the real programs
//! say whether they know the words, and one that plays a cluster runs the lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::python_tool;
use crate::start::Start;
use crate::world::Run;

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

/// Plays a cluster in which a job gets its container at the third look, and names are taken once.
const CLUSTER: &str = "#!/bin/bash
set -euo pipefail
[ \"$1\" = -n ] && shift 2
case \"$1 ${2-}\" in
  'create job')
    mkdir \"$STATE/${@: -1}\" || { echo 'AlreadyExists' >&2; exit 1; } ;;
  'logs -f')
    job=$STATE/${3#job/}
    [ -d \"$job\" ] || { echo 'NotFound' >&2; exit 1; }
    echo >> \"$job/looks\"
    [ $(wc -l < \"$job/looks\") -ge 3 ] || {
      echo 'Error from server (BadRequest): container \"sweeper\" is waiting to start' >&2; exit 1; }
    echo 'the report' ;;
  *) echo \"not played: $*\" >&2; exit 3 ;;
esac
";

#[test]
fn the_lines_that_run_the_cron_job_now_print_its_report_each_time() {
    let dir = tempfile::tempdir().unwrap();
    put_program(dir.path(), "kubectl", CLUSTER);
    put_program(dir.path(), "sleep", "#!/bin/bash\n");
    // A second later each time.
    put_program(
        dir.path(),
        "date",
        "#!/bin/bash\necho >> \"$STATE/clock\"; wc -l < \"$STATE/clock\"\n",
    );
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let blocks = blocks_with(&["kubectl "]);
    let block = blocks.iter().find(|block| block.contains("create job")).unwrap();
    for _ in 0..2 {
        let mut shell = shell(&format!("set -e\n{block}"), dir.path());
        let run = Run::from(shell.env("STATE", &state).finish().unwrap());
        assert_eq!(run.exits(0).stdout, "the report\n", "{}", run.stderr);
        assert_eq!(run.stderr.matches("waiting to start").count(), 2);
    }
}
