//! The static binary in real containers without an engine: `runc` runs it as the files in `deploy/` say.
//!
//! This does the work of an engine: the root directory of the image, the default mounts, the system calls
//! that Docker denies, the hosts file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{has, put, static_binary};
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, assert_counts, can_be_root, export_name};

/// What Docker's default profile denies to a container without capabilities, since Docker 25.
#[rustfmt::skip]
pub const DENIED: [&str; 55] = [
    "acct", "add_key", "bpf", "chroot", "clock_settime", "create_module", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick",
    "get_kernel_syms", "get_mempolicy", "init_module", "io_uring_enter", "io_uring_register",
    "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "mbind", "mount", "mount_setattr", "move_mount", "move_pages",
    "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
    "process_madvise", "query_module", "quotactl", "reboot", "request_key", "set_mempolicy",
    "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog",
    "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup",
];

/// A container as a file in `deploy/` describes it.
pub struct Container {
    /// Follow the entry point of the image.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: (u64, u64),
    pub read_only: bool,
    pub new_privileges: bool,
    /// Where the data root is mounted.
    pub mounted_at: String,
    pub calls: Calls,
}

/// The system calls that a container may make.
pub enum Calls {
    /// All but these; each fails with the error number beside it.
    But(Vec<(&'static str, i32)>),
    /// Only these; others are not permitted.
    Only(Vec<String>),
}

pub const NOT_PERMITTED: i32 = 1;
pub const NO_SUCH_CALL: i32 = 38;

impl Container {
    /// Changes a variable, as an operator would.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub fn get(&self, name: &str) -> &str {
        let found = self.env.iter().find(|(other, _)| other == name);
        &found.unwrap_or_else(|| panic!("{name}: {:?}", self.env)).1
    }
}

/// What Docker denies.
pub fn denied_by_docker() -> Calls {
    let denied = DENIED.iter().map(|&name| (name, NOT_PERMITTED));
    // As if the kernel did not have it, so that libraries fall back to clone.
    Calls::But(denied.chain([("clone3", NO_SUCH_CALL)]).collect())
}

/// A bundle: a root directory with the binary in it and a description.
pub struct Bundle {
    scratch: tempfile::TempDir,
    id: String,
}

impl Bundle {
    /// Of a container on a data root. In it, `host` is a name of this machine.
    pub fn of(container: &Container, data: &Path, host: &str) -> Option<Self> {
        let binary = static_binary()?;
        if !can_be_root("a container") || !has("runc") {
            return None;
        }
        let scratch = tempfile::Builder::new().prefix("sweeper-bundle-").tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let rootfs = scratch.path().join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        put(&binary, &rootfs.join("sweeper"));
        let hosts = scratch.path().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost\n127.0.0.1 {host}\n")).unwrap();
        let config = description(container, data, &hosts);
        fs::write(scratch.path().join("config.json"), config.to_string()).unwrap();
        let id = scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        Some(Self { scratch, id })
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.scratch.path().join("state"));
        command
    }

    /// Starts it, with pipes and no terminal.
    pub fn start(&self) -> Child {
        let mut command = self.runc();
        command.arg("run").arg("--bundle").arg(self.scratch.path()).arg(&self.id);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.start().unwrap()
    }

    /// Runs it to its end.
    pub fn run(&self) -> Run {
        Run::from(self.start().wait_with_output().unwrap())
    }

    /// Sends its first process a signal.
    pub fn signal(&self, signal: &str) -> bool {
        let mut command = self.runc();
        command.args(["kill", &self.id, signal]).stderr(Stdio::null()).ended().unwrap().success()
    }
}

/// The description of a container as an engine would write it.
fn description(container: &Container, data: &Path, hosts: &Path) -> Value {
    let env: Vec<String> =
        container.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let args: Vec<&str> =
        std::iter::once("/sweeper").chain(container.args.iter().map(String::as_str)).collect();
    let bind = |from: &Path, to: &str, mode: &str| {
        let options = ["rbind", mode];
        json!({"destination": to, "type": "bind", "source": from, "options": options})
    };
    let calls = match &container.calls {
        Calls::But(denied) => {
            let rule = |(name, error): &(&str, i32)| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": error});
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": denied.iter().map(rule).collect::<Vec<_>>(),
            })
        }
        Calls::Only(granted) => json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": NOT_PERMITTED,
            "syscalls": [{"names": granted, "action": "SCMP_ACT_ALLOW"}],
        }),
    };
    let none: [&str; 0] = [];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": container.user.0, "gid": container.user.1},
            "args": args,
            "env": env,
            "cwd": "/",
            "capabilities": {
                "bounding": none, "effective": none, "permitted": none, "ambient": none,
            },
            "noNewPrivileges": !container.new_privileges,
        },
        "root": {"path": "rootfs", "readonly": container.read_only},
        "hostname": "sweeper",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            bind(hosts, "/etc/hosts", "ro"),
            bind(data, &container.mounted_at, "rw"),
        ],
        "linux": {
            // The network is that of this machine, where the Redis server of the test is.
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
            "seccomp": calls,
        },
    })
}

/// Three exports, one of them fresh, and three temporary entries, one of them fresh, of user 1000.
pub fn data_root() -> World {
    let world = World::new();
    for (number, age) in [(1, 2 * DAY), (2, 2 * DAY), (3, 60)] {
        world.file(Path::new("cache/export").join(export_name(number)), age);
    }
    world.file("tmp/export-task-abcdefgh/subdir/result", 20 * DAY);
    world.age_dirs("tmp/export-task-abcdefgh", 20 * DAY);
    world.file("tmp/tmpab12cd34", 20 * DAY);
    world.file("tmp/fresh", DAY);
    world.chown(1000);
    world
}

/// Asserts that a pass over [`data_root`] did what it should.
#[track_caller]
pub fn assert_swept(world: &World, report: &Value) {
    assert_counts(report, "export", &[("removed", 2), ("kept_by.fresh", 1), ("failed", 0)]);
    assert_counts(report, "tmp", &[("removed", 2), ("kept_by.fresh", 1), ("failed", 0)]);
    assert!(world.has("tmp/fresh") && !world.has("tmp/tmpab12cd34"));
    assert_eq!(report["data_root"], "/home/django/data");
}

/// Asserts that a container makes a whole pass over [`data_root`] without a warning. It knows the Redis server
/// as `redis`.
#[track_caller]
pub fn assert_sweeps(container: &Container, redis: &str) {
    let world = data_root();
    let Some(bundle) = Bundle::of(container, &world.root, redis) else { return };
    let run = bundle.run();
    assert_swept(&world, &run.exits(0).json());
    assert_eq!(run.stderr, "", "no terminal, no progress, nothing to warn about");
}

/// Adds to the arguments of a container the moment that the files of the test are made for.
pub fn at_test_time(container: &mut Container) {
    container.args.extend(["--now", NOW].map(str::to_owned));
    if !container.args.iter().any(|arg| arg == "--format") {
        container.args.extend(["--format", "json"].map(str::to_owned));
    }
}
