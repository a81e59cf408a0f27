//! File systems that a server keeps: what the kernel has cached does not decide, listings may shift, clocks may
//! differ, and what the server does not know any more is gone. FUSE stands for servers here; `tests/nfs/run`
//! has real ones in a virtual machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::company::has_tool;
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{
    DAY, HOUR, NOW, Run, World, assert_counts, can_be_root, export_name, set_age, tool, zone,
};

/// A data root as a server keeps it, and as it looks from here.
struct Served {
    /// On the server.
    back: World,
    /// From here.
    front: World,
    program: Child,
    scratch: tempfile::TempDir,
}

impl Served {
    /// `None` where FUSE cannot be used, which a line says.
    fn new(ahead: i64) -> Option<Self> {
        if !can_be_root("file systems that a server keeps") {
            return None;
        }
        let has_fuse = Path::new("/dev/fuse").exists() && flags().is_some();
        assert!(has_fuse || std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "fuse3 is missing");
        if !has_fuse {
            eprintln!(
                "left out, needs /dev/fuse and libfuse3-dev: file systems that a server keeps"
            );
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let (back, at) = (World::new(), scratch.path().join("mnt"));
        fs::create_dir(&at).unwrap();
        let program = Command::new(build(scratch.path()))
            .arg(&at)
            .arg("-f")
            .env("ODD_FS_ROOT", &back.root)
            .env("ODD_FS_CLOCK", ahead.to_string())
            .start()
            .unwrap();
        wait_until("the file system is mounted", || at.join("tmp").exists());
        Some(Self { back, front: World::at(&at), program, scratch })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.scratch.path().join("mnt")).ended();
        let _ = self.program.wait();
    }
}

/// What the compiler needs for libfuse.
fn flags() -> Option<Vec<String>> {
    let found = Command::new("pkg-config").args(["--cflags", "--libs", "fuse3"]).finish().ok()?;
    let text = String::from_utf8(found.stdout).unwrap();
    found.status.success().then(|| text.split_whitespace().map(str::to_owned).collect())
}

fn build(dir: &Path) -> PathBuf {
    let (out, source) =
        (dir.join("odd_fs"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/served/odd_fs.c"));
    let flags = flags().unwrap();
    let mut args: Vec<&std::ffi::OsStr> =
        vec!["-O2".as_ref(), "-Wall".as_ref(), "-o".as_ref(), out.as_ref(), source.as_ref()];
    args.extend(flags.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
    tool("cc", &args);
    out
}

/// Looks at everything, so that the kernel has it in its caches.
fn look(world: &World) {
    for entry in walkdir::WalkDir::new(&world.root) {
        entry.unwrap().metadata().unwrap();
    }
}

fn now(world: &World, path: &str) {
    set_age(&world.path(path), 0);
}

#[test]
fn what_another_machine_has_just_used_stays_whatever_the_kernel_has_cached() {
    for more in [&[][..], &["--in-use", "ignore", "--lock", "none"]] {
        let Some(served) = Served::new(0) else { return };
        stays_when_it_is_used(&served, more);
    }
}

fn stays_when_it_is_used(served: &Served, more: &[&str]) {
    let export = format!("cache/export/{}", export_name(1));
    served.back.file(&export, 40 * DAY);
    served.back.file("tmp/cvat_file", 40 * DAY);
    for file in ["a", "b", "sub/c"] {
        served.back.file(format!("tmp/tree/{file}"), 40 * DAY);
    }
    served.back.link("tmp/link", "nowhere", 40 * DAY);
    served.back.age_dirs("tmp/tree", 40 * DAY);
    look(&served.front);
    for path in [export.as_str(), "tmp/cvat_file", "tmp/tree/sub/c", "tmp/link"] {
        now(&served.back, path);
    }
    let report = served.front.run(&[&["run", "--format", "json"], more].concat());
    let report = report.exits(0).json();
    for (name, used) in [("export", 1), ("tmp", 3)] {
        assert_counts(&report, name, &[("removed", 0), ("skipped_by.used", used)]);
    }
}

#[test]
fn a_listing_that_shifts_while_names_are_removed_leaves_nothing_out_and_counts_nothing_twice() {
    for jobs in ["1", "4"] {
        let Some(served) = Served::new(0) else { return };
        for number in 1..=400 {
            served.back.file(format!("cache/export/{}", export_name(number)), 2 * DAY);
            served.back.file(format!("tmp/tree/sub/{number}"), 40 * DAY);
        }
        for number in 401..=450 {
            served.back.file(format!("cache/export/{}", export_name(number)), HOUR);
        }
        served.back.age_dirs("tmp/tree", 40 * DAY);
        let report = served.front.run(&["run", "--format", "json", "--jobs", jobs]);
        let report = report.exits(0).json();
        let counts = [("seen", 450), ("removed", 400), ("kept_by.fresh", 50), ("skipped", 0)];
        assert_counts(&report, "export", &counts);
        assert_counts(&report, "tmp", &[("seen", 1), ("removed", 1)]);
        let left = |dir: &str| fs::read_dir(served.back.path(dir)).unwrap().count();
        assert_eq!((left("cache/export"), left("tmp")), (50, 0), "{jobs} workers");
    }
}

#[test]
fn a_server_whose_clock_is_off_by_a_minute_is_noted_and_by_an_hour_left_alone() {
    for (ahead, is_left_alone, word) in [
        (0, false, ""),
        (90, false, "ahead of"),
        (-600, false, "behind"),
        (2 * HOUR, true, "ahead of"),
        (-2 * HOUR, true, "behind"),
    ] {
        let Some(served) = Served::new(ahead) else { return };
        served.back.file(format!("cache/export/{}", export_name(1)), 40 * DAY);
        served.back.file("tmp/tree/file", 40 * DAY);
        served.back.age_dirs("tmp/tree", 40 * DAY);
        let report = served.front.run(&["run", "--format", "json"]);
        let report = report.exits(if is_left_alone { 4 } else { 0 }).json();
        for name in ["export", "tmp"] {
            assert_counts(&report, name, &[("removed", u64::from(!is_left_alone))]);
        }
        let notes = zone(&report, "export")["notes"].to_string();
        assert_eq!(notes.contains("the clock of the file server"), ahead != 0, "{notes}");
        assert!(notes.contains(word), "{notes}");
        let left = fs::read_dir(served.back.path("tmp")).unwrap().count();
        assert_eq!(left, usize::from(is_left_alone), "no private directory is left");
    }
}

/// What has not begun to be removed gets its name back whatever its age is.
#[test]
fn with_a_wrong_clock_the_rest_of_a_removal_waits_and_what_is_whole_gets_its_name_back() {
    let Some(served) = Served::new(2 * HOUR) else { return };
    let private = "tmp/.sweeper-0123456789abcdef";
    for tree in ["check/whole", "remove/rest"] {
        served.back.file(format!("{private}/{tree}/file"), 40 * DAY);
        served.back.age_dirs(format!("{private}/{tree}"), 40 * DAY);
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(served.back.path(private), mode).unwrap();
    let report = served.front.run(&["run", "--zones", "tmp", "--format", "json"]);
    let report = report.exits(4).json();
    assert_counts(&report, "tmp", &[("removed", 0), ("failed", 0)]);
    let notes = zone(&report, "tmp")["notes"].to_string();
    assert!(notes.contains("left alone") && notes.contains("the clock of the file server"));
    assert!(served.back.has("tmp/whole/file"));
    assert!(served.back.has(format!("{private}/remove/rest/file")));
}

#[test]
fn a_removal_that_was_interrupted_is_completed_although_the_server_has_its_own_idea_of_owners() {
    let Some(served) = Served::new(0) else { return };
    for number in 1..=30 {
        served.back.file(format!("tmp/tree/{number}"), 40 * DAY);
    }
    served.back.age_dirs("tmp/tree", 40 * DAY);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:signal=KILL:when=9"]);
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--jobs", "1", "--now", NOW, "--data"]);
    let killed = Run::of({
        command.arg(&served.front.root).stdin(Stdio::null());
        command
    });
    assert_ne!(killed.code, Some(0), "{}", killed.stdout);
    for entry in walkdir::WalkDir::new(served.back.path("tmp")).min_depth(1).max_depth(1) {
        let private = entry.unwrap();
        std::os::unix::fs::chown(private.path(), Some(1234), Some(1234)).unwrap();
    }
    // Another owner than the one that our directories have: it may belong to another user.
    served.front.run(&["run"]).exits(0);
    assert_eq!(fs::read_dir(served.back.path("tmp")).unwrap().count(), 1);
    for entry in walkdir::WalkDir::new(served.back.path("tmp")).min_depth(1).max_depth(1) {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(0), Some(0)).unwrap();
    }
    served.front.run(&["run"]).exits(0);
    assert_eq!(fs::read_dir(served.back.path("tmp")).unwrap().count(), 0);
}

/// Runs a pass in which one call on the only entry fails as on a server that does not know the file any more.
/// After `looks` calls of `statx` there is nothing under any name, as there.
fn stale(world: &World, call: &str, when: usize, looks: Option<usize>) -> Run {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("inject={call}:error=ESTALE:when={when}"));
    if let Some(looks) = looks {
        command.args(["-e", &format!("inject=statx:error=ENOENT:when={}+", looks + 1)]);
    }
    command.arg(env!("CARGO_BIN_EXE_sweeper"));
    command.args(["run", "--zones", "export", "--jobs", "1", "--format", "json"]);
    command.args(["--lock", "flock", "--now", NOW, "--data"]).arg(&world.root).stdin(Stdio::null());
    Run::of(command)
}

/// Which calls of a pass name the entry, or are about the handle of it, as a count of calls of that kind.
fn calls_on(world: &World, call: &str, name: &str) -> Vec<usize> {
    let log = traced(world, call);
    let named = log.lines().zip(1..).filter(|(line, _)| line.contains(name));
    named.map(|(_, at)| at).collect()
}

/// How often a pass looks at something before it unlinks the entry.
fn looks_before_unlink(world: &World, name: &str) -> usize {
    let log = traced(world, "statx,unlinkat");
    let before =
        log.lines().take_while(|line| !(line.contains("unlinkat(") && line.contains(name)));
    before.filter(|line| line.contains("statx(")).count()
}

/// The log of these calls of a pass.
fn traced(world: &World, call: &str) -> String {
    let log = world.root.with_file_name("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-e"]).arg(format!("trace={call}")).arg("-o").arg(&log);
    command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--zones", "export", "--jobs", "1"]);
    command.args(["--lock", "flock", "--now", NOW, "--data"]).arg(&world.root);
    Run::of(command).exits(0);
    fs::read_to_string(log).unwrap()
}

/// Every second lock is that of a private directory, which is a file there.
#[test]
fn a_server_whose_locks_fail_keeps_no_private_directories() {
    if !has_tool("strace", "servers whose locks fail") {
        return;
    }
    for error in ["ENOLCK", "EIO"] {
        let Some(served) = Served::new(0) else { return };
        served.back.file("tmp/cvat_file", 40 * DAY);
        let mut command = Command::new("strace");
        let inject = format!("inject=flock:error={error}:when=2+2");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
        command.arg(env!("CARGO_BIN_EXE_sweeper")).args(["run", "--lock", "none", "--jobs", "1"]);
        command.args(["--zones", "tmp", "--format", "json", "--now", NOW, "--data"]);
        command.arg(&served.front.root).stdin(Stdio::null());
        let is_removed = error == "ENOLCK";
        let report = Run::of(command).exits(i32::from(!is_removed)).json();
        let (removed, failed) = (u64::from(is_removed), u64::from(!is_removed));
        assert_counts(&report, "tmp", &[("removed", removed), ("failed", failed)]);
        let notes = zone(&report, "tmp")["notes"].to_string();
        let is_told = notes.contains("removed in place") && notes.contains("No locks available");
        assert_eq!(is_told, is_removed, "{notes}");
        let left = fs::read_dir(served.back.path("tmp")).unwrap().count();
        assert_eq!(left, usize::from(!is_removed), "{error}");
    }
}

#[test]
fn an_entry_that_its_server_does_not_know_any_more_is_gone() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).ended().is_err() {
        assert!(std::env::var_os("SWEEPER_TESTS_ALL").is_none(), "strace is missing");
        eprintln!("left out, needs strace: stale files");
        return;
    }
    let name = export_name(1);
    let fresh = || {
        let world = World::new();
        world.file(format!("cache/export/{name}"), 2 * DAY);
        world
    };
    let mut tried = 0;
    for call in ["statx", "openat", "openat2", "flock", "unlinkat"] {
        for when in calls_on(&fresh(), call, &name) {
            tried += 1;
            let world = fresh();
            // Only of an unlink that fails the name is looked at again.
            let looks = (call == "unlinkat").then(|| looks_before_unlink(&fresh(), &name));
            let report = stale(&world, call, when, looks);
            let report = report.exits(0).json();
            let counts = [("removed", 0), ("skipped_by.gone", 1), ("failed", 0)];
            assert_counts(&report, "export", &counts);
        }
    }
    assert!(tried >= 6, "only {tried} calls");
}

#[test]
fn a_file_that_was_removed_while_it_was_open_is_in_use_in_every_zone_and_in_every_tree() {
    let world = World::new();
    let (nfs, fuse) = (".nfs0000000000a1b2c300000001", ".fuse_hidden0000000200000001");
    for path in [
        format!("cache/export/{nfs}"),
        format!("tmp/{nfs}"),
        format!("tmp/{fuse}"),
        format!("tmp/tree/sub/{nfs}"),
        "tmp/tree/other".to_owned(),
        "tasks/7/tmp/other".to_owned(),
        format!("tasks/7/tmp/{fuse}"),
    ] {
        world.file(path, 40 * DAY);
    }
    world.age_dirs("tmp/tree", 40 * DAY);
    let args = ["run", "--zones", "export,tmp,instance-tmp", "--format", "json"];
    for more in [&["--dry-run"][..], &["--in-use", "ignore", "--lock", "none"], &[]] {
        let report = world.run(&[&args[..], more].concat());
        let report = report.exits(0).json();
        for (name, in_use) in [("export", 1), ("tmp", 3), ("instance-tmp", 1)] {
            assert_counts(&report, name, &[("skipped_by.in_use", in_use), ("failed", 0)]);
        }
        assert_counts(&report, "tmp", &[("removed", 0), ("freed_bytes", 0)]);
    }
    assert!(world.has(format!("tmp/tree/sub/{nfs}")) && world.has("tmp/tree/other"));
    assert!(!world.has("tasks/7/tmp/other"));
    let path = world.path(format!("tmp/{nfs}"));
    let why = world.run(&["why", path.to_str().unwrap()]);
    assert!(why.exits(0).stdout.contains("open"), "{}", why.stdout);
}
