//! The units: well-formed, closed to everything that a pass does not need, and open enough for one.

use std::fs;

use std::process::Command;

use super::container::{Calls, Container, assert_sweeps, at_test_time, volume};
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
    // A root directory as on a machine with the program installed: every complaint counts, those that
    // are no failure for systemd too.
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
        command.arg(format!("--root={}", root.path().display())).arg("verify");
        let run = checked(command.arg(entry.file_name()));
        assert_eq!(format!("{}{}", run.stdout, run.stderr), "", "{entry:?}");
    }
}

#[test]
fn the_services_are_exposed_to_little() {
    if !has("systemd-analyze") {
        return;
    }
    for service in SERVICES {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=20", "--no-pager"]);
        let run = checked(command.arg(file("systemd").join(service)));
        assert!(run.stdout.contains("Overall exposure level"), "{}", run.stdout);
    }
}

#[test]
fn both_services_have_one_sandbox_and_one_place() {
    let [once, serve] = SERVICES.map(unit);
    let sandbox = |unit: &[(String, String)]| -> Vec<(String, String)> {
        let from = unit.iter().position(|(key, _)| key == "User").unwrap();
        unit[from..].iter().filter(|(key, _)| key != "WantedBy").cloned().collect()
    };
    assert!(sandbox(&once).len() > 30);
    assert_eq!(sandbox(&once), sandbox(&serve));
    assert_eq!(setting(&once, "Environment"), setting(&serve, "Environment"));
    // The timer's passes do not meet: one is over before the next begins.
    let timer = unit("sweeper.timer");
    assert_eq!(setting(&timer, "OnCalendar"), "*-*-* 00,12:00:00");
    let deadline = setting(&once, "Environment").rsplit('=').next().unwrap();
    assert!(seconds(deadline) + 600 < 12 * 3600);
}

/// The system calls that the unit's filter leaves, with systemd's own sets.
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
    // What of the sandbox can be had without systemd: user, no capabilities, no new privileges, a
    // read-only root, the volume bound to its place, and the filter of system calls.
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
    // As README's /etc/sweeper.env.
    container.set("CVAT_REDIS_INMEM_HOST", "127.0.0.1");
    container.set("CVAT_REDIS_INMEM_PORT", &redis.port.to_string());
    assert_sweeps(&container, "unused");
}

#[test]
fn the_directory_above_dockers_volumes_is_why_the_volume_is_bound() {
    // Docker closes /var/lib/docker to all but root; a service that is user 1000 could not reach it.
    if !can_be_root("a closed directory") {
        return;
    }
    let world = volume();
    let above = world.root.parent().unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o710);
    fs::set_permissions(above, closed).unwrap();
    world.run_as(1000, &["run"]).exits(2);
}
