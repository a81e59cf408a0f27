//! Two pages over HTTP: `/metrics` and `/healthz`.
//!
//! It must not know what is on them, and must not be able to change anything: only GET and HEAD are
//! answered. What a page says is asked for when somebody asks.

use std::net::SocketAddr;

use tiny_http::{Header, Method, Response, Server};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// What kind of text it is.
    pub kind: &'static str,
    /// What it says.
    pub text: String,
}

impl Page {
    /// A page of plain words.
    pub fn of_words(status: u16, text: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// Answers at `address`, from a thread that ends with the process; where it listens, which is the
/// address but for a port of 0.
///
/// # Errors
/// Nothing can listen there.
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
                page(path)
                    .unwrap_or_else(|| Page::of_words(404, "there is /metrics and /healthz\n"))
            } else {
                Page::of_words(405, "this can only be read\n")
            };
            let mut response = Response::from_string(found.text).with_status_code(found.status);
            if let Ok(kind) = Header::from_bytes("Content-Type", found.kind) {
                response = response.with_header(kind);
            }
            // Whoever asked may have gone.
            let _ = request.respond(response);
        }
    };
    let thread = std::thread::Builder::new().spawn(serve);
    thread.map_err(|error| format!("a thread that listens on {bound}: {error}"))?;
    Ok(bound)
}
