//! The page at `/`: what takes up space, and what the last passes did.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::metrics::address;
use super::{Serving, export, serve};
use crate::usage::page::number;
use crate::wait::{LIMIT, wait_until};
use crate::world::{DAY, HOUR, Run, World, sweeper};

/// What the server answers: the headers and the body.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The page, as soon as `is_complete`.
#[track_caller]
fn page_when(address: &str, is_complete: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let (head, page) = ask(address, "GET /");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        if is_complete(&page) {
            return page;
        }
        assert!(start.elapsed() < LIMIT, "{page}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn is_measured(page: &str) -> bool {
    page.contains("<table id=\"areas\">")
}

#[test]
fn the_page_shows_the_numbers_of_usage_and_of_the_last_passes() {
    let world = World::new();
    for number in 0..5 {
        export(&world, number, 2 * DAY);
    }
    export(&world, 9, HOUR);
    world.file_of("data/1/raw/image", DAY, &vec![b'x'; 90_000]);
    // A path is no markup.
    let root = world.root.parent().unwrap().join("<i>data");
    std::fs::rename(&world.root, &root).unwrap();
    let on = |args: &[&str]| {
        let mut command = sweeper(args);
        command.arg("--data").arg(&root).args(["--now", crate::world::NOW]);
        command.env("TZ", "Etc/UTC");
        command
    };
    let args = ["serve", "--every", "1h", "--at-start", "--zones", "export", "--listen", "0"];
    let mut service = Serving::start(on(&args));
    let address = address(&mut service);
    // A page that is asked for before the pass would show what was measured before it.
    let exports = root.join("cache/export");
    wait_until("the pass", || std::fs::read_dir(&exports).unwrap().count() == 1);
    let page = page_when(&address, |page| {
        is_measured(page) && !page.contains("There has been no pass yet.")
    });
    assert_eq!(number(&page, "passes", "export", "removed"), 5);
    assert_eq!(number(&page, "passes", "export", "wide seen"), 6);
    assert_eq!(number(&page, "passes", "export", "failed"), 0);
    assert!(page.contains("<td>complete"), "{page}");
    assert!(page.contains("<ul id=\"health\"><li>export: last pass ended at "), "{page}");
    let usage = Run::of(on(&["usage", "--format", "json"])).exits(0).json();
    for area in usage["areas"].as_array().unwrap() {
        let name = area["area"].as_str().unwrap();
        assert_eq!(area["allocated_bytes"], number(&page, "areas", name, "allocated"), "{name}");
    }
    assert!(page.contains("&lt;i&gt;data") && !page.contains("<i>"), "{page}");
    let (run, _) = service.stop();
    std::fs::rename(&root, &world.root).unwrap();
    run.exits(0);
}

#[test]
fn browsers_are_told_to_run_and_load_nothing_and_nothing_can_be_sent() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--schedule", "export=0 0 1 1 *", "--listen", "0"]);
    let address = address(&mut service);
    let (head, page) = ask(&address, "GET /");
    let (_, policy) = page.split_once("http-equiv=\"Content-Security-Policy\" content=\"").unwrap();
    let policy = policy.split('"').next().unwrap().replace("&#39;", "'");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for header in [
        format!("content-security-policy: {policy}; frame-ancestors 'none'\r\n"),
        "x-content-type-options: nosniff\r\n".to_owned(),
        "referrer-policy: no-referrer\r\n".to_owned(),
        "cache-control: no-store\r\n".to_owned(),
        "content-type: text/html; charset=utf-8\r\n".to_owned(),
    ] {
        assert!(format!("{head}\r\n").contains(&header), "{header}: {head}");
    }
    let (head, _) = ask(&address, "GET /healthz");
    let nothing = "content-security-policy: default-src 'none'; frame-ancestors 'none'";
    assert!(head.contains(nothing), "{head}");
    let (head, body) = ask(&address, "HEAD /");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let (head, _) = ask(&address, &format!("{method} /"));
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"), "{head}");
    }
    service.stop().0.exits(0);
}

#[test]
fn nothing_is_measured_while_a_pass_is_running() {
    let world = World::new();
    for number in 0..5 {
        export(&world, number, 2 * DAY);
    }
    let exports = world.path("cache/export");
    let left = || std::fs::read_dir(&exports).unwrap().count();
    // The pass waits for the last of them.
    let held = std::fs::File::open(exports.join(crate::world::export_name(0))).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let args = ["--every", "1h", "--at-start", "--zones", "export", "--lock-wait", "10m"];
    let mut service = Serving::start(serve(&world, &[&args[..], &["--listen", "0"]].concat()));
    let address = address(&mut service);
    wait_until("the pass waits", || left() == 1);
    for _ in 0..20 {
        let (_, page) = ask(&address, "GET /");
        assert!(!is_measured(&page), "{page}");
    }
    drop(held);
    wait_until("the pass ends", || left() == 0);
    let page = page_when(&address, |page| is_measured(page) && page.contains("id=\"passes\"><tr>"));
    assert_eq!(number(&page, "areas", "export", "wide inodes"), 1);
    service.stop().0.exits(0);
}

#[test]
fn a_data_root_that_cannot_be_measured_is_said_on_the_page() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--schedule", "export=0 0 1 1 *", "--listen", "0"]);
    let address = address(&mut service);
    let away = world.root.with_extension("away");
    std::fs::rename(&world.root, &away).unwrap();
    let page = page_when(&address, |page| page.contains("could not be measured"));
    assert!(page.contains("cannot open the data root"), "{page}");
    std::fs::rename(&away, &world.root).unwrap();
    service.stop().0.exits(0);
}

#[test]
fn a_page_without_numbers_says_that_they_are_being_measured_unless_a_pass_is_running() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--every", "1h", "--listen", "0"]);
    let address = address(&mut service);
    let (_, page) = ask(&address, "GET /");
    assert!(page.contains("What takes up space is being measured."), "{page}");
    service.stop().0.exits(0);
}
