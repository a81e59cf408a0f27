//! A dry run foresees what rights refuse: the same totals and the same errors as the run that follows.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Island, Mounted, OLD, USER, bounded, message_of};
use crate::start::Start;
use crate::world::{Run, World, as_user, can_be_root, export_name, tool};

/// Two files, a flat tree and a deep one, all of them old, in a zone of their own each.
fn world_in(dir: &Path) -> World {
    let world = World::in_dir(dir);
    for path in
        ["tmp/file", "tmp/other", "tmp/flat/a", "tmp/flat/b", "tmp/deep/part/c", "tmp/deep/z"]
    {
        world.file_of(path, OLD, &[7; 5000]);
    }
    world.file(Path::new("cache/export").join(export_name(1)), OLD);
    world
}

fn world() -> World {
    let world = world_in(&std::env::temp_dir());
    world.chown(USER);
    world
}

fn command(world: &World, args: &[&str]) -> Command {
    world.command(&[&["run", "--format", "jsonl"], args].concat())
}

/// Runs a dry run and then a run. Both see `failed` entries that fail. Returns the report of the dry run.
#[track_caller]
fn assert_foreseen(world: &World, run: impl Fn(&[&str]) -> Command, failed: u64) -> Value {
    for tree in ["tmp/flat", "tmp/deep"] {
        if world.has(tree) {
            // What is read-only keeps its times.
            let _ = std::panic::catch_unwind(|| world.age_dirs(tree, OLD));
        }
    }
    let dry = Run::of(bounded(&run(&["--dry-run"])));
    let real = Run::of(bounded(&run(&[])));
    let outcomes = |run: &Run| -> BTreeMap<PathBuf, (String, String)> {
        let all = run.outcomes().into_iter();
        all.map(|(path, (outcome, why))| (path, (outcome.replace("would_remove", "removed"), why)))
            .collect()
    };
    assert_eq!(outcomes(&dry), outcomes(&real), "{}\n{}", dry.stdout, real.stdout);
    let (foreseen, report) = (dry.exits(1).json(), real.exits(1).json());
    assert_eq!(foreseen["totals"], report["totals"], "{foreseen:#}\n{report:#}");
    assert_eq!(foreseen["totals"]["failed"], failed, "{foreseen:#}");
    for text in [&dry.stdout, &dry.stderr, &real.stdout, &real.stderr] {
        assert!(!text.contains("os error"), "{text}");
    }
    foreseen
}

fn chmod(world: &World, path: &str, mode: u32) {
    fs::set_permissions(world.path(path), PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_may_not_be_written_is_foreseen_at_any_depth() {
    if !can_be_root("other users") {
        return;
    }
    let as_owner = |world: &World, args: &[&str]| as_user(USER, &command(world, args));
    let own = world();
    chmod(&own, "tmp/deep/part", 0o555);
    assert_foreseen(&own, |args| as_owner(&own, args), 1);
    let foreign = world();
    lchown(foreign.path("tmp/deep/part"), Some(0), Some(0)).unwrap();
    chmod(&foreign, "tmp/deep/part", 0o755);
    let report = assert_foreseen(&foreign, |args| as_owner(&foreign, args), 1);
    let said = message_of(&report, &foreign.path("tmp/deep/part/c"));
    assert!(said.contains("belongs to uid 0 gid 0 with mode 0755"), "{said}");
    let top = world();
    chmod(&top, "tmp", 0o555);
    assert_foreseen(&top, |args| as_owner(&top, args), 4);
}

#[test]
fn a_sticky_directory_is_foreseen() {
    if !can_be_root("other users") {
        return;
    }
    let world = world();
    for path in ["tmp", "tmp/file", "tmp/flat", "tmp/flat/a"] {
        lchown(world.path(path), Some(0), Some(0)).unwrap();
    }
    chmod(&world, "tmp", 0o1777);
    // In it, one file may be removed and the other may not.
    chmod(&world, "tmp/flat", 0o1777);
    let report = assert_foreseen(&world, |args| as_user(USER, &command(&world, args)), 2);
    let said = message_of(&report, &world.path("tmp/file"));
    assert!(said.contains("the directory is sticky: run sweeper as the owner"), "{said}");
    assert!(!world.has("tmp/other") && world.has("tmp/file"));
}

#[test]
fn an_access_control_list_is_foreseen() {
    if !can_be_root("other users") {
        return;
    }
    let world = world();
    let script = "
import os, struct, sys
entries = [(1, 7, -1), (2, 5, 1000), (4, 7, -1), (16, 7, -1), (32, 7, -1)]
acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)
os.setxattr(sys.argv[1], 'system.posix_acl_access', acl)";
    let part = world.path("tmp/deep/part");
    lchown(&part, Some(0), Some(0)).unwrap();
    tool("python3", &["-c".as_ref(), script.as_ref(), part.as_os_str()]);
    let report = assert_foreseen(&world, |args| as_user(USER, &command(&world, args)), 1);
    let said = message_of(&report, &part.join("c"));
    assert!(said.contains("access control list") && said.contains("getfacl"), "{said}");
}

/// A file or directory with a flag of `chattr`, until the end.
struct Flagged(PathBuf, &'static str);

impl Flagged {
    fn new(path: PathBuf, flag: &'static str) -> Self {
        tool("chattr", &[format!("+{flag}").as_ref(), path.as_os_str()]);
        Self(path, flag)
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        // A part of a tree may be in removal now.
        let root = self.0.ancestors().find(|path| path.ends_with("data")).unwrap();
        let off = format!("-{}", self.1);
        let _ = Command::new("chattr").args(["-R", &off]).arg(root).ended();
    }
}

#[test]
fn files_and_directories_that_cannot_be_changed_are_foreseen() {
    if !can_be_root("chattr") {
        return;
    }
    for (path, flag, failed, at, hint) in [
        ("tmp/file", "i", 1, "tmp/file", "it is immutable: chattr -i"),
        ("tmp/file", "a", 1, "tmp/file", "it is append-only: chattr -a"),
        ("tmp/flat/b", "i", 1, "tmp/flat/b", "it is immutable: chattr -i"),
        ("tmp/deep/part", "i", 1, "tmp/deep/part/c", "the directory is immutable: chattr -i"),
        ("tmp/deep/part", "a", 1, "tmp/deep/part/c", "the directory is append-only: chattr -a"),
    ] {
        let world = world();
        for tree in ["tmp/flat", "tmp/deep"] {
            world.age_dirs(tree, OLD);
        }
        let _flagged = Flagged::new(world.path(path), flag);
        let report = assert_foreseen(&world, |args| command(&world, args), failed);
        let said = message_of(&report, &world.path(at));
        assert!(said.contains(hint), "{hint}: {said}");
        let why = world.run(&["why", world.path(at).to_str().unwrap(), "--format", "json"]);
        if path == at && at == "tmp/file" {
            let answer = &why.exits(0).json()["paths"][0];
            assert_eq!(
                (&answer["verdict"], &answer["reason"]),
                (&"failed".into(), &"EPERM".into())
            );
        }
    }
}

#[test]
fn a_read_only_snapshot_is_foreseen() {
    if !can_be_root("mounts") {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let image = disk.path().join("image");
    fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
    tool("mkfs.btrfs", &["-q".as_ref(), image.as_os_str()]);
    let island = Island::on(|at| {
        let mounted = Mounted::with(&["-o", "loop"], &image, at);
        tool("btrfs", &[OsStr::new("subvolume"), "create".as_ref(), at.join("live").as_os_str()]);
        mounted
    });
    let live = island.mount.0.join("live");
    let made = world_in(&live);
    for tree in ["tmp/flat", "tmp/deep"] {
        made.age_dirs(tree, OLD);
    }
    let snapshot = island.mount.0.join("snapshot");
    let args = ["subvolume", "snapshot", "-r"].map(OsStr::new);
    tool("btrfs", &[&args[..], &[live.as_os_str(), snapshot.as_os_str()]].concat());
    let below = made.root.strip_prefix(&live).unwrap();
    let frozen = snapshot.join(below);
    let of_snapshot = |args: &[&str]| {
        let mut command = crate::world::sweeper(&["run", "--format", "jsonl", "--now"]);
        command.args([crate::world::NOW, "--data"]).arg(&frozen).args(args);
        command
    };
    let dry = Run::of(bounded(&of_snapshot(&["--dry-run"])));
    let real = Run::of(bounded(&of_snapshot(&[])));
    assert_eq!(dry.exits(1).json()["totals"], real.exits(1).json()["totals"]);
    assert_eq!(dry.json()["totals"]["failed"], 5, "{}", dry.stdout);
    for run in [dry, real] {
        let said = message_of(&run.json(), &frozen.join("tmp/file"));
        assert!(said.contains("it is in a read-only snapshot or subvolume"), "{said}");
    }
}

/// Mounts a directory a second time, with numbers for root alone. Arguments: the directory, the mount point.
const IDMAPPED: &str = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
ready, pid = os.pipe(), os.fork()
if pid == 0:
    libc.unshare(0x10000000)
    os.write(ready[1], b'x')
    os.read(os.pipe()[0], 1)
os.read(ready[0], 1)
for kind in ('uid_map', 'gid_map'):
    open(f'/proc/{pid}/{kind}', 'w').write('0 0 1')
namespace = os.open(f'/proc/{pid}/ns/user', os.O_RDONLY)
tree = libc.syscall(428, -100, sys.argv[1].encode(), 1 | 0x80000)
attr = ctypes.create_string_buffer(struct.pack('QQQQ', 0x100000, 0, 0, namespace))
mapped = libc.syscall(442, tree, b'', 0x1000, attr, 32)
moved = libc.syscall(429, tree, b'', -100, sys.argv[2].encode(), 4)
os.kill(pid, 9)
assert (mapped, moved) == (0, 0), os.strerror(ctypes.get_errno())
";

#[test]
fn owners_without_a_number_on_the_mount_are_foreseen() {
    if !can_be_root("mounts") {
        return;
    }
    let world = world();
    for path in ["", "cache", "tmp", "cache/export", "tmp/other"] {
        lchown(world.path(path), Some(0), Some(0)).unwrap();
    }
    for tree in ["tmp/flat", "tmp/deep"] {
        world.age_dirs(tree, OLD);
    }
    let at = tempfile::tempdir().unwrap();
    let script: [&OsStr; 2] = ["-c".as_ref(), IDMAPPED.as_ref()];
    tool("python3", &[&script[..], &[world.root.as_os_str(), at.path().as_os_str()]].concat());
    let _mounted = Mounted(at.path().to_owned());
    let run = |args: &[&str]| {
        let mut command = crate::world::sweeper(&["run", "--format", "jsonl", "--now"]);
        command.args([crate::world::NOW, "--data"]).arg(at.path()).args(args);
        command
    };
    let report = assert_foreseen(&world, run, 4);
    let said = message_of(&report, &at.path().join("tmp/file"));
    assert!(said.contains("this mount does not map its owner"), "{said}");
    assert!(!world.has("tmp/other") && world.has("tmp/file"));
}

#[test]
fn owners_without_a_number_in_a_container_are_judged_as_the_kernel_does() {
    if !can_be_root("user namespaces") {
        return;
    }
    let world = world();
    for path in ["tmp", "cache/export"] {
        lchown(world.path(path), Some(0), Some(0)).unwrap();
    }
    let in_container = |args: &[&str]| {
        let inner = command(&world, args);
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user"]);
        outer.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir("/");
        outer
    };
    // The trees: nothing may be removed from a directory of such an owner.
    assert_foreseen(&world, in_container, 2);
}

/// As the run, on a file system of which it is not known that it keeps owners: ramfs does.
#[test]
fn a_private_directory_of_another_user_is_foreseen_to_be_left_alone() {
    if !can_be_root("a file system in memory") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let _mounted = Mounted::with(&["-t", "ramfs"], Path::new("ramfs"), scratch.path());
    let world = World::in_dir(scratch.path());
    world.file("tmp/.sweeper-0123456789abcdef/remove/one/f", OLD);
    world.age_dirs("tmp/.sweeper-0123456789abcdef", OLD);
    lchown(world.path("tmp/.sweeper-0123456789abcdef"), Some(1234), Some(1234)).unwrap();
    for args in [&["run", "--dry-run", "--zones", "tmp"][..], &["run", "--zones", "tmp"]] {
        let report = world.run(&[args, &["--format", "json"]].concat()).json();
        assert_eq!(report["totals"]["seen"], 0, "{args:?}: {report}");
        assert_eq!(report["totals"]["removed"], 0, "{args:?}: {report}");
    }
    assert!(world.has("tmp/.sweeper-0123456789abcdef/remove/one/f"));
}
