//! The static binary in a root directory that has nothing else in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{checked, has, is_present, python_tool, root_with, static_binary};
use crate::exporter::server::Redis;
use crate::start::Start;
use crate::world::{DAY, NOW, Run, World, assert_counts, can_be_root, export_name, fifo, sweeper};

#[test]
fn it_is_static_and_small() {
    let Some(binary) = static_binary() else { return };
    assert!(fs::metadata(&binary).unwrap().len() < 9 * 1024 * 1024);
    if has("readelf") {
        let headers = Command::new("readelf").args(["-lWd"]).arg(&binary).finish().unwrap();
        let headers = String::from_utf8_lossy(&headers.stdout).into_owned();
        assert!(headers.contains("LOAD"), "{headers}");
        // No loader, no library.
        assert!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{headers}");
    }
    let ours = Run::of(sweeper(&["--version"]));
    let mut theirs = Command::new(&binary);
    assert_eq!(Run::from(theirs.arg("--version").finish().unwrap()).stdout, ours.stdout);
}

/// The command as uid 1000 in a root directory, with only CVAT's variables in its environment.
fn in_root(root: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new("/usr/sbin/chroot");
    command.args(["--userspec=1000:1000", "--groups="]).arg(root);
    command.args(["/sweeper", "run", "--format", "json", "--now", NOW]);
    command
        .env_clear()
        .env("CVAT_REDIS_INMEM_HOST", host)
        .env("CVAT_REDIS_INMEM_PORT", port.to_string())
        .env("CVAT_REDIS_INMEM_PASSWORD", "s3cret-word");
    command
}

/// A data root at CVAT's path below `root`: three exports, one of them fresh, and three temporary entries,
/// one of them fresh.
fn data_root_in(root: &Path) -> World {
    let world = World::at(&root.join("home/django/data"));
    for (number, age) in [(1, 2 * DAY), (2, 2 * DAY), (3, 60)] {
        world.file(Path::new("cache/export").join(export_name(number)), age);
    }
    world.file("tmp/export-task-abcdefgh/subdir/result", 20 * DAY);
    world.age_dirs("tmp/export-task-abcdefgh", 20 * DAY);
    world.file("tmp/fresh", DAY);
    fifo(&world.path("tmp/fifo"), 20 * DAY);
    world.chown(1000);
    world
}

#[test]
fn in_an_empty_root_it_sweeps_with_cvats_lock() {
    let Some(binary) = static_binary() else { return };
    if !can_be_root("a root directory with nothing but the binary") {
        return;
    }
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    for host in ["127.0.0.1", "cvat_redis_inmem"] {
        let root = root_with(&binary);
        let world = data_root_in(root.path());
        if host != "127.0.0.1" {
            // As a container engine writes it.
            fs::create_dir(root.path().join("etc")).unwrap();
            fs::write(root.path().join("etc/hosts"), format!("127.0.0.1\t{host}\n")).unwrap();
        }
        let watched = redis.watch(|| {
            let run = Run::of(in_root(root.path(), host, redis.port));
            let report = run.exits(0).json();
            assert_eq!(run.stderr, "", "nothing to guess, nothing to warn about");
            assert_counts(&report, "export", &[("removed", 2), ("kept_by.fresh", 1)]);
            assert_counts(&report, "tmp", &[("removed", 2), ("kept_by.fresh", 1)]);
        });
        for number in [1, 2] {
            let name = export_name(number);
            let key = format!("redlock:export_lock:/home/django/data/cache/export/{name}");
            assert!(
                watched.iter().any(|line| line.contains("\"SET\"") && line.contains(&key)),
                "{watched:#?}"
            );
        }
        assert!(redis.keys().is_empty());
        assert!(world.has("tmp/fresh") && !world.has("tmp/fifo"));
    }
}

#[test]
fn name_service_libraries_of_the_image_are_not_loaded() {
    // They belong to the C library of the image, and crash a process that has another one.
    let Some(binary) = static_binary() else { return };
    if !can_be_root("a root directory with a foreign /etc/nsswitch.conf") || !has("cc") {
        return;
    }
    let Some(redis) = Redis::start(&["--requirepass", "s3cret-word"]) else { return };
    let root = root_with(&binary);
    data_root_in(root.path());
    let etc = root.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "127.0.0.1 cvat_redis_inmem\n").unwrap();
    fs::write(etc.join("nsswitch.conf"), "hosts: alien [!UNAVAIL=return] files dns\n").unwrap();
    let source = root.path().join("alien.c");
    fs::write(&source, "__attribute__((constructor)) void end(void) { __builtin_trap(); }")
        .unwrap();
    let libraries = root.path().join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    fs::create_dir_all(&libraries).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-nostdlib", "-fPIC", "-o"]).arg(libraries.join("libnss_alien.so.2"));
    checked(cc.arg(&source));
    let run = Run::of(in_root(root.path(), "cvat_redis_inmem", redis.port));
    assert_counts(&run.exits(0).json(), "export", &[("removed", 2)]);
}

#[test]
fn with_an_unknown_host_name_the_exports_are_left_alone_and_the_report_says_so() {
    let Some(binary) = static_binary() else { return };
    if !can_be_root("a root directory with nothing but the binary") {
        return;
    }
    let root = root_with(&binary);
    data_root_in(root.path());
    let run = Run::of(in_root(root.path(), "cvat_redis_inmem", 6379));
    let report = run.exits(4).json();
    assert_counts(&report, "export", &[("removed", 0)]);
    assert_counts(&report, "tmp", &[("removed", 2)]);
    assert!(run.stdout.contains("cvat_redis_inmem"), "{}", run.stdout);
}

/// In a network namespace: a name server that knows one name, like that of a cluster, and a Redis server.
const CLUSTER: &str = r#"
import fcntl, os, socket, struct, subprocess, sys, threading, time

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(sock, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # lo up
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
asked = set()

def serve():
    while True:
        query, client = server.recvfrom(2048)
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        name, kind = ".".join(labels), struct.unpack(">H", query[at + 1 : at + 3])[0]
        asked.add(name)
        known = name == "cvat-redis-master.cvat.svc.cluster.local"
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1])
        answers = [answer] if known and kind == 1 else []
        flags = 0x8580 if known else 0x8583
        head = query[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0)
        server.sendto(head + query[12 : at + 5] + b"".join(answers), client)

threading.Thread(target=serve, daemon=True).start()
redis = subprocess.Popen(["redis-server", "--save", "", "--dir", "/tmp", "--bind", "127.0.0.1",
                          "--port", "6379", "--requirepass", "s3cret-word"], stdout=subprocess.DEVNULL)
for _ in range(500):
    with socket.socket() as ping:
        if ping.connect_ex(("127.0.0.1", 6379)) == 0:
            break
    time.sleep(0.02)
try:
    code = subprocess.run(sys.argv[1:]).returncode
    print(sorted(asked), file=sys.stderr)
finally:
    redis.kill()
sys.exit(code)
"#;

#[test]
fn host_names_are_looked_up_by_dns_as_in_a_cluster() {
    let Some(binary) = static_binary() else { return };
    if !can_be_root("a network namespace") || !has("unshare") {
        return;
    }
    let Some(python) = python_tool("python") else { return };
    if !is_present(Redis::start(&[]).is_some(), "redis-server") {
        return;
    }
    let root = root_with(&binary);
    data_root_in(root.path());
    fs::create_dir(root.path().join("etc")).unwrap();
    // As Kubernetes writes it.
    let resolv = "nameserver 127.0.0.1\nsearch cvat.svc.cluster.local svc.cluster.local\n\
                  options ndots:5\n";
    fs::write(root.path().join("etc/resolv.conf"), resolv).unwrap();
    let inner = in_root(root.path(), "cvat-redis-master", 6379);
    let mut command = Command::new("unshare");
    command.arg("-n").arg(python).args(["-c", CLUSTER, "/usr/bin/env", "-i"]);
    for (name, value) in inner.get_envs() {
        command.arg(format!("{}={}", name.to_str().unwrap(), value.unwrap().to_str().unwrap()));
    }
    command.arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(command);
    assert_counts(&run.exits(0).json(), "export", &[("removed", 2), ("kept_by.fresh", 1)]);
    assert!(run.stderr.contains("cvat-redis-master.cvat.svc.cluster.local"), "{}", run.stderr);
}
