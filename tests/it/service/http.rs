//! Clients that ask for too much, too slowly or too often: the service goes on, other clients are answered, and
//! no pass is affected.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use super::metrics::{address, get};
use super::{Serving, serve, wait_for_a_pass};
use crate::threads::new_user;
use crate::wait::{LIMIT, wait_until};
use crate::world::{Run, World, as_user, can_be_root};

/// A service that makes no pass, and its address.
fn idle(world: &World) -> (Serving, String) {
    let mut service = Serving::on(world, &["--schedule", "export=0 0 1 1 *", "--listen", "0"]);
    let address = address(&mut service);
    service.says("serving");
    (service, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&stream, Some(LIMIT)).unwrap();
    }
    stream
}

/// A client that has sent this and does not go on.
fn stuck(address: &str, request: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What the kernel says of the service in a directory of `/proc`: one entry for each thread or descriptor.
fn count(service: &Serving, what: &str) -> usize {
    let dir = PathBuf::from(format!("/proc/{}/{what}", service.child.id()));
    std::fs::read_dir(dir).unwrap().count()
}

fn threads_and_descriptors(service: &Serving) -> (usize, usize) {
    (count(service, "task"), count(service, "fd"))
}

/// The most memory that the service ever had, in KiB.
fn peak_kib(service: &Serving) -> u64 {
    let status = format!("/proc/{}/status", service.child.id());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[track_caller]
fn assert_answers(address: &str) {
    assert_eq!(get(address, "GET /healthz").0, 200);
}

#[test]
fn a_body_of_any_announced_size_does_not_end_the_service() {
    let world = World::new();
    let (service, address) = idle(&world);
    for method in ["GET", "POST"] {
        for length in ["99999999999", "99999999999999999", "18446744073709551615", "-1"] {
            let request = format!("{method} /healthz HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            let mut answer = String::new();
            stuck(&address, &request).read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "405", "413", "431"].contains(&status), "{request}{answer}");
            assert_answers(&address);
        }
    }
    assert!(peak_kib(&service) < 64 * 1024);
    service.stop().0.exits(0);
}

#[test]
fn a_client_that_asks_and_does_not_read_keeps_no_other_client_waiting() {
    let world = World::new();
    let (service, address) = idle(&world);
    let mut client = connect(&address);
    let many = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3000);
    // The service closes the connection after its first answer.
    let _ = client.write_all(many.as_bytes());
    for _ in 0..3 {
        assert_answers(&address);
    }
    drop(client);
    service.stop().0.exits(0);
}

#[test]
fn a_header_without_an_end_is_refused_before_it_takes_memory() {
    let world = World::new();
    let (service, address) = idle(&world);
    let mut client = stuck(&address, "GET /metrics HTTP/1.1\r\nX: ");
    let (part, mut sent) = (vec![b'A'; 64 * 1024], 0);
    let error = loop {
        match client.write(&part) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "64 MiB of header were taken");
    };
    let is_closed = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    assert!(is_closed, "{error}");
    assert!(peak_kib(&service) < 64 * 1024);
    assert_answers(&address);
    service.stop().0.exits(0);
}

#[test]
fn connections_cost_no_threads_and_are_limited() {
    let world = World::new();
    let (service, address) = idle(&world);
    assert_answers(&address);
    let (threads, descriptors) = threads_and_descriptors(&service);
    let clients: Vec<TcpStream> =
        (0..300).map(|_| stuck(&address, "GET /healthz HTTP/1.1\r\n")).collect();
    // Connections are accepted in their order: when this one is answered, all others were.
    assert_answers(&address);
    let (now_threads, now_descriptors) = threads_and_descriptors(&service);
    assert_eq!(now_threads, threads);
    assert!(now_descriptors <= descriptors + 64, "{descriptors} became {now_descriptors}");
    drop(clients);
    wait_until("the connections are closed", || count(&service, "fd") <= descriptors);
    service.stop().0.exits(0);
}

#[test]
fn other_protocols_leave_nothing_behind() {
    let world = World::new();
    let (service, address) = idle(&world);
    assert_answers(&address);
    let before = threads_and_descriptors(&service);
    for request in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\0\u{5}hello", "\r\n\r\n"]
    {
        for _ in 0..30 {
            drop(stuck(&address, request));
        }
    }
    assert_answers(&address);
    wait_until("nothing is left", || threads_and_descriptors(&service) <= before);
    service.stop().0.exits(0);
}

#[test]
fn passes_go_on_whatever_clients_do() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--every", "1s", "--listen", "0"]);
    let address = address(&mut service);
    let clients: Vec<TcpStream> =
        (0..200).map(|_| stuck(&address, "GET /metrics HTTP/1.1\r\n")).collect();
    for _ in 0..2 {
        wait_for_a_pass(&world);
        assert_eq!(get(&address, "GET /metrics").0, 200);
    }
    drop(clients);
    service.stop_any_time();
}

/// The service with other limits of the system.
fn limited(command: &Command, limit: &str) -> Command {
    let mut limited = Command::new("prlimit");
    limited.args([limit, "--"]).arg(command.get_program()).args(command.get_args());
    limited.env_clear().current_dir("/").stdin(std::process::Stdio::null());
    limited
}

#[test]
fn connections_are_accepted_again_after_the_descriptors_have_run_out() {
    let world = World::new();
    let command = serve(&world, &["--schedule", "export=0 0 1 1 *", "--listen", "0"]);
    let mut service = Serving::start(limited(&command, "--nofile=40:40"));
    let address = address(&mut service);
    service.says("serving");
    let clients: Vec<TcpStream> =
        (0..50).map(|_| stuck(&address, "GET /healthz HTTP/1.1\r\n")).collect();
    assert_answers(&address);
    let line = service.says("the system refuses connections");
    assert!(line.contains("Too many open files"), "{line}");
    drop(clients);
    assert_answers(&address);
    service.stop().0.exits(0);
}

#[test]
fn a_thread_that_cannot_be_started_ends_the_service_with_a_message() {
    if !can_be_root("a user who may have few threads") {
        return;
    }
    let uid = new_user();
    let world = World::new();
    world.chown(uid);
    let scratch = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open).unwrap();
    let notify = scratch.path().join("notify");
    let _systemd = UnixDatagram::bind(&notify).unwrap();
    std::os::unix::fs::chown(&notify, Some(uid), None).unwrap();
    // The program itself is one, and the thread in which signals arrive another.
    for (threads, word) in [
        (2, "a thread for signals"),
        (3, "measures the data root"),
        (4, "measures: "),
        (5, "listens on"),
        (6, "feeds the watchdog"),
    ] {
        let command = serve(&world, &["--listen", "0"]);
        let mut command = as_user(uid, &limited(&command, &format!("--nproc={threads}")));
        command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "60000000");
        let run = Run::of(command);
        assert!(run.exits(2).stderr.contains(word), "{threads}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
}
