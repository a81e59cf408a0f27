//! The service as systemd itself runs it: systemd is started in a container made by `runc`, over a copy on
//! write of this machine's own files, with no network but its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::container::{assert_swept, volume};
use super::systemd::{setting, unit};
use super::{file, has, put, static_binary};
use crate::exporter::server::Redis;
use crate::start::Start;
use crate::world::{NOW, Run, can_be_root};

/// Makes the root directory out of sight of everybody else, and runs the container in it.
const BOOT: &str = r#"
set -eu
cd "$1"
mkdir layers rootfs
mount -t tmpfs layers layers
mkdir layers/upper layers/work
mount -t overlay root rootfs -o lowerdir=/,upperdir=layers/upper,workdir=layers/work
# Nothing of what this machine runs.
rm -rf rootfs/etc/systemd/system rootfs/etc/sweeper.env
mkdir -p rootfs/etc/systemd/system rootfs/usr/local/bin rootfs/out
mkdir -p rootfs/var/lib/docker/volumes/cvat_cvat_data/_data rootfs/var/lib/prometheus/node-exporter
# As Docker has it: closed to all but root.
chmod 710 rootfs/var/lib/docker
cp -r put/. rootfs/
grep -q '^[^:]*:[^:]*:1000:' rootfs/etc/passwd ||
  echo 'sweeper:x:1000:1000::/nonexistent:/usr/sbin/nologin' >> rootfs/etc/passwd
grep -q '^[^:]*:[^:]*:1000:' rootfs/etc/group || echo 'sweeper:x:1000:' >> rootfs/etc/group
exec timeout 100 runc --root "$1/state" run --bundle . "$2"
"#;

/// What is done in there.
const CHECK: &str = r#"
redis-server --save "" --dir /tmp --bind 127.0.0.1 --port 6379 --daemonize yes --logfile /dev/null
systemctl start sweeper.timer
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
sleep 0.5
served StatusText reloaded
served ActiveState reloaded
systemctl stop sweeper-serve.service
served ActiveState stopped
served Result stopped
served NRestarts stopped
"#;

/// What the service's own place lets a process do: printed before the pass.
const PROBE: &str = "id -u; grep -E '^(NoNewPrivs|CapBnd|CapEff|Seccomp):' /proc/self/status; \
                     for file in /usr/local/x /etc/x /var/lib/x /home/x /home/django/x; do \
                     touch $file && echo written: $file; done; \
                     ls /var/lib/docker && echo listed; ls -A /home; \
                     unshare -U true && echo unshared; ionice; nice";

#[test]
fn systemd_itself_runs_the_service_in_its_sandbox() {
    let Some(binary) = static_binary() else { return };
    let there = ["runc", "unshare", "systemctl", "systemd-analyze"].into_iter().all(has);
    if !there || !can_be_root("systemd in a container") || Redis::start(&[]).is_none() {
        return;
    }
    let world = volume();
    let scratch = tempfile::tempdir().unwrap();
    let (put_there, out) = (scratch.path().join("put"), scratch.path().join("out"));
    let units = put_there.join("etc/systemd/system");
    let changes = units.join("sweeper.service.d");
    for dir in [&changes, &put_there.join("usr/local/bin"), &out] {
        fs::create_dir_all(dir).unwrap();
    }
    put(&binary, &put_there.join("usr/local/bin/sweeper"));
    for name in ["sweeper.service", "sweeper.timer", "sweeper-serve.service"] {
        fs::copy(file("systemd").join(name), units.join(name)).unwrap();
    }
    // What an operator writes, and the moment that the test's volume was made for.
    fs::write(put_there.join("etc/sweeper.env"), "CVAT_REDIS_INMEM_HOST=localhost\n").unwrap();
    let start = unit("sweeper.service");
    let start = setting(&start, "ExecStart");
    let change = format!(
        "[Service]\nExecStartPre=/bin/sh -c \"{PROBE}\"\nExecStart=\n\
         ExecStart={start} --now {NOW} --format json\n\
         StandardOutput=append:/out/said\nStandardError=append:/out/complained\n"
    );
    fs::write(changes.join("test.conf"), change).unwrap();
    let check = "[Unit]\nSuccessAction=exit-force\nFailureAction=exit-force\n[Service]\n\
                 Type=oneshot\nExecStart=/bin/sh /out/check\nStandardOutput=file:/out/checked\n";
    fs::write(units.join("check.service"), check).unwrap();
    fs::write(out.join("check"), CHECK).unwrap();
    let config = description(&out, &world.root);
    fs::write(scratch.path().join("config.json"), config.to_string()).unwrap();

    let mut boot = Command::new("unshare");
    boot.args(["-m", "sh", "-c", BOOT, "sh"]).arg(scratch.path());
    boot.arg(scratch.path().file_name().unwrap());
    let booted = Run::from(boot.stdin(std::process::Stdio::null()).finish().unwrap());
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    let (said, complained, checked) = (read("said"), read("complained"), read("checked"));
    let all = format!("{}\n{}\n{said}\n{complained}\n{checked}", booted.stdout, booted.stderr);

    for line in ["Result=success", "ExecMainStatus=0", "ActiveState=active", "cmdstat_set:calls=2"]
    {
        assert!(checked.lines().any(|other| other == line), "{line}: {all}");
    }
    assert_served(&checked, &all);
    let (probe, report) = said.split_once("\n{").unwrap_or_else(|| panic!("{all}"));
    assert_swept(&world, &serde_json::from_str(&format!("{{{report}")).unwrap());
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
    assert!(complained.contains("Read-only file system"), "{all}");
}

/// That `sweeper-serve.service` was ready, read its settings again and stopped in good order.
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
    assert!(checked.contains("ready: StatusText=next: export at"), "{all}");
    assert!(checked.contains("reloaded: StatusText=settings read again; next:"), "{all}");
}

/// A container that systemd feels at home in, and without the rights to this machine.
fn description(out: &Path, volume: &Path) -> serde_json::Value {
    let rights: Vec<String> = [
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
            "capabilities": {"bounding": rights, "effective": rights, "permitted": rights},
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
            bind(volume, "/var/lib/docker/volumes/cvat_cvat_data/_data"),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
        },
    })
}
