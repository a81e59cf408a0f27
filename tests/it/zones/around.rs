//! What is around a pass: locks, metrics, and the service.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::{OLD, Zones};
use crate::start::Start;
use crate::world::assert_counts;

#[test]
fn a_zone_takes_the_lock_that_its_settings_name() {
    let zones = Zones::new("profile = 'none'");
    let held = File::open(zones.world.path(OLD[0])).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let args = ["--lock-wait", "0", "--in-use", "ignore"];
    let report = zones.report(&args);
    assert_counts(&report, "label-exports", &[("removed", 1), ("skipped_by.locked", 1)]);
    assert_eq!(zones.old(), [OLD[0]]);

    let settings = fs::read_to_string(&zones.settings).unwrap();
    let unlocked = settings.replacen("ttl = '7d'", "ttl = '7d'\nlock = 'none'", 1);
    fs::write(&zones.settings, unlocked).unwrap();
    // The file is still open elsewhere, which is another reason to skip it.
    let report = zones.report(&["--lock-wait", "0"]);
    assert_counts(&report, "label-exports", &[("removed", 0), ("skipped", 1)]);
    let report = zones.report(&args);
    assert_counts(&report, "label-exports", &[("removed", 1), ("skipped", 0)]);
    let notes = report["zones"][0]["notes"].to_string();
    assert!(notes.contains("no file locks are taken"), "{notes}");
    assert_eq!(report["zones"][1]["notes"].as_array().unwrap().len(), 0, "the other zone has one");
    zones.assert_kept();
}

#[test]
fn metrics_have_the_names_of_the_zones() {
    let zones = Zones::new("profile = 'none'");
    let file = zones.world.root.parent().unwrap().join("sweeper.prom");
    zones.report(&["--metrics-file", file.to_str().unwrap()]);
    let metrics = fs::read_to_string(file).unwrap();
    for line in [
        "sweeper_removed_total{zone=\"label-exports\"} 2",
        "sweeper_kept_total{reason=\"unrecognized\",zone=\"label-exports\"} 4",
        "sweeper_removed_total{zone=\"render-cache\"} 1",
        "sweeper_skipped_total{reason=\"used\",zone=\"render-cache\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}:\n{metrics}");
    }
    assert!(!metrics.contains("zone=\"tmp\""), "{metrics}");
}

#[test]
fn a_service_sweeps_zones_of_the_settings_file_by_their_own_schedule() {
    let zones = Zones::new("profile = 'none'");
    let missing = zones.run(&["serve"]);
    let hint = "zone \"label-exports\" has no schedule: set every, or schedule label-exports=";
    assert!(missing.exits(2).stderr.contains(hint), "{}", missing.stderr);
    let wrong = zones.run(&["serve", "--schedule", "label-export=0 3 * * *"]);
    assert!(wrong.exits(2).stderr.contains("did you mean label-exports?"), "{}", wrong.stderr);

    let own = ["--schedule", "label-exports=0 3 * * *", "--schedule", "render-cache=0 4 * * *"];
    let service = Service::start(&zones, &own);
    let (serving, code) = service.stop();
    assert!(serving.contains("label-exports at ") && serving.contains("T03:00:00"), "{serving}");
    assert!(serving.contains("render-cache at ") && serving.contains("T04:00:00"), "{serving}");
    assert_eq!((code, zones.old().len()), (Some(0), 3));

    let mut service = Service::start(&zones, &["--every", "1s"]);
    while !zones.old().is_empty() {
        assert!(service.child.try_wait().unwrap().is_none(), "the service ended");
        std::thread::yield_now();
    }
    service.stop();
    zones.assert_kept();
}

/// A running service.
struct Service {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Service {
    fn start(zones: &Zones, args: &[&str]) -> Self {
        let mut command = zones.world.command(&["serve"]);
        command.args(args).arg("--config").arg(&zones.settings).env("TZ", "Etc/UTC");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).start().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stderr }
    }

    /// Waits until it serves, and stops it: the line that said so, and its exit code.
    fn stop(mut self) -> (String, Option<i32>) {
        let mut all = String::new();
        let serving = self.stderr.find_map(|line| {
            let line = line.unwrap();
            all += &line;
            line.contains("serving; next pass:").then_some(line)
        });
        let serving = serving.unwrap_or_else(|| panic!("it does not serve: {all}"));
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        (serving, self.child.wait().unwrap().code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
