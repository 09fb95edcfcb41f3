use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use rulegen_config::ProxyMode;
use rulegen_model::NodeState;
use rulegen_net::IpFamily;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::about::ProcessInfo;
use crate::health::{Health, SharedHealth};
use crate::metrics::{Build, Metrics, Probe};

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A slow page does not delay other requests.
#[tokio::test]
async fn http_slow_page_does_not_delay_other_requests() {
    let (go, wait) = oneshot::channel();
    let wait = std::sync::Mutex::new(Some(wait));
    let router: Router = Arc::new(move |request: &Request<'_>| match request.path {
        "/slow" => Answer::Later(wait.lock().unwrap().take().unwrap()),
        _ => Response::text(StatusCode::OK, "quick").into(),
    });
    let server = start(router, Limits::default()).await;
    let slow = tokio::spawn(get(server.address, "/slow"));
    for _ in 0..3 {
        assert_eq!(body(&get(server.address, "/").await), "quick");
    }
    go.send(Response::text(StatusCode::OK, "slow")).unwrap();
    assert_eq!(body(&slow.await.unwrap()), "slow");
}

/// Sends these bytes, and returns everything that the server sends until it closes.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    receive(&mut stream).await
}

async fn receive(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let read = stream.read_to_end(&mut received);
    // A server that closes immediately may reset the connection; bytes received before that count.
    let _ = timeout(Duration::from_secs(20), read).await.expect("the server should close");
    String::from_utf8(received).unwrap()
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    send(address, format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes()).await
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default()
}

struct TestServer {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(router: Router, limits: Limits) -> TestServer {
    let listener = bind(LOCALHOST, true, |_| ()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, wait) = oneshot::channel::<()>();
    let shut_down = async move {
        let _ = wait.await;
    };
    let task = tokio::spawn(serve(listener, router, limits, shut_down));
    TestServer { address, shutdown, task }
}

fn hello() -> Router {
    Arc::new(|request: &Request<'_>| match request.path {
        "/hello" => Response::text(StatusCode::OK, "hello").into(),
        "/later" => later(Response::text(StatusCode::OK, "later")),
        "/never" => Answer::Later(oneshot::channel().1),
        _ => Response::not_found().into(),
    })
}

fn later(response: Response) -> Answer {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(|| drop(sender.send(response)));
    Answer::Later(receiver)
}

#[tokio::test]
async fn http_requests_get_expected_status_and_body() {
    let server = start(hello(), Limits::default()).await;
    let long = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let endless = format!("GET /{} ", "x".repeat(9000));
    let with_body = format!("GET /hello HTTP/1.1\r\nContent-Length: 65\r\n\r\n{}", "x".repeat(65));
    let cases = [
        ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "hello"),
        ("GET /hello?verbose HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "hello"),
        ("GET /later HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "later"),
        (
            "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
            "500 Internal Server Error",
            "500 internal server error\n",
        ),
        ("HEAD /later HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", ""),
        ("GET /hello HTTP/1.0\r\n\r\n", "200 OK", "hello"),
        ("GET /hello HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "200 OK", "hello"),
        ("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found", "404 page not found\n"),
        (
            "POST /hello HTTP/1.1\r\nHost: a\r\n\r\n",
            "405 Method Not Allowed",
            "405 method not allowed\n",
        ),
        (
            "PUT /hello HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            "405 Method Not Allowed",
            "405 method not allowed\n",
        ),
        (&with_body, "413 Payload Too Large", "413 request body not accepted\n"),
        (
            "GET /hello HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "413 Payload Too Large",
            "413 request body not accepted\n",
        ),
        (&long, "431 Request Header Fields Too Large", ""),
        (&endless, "431 Request Header Fields Too Large", ""),
        ("\x16\x03\x01\x02 no HTTP\r\n\r\n", "400 Bad Request", ""),
    ];
    for (request, status, text) in cases {
        let response = send(server.address, request.as_bytes()).await;
        let start = request.get(..30).unwrap_or(request);
        let first = response.lines().next().unwrap_or_default();
        assert!(first.ends_with(status), "{start:?}: {response:?}");
        assert_eq!(body(&response), text, "{start:?}");
    }
}

#[tokio::test]
async fn http_response_has_content_type_nosniff_length_and_close() {
    let server = start(hello(), Limits::default()).await;
    let two = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    let response = send(server.address, two.as_bytes()).await;
    for header in [
        "content-type: text/plain; charset=utf-8\r\n",
        "x-content-type-options: nosniff\r\n",
        "content-length: 5\r\n",
        "connection: close\r\n",
    ] {
        assert!(response.contains(header), "{header:?} missing in {response:?}");
    }
    assert_eq!(body(&response), "hello", "one response");
    let response = send(server.address, b"DELETE /hello HTTP/1.1\r\n\r\n").await;
    assert!(response.contains("allow: GET, HEAD\r\n"), "{response:?}");
}

#[tokio::test]
async fn http_client_without_complete_request_times_out() {
    let patient = Limits { header_time: Duration::from_millis(100), ..Limits::default() };
    let short = Limits { time: Duration::from_millis(100), ..Limits::default() };
    for limits in [patient, short] {
        let server = start(hello(), limits).await;
        let started = Instant::now();
        assert_eq!(send(server.address, b"GET /hello HTTP/1.1\r\n").await, "");
        assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
        assert_eq!(body(&get(server.address, "/hello").await), "hello");
    }
}

#[tokio::test]
async fn http_client_that_does_not_read_times_out() {
    let large: Router =
        Arc::new(|_: &Request<'_>| Response::text(StatusCode::OK, "x".repeat(1 << 26)).into());
    let limits = Limits { time: Duration::from_millis(300), ..Limits::of_connections(2) };
    let admission = limits.admission.clone();
    let server = start(large, limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(admission.in_use(), 1);
    until("its slot is free again", || admission.in_use() == 0).await;
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn half_open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\n").await.unwrap();
    stream
}

/// Limits with this many slots for loopback addresses, which count as the node's own.
fn own_slots(slots: usize) -> Limits {
    let none = Quota { all: 1, port: 1, source: 1 };
    Limits::new(Admission::new(none, Quota { all: slots, port: slots, source: slots }))
}

#[tokio::test]
async fn http_oldest_half_open_connection_is_closed_for_new_request() {
    let limits = Limits { header_time: Duration::from_secs(20), ..own_slots(2) };
    let admission = limits.admission.clone();
    let server = start(hello(), limits).await;
    let mut oldest = half_open(server.address).await;
    let mut second = half_open(server.address).await;
    until("both have a slot", || admission.in_use() == 2).await;
    assert_eq!(body(&get(server.address, "/hello").await), "hello");
    assert_eq!(receive(&mut oldest).await, "", "closed without a response");
    second.write_all(b"\r\n").await.unwrap();
    assert_eq!(body(&receive(&mut second).await), "hello");
}

#[tokio::test]
async fn http_flood_of_half_open_connections_does_not_block_requests() {
    let limits = own_slots(64);
    let admission = limits.admission.clone();
    let server = start(hello(), limits).await;
    let address = server.address;
    let flood: Vec<_> = (0..300)
        .map(|_| {
            tokio::spawn(async move {
                loop {
                    let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                    let _ = stream.write_all(b"GET /hello HTTP/1.1\r\n").await;
                    let _ = stream.read(&mut [0]).await;
                }
            })
        })
        .collect();
    until("all slots are in use", || admission.in_use() == 64).await;
    for _ in 0..50 {
        assert_eq!(body(&get(address, "/hello").await), "hello");
        assert!(admission.in_use() <= 64);
    }
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn http_client_that_is_slow_or_silent_times_out() {
    let limits = Limits { header_time: Duration::from_millis(300), ..own_slots(4) };
    let admission = limits.admission.clone();
    let server = start(hello(), limits).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut dribbling = TcpStream::connect(server.address).await.unwrap();
    until("both are connected", || admission.in_use() == 2).await;
    let started = Instant::now();
    for byte in b"GET /hello HTTP/1.1\r\nX: 0123456789".iter().cycle() {
        if dribbling.write_all(&[*byte]).await.is_err() || admission.in_use() == 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(9), "the connection is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("neither is connected", || admission.in_use() == 0).await;
    drop(silent);
}

#[tokio::test]
async fn http_request_too_large_gets_431_or_413_without_reset() {
    let server = start(hello(), Limits::default()).await;
    let header = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let query = format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    let posted = format!(
        "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for (request, status) in [(&header, "431"), (&query, "431"), (&posted, "413")] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let _ = stream.write_all(request.as_bytes()).await;
            let mut received = Vec::new();
            // A reset would discard the response.
            stream.read_to_end(&mut received).await.unwrap();
            let heard = String::from_utf8(received).unwrap();
            assert_eq!(heard.split(' ').nth(1), Some(status), "{heard}");
        }
    }
}

#[tokio::test]
async fn http_shutdown_closes_port_and_answers_open_connections() {
    let limits = Limits { header_time: Duration::from_secs(20), ..own_slots(2) };
    let admission = limits.admission.clone();
    let server = start(hello(), limits).await;
    let mut stream = half_open(server.address).await;
    until("the connection is admitted", || admission.in_use() == 1).await;
    drop(server.shutdown);
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    stream.write_all(b"\r\n").await.unwrap();
    assert_eq!(body(&receive(&mut stream).await), "hello");
}

#[tokio::test]
async fn http_bind_address_in_use_is_an_error_or_retried() {
    let holder = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = holder.local_addr().unwrap();
    let mut failures = 0;
    let error = bind(address, true, |_| failures += 1).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(failures, 1);

    let (failed, failure) = oneshot::channel();
    let mut failed = Some(failed);
    let task = tokio::spawn(bind(address, false, move |_| {
        failed.take().map(|failed| failed.send(()));
    }));
    failure.await.unwrap();
    drop(holder);
    let listener =
        timeout(RETRY * 2, task).await.expect("bind should be retried").unwrap().unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
}

#[tokio::test]
async fn http_bind_to_all_addresses_is_dual_stack() {
    let listener = bind("0.0.0.0:0".parse().unwrap(), true, |_| ()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, port)).await.unwrap();
}

fn metrics() -> Arc<Metrics> {
    let build = Build::default();
    Arc::new(Metrics::new(ProxyMode::Nftables, &IpFamily::BOTH, &build).unwrap())
}

pub(crate) fn ask(router: &Router, path: &str) -> Response {
    router(&Request { path, query: "", wants_json: false, host: None }).wait()
}

pub(crate) fn text_of(response: &Response) -> String {
    String::from_utf8(response.body.to_vec()).unwrap()
}

#[test]
fn health_port_answers_healthz_livez_readyz() {
    let health = Health::new(&[IpFamily::Ipv4], Health::PATIENCE, Instant::now());
    let health = SharedHealth::new(health);
    let metrics = metrics();
    let router = health_port(health.clone(), Arc::clone(&metrics));
    let statuses =
        || ["/healthz", "/livez", "/readyz"].map(|path| ask(&router, path).status.as_u16());
    assert_eq!(statuses(), [503, 200, 503], "unknown node, no sync yet");
    health.with(|health| {
        health.node(NodeState::Known);
        health.synced(IpFamily::Ipv4, Instant::now(), SystemTime::now());
    });
    assert_eq!(statuses(), [200, 200, 200]);
    assert_eq!(ask(&router, "/").status, 404);
    assert_eq!(ask(&router, "/healthz/").status, 404);

    let response = ask(&router, "/healthz");
    assert_eq!(response.headers.get("content-type").unwrap(), "application/json");
    assert_eq!(response.headers.get("x-content-type-options").unwrap(), "nosniff");
    assert!(text_of(&response).starts_with(r#"{"lastUpdated":"20"#));
    let text = metrics.text().unwrap();
    assert!(text.contains("\nkubeproxy_proxy_healthz_total{code=\"200\"} 2\n"), "{text}");
    assert!(text.contains("\nkubeproxy_proxy_healthz_total{code=\"503\"} 1\n"), "{text}");
}

#[test]
fn metrics_port_answers_every_path() {
    let about = ProcessInfo {
        node: "node-1".into(),
        mode: ProxyMode::Nftables,
        configuration: serde_json::json!({"kind": "KubeProxyConfiguration", "mode": "nftables"}),
        flags: vec![("proxy-mode".into(), "nftables".into()), ("v".into(), "2".into())],
        version: "0.1.0".into(),
        started: SystemTime::UNIX_EPOCH,
        started_at: Instant::now(),
    };
    let about = Arc::new(about);
    let status = crate::status::tests::status(&about);
    let health = status.health.clone();
    let metrics = metrics();
    // A health check has no sample before its first request.
    metrics.checked(Probe::Healthz, true);
    let router = metrics_port(about, metrics, health, status.into_router());
    let text = "text/plain; charset=utf-8";
    let samples = "text/plain; version=0.0.4; charset=utf-8";
    let status = "\nrulegen statusz\nFor humans only: the format may change at any time.\n\n\
                  Started: 1970-01-01T00:00:00Z\nUp: 0 hr 00 min 0";
    let cases = [
        ("/healthz", text, "ok"),
        ("/proxyMode", text, "nftables"),
        ("/metrics", samples, "# HELP go_goroutines Threads"),
        ("/metrics/slis", samples, "# HELP kubernetes_healthcheck Result of the last health check"),
        (
            "/configz",
            "application/json",
            r#"{"kubeproxy.config.k8s.io":{"kind":"KubeProxyConfiguration","mode":"nftables"}}"#,
        ),
        (
            "/flagz",
            text,
            "\nrulegen flagz\nFor humans only: the format may change at any time.\n\nproxy-mode=nftables\nv=2\n",
        ),
        ("/statusz", text, status),
    ];
    for (path, content_type, start) in cases {
        let response = ask(&router, path);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.headers.get("content-type").unwrap(), content_type, "{path}");
        assert_eq!(response.headers.get("x-content-type-options").unwrap(), "nosniff", "{path}");
        assert!(text_of(&response).starts_with(start), "{path}: {}", text_of(&response));
    }
    assert_eq!(ask(&router, "/debug/pprof/").status, 404);
    let under = |host, path| {
        let request = Request { path, query: "", wants_json: false, host: Some(host) };
        router(&request).wait().status.as_u16()
    };
    for path in ["/", "/services", "/services/a/b", "/explain", "/drift", "/configz", "/flagz"] {
        assert_eq!(under("evil.example:10249", path), 421, "{path}");
        assert_ne!(under("node-1:10249", path), 421, "{path}");
        assert_ne!(under("127.0.0.1:10249", path), 421, "{path}");
    }
    for path in ["/healthz", "/metrics", "/metrics/slis", "/proxyMode", "/statusz"] {
        assert_eq!(under("rulegen.kube-system.svc:10249", path), 200, "{path}");
    }
    let json =
        |path| text_of(&router(&Request { path, query: "", wants_json: true, host: None }).wait());
    let object = r#"{"apiVersion":"config.k8s.io/v1beta1","#;
    assert_eq!(
        json("/flagz"),
        format!(
            "{object}{}",
            r#""flags":{"proxy-mode":"nftables","v":"2"},"kind":"Flagz","metadata":{"name":"rulegen"}}"#
        )
    );
    assert!(json("/statusz").starts_with(&format!(r#"{object}"binaryVersion":"0.1.0","#)));
    let statusz: serde_json::Value = serde_json::from_str(&json("/statusz")).unwrap();
    for path in statusz["paths"].as_array().unwrap() {
        let path = path.as_str().unwrap();
        assert_eq!(ask(&router, path).status, 200, "{path} is listed in /statusz");
    }
    for page in ["/", "/services", "/explain", "/drift"] {
        assert!(text_of(&ask(&router, "/statusz")).contains(&format!(" {page} ")), "{page}");
    }
}

#[tokio::test]
async fn http_router_gets_host_header() {
    let router: Router = Arc::new(|of: &Request<'_>| {
        Response::text(StatusCode::OK, format!("{:?}", of.host)).into()
    });
    let server = start(router, Limits::default()).await;
    for (headers, host) in [
        ("", "None"),
        ("Host: a.example:80\r\n", "Some(\"a.example:80\")"),
        ("Host:\r\n", "Some(\"\")"),
        ("Host: localhost\r\nHost: a.example\r\n", "Some(\"\")"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        assert_eq!(body(&send(server.address, request.as_bytes()).await), host, "{headers}");
    }
}

#[tokio::test]
async fn http_accept_header_selects_json() {
    let router: Router = Arc::new(|of: &Request<'_>| {
        Response::text(StatusCode::OK, of.wants_json.to_string()).into()
    });
    let server = start(router, Limits::default()).await;
    for (accept, wants) in [
        ("", "false"),
        ("Accept: text/plain\r\n", "false"),
        ("Accept: application/json;v=v1beta1;g=config.k8s.io;as=Statusz\r\n", "true"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{accept}\r\n");
        assert_eq!(body(&send(server.address, request.as_bytes()).await), wants, "{accept}");
    }
}
