//! The units: well-formed, with a sandbox that allows a pass and little else.

use std::fs;
use std::process::Command;

use super::container::{Calls, Container, assert_sweeps, at_test_time, data_root};
use super::{checked, file, has, put, seconds, static_binary};
use crate::exporter::server::Redis;
use crate::world::{can_be_root, tool};

const SERVICES: [&str; 2] = ["sweeper.service", "sweeper-serve.service"];

/// The settings of a unit, in order.
pub fn unit(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(file("systemd").join(name)).unwrap();
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

pub fn setting<'a>(unit: &'a [(String, String)], key: &str) -> &'a str {
    let found = unit.iter().find(|(other, _)| other == key);
    &found.unwrap_or_else(|| panic!("{key}: {unit:?}")).1
}

#[test]
fn the_units_are_well_formed() {
    let Some(binary) = static_binary() else { return };
    if !has("systemd-analyze") {
        return;
    }
    // A root directory like that of a machine with the program installed. Every complaint counts, also those
    // that systemd does not consider a failure.
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    let programs = ["usr/local/bin", "bin"].map(|dir| root.path().join(dir));
    for dir in programs.iter().chain([&units, &root.path().join("usr/lib/systemd")]) {
        fs::create_dir_all(dir).unwrap();
    }
    put(&binary, &programs[0].join("sweeper"));
    fs::copy("/bin/kill", programs[1].join("kill")).unwrap();
    let theirs = root.path().join("usr/lib/systemd/system");
    tool("cp", &["-r".as_ref(), "/usr/lib/systemd/system".as_ref(), theirs.as_os_str()]);
    std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
    for entry in fs::read_dir(file("systemd")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), units.join(entry.file_name())).unwrap();
        let mut command = Command::new("systemd-analyze");
        command.arg(format!("--root={}", root.path().display())).args(["verify", "--man=no"]);
        let run = checked(command.arg(entry.file_name()));
        assert_eq!(format!("{}{}", run.stdout, run.stderr), "", "{entry:?}");
    }
}

#[test]
fn the_services_have_a_low_exposure_level() {
    if !has("systemd-analyze") {
        return;
    }
    for service in SERVICES {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=15", "--no-pager"]);
        let run = checked(command.arg(file("systemd").join(service)));
        assert!(run.stdout.contains("Overall exposure level"), "{}", run.stdout);
    }
}

#[test]
fn both_services_have_the_same_sandbox_and_data_root() {
    let [once, serve] = SERVICES.map(unit);
    let sandbox = |unit: &[(String, String)]| -> Vec<(String, String)> {
        let from = unit.iter().position(|(key, _)| key == "User").unwrap();
        unit[from..].iter().filter(|(key, _)| key != "WantedBy").cloned().collect()
    };
    assert!(sandbox(&once).len() > 30);
    assert_eq!(sandbox(&once), sandbox(&serve));
    assert_eq!(setting(&once, "Environment"), setting(&serve, "Environment"));
    // Passes of the timer do not overlap.
    let timer = unit("sweeper.timer");
    assert_eq!(setting(&timer, "OnCalendar"), "*-*-* 00,12:30:00");
    let deadline = setting(&once, "Environment").rsplit('=').next().unwrap();
    assert!(seconds(deadline) + 600 < 12 * 3600);
}

/// The system calls that the filter of a unit allows, with the sets that systemd has.
fn granted(unit: &[(String, String)]) -> Vec<String> {
    fn expand(name: &str) -> Vec<String> {
        if !name.starts_with('@') {
            return vec![name.to_owned()];
        }
        let run = checked(Command::new("systemd-analyze").args(["syscall-filter", name]));
        let lines = run.stdout.lines().skip(1).map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).flat_map(expand).collect()
    }
    let mut all = Vec::new();
    for (_, value) in unit.iter().filter(|(key, _)| key == "SystemCallFilter") {
        if let Some(denied) = value.strip_prefix('~') {
            let denied: Vec<String> = denied.split(' ').flat_map(expand).collect();
            all.retain(|name| !denied.contains(name));
        } else {
            all.extend(value.split(' ').flat_map(expand));
            // These are in every filter.
            all.extend(expand("@default"));
        }
    }
    assert!(all.len() > 200, "{all:?}");
    all
}

#[test]
fn a_pass_needs_no_more_than_the_service_has() {
    // The parts of the sandbox that work without systemd: the user, no capabilities, no new privileges, a
    // read-only root, the data root at its path, and the filter of system calls.
    if !has("systemd-analyze") {
        return;
    }
    let Some(redis) = Redis::start(&[]) else { return };
    let unit = unit("sweeper.service");
    let (from, to) = setting(&unit, "BindPaths").split_once(':').unwrap();
    assert!(from.contains("cvat_cvat_data"));
    let words = setting(&unit, "ExecStart").split(' ').skip(1);
    let number = |key: &str| setting(&unit, key).parse().unwrap();
    let env = setting(&unit, "Environment").split(' ').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    assert_eq!(setting(&unit, "SystemCallErrorNumber"), "EPERM");
    assert_eq!(setting(&unit, "CapabilityBoundingSet"), "");
    let mut container = Container {
        args: words.map(str::to_owned).collect(),
        env: env.collect(),
        user: (number("User"), number("Group")),
        read_only: setting(&unit, "ProtectSystem") == "strict",
        new_privileges: setting(&unit, "NoNewPrivileges") != "yes",
        mounted_at: to.to_owned(),
        calls: Calls::Only(granted(&unit)),
    };
    at_test_time(&mut container);
    // As in /etc/sweeper.env of docs/deployment.md.
    container.set("CVAT_REDIS_INMEM_HOST", "127.0.0.1");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    assert_sweeps(&container, "unused");
}

#[test]
fn a_data_root_below_a_closed_directory_cannot_be_swept_without_the_bind_mount() {
    // Only root can enter /var/lib/docker. A service that runs as user 1000 could not reach its volumes.
    if !can_be_root("a closed directory") {
        return;
    }
    let world = data_root();
    let above = world.root.parent().unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o710);
    fs::set_permissions(above, closed).unwrap();
    world.run_as(1000, &["run"]).exits(2);
}
