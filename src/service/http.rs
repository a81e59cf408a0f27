//! A small HTTP server for pages that can only be read.
//!
//! This module must not know what is on a page, and nothing can be changed through it: only GET and HEAD are
//! answered. No client can slow a pass or another client: all connections share one thread, each is closed
//! after one request, and what a request may cost is limited. When there are too many connections, the oldest
//! is closed, so slow clients cannot keep others out.

mod measure;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::units;
use measure::Measurer;

/// How many connections may be open at once.
const CONNECTIONS: usize = 64;

/// How long a request line and its headers may be, in bytes.
const HEADER_BYTES: usize = 8 * 1024;

/// How long clients and pages may take.
const LIMITS: Limits =
    Limits { request: Duration::from_secs(5), measurement: Duration::from_secs(1) };

/// How long to wait before the next connection is accepted when the system has refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often to log that the system refuses connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long something may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// A request and its response.
    request: Duration,
    /// A measurement, before a page shows the one before it.
    measurement: Duration,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The media type of the text.
    pub content_type: &'static str,
    /// The text.
    pub text: String,
    /// What a browser lets the page do; by default nothing.
    pub policy: &'static str,
    /// What programs recognize the page by: the value of the header [`NAME`], if it has one.
    pub name: Option<&'static str>,
}

/// The header with the name of a page.
pub const NAME: &str = "x-sweeper-page";

/// A page of plain text needs nothing.
const NOTHING: &str = "default-src 'none'";

impl Page {
    /// A page of plain text.
    pub fn plain(status: u16, text: impl Into<String>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status, content_type, text: text.into(), policy: NOTHING, name: None }
    }

    /// A page for a browser, which may do what `policy` says.
    pub fn html(text: String, policy: &'static str) -> Self {
        Self { content_type: "text/html; charset=utf-8", policy, ..Self::plain(200, text) }
    }
}

/// What a server shows.
pub struct Site<M, P> {
    /// Measures what pages show. It may hang with a file system: it has a thread of its own, and a page
    /// waits for it for a second at most.
    pub measure: M,
    /// The paths of the pages that show what is measured.
    pub measured: &'static [&'static str],
    /// Makes the page with a path, if there is one. It must be quick.
    pub page: P,
}

impl<M, P> fmt::Debug for Site<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("measured", &self.measured).finish_non_exhaustive()
    }
}

/// Serves a site at `address`, from threads that live as long as the process. Returns the address with the
/// port that was chosen if the given one is 0.
///
/// # Errors
/// The address cannot be listened on, or the system refused a thread, for people.
pub fn listen<M, P>(address: SocketAddr, site: Site<M, P>) -> Result<SocketAddr, String>
where
    M: Fn() + Send + 'static,
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    listen_within(LIMITS, address, site)
}

fn listen_within<M, P>(
    limits: Limits,
    address: SocketAddr,
    site: Site<M, P>,
) -> Result<SocketAddr, String>
where
    M: Fn() + Send + 'static,
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    let open = || -> io::Result<_> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bound = listener.local_addr()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        Ok((listener, bound, runtime))
    };
    let (listener, bound, runtime) =
        open().map_err(|error| format!("cannot listen on {address}: {}", units::error(&error)))?;
    let pages = Pages {
        measurer: Measurer::start(limits.measurement, site.measure)?,
        measured: site.measured,
        page: site.page,
        limit: limits.request,
    };
    let serve = move || runtime.block_on(accept_all(&listener, &Arc::new(pages)));
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(serve);
    thread.map_err(|error| {
        format!("cannot start a thread that listens on {bound}: {}", units::no_thread(&error))
    })?;
    Ok(bound)
}

/// A site, and how to serve it.
struct Pages<P> {
    measurer: Measurer,
    measured: &'static [&'static str],
    page: P,
    limit: Duration,
}

/// Accepts connections forever, whatever the system says.
async fn accept_all<P>(listener: &TcpListener, pages: &Arc<Pages<P>>) -> Infallible
where
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    let mut open = VecDeque::new();
    let mut logged: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                keep_at_most(CONNECTIONS - 1, &mut open).await;
                open.push_back(tokio::spawn(serve(stream, Arc::clone(pages))));
            }
            Err(error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    let error = units::error(&error);
                    tracing::warn!("the system refuses connections for pages: {error}");
                }
                // There may be too many open files: the oldest connection gives its file back.
                let most = open.len().saturating_sub(1);
                keep_at_most(most, &mut open).await;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes the oldest connections until no more than `most` are open.
async fn keep_at_most(most: usize, open: &mut VecDeque<JoinHandle<()>>) {
    open.retain(|connection| !connection.is_finished());
    while open.len() > most {
        let Some(oldest) = open.pop_front() else { return };
        oldest.abort();
        // It is closed when this returns.
        let _ = oldest.await;
    }
}

/// Answers the one request of a connection.
async fn serve<P>(stream: TcpStream, pages: Arc<Pages<P>>)
where
    P: Fn(&str) -> Option<Page> + Send + Sync + 'static,
{
    let limit = pages.limit;
    let answer = service_fn(move |request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(response(&pages, &request).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).half_close(true).header_read_timeout(None).max_buf_size(HEADER_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    // The client may have closed the connection, sent nonsense, or be too slow.
    let _ = tokio::time::timeout(limit, connection).await;
}

async fn response<P>(pages: &Pages<P>, request: &Request<Incoming>) -> Response<String>
where
    P: Fn(&str) -> Option<Page>,
{
    let is_allowed = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = if !is_allowed {
        Page::plain(405, "only GET and HEAD are allowed\n")
    } else if !request.body().is_end_stream() {
        Page::plain(413, "a request must not have a body\n")
    } else {
        let path = request.uri().path();
        if pages.measured.contains(&path) {
            pages.measurer.refresh().await;
        }
        (pages.page)(path).unwrap_or_else(|| Page::plain(404, "not found\n"))
    };
    let mut response = Response::new(page.text);
    *response.status_mut() =
        StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.extend(
        page.name.map(|name| (HeaderName::from_static(NAME), HeaderValue::from_static(name))),
    );
    // No page may be shown in another one, kept, or taken for something else.
    let policy = format!("{}; frame-ancestors 'none'", page.policy);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_allowed {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests;
