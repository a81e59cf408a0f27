//! The Debian package: installed, upgraded, removed and purged, without systemd and with it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{
    assert_dry_run, checked, data_root, debian, has, lines_below, on_bare_debian, released_file,
};
use crate::deploy::{booted, put};
use crate::start::Start;
use crate::world::{Run, export_name};

const HEADING: &str = "### Debian package";

/// The lines of the documentation: those that install the package and make a dry run, and those for systemd.
fn documented() -> (String, String) {
    let lines = lines_below("docs/deployment.md", HEADING);
    let (install, systemd) = lines.split_once("\n\n").unwrap();
    (install.to_owned(), systemd.to_owned())
}

/// Shell lines that make a package `$1`.deb of the same content with that version.
const REPACK: &str = r#"
repack() {
  dpkg-deb -R retention-sweeper_*_$(dpkg --print-architecture).deb "/root/$1"
  sed -i "s/^Version: .*/Version: $1/" "/root/$1/DEBIAN/control"
  dpkg-deb -Zgzip -z1 -b "/root/$1" "/root/$1.deb" >&2
}
"#;

#[test]
fn checkers_of_debian_packages_find_nothing() {
    let Some(package) = released_file("_amd64.deb") else { return };
    if !has("lintian") {
        return;
    }
    let mut lintian = Command::new("lintian");
    let run = checked(lintian.args(["--fail-on", "error,warning"]).arg(package));
    assert_eq!(run.stdout, "");
}

#[test]
fn the_package_gets_from_nothing_to_a_dry_run_by_the_lines_of_the_documentation() {
    let world = data_root();
    let Some(run) = on_bare_debian(&world, &documented().0) else { return };
    assert_dry_run(&world, &run);
}

#[test]
fn a_package_that_is_purged_leaves_nothing_but_the_user() {
    let script = format!(
        r"
all() {{ find / -xdev -path /var/lib/dpkg -prune -o -path /var/lib/apt -prune -o -path /var/log -prune -o \
  -path /var/cache -prune -o -path /root -prune -o -print | sort; }}
all > /root/before
{}
all > /root/installed
apt-get purge -y retention-sweeper >&2
all > /root/purged
comm -13 /root/before /root/installed
echo ---
comm -3 /root/before /root/purged
echo ---
getent passwd 1000
",
        documented().0.replace("sweeper run", "sweeper run --quiet")
    );
    let Some(run) = on_bare_debian(&data_root(), &script) else { return };
    run.exits(0);
    let mut parts = run.stdout.split("---\n");
    let (installed, left, user) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    for path in [
        "/usr/bin/sweeper",
        "/etc/sweeper.toml",
        "/usr/lib/systemd/system/sweeper.timer",
        "/usr/share/bash-completion/completions/sweeper",
        "/usr/share/doc/retention-sweeper/copyright",
    ] {
        assert!(installed.lines().any(|line| line == path), "{path}: {installed}");
    }
    // What `useradd` keeps of the files that it changed.
    let ours = left.lines().map(str::trim).filter(|path| !path.ends_with('-'));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new(), "{left}");
    assert!(user.starts_with("sweeper:x:1000:1000:"), "{user}");
}

#[test]
fn an_upgrade_and_a_removal_keep_the_settings_of_the_operator() {
    let script = format!(
        r#"{REPACK}
repack 0.0.1
apt-get install -y /root/0.0.1.deb >&2
echo 'ttl = "49h"' >> /etc/sweeper.toml
apt-get install -y ./retention-sweeper_*_$(dpkg --print-architecture).deb >&2 < /dev/null
sweeper config --config /etc/sweeper.toml | grep '^ttl '
apt-get remove -y retention-sweeper >&2
test ! -e /usr/bin/sweeper && tail -n 1 /etc/sweeper.toml
apt-get purge -y retention-sweeper >&2
ls /etc/sweeper.toml || echo purged
"#
    );
    let Some(run) = on_bare_debian(&data_root(), &script) else { return };
    run.exits(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].contains("2d 1h") && lines[0].contains("/etc/sweeper.toml"), "{lines:?}");
    assert_eq!(lines[lines.len() - 2..], ["ttl = \"49h\"", "purged"]);
}

/// What is run under systemd.
fn check() -> String {
    let (install, systemd) = documented();
    format!(
        r#"set -eux
export HOME=/root DEBIAN_FRONTEND=noninteractive
cd /out
{REPACK}
repack 9.9.9
{install}
states() {{ echo "$1:" $(systemctl is-active sweeper.timer sweeper-serve.service); }}
states installed
{systemd}
echo enabled: $(systemctl is-enabled sweeper.timer)
systemctl show sweeper.service -p Result -p ExecMainStatus
states started
systemctl start sweeper-serve.service
before=$(systemctl show sweeper-serve.service -p MainPID)
apt-get install -y /root/9.9.9.deb
test "$before" != "$(systemctl show sweeper-serve.service -p MainPID)" && states upgraded
apt-get remove -y retention-sweeper
states removed
cat /proc/[0-9]*/comm | grep -x sweeper || echo none is left
apt-get purge -y retention-sweeper
find /etc/systemd/system -name '*sweeper*'
echo done
"#
    )
}

#[test]
fn systemd_runs_what_the_package_installs_until_it_is_removed() {
    let (Some(package), Some(debian)) = (released_file("_amd64.deb"), debian()) else { return };
    if !["runc", "unshare"].into_iter().all(has) {
        return;
    }
    let world = data_root();
    // The units run as this user.
    world.chown(1000);
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let units = scratch.path().join("put/etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(&out).unwrap();
    put(&package, &out.join(package.file_name().unwrap()));
    fs::write(out.join("check"), check()).unwrap();
    fs::write(units.join("check.service"), booted::CHECK_SERVICE).unwrap();
    let config = booted::description(&out, &world.root);
    fs::write(scratch.path().join("config.json"), config.to_string()).unwrap();
    let mut boot = booted::boot(scratch.path(), &debian);
    let run = Run::from(boot.stdin(Stdio::null()).finish().unwrap());
    let said = fs::read_to_string(out.join("checked")).unwrap_or_default();
    let all = format!("{}\n{}\n{said}", run.stdout, run.stderr);
    for line in [
        "installed: inactive inactive",
        "enabled: enabled",
        "Result=success",
        "ExecMainStatus=0",
        "started: active inactive",
        "upgraded: active active",
        "removed: inactive inactive",
        "none is left",
    ] {
        assert!(said.lines().any(|other| other == line), "{line}: {all}");
    }
    let links = said.lines().filter(|line| line.starts_with("/etc/systemd/system/"));
    assert_eq!(links.collect::<Vec<_>>(), Vec::<&str>::new(), "{all}");
    assert!(said.ends_with("+ echo done\ndone\n"), "{all}");
    assert!(!world.has(Path::new("cache/export").join(export_name(1))), "{all}");
    assert!(world.has(Path::new("cache/export").join(export_name(2))), "{all}");
}
