//! The static binary in real containers without an engine: `runc` runs it as the files say.
//!
//! An engine's part is done here: the image's layout, the default mounts, the system calls that Docker
//! denies, the hosts file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{checked, file, has, put, python_tool, static_binary, yaml};
use crate::exporter::server::Redis;
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, assert_counts, can_be_root, export_name, tool};

/// What Docker's default profile denies to a container without capabilities, since Docker 25.
#[rustfmt::skip]
const DENIED: [&str; 55] = [
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

/// A container as its file describes it.
pub struct Container {
    /// After the image's entry point.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: (u64, u64),
    pub read_only: bool,
    pub new_privileges: bool,
    /// Where the volume is mounted.
    pub mounted_at: String,
    pub calls: Calls,
}

/// The system calls that a container may make.
pub enum Calls {
    /// All but these, each with the number of the error that it gets.
    But(Vec<(&'static str, i32)>),
    /// These; others are not permitted.
    Only(Vec<String>),
}

const NOT_PERMITTED: i32 = 1;
const NO_SUCH_CALL: i32 = 38;

impl Container {
    /// A variable is put to another value, as an operator would.
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
    // As if the kernel did not have it, so that libraries go on with clone.
    Calls::But(denied.chain([("clone3", NO_SUCH_CALL)]).collect())
}

/// A bundle: a root directory with the binary in it and a description.
pub struct Bundle {
    scratch: tempfile::TempDir,
    id: String,
}

impl Bundle {
    /// Of the container, on a volume, with the name of a host that is this machine.
    pub fn of(container: &Container, volume: &Path, host: &str) -> Option<Self> {
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
        let config = description(container, volume, &hosts);
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
    fn signal(&self, signal: &str) -> bool {
        let mut command = self.runc();
        command.args(["kill", &self.id, signal]).stderr(Stdio::null()).ended().unwrap().success()
    }
}

/// The description of a container as an engine would write it.
fn description(container: &Container, volume: &Path, hosts: &Path) -> Value {
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
            bind(volume, &container.mounted_at, "rw"),
        ],
        "linux": {
            // The network is this machine's, where the test's Redis server is.
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
pub fn volume() -> World {
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

/// That a pass over [`volume`] did what it should.
#[track_caller]
pub fn assert_swept(world: &World, report: &Value) {
    assert_counts(report, "export", &[("removed", 2), ("kept_by.fresh", 1), ("failed", 0)]);
    assert_counts(report, "tmp", &[("removed", 2), ("kept_by.fresh", 1), ("failed", 0)]);
    assert!(world.has("tmp/fresh") && !world.has("tmp/tmpab12cd34"));
    assert_eq!(report["volume"], "/home/django/data");
}

/// That a container makes a whole pass over [`volume`], with nothing to warn about; `redis` is what it
/// calls the server.
#[track_caller]
pub fn assert_sweeps(container: &Container, redis: &str) {
    let world = volume();
    let Some(bundle) = Bundle::of(container, &world.root, redis) else { return };
    let run = bundle.run();
    assert_swept(&world, &run.exits(0).json());
    assert_eq!(run.stderr, "", "no terminal, no progress, nothing to warn about");
}

/// What is appended to a container's own arguments: the moment that the test's volume was made for.
pub fn at_test_time(container: &mut Container) {
    container.args.extend(["--now", NOW].map(str::to_owned));
    if !container.args.iter().any(|arg| arg == "--format") {
        container.args.extend(["--format", "json"].map(str::to_owned));
    }
}

/// The sidecar, with Compose's own defaults filled in.
fn sidecar() -> Option<Container> {
    let whole = yaml("docker/compose.override.yml")?;
    let service = &whole["services"]["cvat_sweeper"];
    let strings = |value: &Value| -> Vec<String> {
        let all = value.as_array().unwrap_or_else(|| panic!("{value}"));
        all.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(strings(&service["cap_drop"]), ["ALL"]);
    assert!(service.get("privileged").is_none() && service.get("cap_add").is_none());
    assert_eq!(service["depends_on"], json!(["cvat_redis_inmem"]));
    let (user, group) = service["user"].as_str().unwrap().split_once(':').unwrap();
    let mounts = strings(&service["volumes"]);
    let (name, mounted_at) = mounts[0].split_once(':').unwrap();
    assert_eq!((name, mounts.len()), ("cvat_data", 1));
    let env = service["environment"].as_object().unwrap().iter().map(|(name, value)| {
        // ${NAME:-default}, with nothing set.
        let value = value.as_str().unwrap();
        let default = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let value = default.map_or(value, |inner| inner.split_once(":-").unwrap().1);
        (name.clone(), value.to_owned())
    });
    Some(Container {
        args: strings(&service["command"]),
        env: env.collect(),
        user: (user.parse().unwrap(), group.parse().unwrap()),
        read_only: service["read_only"] == true,
        new_privileges: strings(&service["security_opt"]) != ["no-new-privileges:true"],
        mounted_at: mounted_at.to_owned(),
        calls: denied_by_docker(),
    })
}

/// The sidecar with one pass instead of a schedule.
fn sidecar_that_runs(redis: &Redis) -> Option<Container> {
    sidecar_beside(redis, "run")
}

/// The sidecar with a server on the test's own port, and `command` for its `serve`.
fn sidecar_beside(redis: &Redis, command: &str) -> Option<Container> {
    let mut container = sidecar()?;
    assert_eq!(container.args, ["serve"]);
    container.args = vec![command.to_owned()];
    at_test_time(&mut container);
    assert_eq!(container.get("CVAT_REDIS_INMEM_HOST"), "cvat_redis_inmem");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    Some(container)
}

#[test]
fn the_sidecar_sweeps_with_nothing_but_the_volume() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(container) = sidecar_that_runs(&redis) else { return };
    assert!(container.read_only && !container.new_privileges);
    assert_eq!(container.user, (1000, 1000));
    let world = volume();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let watched = redis.watch(|| {
        let run = bundle.run();
        assert_swept(&world, &run.exits(0).json());
        assert_eq!(run.stderr, "", "no terminal, no progress, nothing to warn about");
    });
    let key = format!("redlock:export_lock:/home/django/data/cache/export/{}", export_name(1));
    assert!(watched.iter().any(|line| line.contains("\"SET\"") && line.contains(&key)));
}

#[test]
fn the_sidecar_serves_until_it_is_told_to_stop() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_beside(&redis, "serve") else { return };
    container.set("SWEEPER_AT_START", "true");
    let world = volume();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let child = bundle.start();
    let start = Instant::now();
    while fs::read_dir(world.path("tmp")).unwrap().count() > 1
        || world.path("cache/export").join(export_name(1)).exists()
    {
        assert!(start.elapsed() < Duration::from_secs(30), "the pass does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The report is still to be written.
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    assert!(bundle.signal("TERM"));
    let run = Run::from(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_swept(&world, &run.exits(0).json());
    assert!(run.stderr.contains("next: export at"), "{}", run.stderr);
    assert!(redis.keys().is_empty());
}

#[test]
fn in_a_container_the_probe_is_answered_or_reported_unknown() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(container) = sidecar_that_runs(&redis) else { return };
    let world = volume();
    // One is open in another container on this kernel: here, outside of any.
    let open = world.path("cache/export").join(export_name(1));
    let reader = fs::File::open(&open).unwrap();
    // Another is somebody else's, and nobody without CAP_LEASE is told who has it open.
    let foreign = world.path("cache/export").join(export_name(2));
    std::os::unix::fs::chown(&foreign, Some(0), Some(0)).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o644)).unwrap();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let report = bundle.run().exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("spared_by.in_use", 1)]);
    assert!(open.exists() && !foreign.exists());
    assert!(report["zones"][0]["notes"].to_string().contains("CAP_LEASE"), "{report:#}");
    drop(reader);
    let report = bundle.run().exits(0).json();
    assert_counts(&report, "export", &[("removed", 1), ("spared", 0)]);
    assert!(!report["zones"][0]["notes"].to_string().contains("CAP_LEASE"), "{report:#}");
}

#[test]
fn engines_before_docker_20_10_10_start_no_second_thread_but_a_pass_with_one() {
    // They denied clone3 in words that libraries of today do not go on from.
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    let denied = DENIED.iter().chain(&["clone3"]).map(|&name| (name, NOT_PERMITTED));
    container.calls = Calls::But(denied.collect());
    container.set("SWEEPER_JOBS", "1");
    let world = volume();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    assert_swept(&world, &bundle.run().exits(0).json());
}

#[test]
fn a_kernel_that_does_not_have_the_newer_calls_will_do() {
    // Those of Linux 4.18 to 5.14; CVAT 2.0 ran on Ubuntu 18.04, which has 4.15.
    let newer = [
        "clone3",
        "close_range",
        "epoll_pwait2",
        "faccessat2",
        "io_uring_setup",
        "openat2",
        "pidfd_getfd",
        "pidfd_open",
        "quotactl_fd",
        "rseq",
    ];
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    container.calls = Calls::But(newer.iter().map(|&name| (name, NO_SUCH_CALL)).collect());
    assert_sweeps(&container, "cvat_redis_inmem");
}

#[test]
fn a_container_that_is_stopped_ends_in_under_a_second() {
    let Some(redis) = Redis::start(&[]) else { return };
    let Some(mut container) = sidecar_that_runs(&redis) else { return };
    container.args.extend(["--lock-wait".to_owned(), "60s".to_owned()]);
    let world = volume();
    // Somebody holds one, for longer than the test takes: the pass waits.
    let held = fs::File::open(world.path("cache/export").join(export_name(1))).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let Some(bundle) = Bundle::of(&container, &world.root, "cvat_redis_inmem") else { return };
    let child = bundle.start();
    let start = Instant::now();
    while world.path("cache/export").join(export_name(2)).exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "the pass does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    // It is the container's first process, for which signals have no default action.
    let start = Instant::now();
    assert!(bundle.signal("TERM"));
    let run = Run::from(child.wait_with_output().unwrap());
    let took = start.elapsed();
    assert_eq!(run.exits(3).json()["stopped"], "signal");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(redis.keys().is_empty());
}

#[test]
fn the_composition_is_one() {
    let Some(tool) = python_tool("check-jsonschema") else { return };
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    checked(Command::new(tool).args(schema).arg(file("docker/compose.override.yml")));
}

/// The instructions of the Dockerfile, in stages.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(file("docker/Dockerfile")).unwrap();
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push((instruction.to_owned(), rest.to_owned()));
    }
    stages
}

#[test]
fn the_image_is_the_binary_and_nothing_else() {
    if let Some(tool) = python_tool("hadolint") {
        checked(Command::new(tool).arg(file("docker/Dockerfile")));
    }
    let stages = stages();
    let expected = [
        ("FROM", "scratch"),
        ("COPY", "--from=build /src/target/static/sweeper /sweeper"),
        ("USER", "1000:1000"),
        ("ENTRYPOINT", "[\"/sweeper\"]"),
        ("CMD", "[\"run\"]"),
    ];
    let last: Vec<(&str, &str)> =
        stages.last().unwrap().iter().map(|(word, rest)| (word.as_str(), rest.as_str())).collect();
    assert_eq!(last, expected);
}

#[test]
fn the_image_is_built_from_what_it_is_sent() {
    // What the first stage copies is all that is sent to the builder, and is enough for the build.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sent = fs::read_to_string(file("docker/Dockerfile.dockerignore")).unwrap();
    let sent: Vec<&str> = sent.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let stages = stages();
    let copied: Vec<&str> = stages[0]
        .iter()
        .filter(|(word, _)| word == "COPY")
        .flat_map(|(_, rest)| rest.split(' ').rev().skip(1).collect::<Vec<_>>())
        .collect();
    let (mut sent, mut copied) = (sent, copied);
    sent.sort_unstable();
    copied.sort_unstable();
    assert_eq!(sent, copied);
    let scratch = tempfile::tempdir().unwrap();
    for name in copied {
        let from = root.join(name);
        tool("cp", &["-r".as_ref(), from.as_os_str(), scratch.path().as_os_str()]);
    }
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let mut tree = Command::new(cargo);
    tree.args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]);
    let run = checked(tree.current_dir(scratch.path()));
    assert!(run.stdout.contains("\"name\":\"sweeper\""), "{}", run.stdout);
    // The compiler is one that this version of the project builds with.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let minor = |text: &str, before: &str| -> u32 {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{before} in {text}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let (_, image) = &stages[0][0];
    assert!(minor(image, "rust:1.") >= minor(&manifest, "rust-version = \"1."));
}
