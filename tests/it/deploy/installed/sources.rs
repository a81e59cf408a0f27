//! `cargo install` from the packaged sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{assert_dry_run, checked, data_root, lines_below, released_file, text_of};
use crate::start::Start;
use crate::world::{Run, is_present};

#[test]
fn the_packaged_sources_get_to_a_dry_run_by_the_lines_of_the_documentation() {
    let Some(sources) = released_file(".crate") else { return };
    let deps = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug/deps");
    if !is_present(deps.exists(), "a build with the profile `dev`") {
        return;
    }
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let unpacked = scratch.path().join(sources.file_stem().unwrap());
    checked(Command::new("tar").arg("-xzf").arg(sources).arg("-C").arg(scratch.path()));

    // A build directory of its own, since the programs in the other are in use. What was built for these tests is
    // in it already, and the program itself is built without optimization: as documented it takes minutes.
    let target = scratch.path().join("target");
    fs::create_dir_all(target.join("debug")).unwrap();
    let debug = deps.parent().unwrap();
    for (how, name) in [("-al", "deps"), ("-a", "build"), ("-a", ".fingerprint")] {
        checked(Command::new("cp").arg(how).arg(debug.join(name)).arg(target.join("debug")));
    }
    let script = r#"
cargo() {
  command cargo "$@" --debug --offline --quiet --root "$INSTALLED" --config "profile.dev.package.retention-sweeper.debug=false"
}
"#;
    let world = data_root();
    let lines = lines_below("docs/deployment.md", "### From the sources");
    let data = format!("/{}", super::DATA);
    assert!(
        lines.contains("cargo install --locked --path .\n") && lines.contains(&data),
        "{lines}"
    );
    let lines = lines.replace(&data, world.root.to_str().unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euc", &format!("{script}{lines}")]).current_dir(&unpacked);
    let installed = scratch.path().join("installed");
    let path = std::env::var("PATH").unwrap();
    // The variables of this process are those of a test: build scripts would run again for them.
    for name in std::env::vars_os().map(|(name, _)| name) {
        let is_of_cargo = name.to_str().is_some_and(|name| name.starts_with("CARGO_"));
        if is_of_cargo && name != "CARGO_HOME" {
            shell.env_remove(name);
        }
    }
    shell.env("PATH", format!("{}:{path}", installed.join("bin").display()));
    shell.env("INSTALLED", &installed).env("CARGO_TARGET_DIR", &target).env_remove("RUSTFLAGS");
    shell.env("CARGO_INCREMENTAL", "0");
    assert_dry_run(&world, &Run::from(shell.finish().unwrap()));
}

#[test]
fn the_packaged_sources_are_those_of_the_repository() {
    let Some(sources) = released_file(".crate") else { return };
    let list = checked(Command::new("tar").arg("-tzf").arg(sources));
    let has = |path: &str| list.stdout.lines().any(|line| line.split_once('/').unwrap().1 == path);
    // What the documentation and the tests name is in it, and what only the machines of the project use is not.
    for path in
        ["Cargo.lock", "LICENSE", "README.md", "deploy/release", "tests/run", "docs/deployment.md"]
    {
        assert!(has(path), "{path}: {}", list.stdout);
    }
    assert!(!list.stdout.contains("/.ci/"), "{}", list.stdout);
    assert!(text_of(".gitignore").contains("/target"), "nothing that was built is in it");
}
