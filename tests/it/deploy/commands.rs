//! The lines of the documentation that begin with `docker`, run as they stand, with a `docker` that runs the
//! command of a container here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::start::Start;
use crate::world::{DAY, Run, World, export_name};

/// Runs what `docker exec CONTAINER` is told to, and copies what `docker cp` is told to.
const DOCKER: &str = "#!/bin/bash
set -euo pipefail
case \"$1\" in
  cp) [ \"${3%%:*}\" = cvat_worker_utils ] && cp \"$2\" \"$CONTAINER/sweeper\" ;;
  exec) [ \"$2\" = cvat_worker_utils ] && shift 2
    if [ \"$1\" = /tmp/sweeper ]; then shift; set -- \"$CONTAINER/sweeper\" \"$@\"; fi
    exec \"$@\" ;;
  *) exit 3 ;;
esac
";

#[test]
fn what_the_documentation_runs_in_a_container_works_when_it_is_pasted() {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 400 * DAY);
    let dir = tempfile::tempdir().unwrap();
    let docker = dir.path().join("docker");
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, PermissionsExt::from_mode(0o755)).unwrap();
    super::put(Path::new(env!("CARGO_BIN_EXE_sweeper")), &dir.path().join("sweeper"));
    let mut ran = 0;
    for file in ["README.md", "docs/troubleshooting.md", "docs/deployment.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let lines = text.lines().map(str::trim);
        let pasted = lines.filter(|line| {
            line.starts_with("docker cp ")
                || line.starts_with("docker exec cvat_worker_utils /tmp/")
        });
        for line in pasted {
            let container = dir.path().join("container");
            fs::create_dir_all(&container).unwrap();
            let mut shell = Command::new("bash");
            shell.args(["-euc", line]).current_dir(dir.path()).env_clear();
            shell.env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()));
            shell.env("CONTAINER", &container).env("SWEEPER_DATA", &world.root);
            let run = Run::from(shell.finish().unwrap());
            assert_eq!(run.code, Some(0), "{file}: {line}\n{}{}", run.stdout, run.stderr);
            ran += 1;
        }
    }
    assert!(ran >= 10, "{ran} lines");
    assert!(!world.path("cache/export").join(export_name(1)).exists(), "one of them removes");
}
