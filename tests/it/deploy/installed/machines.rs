//! Each file of a release that has a program in it has that of its machine, and the checksums cover all files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{binaries, checked, file, has, released, released_file, text_of};
use crate::start::Start;
use crate::world::Run;

/// A machine as the kernel, as Debian and as wheels call it.
const MACHINES: [(&str, &str, &str); 2] =
    [("x86_64", "amd64", "manylinux2014_x86_64"), ("aarch64", "arm64", "manylinux2014_aarch64")];

/// Asserts that the program at `path` is this one.
#[track_caller]
fn assert_same(path: &Path, binary: &Path) {
    let same = fs::read(path).unwrap() == fs::read(binary).unwrap();
    assert!(same, "{} is not {}", path.display(), binary.display());
}

#[test]
fn each_archive_package_and_wheel_has_the_program_of_its_machine() {
    let Some(both) = binaries() else { return };
    for (binary, (machine, debian, wheel)) in both.iter().zip(MACHINES) {
        let dir = tempfile::tempdir().unwrap();
        let Some(archive) = released_file(&format!("-{machine}-linux.tar.gz")) else { return };
        checked(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()));
        let unpacked =
            dir.path().join(format!("sweeper-{}-{machine}-linux", env!("CARGO_PKG_VERSION")));
        assert_same(&unpacked.join("sweeper"), binary);

        let package = released_file(&format!("_{debian}.deb")).unwrap();
        let field = checked(Command::new("dpkg-deb").arg("-f").arg(&package).arg("Architecture"));
        assert_eq!(field.stdout.trim(), debian);
        let root = dir.path().join("root");
        checked(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root));
        assert_same(&root.join("usr/bin/sweeper"), binary);
        // The manual page is not printed by a program that cannot run here.
        let pages = root.join("usr/share/man/man8/sweeper.8.gz");
        assert!(fs::metadata(pages).unwrap().len() > 1000);

        let wheel = released_file(wheel).unwrap();
        let tag = format!("_{machine}.whl");
        assert!(wheel.to_str().unwrap().ends_with(&tag), "{}", wheel.display());
        let unzip = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";
        checked(Command::new("python3").args(["-c", unzip]).arg(wheel).arg(&root));
        assert_same(&root.join("sweeper_django/bin/sweeper"), binary);

        let list = released_file(&format!("-{machine}-linux.cdx.json")).unwrap();
        let list: Value = serde_json::from_str(&fs::read_to_string(list).unwrap()).unwrap();
        let named = &list["metadata"]["component"]["hashes"][0]["content"];
        let sum = checked(Command::new("sha256sum").arg(binary)).stdout;
        assert_eq!(sum.split(' ').next(), named.as_str());
    }
}

#[test]
fn the_checksums_cover_every_file_and_the_documentation_names_every_file() {
    let Some(dir) = released() else { return };
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    let summed: BTreeSet<&str> =
        sums.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> = files.map(|name| name.into_string().unwrap()).collect();
    let all: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(&all - &summed, BTreeSet::from(["SHA256SUMS"]));
    let docs = text_of("docs/deployment.md");
    for name in summed {
        let name = MACHINES.iter().fold(name.to_owned(), |name, (machine, debian, _)| {
            name.replace(machine, "MACHINE").replace(debian, "MACHINE")
        });
        let name = name.split("-py3").next().unwrap();
        assert!(docs.contains(name), "docs/deployment.md does not name {name}");
    }
}

#[test]
fn what_the_documentation_uses_of_deploy_is_in_the_archive() {
    let Some(archive) = released_file("-x86_64-linux.tar.gz") else { return };
    let dir = tempfile::tempdir().unwrap();
    checked(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()));
    let unpacked = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    // These build something from the sources, so they are in the packaged sources only.
    let builders = ["build-static", "release", "docker/build", "docker/source.Dockerfile"];
    let mut found = 0;
    for page in ["README.md", "docs/deployment.md", "docs/metrics.md", "docs/clearml.md"] {
        for rest in text_of(page).split("deploy/").skip(1) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
            let path = rest.split(|c| !is_part(c)).next().unwrap();
            // Of `systemd/sweeper.*`, the directory; of the name at the end of a sentence, no full stop.
            let is_pattern = rest[path.len()..].starts_with('*');
            let path = if is_pattern { path.rsplit_once('/').unwrap().0 } else { path };
            let path = path.trim_end_matches(['.', '/']);
            if path.is_empty() || builders.contains(&path) || rest.starts_with("cvat-") {
                continue;
            }
            assert!(unpacked.join("deploy").join(path).exists(), "{page}: deploy/{path}");
            found += 1;
        }
    }
    assert!(found > 12, "{found}");
    // Links from the pages lead somewhere, and alert rules and the dashboard are files and no links into nothing.
    for path in ["docs/deployment.md", "CONTRIBUTING.md", "deploy/monitoring/alerts.yml"] {
        assert!(fs::read(unpacked.join(path)).unwrap().len() > 1000, "{path}");
    }
}

#[test]
fn the_packaged_chart_is_the_chart() {
    let Some(chart) = released_file("sweeper-chart-") else { return };
    let dir = tempfile::tempdir().unwrap();
    checked(Command::new("tar").arg("-xzf").arg(chart).arg("-C").arg(dir.path()));
    let mut diff = Command::new("diff");
    diff.arg("-r").arg(file("helm/sweeper")).arg(dir.path().join("sweeper"));
    assert_eq!(checked(&mut diff).stdout, "");
}

#[test]
fn a_release_without_a_binary_for_this_machine_is_refused() {
    let Some([_, other]) = binaries() else { return };
    if !has("dh") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(file("release"));
    command.arg("--binary").arg(other).arg("--allow-dirty").arg(dir.path());
    let run = Run::from(command.finish().unwrap());
    run.exits(1);
    assert!(run.stderr.contains("none can print the manual page"), "{}", run.stderr);
    let mut command = Command::new(file("machine"));
    let run = Run::from(command.arg(file("release")).finish().unwrap());
    run.exits(1);
    assert!(run.stderr.contains("is no binary for x86_64 or aarch64"), "{}", run.stderr);
}
