//! A small HTTP server with a bounded cost per client, because anyone can reach its ports.
//!
//! One request per connection: probes and scrapes are rare, and connections without keep-alive
//! cannot be kept open. `admission.rs` decides which connections are closed at a limit.

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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::admission::{self, Admission, Quota, Slot};
use super::{Request, Response};

/// Handles requests. It is called on the server's threads and must not block.
pub type Router = Arc<dyn Fn(&Request<'_>) -> Answer + Send + Sync>;

/// The response of a router.
pub enum Answer {
    /// A response that is ready.
    Now(Response),
    /// A response that another thread computes, because it may block on a lock or the kernel.
    Later(oneshot::Receiver<Response>),
}

impl Answer {
    async fn response(self) -> Response {
        match self {
            Answer::Now(response) => response,
            Answer::Later(response) => response.await.unwrap_or_else(|_| {
                Response::text(StatusCode::INTERNAL_SERVER_ERROR, "500 internal server error\n")
            }),
        }
    }

    /// Waits for the response. Must not be called within a runtime.
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

/// The limits per client. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Admits connections.
    pub admission: Admission,
    /// The timeout for receiving a request.
    pub header_time: Duration,
    /// The maximum duration of a connection.
    pub time: Duration,
    /// The maximum size of request line and headers, in bytes; at least 8192, hyper's minimum.
    pub header_bytes: usize,
    /// The maximum size of a request body, which is ignored, in bytes.
    pub body_bytes: u64,
}

impl Limits {
    /// The default limits, for connections of this admission.
    pub fn new(admission: Admission) -> Self {
        Self {
            admission,
            // Probes time out after 1 s by default and send their request at once.
            header_time: Duration::from_secs(2),
            time: Duration::from_secs(30),
            header_bytes: LEAST_HEADER_BYTES,
            body_bytes: 64,
        }
    }

    /// The default limits for a single port.
    pub fn of_connections(connections: usize) -> Self {
        let quota = Quota::of_port(connections);
        Self::new(Admission::new(quota, quota))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of_connections(64)
    }
}

const LEAST_HEADER_BYTES: usize = 8192;

/// The pause after accept(2) failed for lack of descriptors or memory.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// After this many connections, the accepted ones are polled: a request that has already arrived is
/// handled before its connection may have to yield.
const BATCH: usize = 32;

/// Serves until `shutdown`; requests that have arrived by then are completed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut acceptor = Acceptor { router, limits, in_batch: 0, is_failing: false };
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.accept() => acceptor.take(accepted).await,
        }
    }
}

struct Acceptor {
    router: Router,
    limits: Limits,
    in_batch: usize,
    is_failing: bool,
}

impl Acceptor {
    async fn take(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let connection = accepted.and_then(|(stream, peer)| {
            let local = stream.local_addr()?;
            Ok((stream, local, peer))
        });
        match connection {
            Ok((stream, local, peer)) => {
                self.is_failing = false;
                let place = self.limits.admission.admit(local, peer);
                let (router, limits) = (Arc::clone(&self.router), self.limits.clone());
                tokio::spawn(hold(stream, peer, router, limits, place));
                self.in_batch += 1;
                if self.in_batch >= BATCH {
                    self.in_batch = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => self.failed(&error).await,
        }
    }

    /// Descriptors or memory are exhausted. A waiting connection yields, and the listener
    /// continues.
    async fn failed(&mut self, error: &io::Error) {
        let has_shed = self.limits.admission.shed();
        if self.is_failing {
            tracing::debug!(%error, has_shed, "still cannot accept connections");
        } else {
            tracing::warn!(%error, has_shed, "cannot accept connections, will retry");
        }
        self.is_failing = true;
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
}

/// Whether the error concerns only that connection (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    [ConnectionAborted, ConnectionReset, Interrupted, NotConnected].contains(&error.kind())
}

/// Serves a connection until it ends, times out, or has to yield.
async fn hold(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut place: Slot,
) {
    let request = place.request();
    let conversation = converse(&mut stream, router, &limits, request);
    tokio::select! {
        biased;
        ended = tokio::time::timeout(limits.time, conversation) => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "connection closed early"),
            Err(_) => tracing::debug!(%peer, "connection timed out"),
        },
        () = place.yielded() => {
            tracing::debug!(%peer, "connection closed to free a slot");
        }
    }
}

async fn converse(
    stream: &mut TcpStream,
    router: Router,
    limits: &Limits,
    complete: admission::RequestState,
) -> hyper::Result<()> {
    let header_bytes = limits.header_bytes.max(LEAST_HEADER_BYTES);
    let body_bytes = limits.body_bytes;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        complete.is_complete();
        let answer = answer(&request, &router, body_bytes);
        async move { Ok::<_, Infallible>(spelled(answer.response().await)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(header_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(&mut *stream), service)
        .await;
    let is_refused = served.as_ref().is_err_and(hyper::Error::is_parse);
    if is_refused || stream.try_read(&mut [0]).is_ok_and(|read| read > 0) {
        linger(stream).await;
    }
    served
}

/// Closing a socket with unread bytes resets the connection, and the client would lose the error
/// response. So the rest is read first, within limits.
async fn linger(stream: &mut TcpStream) {
    const TIME: Duration = Duration::from_millis(500);
    const MOST: usize = 1 << 18;
    let drain = async {
        stream.shutdown().await?;
        let (mut buffer, mut read) = ([0; 4096], 0);
        while read < MOST {
            match stream.read(&mut buffer).await? {
                0 => break,
                more => read += more,
            }
        }
        Ok::<_, io::Error>(())
    };
    // The connection ends in any case.
    let _ = tokio::time::timeout(TIME, drain).await;
}

fn answer(request: &hyper::Request<Incoming>, router: &Router, body_bytes: u64) -> Answer {
    let is_small = request.body().size_hint().upper().is_some_and(|size| size <= body_bytes);
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if !is_read {
        Response::text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n")
            .with(ALLOW, HeaderValue::from_static("GET, HEAD"))
            .into()
    } else if !is_small {
        Response::text(StatusCode::PAYLOAD_TOO_LARGE, "413 request body not accepted\n").into()
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
