//! The units as systemd runs them, installed by the lines of the documentation: systemd is started in a container by
//! `runc`, on a copy-on-write view of this machine's files, with a network of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::container::{assert_swept, data_root};
use super::systemd::{setting, unit};
use super::{file, has, put, static_binary};
use crate::exporter::server::Redis;
use crate::start::Start;
use crate::world::{NOW, Run, can_be_root};

/// Makes the root directory in a mount namespace of its own, on top of another, and runs the container in it.
const BOOT: &str = r#"
set -eu
cd "$1"
mkdir layers rootfs
mount -t tmpfs layers layers
mkdir layers/upper layers/work
mount -t overlay root rootfs -o lowerdir="$3",upperdir=layers/upper,workdir=layers/work
# None of the services of this machine.
rm -rf rootfs/etc/systemd/system rootfs/etc/sweeper.env
mkdir -p rootfs/etc/systemd/system rootfs/out
mkdir -p rootfs/var/lib/docker/volumes/cvat_cvat_data/_data rootfs/var/lib/prometheus/node-exporter
# As Docker sets it: only root can enter.
chmod 710 rootfs/var/lib/docker
cp -r put/. rootfs/
# A machine without the user and the group of the units.
sed -i '/^[^:]*:[^:]*:1000:/d' rootfs/etc/passwd rootfs/etc/group
exec timeout 900 runc --root "$1/state" run --bundle . "$2"
"#;

/// Runs what is run inside, and ends the container.
pub const CHECK_SERVICE: &str = "[Unit]\nSuccessAction=exit-force\nFailureAction=exit-force\n[Service]\n\
                                 Type=oneshot\nExecStart=/bin/sh /out/check\n\
                                 StandardOutput=file:/out/checked\n";

/// The command that starts systemd on a copy-on-write view of the root directory `below`.
pub fn boot(scratch: &Path, below: &Path) -> Command {
    let mut boot = Command::new("unshare");
    boot.args(["-m", "sh", "-c", BOOT, "sh"]).arg(scratch);
    boot.arg(scratch.file_name().unwrap()).arg(below);
    boot
}

/// What is run inside.
const CHECK: &str = r#"
cd /clone
bash -eu /out/install && echo installed
systemctl is-enabled sweeper.timer
id 1000
redis-server --save "" --dir /tmp --bind 127.0.0.1 --port 6379 --daemonize yes --logfile /dev/null
systemctl start sweeper.service
systemctl show sweeper.service -p Result -p ExecMainStatus -p ExecMainCode
systemctl show sweeper.timer -p ActiveState -p Unit
redis-cli info commandstats | grep -o 'cmdstat_set:calls=[0-9]*'
systemctl stop sweeper.timer
served() { systemctl show sweeper-serve.service -p "$1" | sed "s/^/$2: /"; }
systemctl start sweeper-serve.service
served ActiveState ready
served StatusText ready
systemctl reload sweeper-serve.service
for try in $(seq 600); do
  served StatusText reloaded | grep 'settings reloaded' && break
  sleep 0.1
done
served ActiveState reloaded
systemctl stop sweeper-serve.service
served ActiveState stopped
served Result stopped
served NRestarts stopped
"#;

/// What a process can do in the sandbox of the service: printed before the pass.
const PROBE: &str = "id -u; grep -E '^(NoNewPrivs|CapBnd|CapEff|Seccomp):' /proc/self/status; \
                     for file in /usr/local/x /etc/x /var/lib/x /home/x /home/django/x; do \
                     touch $file && echo written: $file; done; \
                     ls /var/lib/docker && echo listed; ls -A /home; \
                     unshare -U true && echo unshared; ionice; nice";

/// The lines of the documentation that install the units.
fn documented() -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deployment.md");
    let docs = fs::read_to_string(docs).unwrap();
    let section = docs.split("\n## systemd timer or service\n").nth(1).unwrap();
    section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// Writes what the container needs: the binary and the units in a clone of the repository below `put_there`, and what
/// is run there to `out`.
fn prepare(binary: &Path, put_there: &Path, out: &Path) {
    let units = put_there.join("etc/systemd/system");
    let changes = units.join("sweeper.service.d");
    let clone = put_there.join("clone");
    for dir in [&*changes, &clone.join("deploy/systemd"), out] {
        fs::create_dir_all(dir).unwrap();
    }
    put(binary, &clone.join("sweeper"));
    for entry in fs::read_dir(file("systemd")).unwrap() {
        let name = entry.unwrap().file_name();
        fs::copy(file("systemd").join(&name), clone.join("deploy/systemd").join(&name)).unwrap();
    }
    fs::write(out.join("install"), documented()).unwrap();
    // The moment that the files of the test are made for.
    let start = unit("sweeper.service");
    let start = setting(&start, "ExecStart");
    let change = format!(
        "[Service]\nExecStartPre=/bin/sh -c \"{PROBE}\"\nExecStart=\n\
         ExecStart={start} --now {NOW} --format json\n\
         StandardOutput=append:/out/said\nStandardError=append:/out/complained\n"
    );
    fs::write(changes.join("test.conf"), change).unwrap();
    fs::write(units.join("check.service"), CHECK_SERVICE).unwrap();
    fs::write(out.join("check"), CHECK).unwrap();
}

#[test]
fn systemd_itself_runs_the_service_in_its_sandbox() {
    let Some(binary) = static_binary() else { return };
    let has_tools = ["runc", "unshare", "systemctl", "systemd-analyze"].into_iter().all(has);
    if !has_tools || !can_be_root("systemd in a container") || Redis::start(&[]).is_none() {
        return;
    }
    let world = data_root();
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    prepare(&binary, &scratch.path().join("put"), &out);
    let config = description(&out, &world.root);
    fs::write(scratch.path().join("config.json"), config.to_string()).unwrap();

    let mut boot = boot(scratch.path(), Path::new("/"));
    let booted = Run::from(boot.stdin(std::process::Stdio::null()).finish().unwrap());
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    let (said, complained, checked) = (read("said"), read("complained"), read("checked"));
    let all = format!("{}\n{}\n{said}\n{complained}\n{checked}", booted.stdout, booted.stderr);

    for line in [
        "installed",
        "enabled",
        "uid=1000(sweeper) gid=1000(sweeper) groups=1000(sweeper)",
        "Result=success",
        "ExecMainStatus=0",
        "ActiveState=active",
        "cmdstat_set:calls=2",
    ] {
        assert!(checked.lines().any(|other| other == line), "{line}: {all}");
    }
    assert_served(&checked, &all);
    let (probe, report) = said.split_once("\n{").unwrap_or_else(|| panic!("{all}"));
    assert_swept(&world, &serde_json::from_str(&format!("{{{report}")).unwrap());
    assert_confined(probe, &all);
    assert!(complained.contains("Read-only file system"), "{all}");
}

/// Asserts that [`PROBE`] could do nothing that it should not.
fn assert_confined(probe: &str, all: &str) {
    let mut words = probe.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    for line in [
        "1000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "django",
        "idle",
        "19",
    ] {
        assert_eq!(words.next().as_deref(), Some(line), "{all}");
    }
    assert_eq!(words.next(), None, "{all}");
}

/// Asserts that `sweeper-serve.service` was ready, reloaded its settings and stopped cleanly.
fn assert_served(checked: &str, all: &str) {
    for line in [
        "ready: ActiveState=active",
        "reloaded: ActiveState=active",
        "stopped: ActiveState=inactive",
        "stopped: Result=success",
        "stopped: NRestarts=0",
    ] {
        assert!(checked.lines().any(|other| other == line), "{line}: {all}");
    }
    assert!(checked.contains("ready: StatusText=next pass: export at"), "{all}");
    assert!(checked.contains("reloaded: StatusText=settings reloaded; next pass:"), "{all}");
}

/// A container that systemd can run in, without privileges on this machine.
pub fn description(out: &Path, data: &Path) -> serde_json::Value {
    let capabilities: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "SYS_ADMIN",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_NICE",
        "SETFCAP",
        "MKNOD",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    let fresh = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs"});
    let bind = |from: &Path, to: &str| {
        let options = ["rbind", "rw"];
        json!({"destination": to, "type": "bind", "source": from, "options": options})
    };
    let namespaces = ["pid", "ipc", "uts", "mount", "network", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/lib/systemd/systemd", "--unit=check.service"],
            "env": ["container=runc", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": "rootfs"},
        "hostname": "sweeper",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            fresh("/dev"),
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "ptmxmode=0666"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
            fresh("/run"),
            fresh("/tmp"),
            bind(out, "/out"),
            bind(data, "/var/lib/docker/volumes/cvat_cvat_data/_data"),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
        },
    })
}
