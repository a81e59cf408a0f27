//! What is answered, what is refused, and that no client keeps others waiting.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::channel;

use super::*;

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(50);

fn site() -> Site<impl Fn() + Send, impl Fn(&str) -> Option<Page> + Send + Sync> {
    let page = |path: &str| (path == "/page").then(|| Page::plain(200, "text"));
    Site { measure: || {}, measured: &["/page"], page }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// What the server sends until it closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is closed with more to read is reset; what was sent before that counts.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(answer).unwrap()
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    // A server that has seen enough may have closed the connection.
    let _ = stream.write_all(request.as_bytes());
    rest(stream)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn pages_can_be_read_and_nothing_else() {
    let address = listen(LOCALHOST, site()).unwrap();
    for (request, wanted, body) in [
        ("GET /page", "200", "text"),
        ("GET /page?query", "200", "text"),
        ("HEAD /page", "200", ""),
        ("GET /other", "404", "not found\n"),
        ("POST /page", "405", "only GET and HEAD are allowed\n"),
    ] {
        let answer = ask(address, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status(&answer), wanted, "{request}");
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(found, body, "{request}");
        assert!(head.to_lowercase().contains("\r\nconnection: close"), "{head}");
        assert_eq!(head.contains("allow: GET, HEAD"), wanted == "405", "{head}");
    }
    assert!(listen(address, site()).unwrap_err().contains("cannot listen on"), "in use");
}

#[test]
fn bodies_long_headers_and_other_protocols_are_refused_at_once() {
    let address = listen(LOCALHOST, site()).unwrap();
    let long = "x".repeat(HEADER_BYTES);
    let below = "x".repeat(HEADER_BYTES - 200);
    for (request, wanted) in [
        ("GET /page HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), "413"),
        ("GET /page HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_owned(), "400"),
        ("GET /page HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "413"),
        ("GET /page HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(), "200"),
        (format!("GET /page HTTP/1.1\r\nX: {below}\r\n\r\n"), "200"),
        (format!("GET /page HTTP/1.1\r\nX: {long}\r\n\r\n"), "431"),
        // Without an end.
        (format!("GET /page HTTP/1.1\r\nX: {long}"), "431"),
    ] {
        assert_eq!(status(&ask(address, &request)), wanted, "{}", &request[..40]);
    }
    for request in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "nonsense\r\n\r\n"]
    {
        let answer = ask(address, request);
        assert_ne!(status(&answer), "200", "{request:?}: {answer}");
    }
    assert_eq!(status(&ask(address, "GET /page HTTP/1.1\r\n\r\n")), "200", "it still works");
}

#[test]
fn a_client_that_stays_silent_or_stops_in_the_middle_is_disconnected() {
    let limits = Limits { request: MOMENT, measurement: HOUR };
    let address = listen_within(limits, LOCALHOST, site()).unwrap();
    for request in ["", "GET /pa", "GET /page HTTP/1.1\r\nHost"] {
        assert_eq!(ask(address, request), "");
    }
}

#[test]
fn however_many_clients_are_slow_the_next_one_is_answered() {
    let limits = Limits { request: HOUR, measurement: HOUR };
    let address = listen_within(limits, LOCALHOST, site()).unwrap();
    let slow: Vec<TcpStream> = (0..3 * CONNECTIONS)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET /page HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(status(&ask(address, "GET /page HTTP/1.1\r\n\r\n")), "200");
    // The oldest made room, and the youngest are still open: they can complete their request.
    let mut slow = slow.into_iter();
    assert_eq!(rest(slow.next().unwrap()), "");
    let mut youngest = slow.next_back().unwrap();
    youngest.write_all(b"\r\n").unwrap();
    assert_eq!(status(&rest(youngest)), "200");
}

#[test]
fn a_measurement_that_hangs_delays_its_page_a_little_and_no_other() {
    let (unblock, blocked) = channel::<()>();
    let page = |path: &str| Some(Page::plain(200, path));
    // It ends when the sender is dropped.
    let measure = move || {
        let _ = blocked.recv();
    };
    let limits = Limits { request: HOUR, measurement: MOMENT };
    let site = Site { measure, measured: &["/measured"], page };
    let address = listen_within(limits, LOCALHOST, site).unwrap();
    for path in ["/measured", "/plain", "/measured"] {
        assert!(ask(address, &format!("GET {path} HTTP/1.1\r\n\r\n")).ends_with(path), "{path}");
    }
    drop(unblock);
}

#[test]
fn a_page_shows_what_was_measured_for_it() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let count = Arc::<AtomicU32>::default();
    let measured = Arc::clone(&count);
    let measure = move || {
        measured.fetch_add(1, Ordering::SeqCst);
    };
    let page = move |_: &str| Some(Page::plain(200, count.load(Ordering::SeqCst).to_string()));
    let limits = Limits { request: HOUR, measurement: HOUR };
    let site = Site { measure, measured: &["/measured"], page };
    let address = listen_within(limits, LOCALHOST, site).unwrap();
    for (path, wanted) in [("/plain", "0"), ("/measured", "1"), ("/measured", "2"), ("/x", "2")] {
        let answer = ask(address, &format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, wanted, "{path}");
    }
}
