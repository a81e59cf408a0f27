//! A service on a volume on which the application has not made its directories yet.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Serving;
use super::metrics::{address, get};
use crate::wait::{AT_ONCE, wait_until};
use crate::world::{Run, sweeper};

#[test]
fn a_service_waits_for_a_new_volume_is_unhealthy_meanwhile_and_then_serves() {
    let scratch = tempfile::tempdir().unwrap();
    let volume = scratch.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let socket = scratch.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    let mut command = sweeper(&["serve", "--listen", "0", "--at-start", "--data"]);
    command.arg(&volume).env("TZ", "UTC").env("NOTIFY_SOCKET", &socket);
    let mut service = Serving::start(command);
    let address = address(&mut service);
    let line = service.says("waiting for the data root");
    assert!(line.contains("it contains none of cache/export"), "{line}");
    let mut buffer = [0; 4096];
    let length = notified.recv(&mut buffer).unwrap();
    let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(told.starts_with("READY=1\nSTATUS=waiting for the data root"), "{told}");
    let (status, text) = get(&address, "GET /healthz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("waiting for the data root"), "{text}");
    assert_eq!(get(&address, "GET /metrics").0, 200);
    // As in a claim of Kubernetes that is mounted without its sub path.
    fs::create_dir_all(volume.join("data/cache/export")).unwrap();
    assert!(service.says("waiting for the data root").contains("`subPath: data`"));
    fs::remove_dir_all(volume.join("data")).unwrap();
    // The application starts.
    for dir in ["cache/export", "tmp"] {
        fs::create_dir_all(volume.join(dir)).unwrap();
    }
    service.says("serving;");
    wait_until("healthy", || get(&address, "GET /healthz").0 == 200);
    service.stop_any_time();
}

#[test]
fn a_service_that_waits_for_its_volume_ends_at_a_signal_with_0() {
    let volume = tempfile::tempdir().unwrap();
    let mut command = sweeper(&["serve", "--data"]);
    command.arg(volume.path());
    let mut service = Serving::start(command);
    service.says("waiting for the data root");
    let (run, took) = service.stop();
    assert!(run.exits(0).stderr.contains("this service made no pass"), "{}", run.stderr);
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 0, "nothing is made there");
}

#[test]
fn a_run_does_not_wait_and_a_wrong_path_is_refused_by_both() {
    let empty = tempfile::tempdir().unwrap();
    for (command, path) in [
        ("run", empty.path()),
        ("run", Path::new("/no/such")),
        ("serve", Path::new("/no/such")),
        ("serve", Path::new("/usr")),
    ] {
        Run::of({
            let mut command = sweeper(&[command, "--data"]);
            command.arg(path);
            command
        })
        .exits(2);
    }
}
