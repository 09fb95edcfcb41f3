//! A small HTTP server whose cost per client is bounded, as anybody can reach its ports.
//!
//! One request per connection: probers and scrapers ask seldom, and a connection that is not
//! kept cannot be held either.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONNECTION, HOST, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Request, Response};

/// Answers requests. It is called on the server's threads and must not wait for anything.
pub type Router = Arc<dyn Fn(&Request<'_>) -> Answer + Send + Sync>;

/// What a router has for a request.
pub enum Answer {
    /// The response.
    Now(Response),
    /// The response comes from another thread, which may wait for a lock or the kernel.
    Later(oneshot::Receiver<Response>),
}

impl Answer {
    async fn response(self) -> Response {
        match self {
            Answer::Now(response) => response,
            Answer::Later(response) => response.await.unwrap_or_else(|_| {
                Response::text(StatusCode::INTERNAL_SERVER_ERROR, "500 no answer\n")
            }),
        }
    }

    /// The response, which is waited for. Not to be called within a runtime.
    #[cfg(test)]
    pub(crate) fn wait(self) -> Response {
        match self {
            Answer::Now(response) => response,
            Answer::Later(response) => response.blocking_recv().unwrap(),
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer::Now(response)
    }
}

/// What clients may cost. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; others are closed as they come.
    pub connections: Arc<Semaphore>,
    /// How long the headers of a request may take to come.
    pub header_time: Duration,
    /// How long a connection lasts at most.
    pub time: Duration,
    /// The size of the headers with the request line, in bytes; at least 8192, which is the
    /// least that hyper reads at once.
    pub header_bytes: usize,
    /// The size of the body of a request, which is not read, in bytes.
    pub body_bytes: u64,
}

impl Limits {
    /// The usual ones, for so many connections at once.
    pub fn of_connections(connections: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            header_time: Duration::from_secs(10),
            time: Duration::from_secs(30),
            header_bytes: LEAST_HEADER_BYTES,
            body_bytes: 64,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of_connections(64)
    }
}

const LEAST_HEADER_BYTES: usize = 8192;

/// When there are no descriptors or no memory for a connection, the next try has to wait.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers requests until `shutdown`, and those that are there by then to their end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.accept() => accept(accepted, &router, &limits).await,
        }
    }
}

async fn accept(accepted: io::Result<(TcpStream, SocketAddr)>, router: &Router, limits: &Limits) {
    match accepted {
        Ok((stream, peer)) => match Arc::clone(&limits.connections).try_acquire_owned() {
            Ok(permit) => {
                let (router, limits) = (Arc::clone(router), limits.clone());
                tokio::spawn(converse(stream, peer, router, limits, permit));
            }
            Err(_) => tracing::debug!(%peer, "closed: too many connections"),
        },
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    _permit: OwnedSemaphorePermit,
) {
    let header_bytes = limits.header_bytes.max(LEAST_HEADER_BYTES);
    let body_bytes = limits.body_bytes;
    let service = service_fn(move |request| {
        let answer = answer(&request, &router, body_bytes);
        async move { Ok::<_, Infallible>(spelled(answer.response().await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(header_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(limits.time, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "connection ended early"),
        Err(_) => tracing::debug!(%peer, "connection took too long"),
    }
}

fn answer(request: &hyper::Request<Incoming>, router: &Router, body_bytes: u64) -> Answer {
    let is_small = request.body().size_hint().upper().is_some_and(|size| size <= body_bytes);
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if !is_read {
        Response::text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n")
            .with(ALLOW, HeaderValue::from_static("GET, HEAD"))
            .into()
    } else if !is_small {
        Response::text(StatusCode::PAYLOAD_TOO_LARGE, "413 request body not wanted\n").into()
    } else {
        let accept = request.headers().get_all(ACCEPT).iter();
        let is_json = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| value.contains("application/json"))
        };
        let wants_json = accept.into_iter().any(is_json);
        let uri = request.uri();
        router(&Request {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            wants_json,
            host: host(request.headers()),
        })
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(HOST).iter();
    let first = all.next()?;
    Some(if all.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
}

fn spelled(answer: Response) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
