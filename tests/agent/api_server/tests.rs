//! Checks that the server behaves like the real one, with plain HTTP and with the client that the
//! agent uses.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Event as RecordedEvent, EventType, Recorder};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with consecutive requests.
struct Plain(BufReader<TcpStream>);

impl Plain {
    fn new(server: &ApiServer) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, method: &str, target: &str, more: &str) {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Status code and headers of a response.
    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection ended: {head}");
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }

    fn answer(&mut self) -> (u16, Value) {
        let (code, head) = self.head();
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (code, serde_json::from_slice(&body).unwrap())
    }

    fn post(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        self.ask(method, target, &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        // The bytes after the body are an empty line, which may precede a request.
        self.answer()
    }

    /// The next event of a watch; `None` at its regular end.
    fn line(&mut self) -> Option<String> {
        let mut size = String::new();
        self.0.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut data = vec![0; size + 2];
        self.0.read_exact(&mut data).unwrap();
        data.truncate(size);
        (size > 0).then(|| String::from_utf8(data).unwrap())
    }

    /// The next event's type and object.
    fn event(&mut self) -> (String, Value) {
        let event: Value = serde_json::from_str(&self.line().unwrap()).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["object"].clone())
    }

    /// The next event's type and the name of its object.
    fn happened(&mut self) -> (String, String) {
        let (kind, object) = self.event();
        (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

fn get(server: &ApiServer, target: &str) -> (u16, Value) {
    let mut plain = Plain::new(server);
    plain.ask("GET", target, "");
    plain.answer()
}

/// A started watch.
fn watch(server: &ApiServer, target: &str) -> Plain {
    let mut plain = Plain::new(server);
    plain.ask("GET", target, "");
    let (code, head) = plain.head();
    assert!(code == 200 && head.contains("Transfer-Encoding: chunked"), "{head}");
    plain
}

fn service(name: &str, labels: Value) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    })
}

fn node(name: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}})
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn happened(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timeout after {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn fake_api_server_responses_match_real_api_server() {
    let server = ApiServer::start();
    server.apply_many([service("web", json!({})), node("a")]);
    let (code, list) = get(&server, "/api/v1/services?resourceVersion=0");
    assert_eq!(
        (code, &list["kind"], &list["apiVersion"]),
        (200, &"ServiceList".into(), &"v1".into())
    );
    assert_eq!(list["metadata"], json!({"resourceVersion": server.version().to_string()}));
    let item = &list["items"][0];
    assert!(item["kind"].is_null() && item["apiVersion"].is_null());
    assert_eq!(item["metadata"]["namespace"], "default");
    for given in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(item["metadata"][given].is_string(), "{given}");
    }
    assert_eq!(get(&server, "/api/v1/namespaces/other/services").1["items"], json!([]));
    assert_eq!(get(&server, "/apis/discovery.k8s.io/v1/endpointslices").0, 200);
    assert_eq!(get(&server, "/api/v1/nodes/a").1["kind"], "Node");
    assert_eq!(get(&server, "/version").1["major"], "1");
    let (code, unknown) = get(&server, "/api/v1/nodes/b");
    assert_eq!((code, &unknown["message"]), (404, &json!("nodes \"b\" not found")));
    for unknown in ["/api/v1/pods", "/apis/apps/v1/deployments", "/x", "/api/v1/namespaces/x/nodes"]
    {
        let (code, status) = get(&server, unknown);
        assert_eq!((code, &status["kind"], &status["code"]), (404, &"Status".into(), &404.into()));
    }
    let newer = get(&server, "/api/v1/services?resourceVersion=99").1;
    assert_eq!(newer["message"], "Too large resource version: 99, current: 3");
    assert_eq!(get(&server, "/apis/networking.k8s.io/v1/servicecidrs").0, 200);
    server.lack_service_cidrs();
    assert_eq!(get(&server, "/apis/networking.k8s.io/v1/servicecidrs").0, 404);
    assert_eq!(Plain::new(&server).post("POST", "/api/v1/services", &json!({})).0, 405);
}

#[test]
fn fake_api_server_list_pages_have_one_version_until_expired() {
    let server = ApiServer::start();
    server.apply_many(["a", "b", "c", "d", "e"].map(|name| service(name, json!({}))));
    let path = "/api/v1/services?limit=2";
    let (_, first) = get(&server, path);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().unwrap();

    server.delete(Kind::Service, "default", "d");
    server.apply(service("bb", json!({})));
    let (_, second) = get(&server, &format!("{path}&continue={token}"));
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    server.expire_history();
    let (code, expired) = get(&server, &format!("{path}&continue={token}"));
    assert_eq!((code, &expired["reason"]), (410, &"Expired".into()));
    let token = expired["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&get(&server, &format!("{path}&continue={token}")).1), ["bb", "c"]);
    assert_eq!(get(&server, "/api/v1/services?continue=x").0, 400);
    // The watch cache has no pages.
    assert_eq!(names(&get(&server, "/api/v1/services?limit=2&resourceVersion=0").1).len(), 5);
}

#[test]
fn fake_api_server_label_and_field_selectors() {
    let server = ApiServer::start();
    server.apply_many([
        service("bare", json!({})),
        service("dev", json!({"env": "dev", "team/x": "1"})),
        service("prod", json!({"env": "prod"})),
        json!({"kind": "Service", "metadata": {"name": "headless", "labels": {"env": ""}},
            "spec": {"clusterIP": "None"}}),
    ]);
    for (selector, selected) in [
        ("labelSelector=env", vec!["dev", "headless", "prod"]),
        ("labelSelector=!env", vec!["bare"]),
        ("labelSelector=env%3Ddev", vec!["dev"]),
        ("labelSelector=env==dev", vec!["dev"]),
        ("labelSelector=env=", vec!["headless"]),
        ("labelSelector=env!=dev", vec!["bare", "headless", "prod"]),
        ("labelSelector=env+in+(dev,%20prod)", vec!["dev", "prod"]),
        ("labelSelector=env+notin+(dev,prod),env", vec!["headless"]),
        ("labelSelector=env,!team%2Fx", vec!["headless", "prod"]),
        ("fieldSelector=metadata.name=dev", vec!["dev"]),
        ("fieldSelector=spec.clusterIP!=None", vec!["bare", "dev", "prod"]),
        ("fieldSelector=metadata.namespace=other", vec![]),
    ] {
        assert_eq!(
            names(&get(&server, &format!("/api/v1/services?{selector}")).1),
            selected,
            "{selector}"
        );
    }
    for wrong in ["labelSelector=a%20b", "labelSelector=a+in+b", "fieldSelector=spec.x=1"] {
        let (code, status) = get(&server, &format!("/api/v1/services?{wrong}"));
        assert_eq!((code, &status["reason"]), (400, &"BadRequest".into()), "{wrong}");
    }
}

#[test]
fn fake_api_server_watch_sends_only_changes() {
    let server = ApiServer::start();
    let from = server.version();
    server.apply(node("early"));
    server.apply(service("early", json!({})));
    let mut watch = watch(&server, &format!("/api/v1/services?watch=true&resourceVersion={from}"));
    server.apply(node("a"));
    server.apply(service("early", json!({})));
    server.apply(service("early", json!({"changed": "é"})));
    server.delete(Kind::Service, "default", "early");
    server.send_raw_event(Kind::Service, "rubbish");

    assert!(watch.line().unwrap().starts_with("{\"type\":\"ADDED\",\"object\":{"));
    let (kind, changed) = watch.event();
    assert_eq!(
        (&*kind, &changed["kind"], &changed["apiVersion"]),
        ("MODIFIED", &"Service".into(), &"v1".into())
    );
    let (kind, deleted) = watch.event();
    assert_eq!(kind, "DELETED");
    assert_eq!(deleted["metadata"]["resourceVersion"], server.version().to_string());
    assert_eq!(deleted["metadata"]["labels"], changed["metadata"]["labels"]);
    assert_eq!(deleted["metadata"]["uid"], changed["metadata"]["uid"]);
    assert_eq!(watch.line().unwrap(), "rubbish\n");
    assert!(!server.delete(Kind::Service, "default", "early"));
}

#[test]
fn fake_api_server_watch_adds_and_deletes_objects_by_selector() {
    let server = ApiServer::start();
    let selector = "labelSelector=!headless&fieldSelector=metadata.name!=not";
    let mut watch = watch(&server, &format!("/api/v1/services?watch=1&{selector}"));
    server.apply(service("web", json!({"headless": ""})));
    server.apply(service("not", json!({})));
    server.apply(service("web", json!({})));
    server.apply(service("web", json!({"a": "b"})));
    server.apply(service("web", json!({"headless": ""})));
    assert_eq!(watch.happened(), happened("ADDED", "web"));
    assert_eq!(watch.happened(), happened("MODIFIED", "web"));
    let (kind, left) = watch.event();
    assert_eq!((&*kind, &left["metadata"]["labels"]), ("DELETED", &json!({"a": "b"})));
    assert_eq!(left["metadata"]["resourceVersion"], server.version().to_string());
}

#[test]
fn fake_api_server_watch_bookmarks_on_demand_and_before_timeout() {
    let server = ApiServer::start();
    let path = "/apis/discovery.k8s.io/v1/endpointslices?watch=true&timeoutSeconds=1";
    let mut without = watch(&server, path);
    let mut with = watch(&server, &format!("{path}&allowWatchBookmarks=true"));
    server.bookmark();
    for moment in ["on demand", "before the end"] {
        let (kind, bookmark) = with.event();
        assert_eq!(kind, "BOOKMARK", "{moment}");
        let metadata = json!({"resourceVersion": server.version().to_string()});
        assert_eq!(
            bookmark,
            json!({
                "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
                "addressType": "", "endpoints": null, "ports": null,
            })
        );
    }
    assert_eq!(with.line(), None);
    assert_eq!(without.line(), None);
    // A regular end: the connection can be used again.
    with.ask("GET", "/version", "");
    assert_eq!(with.answer().0, 200);
    assert_eq!(server.watchers(Kind::EndpointSlice), 0);
}

#[test]
fn fake_api_server_watch_times_out_despite_many_events() {
    let server = ApiServer::start();
    let mut watch = watch(&server, "/api/v1/nodes?watch=true&timeoutSeconds=1");
    let deadline = Instant::now() + PATIENCE;
    let mut events = 0;
    server.apply(node("0"));
    while watch.line().is_some() {
        assert!(Instant::now() < deadline, "the watch does not end");
        // There is always one unread event.
        events += 1;
        server.apply_many([node(&format!("{events}")), node(&format!("{events}-more"))]);
    }
    assert!(events > 1);
}

#[test]
fn fake_api_server_watch_from_expired_version_gets_410() {
    let server = ApiServer::start();
    let path = format!("/api/v1/services?watch=true&resourceVersion={}", server.version());
    drop(watch(&server, &path));
    server.expire_history();
    let mut late = watch(&server, &path);
    let (kind, status) = late.event();
    assert_eq!(
        (&*kind, &status["code"], &status["reason"]),
        ("ERROR", &410.into(), &"Expired".into())
    );
    assert_eq!(late.line(), None);
    server.say_gone_by_code();
    assert_eq!(get(&server, &path).0, 410);
}

#[test]
fn fake_api_server_watch_list_ends_with_initial_events_end() {
    let server = ApiServer::start();
    server.apply_many(["a", "b"].map(|name| service(name, json!({}))));
    let path = "/api/v1/services?watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
    assert_eq!(get(&server, path).0, 422);
    let path = format!("{path}&resourceVersionMatch=NotOlderThan");
    let mut watch = watch(&server, &path);
    server.apply(service("c", json!({})));
    assert_eq!(watch.happened(), happened("ADDED", "a"));
    assert_eq!(watch.happened(), happened("ADDED", "b"));
    let (kind, mark) = watch.event();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(mark["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(watch.happened(), happened("ADDED", "c"));
    server.lack_watch_lists();
    assert_eq!(get(&server, &path).1["details"]["causes"][0]["field"], "sendInitialEvents");
}

#[test]
fn fake_api_server_keep_alive_until_connection_close() {
    let server = ApiServer::start();
    server.apply(service("web", json!({"word": "naïve ☃"})));
    let mut plain = Plain::new(&server);
    for _ in 0..3 {
        plain.ask("GET", "/api/v1/services", "X-Test: yes\r\n");
        assert_eq!(plain.answer().1["items"][0]["metadata"]["labels"]["word"], "naïve ☃");
    }
    assert_eq!(server.requests()[2].header("x-test"), Some("yes"));
    plain.ask("GET", "/version", "Connection: close\r\n");
    assert!(plain.answer().0 == 200 && plain.0.read(&mut [0]).unwrap() == 0);
}

#[test]
fn fake_api_server_fails_requests_on_demand() {
    let server = ApiServer::start();
    server.apply(service("web", json!({})));
    let services = "/api/v1/services";
    for code in [500, 503, 429, 401, 403] {
        server.fail_next(1, Kind::Service, Some(Verb::List), Failure::Code(code));
        let (_, nodes) = get(&server, "/api/v1/nodes");
        assert_eq!(nodes["kind"], "NodeList");
        let mut plain = Plain::new(&server);
        plain.ask("GET", services, "");
        let (answered, head) = plain.head();
        assert_eq!((answered, head.contains("Retry-After: 1")), (code, code == 429));
        assert_eq!(get(&server, services).0, 200);
    }
    server.fail_next(1, Kind::Service, Some(Verb::Watch), Failure::Code(500));
    assert_eq!(get(&server, services).0, 200);
    assert_eq!(get(&server, &format!("{services}?watch=true")).0, 500);

    server.fail_next(1, Kind::Service, None, Failure::Truncated);
    let mut plain = Plain::new(&server);
    plain.ask("GET", services, "");
    let mut text = String::new();
    plain.0.read_to_string(&mut text).unwrap();
    assert!(text.contains("ServiceList") || text.contains("\"apiVersion\""), "{text}");
    assert!(!text.ends_with('\n'), "{text}");
}

#[test]
fn fake_api_server_sends_nothing_while_paused() {
    let server = ApiServer::start();
    let mut watch = watch(&server, "/api/v1/nodes?watch=true");
    server.pause();
    server.apply(node("a"));
    let mut plain = Plain::new(&server);
    plain.ask("GET", "/api/v1/nodes", "");
    let silence = Some(Duration::from_millis(50));
    for stream in [watch.0.get_mut(), plain.0.get_mut()] {
        stream.set_read_timeout(silence).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    server.resume();
    assert_eq!(watch.happened(), happened("ADDED", "a"));
    assert_eq!(names(&plain.answer().1), ["a"]);
}

#[test]
fn fake_api_server_watch_ends_when_client_disconnects() {
    let server = ApiServer::start();
    let watches = [(); 20].map(|()| watch(&server, "/api/v1/nodes?watch=true"));
    assert_eq!(server.watchers(Kind::Node), 20);
    drop(watches);
    until("all watches end", || server.watchers(Kind::Node) == 0);
}

#[test]
fn fake_api_server_ends_threads_and_connections_on_drop() {
    let server = ApiServer::start();
    let mut idle = Plain::new(&server);
    idle.ask("GET", "/version", "");
    idle.answer();
    let mut watch = watch(&server, "/api/v1/nodes?watch=true");
    server.pause();
    server.apply(node("a"));
    let (address, shared) = (server.address(), Arc::downgrade(&server.0.shared));
    drop(server);
    until("all threads end", || shared.strong_count() == 0);
    assert_eq!(idle.0.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(watch.0.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

async fn client(server: &ApiServer) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

type Heard = watcher::Result<Event<Service>>;

async fn services(server: &ApiServer, config: watcher::Config) -> impl Stream<Item = Heard> {
    watcher(Api::all(client(server).await), config)
}

/// The next event of a watcher, as a word and a name.
async fn next_event(stream: &mut (impl Stream<Item = Heard> + Unpin)) -> String {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    match next.unwrap_or_else(|_| panic!("no event within {PATIENCE:?}")).unwrap() {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::InitApply(service)) => format!("init {}", service.name_any()),
        Ok(Event::Apply(service)) => format!("apply {}", service.name_any()),
        Ok(Event::Delete(service)) => format!("delete {}", service.name_any()),
        Err(_) => "error".to_owned(),
    }
}

async fn expects<const N: usize>(
    stream: &mut (impl Stream<Item = Heard> + Unpin),
    expected: [&str; N],
) {
    for expected in expected {
        assert_eq!(next_event(stream).await, expected);
    }
}

/// Polls a watcher until its watch is open, and checks that there was no event meanwhile.
async fn begins_to_watch(stream: &mut (impl Stream<Item = Heard> + Unpin), server: &ApiServer) {
    let server = server.clone();
    let wait = tokio::task::spawn_blocking(move || server.wait_for_watch(Kind::Service, PATIENCE));
    tokio::select! {
        waited = wait => waited.unwrap(),
        event = next_event(stream) => panic!("unexpected event: {event}"),
    }
}

/// Skips errors until the next other event. Their number depends on timing.
async fn recovers(stream: &mut (impl Stream<Item = Heard> + Unpin)) -> String {
    loop {
        match &*next_event(stream).await {
            "error" => tokio::time::sleep(Duration::from_millis(1)).await,
            other => return other.to_owned(),
        }
    }
}

#[tokio::test]
async fn kube_client_receives_all_changes() {
    for config in
        [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()]
    {
        let server = ApiServer::start();
        server.apply_many(["a", "b", "c"].map(|name| service(name, json!({}))));
        let mut stream = pin!(services(&server, config.labels("!headless")).await);
        expects(&mut stream, ["init", "init a", "init b", "init c", "done"]).await;
        server.apply(service("d", json!({})));
        server.apply(service("a", json!({"x": "y"})));
        server.apply(service("b", json!({"headless": ""})));
        server.delete(Kind::Service, "default", "c");
        expects(&mut stream, ["apply d", "apply a", "delete b", "delete c"]).await;
        let all_select =
            |request: &Request| request.parameter("labelSelector") == Some("!headless");
        assert!(server.requests().iter().all(all_select));
    }
}

#[tokio::test]
async fn kube_client_resumes_watch_after_disconnect() {
    let server = ApiServer::start();
    let mut stream = pin!(services(&server, watcher::Config::default()).await);
    expects(&mut stream, ["init", "done"]).await;
    server.apply(service("a", json!({})));
    expects(&mut stream, ["apply a"]).await;
    server.disconnect_all();
    server.apply(service("b", json!({})));
    assert_eq!(recovers(&mut stream).await, "apply b");

    server.refuse_connections(true);
    expects(&mut stream, ["error", "error"]).await;
    server.apply(service("c", json!({})));
    server.refuse_connections(false);
    assert_eq!(recovers(&mut stream).await, "apply c");
    let lists = server.requests().iter().filter(|r| r.parameter("watch").is_none()).count();
    assert_eq!(lists, 1);
}

#[tokio::test]
async fn kube_client_lists_again_when_its_version_is_expired() {
    let server = ApiServer::start();
    let mut stream = pin!(services(&server, watcher::Config::default()).await);
    expects(&mut stream, ["init", "done"]).await;

    begins_to_watch(&mut stream, &server).await;
    server.expire_watches(Kind::Service);
    expects(&mut stream, ["error", "init", "done"]).await;

    begins_to_watch(&mut stream, &server).await;
    server.expire_history();
    server.apply(service("a", json!({})));
    expects(&mut stream, ["apply a"]).await;
    server.expire_history();
    server.disconnect_all();
    assert_eq!(recovers(&mut stream).await, "init");
    expects(&mut stream, ["init a", "done"]).await;

    server.refuse_connections(true);
    server.apply(service("b", json!({})));
    server.restart_empty_history();
    server.refuse_connections(false);
    assert_eq!(recovers(&mut stream).await, "init");
    expects(&mut stream, ["init a", "init b", "done"]).await;
}

#[tokio::test]
async fn kube_client_waits_for_slow_server() {
    let server = ApiServer::start();
    server.set_slowness(Some(Slowness { bytes: 50, delay: Duration::from_micros(200) }));
    server.apply(service("a", json!({})));
    let mut stream = pin!(services(&server, watcher::Config::default()).await);
    expects(&mut stream, ["init", "init a", "done"]).await;
    server.apply(service("b", json!({})));
    server.apply(service("c", json!({})));
    expects(&mut stream, ["apply b", "apply c"]).await;
    server.set_slowness(None);
}

#[tokio::test]
async fn kube_client_survives_malformed_events() {
    let server = ApiServer::start();
    let mut stream = pin!(services(&server, watcher::Config::default()).await);
    expects(&mut stream, ["init", "done"]).await;
    let rubbish =
        ["{", "\u{0}]", "{\"type\":\"X\"}", "{\"type\":\"ADDED\",\"object\":{\"metadata\":1}}"];
    begins_to_watch(&mut stream, &server).await;
    rubbish.iter().for_each(|line| server.send_raw_event(Kind::Service, line));
    server.apply(service("a", json!({})));
    // In kube, the first looks like a truncated line and is skipped.
    expects(&mut stream, ["error", "error", "error", "apply a"]).await;
    assert_eq!(get(&server, "/api/v1/services").0, 200);
}

#[tokio::test]
async fn fake_api_server_stores_and_patches_events() {
    let server = ApiServer::start();
    let about =
        ObjectReference { kind: Some("Node".into()), name: Some("a".into()), ..Default::default() };
    let recorder = Recorder::new(client(&server).await, "rulegen".into());
    let event = RecordedEvent {
        type_: EventType::Warning,
        reason: "Trouble".into(),
        note: Some("A note.".into()),
        action: "Sync".into(),
        secondary: None,
    };
    recorder.publish(&event, &about).await.unwrap();
    // The same Event again patches the first one.
    recorder.publish(&event, &about).await.unwrap();
    let events = server.events();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["note"], &events[0]["series"]["count"]), (&"A note.".into(), &2.into()));

    let core = json!({"metadata": {"generateName": "x-"}, "message": "core"});
    let path = "/api/v1/namespaces/default/events";
    assert_eq!(Plain::new(&server).post("POST", path, &core).0, 201);
    let name = server.events()[1]["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = json!({"message": null, "count": 2});
    let (code, patched) = Plain::new(&server).post("PATCH", &format!("{path}/{name}"), &patch);
    assert_eq!((code, &patched["message"], &patched["count"]), (200, &Value::Null, &2.into()));
    assert_eq!(Plain::new(&server).post("PATCH", &format!("{path}/none"), &patch).0, 404);
    assert_eq!(Plain::new(&server).post("POST", "/api/v1/namespaces/o/events", &patched).0, 400);
}
