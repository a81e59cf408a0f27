//! What `deploy/release` makes, installed by the lines of the documentation and used.
//!
//! The files are made once for all of these tests.

mod debian;
mod django;
mod images;
mod list;
mod machines;
mod settings;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{checked, file, has, static_binary};
use crate::start::{Start, written};
use crate::world::{DAY, Run, World, can_be_root, export_name, is_present};

/// Where the documentation finds the data root on a host.
const DATA: &str = "var/lib/docker/volumes/cvat_cvat_data/_data";

/// A file of the repository.
fn text_of(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The binaries that are released: the static one, and one for the other kind of machine. That one is
/// `SWEEPER_TESTS_STATIC_ARM64`, or else the first with the head of a file for that machine, which is all that a
/// release looks at.
fn binaries() -> Option<&'static [PathBuf; 2]> {
    static BOTH: LazyLock<Option<[PathBuf; 2]>> = LazyLock::new(|| {
        let own = static_binary()?;
        let other = std::env::var_os("SWEEPER_TESTS_STATIC_ARM64").map(PathBuf::from);
        let other = other.unwrap_or_else(|| {
            let mut bytes = fs::read(&own).unwrap();
            bytes[18..20].copy_from_slice(&[0xb7, 0]);
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweeper-arm64");
            fs::write(&path, bytes).unwrap();
            path
        });
        Some([own, other])
    });
    BOTH.as_ref()
}

/// Makes the files in `dir`.
fn release(dir: &Path) {
    let mut command = Command::new(file("release"));
    for binary in binaries().unwrap() {
        command.arg("--binary").arg(binary);
    }
    checked(command.arg("--allow-dirty").arg(dir));
}

/// The directory of the files that are released.
fn released() -> Option<&'static Path> {
    static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        binaries()?;
        if !["dh", "dpkg-buildpackage", "git"].into_iter().all(has) {
            return None;
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("released");
        release(&dir);
        Some(dir)
    });
    DIR.as_deref()
}

/// The only released file with this in its name.
fn released_file(part: &str) -> Option<PathBuf> {
    let files = fs::read_dir(released()?).unwrap().map(|entry| entry.unwrap().path());
    let is = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains(part);
    let mut files = files.filter(is);
    let file = files.next();
    assert!(files.next().is_none(), "more than one *{part}*");
    file.or_else(|| panic!("no *{part}*"))
}

/// The blocks of shell lines below a heading of a document, as one script.
fn lines_below(document: &str, heading: &str) -> String {
    let text = text_of(document);
    let (_, below) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let section = below.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// A data root with an expired export and one of this moment: the lines of the documentation give no time.
fn data_root() -> World {
    let world = World::new();
    world.file(Path::new("cache/export").join(export_name(1)), 400 * DAY);
    let fresh = world.path("cache/export").join(export_name(2));
    written(|| fs::write(fresh, "abcd")).unwrap();
    world
}

/// Makes a root directory of its own from the bare Debian, with what is released and a data root.
const BARE: &str = r#"
set -eu
cd "$1"
mkdir layers rootfs
mount -t tmpfs layers layers
mkdir layers/upper layers/work
mount -t overlay root rootfs -o lowerdir="$2",upperdir=layers/upper,workdir=layers/work
mkdir -p rootfs/released "rootfs/$5"
cp -r "$3"/. rootfs/released
mount --bind "$4" "rootfs/$5"
mount -t proc proc rootfs/proc
exec chroot rootfs /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  HOME=/root DEBIAN_FRONTEND=noninteractive sh -eucx "cd /released; $6"
"#;

/// The root directory of a bare Debian.
fn debian() -> Option<PathBuf> {
    let root = std::env::var_os("SWEEPER_TESTS_DEBIAN").map(PathBuf::from);
    let is = is_present(root.is_some(), "SWEEPER_TESTS_DEBIAN, a root directory of Debian");
    (is && can_be_root("a root directory of its own") && has("unshare")).then(|| root.unwrap())
}

/// Runs a script as root on a bare Debian that has no network, in the directory of the released files.
fn on_bare_debian(world: &World, script: &str) -> Option<Run> {
    let (released, debian) = (released()?, debian()?);
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "sh", "-c", BARE, "sh"]);
    command.arg(scratch.path()).arg(debian).arg(released).arg(&world.root).args([DATA, script]);
    Some(Run::from(command.finish().unwrap()))
}

/// Asserts that a dry run was the last thing that happened, and that it would remove the expired export only.
#[track_caller]
fn assert_dry_run(world: &World, run: &Run) {
    run.exits(0);
    let last = run.stdout.trim_end().lines().last().unwrap_or_default();
    let is = last.contains("would remove 1 of 2 entries") && last.contains("nothing was removed");
    assert!(is, "{}\n{}", run.stdout, run.stderr);
    assert!(world.has(Path::new("cache/export").join(export_name(1))), "it was a dry run");
}

#[test]
fn the_first_lines_of_the_readme_lead_from_a_release_to_a_dry_run() {
    let world = data_root();
    let script = lines_below("README.md", "## Install");
    // The lines for the files of a release come first, then those for the sources.
    let lines = script.split("\ncargo run").next().unwrap();
    let Some(run) = on_bare_debian(&world, lines) else { return };
    assert_dry_run(&world, &run);
    let archive = format!("sweeper-{}-x86_64-linux.tar.gz: OK", env!("CARGO_PKG_VERSION"));
    assert!(run.stdout.contains(&archive), "{}", run.stdout);
}

#[test]
fn the_binary_and_the_wheel_get_from_nothing_to_a_dry_run_by_the_lines_of_the_documentation() {
    for heading in ["### Prebuilt binary", "### Python wheel and Django"] {
        let world = data_root();
        let script = lines_below("docs/deployment.md", heading);
        // What follows in that section needs a Django project.
        let lines = script.split("\npython manage.py").next().unwrap();
        let Some(run) = on_bare_debian(&world, lines) else { return };
        assert_dry_run(&world, &run);
    }
}

#[test]
fn what_a_release_cannot_do_is_refused_before_it_begins() {
    // A machine with no tools but these.
    let tools = tempfile::tempdir().unwrap();
    for tool in ["dirname", "realpath"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(tool), tools.path().join(tool))
            .unwrap();
    }
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--binray", "x"], 2, "unknown option --binray; usage:"),
        (&["here", "there"], 2, "there: one directory is enough; usage:"),
        (&["--binary", "/nowhere"], 2, "/nowhere: No such file"),
        (&[], 1, "cargo is missing: install a Rust toolchain"),
    ];
    for (args, code, message) in cases {
        let mut command = Command::new("/bin/bash");
        command.arg(file("release")).args(args).env("PATH", tools.path());
        let run = Run::from(command.finish().unwrap());
        run.exits(code);
        assert!(run.stderr.contains(message), "{}", run.stderr);
    }
}

#[test]
fn the_same_sources_make_the_same_bytes() {
    let Some(released) = released() else { return };
    let again = tempfile::tempdir().unwrap();
    release(again.path());
    let mut check = Command::new("sha256sum");
    check.arg("--check").arg(released.join("SHA256SUMS")).current_dir(again.path());
    let run = checked(&mut check);
    assert_eq!(run.stdout.matches(": OK\n").count(), 14, "{}", run.stdout);
}
