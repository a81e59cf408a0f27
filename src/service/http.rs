//! A small HTTP server for pages that can only be read.
//!
//! It must not know what is on a page, and nothing can be changed through it: only GET and HEAD are
//! answered. A page is made when it is asked for.

use std::net::SocketAddr;

use tiny_http::{Header, Method, Response, Server};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The media type of the text.
    pub content_type: &'static str,
    /// The text.
    pub text: String,
}

impl Page {
    /// A page of plain text.
    pub fn plain(status: u16, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// Serves pages at `address`, from a thread that lives as long as the process. `page` makes the page with
/// a path, if there is one. Returns the address with the port that was chosen if the given one is 0.
///
/// # Errors
/// The address cannot be listened on, or the system refused the thread, for people.
pub fn listen(
    address: SocketAddr,
    page: impl Fn(&str) -> Option<Page> + Send + 'static,
) -> Result<SocketAddr, String> {
    let server =
        Server::http(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = server.server_addr().to_ip().unwrap_or(address);
    let serve = move || {
        while let Ok(request) = server.recv() {
            let path = request.url().split('?').next().unwrap_or_default();
            let found = if matches!(request.method(), Method::Get | Method::Head) {
                page(path).unwrap_or_else(|| Page::plain(404, "not found\n"))
            } else {
                Page::plain(405, "only GET and HEAD are allowed\n")
            };
            let mut response = Response::from_string(found.text).with_status_code(found.status);
            if let Ok(content_type) = Header::from_bytes("Content-Type", found.content_type) {
                response = response.with_header(content_type);
            }
            // The client may have closed the connection.
            let _ = request.respond(response);
        }
    };
    let thread = std::thread::Builder::new().spawn(serve);
    thread.map_err(|error| format!("a thread that listens on {bound}: {error}"))?;
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    #[test]
    fn pages_can_be_read_and_nothing_else() {
        let page = |path: &str| (path == "/page").then(|| Page::plain(200, "text"));
        let address = listen((Ipv4Addr::LOCALHOST, 0).into(), page).unwrap();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        for (request, status, body) in [
            ("GET /page", "200", "text"),
            ("GET /page?query", "200", "text"),
            ("HEAD /page", "200", ""),
            ("GET /other", "404", "not found\n"),
            ("POST /page", "405", "only GET and HEAD are allowed\n"),
        ] {
            let answer = ask(request);
            assert_eq!(answer.split(' ').nth(1), Some(status), "{request}");
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body, "{request}");
        }
        assert!(listen(address, page).unwrap_err().contains("cannot listen on"), "in use");
    }
}
