use std::time::{Duration, Instant, SystemTime};

use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_kernel::nftables::Writer;
use rulegen_model::{
    Host, Kind, LoadBalancing, NodeState, Object, ObjectName, Problem, Severity, StoreEvent,
};
use rulegen_net::IpFamily;
use serde_json::{Value, json};

use super::*;
use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::health::Health;
use crate::http::tests::{ask, text_of};
use crate::http::{Request, Response, Router};
use crate::journal::SyncTrigger;
use crate::left_out::LeftOutServices;
use crate::rejected_objects::RejectedObjects;
use crate::report::{ObjectChanges, Operations, Phase, SyncReport};
use crate::shared::Shared;

const MARKUP: &str = r#"<script>alert("1")</script>'&<b>"#;

/// The status of an agent without objects.
pub(crate) fn status(about: &Arc<ProcessInfo>) -> Status {
    let host = Host { name: "node-1".into(), addresses: Vec::new() };
    of_store(about, ConfiguredStore::new(ProxyConfig::default(), host))
}

fn of_store(about: &Arc<ProcessInfo>, store: ConfiguredStore) -> Status {
    let health = Health::new(&[IpFamily::Ipv4], Health::PATIENCE, Instant::now());
    Status {
        about: Arc::clone(about),
        known: ClusterState {
            store: Shared::new(store),
            rejected_objects: Shared::new(RejectedObjects::default()),
            left_out: Shared::new(LeftOutServices::default()),
        },
        health: SharedHealth::new(health),
        journal: Journal::default(),
        counters: None,
        worker: Worker::start().unwrap(),
    }
}

fn about() -> Arc<ProcessInfo> {
    Arc::new(ProcessInfo {
        node: "node-1".into(),
        mode: ProxyMode::Nftables,
        configuration: Value::Null,
        flags: Vec::new(),
        version: "0.1.0".into(),
        started: SystemTime::UNIX_EPOCH,
        started_at: Instant::now(),
    })
}

fn put(status: &Status, object: Object) -> Vec<Problem> {
    status.known.store.write().take_in(StoreEvent::Put(Box::new(object)))
}

fn service(namespace: &str, name: &str, ip: &str, spec: &Value) -> Object {
    let mut all = json!({"clusterIP": ip, "clusterIPs": [ip],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    let metadata = json!({"namespace": namespace, "name": name});
    Object::Service(serde_json::from_value(json!({"metadata": metadata, "spec": all})).unwrap())
}

fn slice(namespace: &str, service: &str, port: &str, endpoints: &Value) -> Object {
    let labels = json!({"kubernetes.io/service-name": service});
    let metadata =
        json!({"namespace": namespace, "name": format!("{service}-a"), "labels": labels});
    let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": port, "port": 8080, "protocol": "TCP"}]});
    Object::EndpointSlice(serde_json::from_value(slice).unwrap())
}

fn endpoint(ip: &str, node: &str, ready: bool) -> Value {
    json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}})
}

fn empty() -> Status {
    status(&about())
}

/// `web` has three ready endpoints, one of them local; `local` has no local endpoint; `lost` has a
/// wrong port name; `idle` has no ready endpoint; `bare` has no endpoint.
fn cluster() -> Status {
    filled(empty())
}

/// Like `cluster`, with pods detected by their CIDR.
fn cluster_with_pod_detection(mode: ProxyMode) -> Status {
    let host = Host { name: "node-1".into(), addresses: Vec::new() };
    let cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
    let config = ProxyConfig { mode, cluster_cidrs, ..ProxyConfig::default() };
    filled(of_store(&about(), ConfiguredStore::new(config, host)))
}

fn filled(status: Status) -> Status {
    let none = json!({});
    let outside = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        "loadBalancerSourceRanges": ["198.51.100.0/24"]});
    put(&status, service("shop", "web", "10.96.0.10", &none));
    put(&status, service("shop", "local", "10.96.0.11", &outside));
    put(&status, service("shop", "lost", "10.96.0.12", &none));
    put(&status, service("shop", "idle", "10.96.0.13", &none));
    put(&status, service("other", "bare", "10.96.0.14", &none));
    let three = json!([
        endpoint("10.244.1.1", "node-1", true),
        endpoint("10.244.2.1", "node-2", true),
        endpoint("10.244.3.1", "node-3", true),
        endpoint("10.244.3.2", "node-3", false),
    ]);
    put(&status, slice("shop", "web", "http", &three));
    put(&status, slice("shop", "local", "http", &json!([endpoint("10.244.2.2", "node-2", true)])));
    put(&status, slice("shop", "lost", "web", &json!([endpoint("10.244.2.3", "node-2", true)])));
    put(&status, slice("shop", "idle", "http", &json!([endpoint("10.244.2.4", "node-2", false)])));
    status.known.store.write().changes();
    status
}

fn page(status: &Status, path: &str) -> Response {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    status.answer(&Request { path, query, wants_json: false, host: None }).wait()
}

fn html(status: &Status, path: &str) -> String {
    let response = page(status, path);
    assert_eq!(response.headers["content-type"], "text/html; charset=utf-8", "{path}");
    text_of(&response)
}

fn data(status: &Status, path: &str) -> Value {
    let path = format!("{path}{}format=json", if path.contains('?') { '&' } else { '?' });
    let response = page(status, &path);
    assert_eq!(response.headers["content-type"], "application/json", "{path}");
    serde_json::from_slice(&response.body).unwrap()
}

/// The names of the Services in a list.
fn listed(status: &Status, query: &str) -> Vec<String> {
    let list = data(status, &format!("/services?{query}"));
    let services = list["services"].as_array().unwrap().iter();
    services.map(|service| service["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pages_forbid_content_from_other_origins() {
    let status = cluster();
    let paths = [
        "/",
        "/services",
        "/drift",
        "/services/shop/web",
        "/services/a/b",
        "/?format=json",
        "/assets/status.css",
        "/assets/status.js",
    ];
    for path in paths {
        let headers = page(&status, path).headers;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
    }
    for path in ["/", "/services", "/drift", "/services/shop/web", "/services/a/b"] {
        let html = html(&status, path);
        let forbidden = ["//", " style=", "<style", " onclick", " onload", "javascript:"];
        assert!(!forbidden.iter().any(|text| html.contains(text)), "the policy forbids it: {html}");
    }
}

#[test]
fn unknown_paths_get_404() {
    let status = cluster();
    for path in [
        "/services/",
        "/services/shop",
        "/services/shop/",
        "/services//web",
        "/services/shop/web/",
        "/Services",
        "/drift/",
        "/assets/",
        "/index.html",
    ] {
        let response = page(&status, path);
        assert_eq!(
            (response.status.as_u16(), text_of(&response).as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
    assert_eq!(page(&status, "/services/shop/none").status, 404);
    assert!(html(&status, "/services/shop/none").contains("Service shop/none not found."));
    assert_eq!(data(&status, "/services/shop/none")["error"], "Service shop/none not found.");
}

#[test]
fn parameter_that_is_too_long_gets_400_with_its_name() {
    let status = cluster();
    assert_eq!(page(&status, &format!("/services?q={}", "ü".repeat(200))).status, 200);
    for path in ["/services?q=", "/services?namespace=", "/explain?to=", "/?%3Cb%3E%0a="] {
        let response = page(&status, &format!("{path}{}", "ü".repeat(201)));
        let name = match path.split_once('?') {
            Some((_, "%3Cb%3E%0a=")) => "<b>\\n",
            Some((_, name)) => name.trim_end_matches('='),
            None => "",
        };
        let why = format!("400 bad request: parameter {name} has 201 characters (maximum 200)\n");
        assert_eq!((response.status.as_u16(), text_of(&response)), (400, why), "{path}");
        assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
    }
}

/// An object can make each of these numbers large. The size of a page must not be their product.
#[test]
fn large_service_is_shown_in_pages_of_bounded_size() {
    const PORTS: usize = 300;
    const MOST: usize = 1_500_000;
    let config = ProxyConfig { max_service_size: Some(usize::MAX), ..ProxyConfig::default() };
    let status = of_store(&about(), ConfiguredStore::new(config, Host::default()));
    let ips = |n: usize| format!("203.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    let externals: Vec<String> = (0..1000).map(ips).collect();
    let ranges: Vec<String> = (0..1000).map(|n| format!("{}/32", ips(n * 7))).collect();
    let ports = (1..=PORTS).map(|n| json!({"name": format!("p{n}"), "port": n}));
    let spec = json!({"type": "LoadBalancer", "ports": ports.collect::<Vec<_>>(),
        "externalIPs": externals, "loadBalancerSourceRanges": ranges});
    put(&status, service("shop", "huge", "10.96.0.10", &spec));
    let endpoints = (0..250).map(|n| {
        let mut endpoint = endpoint(&format!("10.244.1.{n}"), "node-1", true);
        let unused = (0..99).map(|m| format!("10.245.{n}.{m}"));
        endpoint["addresses"].as_array_mut().unwrap().extend(unused.map(Value::from));
        endpoint["targetRef"] = json!({"kind": "Pod", "name": "p".repeat(253)});
        endpoint
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let mut slice = slice("shop", "huge", "p1", &json!(endpoints));
    if let Object::EndpointSlice(slice) = &mut slice {
        let ports = (1..=PORTS)
            .map(|n| json!({"name": format!("p{n}"), "port": 1000 + n, "protocol": "TCP"}));
        slice.ports = serde_json::from_value(json!(ports.collect::<Vec<_>>())).unwrap();
    }
    put(&status, slice);
    status.known.store.write().changes();
    let first = data(&status, "/services/shop/huge");
    let pages = first["pages"].as_u64().unwrap();
    assert_eq!(pages, 45, "3 parts per port, 20 per page");
    let mut seen = std::collections::BTreeSet::new();
    for n in [1, 2, 22, pages] {
        let path = format!("/services/shop/huge?page={n}");
        let shown = data(&status, &path);
        assert_eq!(shown["page"], n);
        for port in shown["ports"].as_array().unwrap() {
            assert_eq!(
                (&port["endpointCount"], &port["trafficPaths"][0]["endpointCount"]),
                (&json!(250), &json!(250))
            );
            assert_eq!(port["trafficPaths"][1]["moreFrontends"], 950);
            for endpoint in port["endpoints"].as_array().unwrap() {
                assert!(seen.insert(endpoint["address"].as_str().unwrap().to_owned()));
            }
        }
        let sizes = [text_of(&page(&status, &path)).len(), shown.to_string().len()];
        assert!(sizes.iter().all(|size| *size < MOST), "{n}: {sizes:?}");
    }
    assert!(seen.len() > 6000, "{}: each once", seen.len());
    let html = html(&status, "/services/shop/huge?page=2");
    assert!(html.contains("<a rel=\"next\" href=\"/services/shop/huge?page=3\">"), "{html}");
    assert!(html.contains("<a rel=\"prev\" href=\"/services/shop/huge\">"));
    assert!(html.contains("201 to 250 of 250") && html.contains("page=2&#38;format=json"));
    for path in ["/", "/services"] {
        let sizes = [text_of(&page(&status, path)).len(), data(&status, path).to_string().len()];
        assert!(sizes.iter().all(|size| *size < 20_000), "{path}: {sizes:?}");
    }
}

#[test]
fn search_finds_services_by_name_address_port_and_filter() {
    let status = cluster();
    let all = ["bare", "idle", "local", "lost", "web"];
    let cases: [(&str, &[&str]); 24] = [
        ("", &all),
        ("q=web", &["web"]),
        ("q=WEB", &["web"]),
        ("q=shop/w", &["web"]),
        ("q=o", &["bare", "idle", "local", "lost", "web"]),
        ("q=shop+10.96.0.13", &["idle"]),
        ("q=10.96.0.", &all),
        ("q=10.96.0.1", &[]),
        ("q=10.244.3.1", &["web"]),
        ("q=10.96.0.12", &["lost"]),
        ("q=10.244.3", &["web"]),
        ("q=10.244.3.1%3A8080", &["web"]),
        ("q=10.96.0.11:80", &["local"]),
        ("q=10.96.0.11:81", &[]),
        ("q=30080", &["local"]),
        ("q=:30080", &["local"]),
        ("q=80", &all),
        ("namespace=other", &["bare"]),
        ("namespace=other&q=web", &[]),
        ("show=no-usable-endpoint", &["bare", "idle", "lost"]),
        ("show=no-local-endpoint", &["local"]),
        ("show=outside", &["local"]),
        ("show=nonsense", &all),
        ("show=outside&q=%20%20", &["local"]),
    ];
    for (query, expected) in cases {
        assert_eq!(listed(&status, query), expected, "{query}");
    }
}

#[test]
fn malformed_queries_get_a_page() {
    let status = cluster();
    let odd = [
        "q=%",
        "q=%zz",
        "q=%ff%fe",
        "q",
        "=",
        "&&&",
        "page=0",
        "page=-1",
        "page=1e9",
        "page=99999999999999999999999",
        "page=5",
        "q=%00",
        "q=a%0d%0aSet-Cookie:x",
        "namespace=%3Cb%3E",
        "q=1&q=web",
    ];
    for query in odd {
        let response = page(&status, &format!("/services?{query}"));
        assert_eq!(response.status, 200, "{query}");
    }
    assert_eq!(listed(&status, "page=7").len(), 5, "the last page");
    assert_eq!(page(&status, "/services/sh%6fp/web").status, 200);
    assert_eq!(page(&status, "/services/%ff/%").status, 404);
}

/// Also where traffic goes to terminating endpoints, or only to those on this node.
#[test]
fn endpoints_are_counted_alike_in_the_list_and_on_the_page_of_a_service() {
    let status = cluster();
    let local = json!({"internalTrafficPolicy": "Local"});
    put(&status, service("shop", "inside", "10.96.0.15", &local));
    let two = [endpoint("10.244.1.5", "node-1", true), endpoint("10.244.2.5", "node-2", true)];
    put(&status, slice("shop", "inside", "http", &json!(two)));
    put(&status, service("shop", "leaving", "10.96.0.16", &json!({})));
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    let leaving = json!([
        {"addresses": ["10.244.1.6"], "nodeName": "node-1", "conditions": conditions},
        {"addresses": ["10.244.2.6"], "nodeName": "node-2", "conditions": conditions},
        endpoint("10.244.2.7", "node-2", false),
    ]);
    put(&status, slice("shop", "leaving", "http", &leaving));
    status.known.store.write().changes();
    let list = data(&status, "/services");
    let mut counts = Vec::new();
    for row in list["services"].as_array().unwrap() {
        let (namespace, name) = (row["namespace"].as_str().unwrap(), row["name"].as_str().unwrap());
        let page = data(&status, &format!("/services/{namespace}/{name}"));
        let endpoints = page["ports"][0]["endpoints"].as_array().unwrap();
        let chosen = endpoints.iter().filter(|endpoint| endpoint["unused"].is_null()).count();
        assert_eq!(row["chosenEndpoints"], chosen, "{name}");
        assert_eq!(row["endpoints"], endpoints.len(), "{name}");
        counts.push((name, chosen, endpoints.len()));
    }
    assert!(counts.contains(&("inside", 1, 2)), "{counts:?}");
    assert!(counts.contains(&("leaving", 2, 3)), "{counts:?}");
}

#[test]
fn service_list_has_pages() {
    let status = empty();
    for number in 0..120 {
        let ip = format!("10.96.1.{number}");
        put(&status, service("many", &format!("s{number:03}"), &ip, &json!({})));
    }
    status.known.store.write().changes();
    let names = |query: &str| listed(&status, query);
    assert_eq!((names("").len(), names("page=2").len(), names("page=3").len()), (50, 50, 20));
    assert_eq!(names("page=2")[0], "s050");
    assert_eq!(names("page=9")[0], "s100");
    let list = data(&status, "/services?page=2");
    assert_eq!(
        (&list["found"], &list["all"], &list["page"], &list["pages"]),
        (&json!(120), &json!(120), &json!(2), &json!(3))
    );
    let html = html(&status, "/services?page=2&q=s&namespace=many&show=no-usable-endpoint");
    let parameters = "q=s&#38;namespace=many&#38;show=no-usable-endpoint";
    assert!(html.contains(&format!("rel=\"prev\" href=\"/services?{parameters}\"")), "{html}");
    assert!(html.contains(&format!("rel=\"next\" href=\"/services?{parameters}&#38;page=3\"")));
}

#[test]
fn service_page_shows_paths_with_endpoint_probabilities() {
    let status = cluster();
    let web = data(&status, "/services/shop/web");
    let port = &web["ports"][0];
    assert_eq!(port["trafficPaths"][0]["frontends"][0]["address"], "10.96.0.10:80");
    let chances = port["trafficPaths"][0]["endpoints"].as_array().unwrap();
    assert_eq!(chances.len(), 3);
    assert!(chances.iter().all(|chance| chance["chance"] == "1/3"));
    assert_eq!(port["endpoints"][3]["unused"], "not ready");
    assert_eq!(port["endpoints"][3]["unusedCode"], "not-ready");
    assert_eq!(port["unavailability"], Value::Null);
    let text = html(&status, "/services/shop/web");
    assert!(text.matches(">1 in 3<").count() == 3 && text.contains("10.244.3.1:8080"), "{text}");
}

/// The slice of a Pod that replaced another with the same address has another name.
#[test]
fn service_page_shows_pods_and_unused_addresses_of_endpoints() {
    let status = cluster();
    let text = html(&status, "/services/shop/web");
    assert!(!text.contains(">Pod<") && !text.contains("not used:"), "{text}");
    let named = |ip: &str, kind: &str, name: &str, terminating: bool| {
        json!({"addresses": [ip], "nodeName": "node-1",
            "conditions": {"ready": !terminating, "terminating": terminating},
            "targetRef": {"kind": kind, "namespace": "shop", "name": name}})
    };
    let mut first = named("10.244.1.1", "Pod", "web-1", false);
    first["addresses"] =
        json!(["10.244.1.1", "10.244.1.9", "10.244.1.8", "x", "10.244.1.7", "10.244.1.6"]);
    let endpoints = json!([
        named("10.244.1.1", "Pod", "web-old", true),
        {"addresses": ["127.0.0.1"], "targetRef": {"kind": "Pod", "name": "wrong"}},
        first,
        {"addresses": ["10.244.1.2"]},
        named("10.244.1.3", "VirtualMachine", "vm", false),
        named("10.244.1.4", "Pod", MARKUP, true),
    ]);
    put(&status, slice("shop", "web", "http", &endpoints));
    status.known.store.write().changes();
    let page = data(&status, "/services/shop/web");
    let shown: Vec<(Value, Value)> = page["ports"][0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (of["pod"].clone(), of["unusedAddresses"].clone()))
        .collect();
    let expected = [
        (json!("web-1"), json!(["10.244.1.9", "10.244.1.8", "10.244.1.7"])),
        (Value::Null, Value::Null),
        (Value::Null, Value::Null),
        (json!(MARKUP), Value::Null),
    ];
    assert_eq!(shown, expected);
    let text = html(&status, "/services/shop/web");
    assert!(text.contains("<td>web-1</td>") && !text.contains(MARKUP), "{text}");
    assert!(text.contains("not used: 10.244.1.9, 10.244.1.8, 10.244.1.7 and 1 more"), "{text}");
}

/// Pods take the short circuit around policy Local only if pod traffic is detected.
#[test]
fn traffic_path_names_its_clients() {
    let detected = cluster_with_pod_detection(ProxyMode::Nftables);
    for (status, others, own) in [
        (detected, "Clients outside", "This node and its pods"),
        (cluster(), "Clients outside and pods", "This node"),
    ] {
        let local = data(&status, "/services/shop/local");
        let paths = local["ports"][0]["trafficPaths"].as_array().unwrap();
        let clients: Vec<&str> =
            paths.iter().map(|path| path["clients"].as_str().unwrap()).collect();
        assert_eq!(clients, ["Clients on this node", others, own]);
        assert!(paths[1]["refused"].as_str().unwrap().starts_with("dropped"));
        assert_eq!(paths[2]["endpoints"][0]["chance"], "1");
    }
}

#[test]
fn load_balancing_depends_on_mode_and_affinity() {
    let host = || Host { name: "node-1".into(), addresses: Vec::new() };
    let choice = |mode, load_balancing, affinity: &str| {
        let config = ProxyConfig { mode, load_balancing, ..ProxyConfig::default() };
        let status = of_store(&about(), ConfiguredStore::new(config, host()));
        let spec = json!({"sessionAffinity": affinity});
        put(&status, service("shop", "web", "10.96.0.10", &spec));
        status.known.store.write().changes();
        let page = data(&status, "/services/shop/web");
        page["ports"][0]["loadBalancing"].as_str().unwrap().to_owned()
    };
    let (iptables, nftables) = (ProxyMode::Iptables, ProxyMode::Nftables);
    let hash = LoadBalancing::Maglev;
    assert_eq!(choice(nftables, hash, "None"), "hash of the source");
    assert_eq!(choice(nftables, hash, "ClientIP"), "hash of the source");
    assert_eq!(choice(nftables, LoadBalancing::RoundRobin, "ClientIP"), "round robin");
    assert_eq!(choice(iptables, hash, "None"), "random");
}

#[test]
fn service_without_endpoints_shows_reason_and_remedy() {
    let status = cluster();
    let codes = |path: &str| {
        let page = data(&status, path);
        let list = data(&status, "/services");
        let mut rows = list["services"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == page["name"]).unwrap();
        assert_eq!(row["stateCode"], page["stateCode"]);
        let text = |code: &Value| code.as_str().unwrap_or_default().to_owned();
        let unavailability = &page["ports"][0]["unavailability"];
        for words in ["reason", "remedy"] {
            let is_missing = text(&unavailability[words]).is_empty();
            assert_eq!(is_missing, unavailability.is_null(), "{path}: {words}");
        }
        (text(&page["stateCode"]), text(&unavailability["code"]))
    };
    for (path, condition, reason) in [
        ("/services/other/bare", "no-endpoints", "no-endpoint-slice"),
        ("/services/shop/idle", "no-ready-endpoints", "no-ready-endpoints"),
        ("/services/shop/lost", "no-endpoints", "no-such-endpoint-port"),
        ("/services/shop/local", "no-local-endpoints", "no-local-endpoints"),
        ("/services/shop/web", "ready", ""),
    ] {
        assert_eq!(codes(path), (condition.to_owned(), reason.to_owned()), "{path}");
    }
    put(&status, slice("other", "bare", "http", &json!([])));
    status.known.store.write().changes();
    let (_, reason) = codes("/services/other/bare");
    assert!(!reason.is_empty() && reason != "no-endpoint-slice", "{reason}");
}

#[test]
fn contested_address_names_its_owner() {
    let status = cluster();
    let shared = json!({"externalIPs": ["192.0.2.9"]});
    put(&status, service("shop", "first", "10.96.0.98", &shared));
    put(&status, service("zoo", "late", "10.96.0.99", &shared));
    let one = json!([endpoint("10.244.2.9", "node-2", true)]);
    put(&status, slice("shop", "first", "http", &one));
    status.known.store.write().changes();
    let late = data(&status, "/services/zoo/late");
    let frontends = &late["ports"][0]["trafficPaths"][1]["frontends"];
    assert_eq!(frontends[0]["owner"], "shop/first:http");
    assert!(html(&status, "/services/zoo/late").contains("goes to shop/first:http"));
    assert_eq!(
        data(&status, "/services/shop/first")["ports"][0]["trafficPaths"][1]["frontends"][0]["owner"],
        Value::Null
    );
}

/// Services with endpoints come before Services without, regardless of their names.
#[test]
fn contested_address_goes_to_the_first_service_with_endpoints() {
    let status = cluster();
    let shared = json!({"externalIPs": ["192.0.2.9"]});
    for (namespace, name, ip) in [
        ("aaa", "early", "10.96.0.98"),
        ("aaa", "second", "10.96.0.97"),
        ("aaa", "third", "10.96.0.96"),
    ] {
        put(&status, service(namespace, name, ip, &shared));
    }
    let one = json!([endpoint("10.244.2.9", "node-2", true)]);
    put(&status, slice("aaa", "third", "http", &one));
    status.known.store.write().changes();
    let taken = |path: &str, index: usize| {
        let page = data(&status, path);
        let frontends =
            page["ports"][0]["trafficPaths"][index]["frontends"].as_array().unwrap().clone();
        frontends.iter().map(|frontend| frontend["owner"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(taken("/services/aaa/third", 1), [Value::Null]);
    assert_eq!(taken("/services/aaa/early", 1), ["aaa/third:http"]);
    assert_eq!(taken("/services/aaa/second", 1), ["aaa/third:http"]);
    put(&status, slice("aaa", "second", "http", &one));
    status.known.store.write().changes();
    assert_eq!(taken("/services/aaa/third", 1), ["aaa/second:http"], "the first by name");
    assert_eq!(taken("/services/aaa/early", 1), ["aaa/second:http"]);
    assert_eq!(taken("/services/aaa/second", 1), [Value::Null]);
}

/// The Service keeps its cluster IP on all pages, even if the name of the other Service comes first.
#[test]
fn cluster_ip_is_never_taken_by_an_external_ip() {
    let status = cluster();
    let greedy = json!({"externalIPs": ["10.96.0.10", "192.0.2.9"]});
    put(&status, service("aaa", "greedy", "10.96.0.98", &greedy));
    let one = json!([endpoint("10.244.66.6", "node-2", true)]);
    put(&status, slice("aaa", "greedy", "http", &one));
    let changes = status.known.store.write().changes();
    let external =
        &data(&status, "/services/aaa/greedy")["ports"][0]["trafficPaths"][1]["frontends"];
    assert_eq!(external.as_array().map(Vec::len), Some(1), "{external}");
    assert_eq!(external[0]["owner"], Value::Null);
    let web = data(&status, "/services/shop/web");
    assert_eq!(web["ports"][0]["trafficPaths"][0]["frontends"][0]["owner"], Value::Null);
    let explained = data(&status, "/explain?from=10.244.1.7&to=10.96.0.10:80");
    let frontend = &explained["frontend"];
    assert_eq!(frontend["service"], "shop/web:http", "{explained}");
    assert_eq!(frontend["kind"], "ClusterIP");
    for (key, problems) in changes.addresses {
        status.known.rejected_objects.write().about_addresses(key, problems);
    }
    let page = html(&status, "/services/aaa/greedy");
    assert!(page.contains("10.96.0.10 is the cluster IP of Service shop/web"), "{page}");
}

fn report(error: Option<&str>) -> SyncReport {
    SyncReport {
        families: Vec::new(),
        full: true,
        error: error.map(str::to_owned),
        took: Duration::from_millis(12),
        phases: vec![
            (Phase::Compile, Duration::from_millis(2)),
            (Phase::Commit, Duration::from_millis(10)),
        ],
        operations: Operations::default(),
        bytes: 100,
        changes: ObjectChanges::default(),
        finished: SystemTime::now(),
    }
}

fn set_in_sync(status: &Status) {
    let kinds = Kind::ALL.into_iter();
    for event in kinds.flat_map(|kind| [StoreEvent::ListBegan(kind), StoreEvent::ListEnded(kind)]) {
        status.known.store.write().take_in(event);
    }
    status.health.with(|health| {
        health.node(NodeState::Known);
        health.in_sync_with_source(true);
        health.synced(IpFamily::Ipv4, Instant::now(), SystemTime::now());
    });
}

#[test]
fn overview_state_is_the_most_severe_condition() {
    let status = empty();
    let state = || {
        let state = data(&status, "/")["state"].clone();
        (state["level"].as_str().unwrap().to_owned(), state["summary"].as_str().unwrap().to_owned())
    };
    let is = |level: &str, summary: &str| (level.to_owned(), summary.to_owned());
    assert_eq!(state(), is("attention", "Waiting for objects"));
    set_in_sync(&status);
    assert_eq!(state(), is("good", "In sync"));
    let long_ago = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
    status.journal.begins(SyncTrigger::default(), long_ago, SystemTime::now());
    assert_eq!(state(), is("attention", "Syncing"));
    status.journal.ended(&report(None), 1, false);
    status.health.with(|health| health.node(NodeState::BeingDeleted));
    assert_eq!(state(), is("attention", "In sync, node leaving service"));
    let old = Instant::now().checked_sub(Duration::from_secs(99)).unwrap();
    status.health.with(|health| health.queued(old));
    assert_eq!(state(), is("bad", "Out of sync"));
    status.journal.ended(&report(Some("no room")), 1, false);
    assert_eq!(state(), is("bad", "Syncs are failing"));
    let html = html(&status, "/");
    assert!(html.contains("no room") && html.contains("<rect class=\"cross\""), "{html}");
    let newest = &data(&status, "/")["syncs"][0];
    assert_eq!(newest["phasesMilliseconds"], json!({"compile": 2.0, "commit": 10.0}));
    status.health.with(|health| {
        health.node(NodeState::Known);
        health.synced(IpFamily::Ipv4, Instant::now(), SystemTime::now());
    });
    status.journal.ended(&report(None), 0, true);
    assert_eq!(state(), is("good", "In sync"), "a no-op resync succeeded");
}

/// Manifests can have invalid names, and the user of a program chooses its name.
#[test]
fn markup_in_names_and_messages_is_escaped() {
    let status = cluster();
    set_in_sync(&status);
    let name = ObjectName { kind: "Service", namespace: MARKUP.into(), name: MARKUP.into() };
    let problem = Problem::new(Severity::Warning, format!("{MARKUP} is not a name")).about(&name);
    let key = rulegen_model::ObjectKey::new(MARKUP, MARKUP);
    status.known.rejected_objects.write().about(Kind::Service, key, vec![problem]);
    put(
        &status,
        service(MARKUP, MARKUP, "10.96.7.7", &json!({"ports": [{"name": MARKUP, "port": 1}]})),
    );
    status.known.store.write().changes();
    let writer = Writer { program: MARKUP.into(), pid: 1, ..Writer::default() };
    let drift = Drift { writer: Some(writer), changes: vec![MARKUP.into()], certain: true };
    status.journal.drifted(&drift, SystemTime::now());
    status.journal.ended(&report(Some(MARKUP)), 1, false);

    let query = form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect::<String>();
    let search = format!("/services?q={query}&namespace={query}&show={query}");
    let one = format!("/services/{query}/{query}");
    for path in ["/", "/drift", "/services", &search, &one, "/services/shop/web"] {
        let html = html(&status, path);
        assert!(!html.contains("<script>") && !html.contains("<b>\""), "{path}: {html}");
        assert!(!html.contains(r#"alert("1")"#), "quotes in attributes: {path}: {html}");
        let data = text_of(&page(
            &status,
            &format!("{path}{}format=json", if path.contains('?') { '&' } else { '?' }),
        ));
        assert!(serde_json::from_str::<Value>(&data).is_ok(), "{path}: {data}");
    }
    let escaped = "&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62;&#39;&#38;&#60;b&#62;";
    let drift = html(&status, "/drift");
    assert_eq!(drift.matches(escaped).count(), 1, "the change");
    assert_eq!(drift.matches(r"\u{3c}script\u{3e}").count(), 1, "the program name: {drift}");
    assert!(html(&status, "/").contains(escaped));
    assert!(html(&status, &search).contains(&format!("value=\"{escaped}\"")));
    assert_eq!(data(&status, "/drift")["drifts"][0]["changes"][0], MARKUP);
}

#[test]
fn drift_page_shows_changes_and_their_repair() {
    let status = empty();
    assert!(html(&status, "/drift").contains("Nothing so far."));
    let at = SystemTime::now().checked_sub(Duration::from_secs(60)).unwrap();
    let writer = Writer { program: "nft".into(), pid: 4711, ..Writer::default() };
    let drift =
        Drift { writer: Some(writer), changes: vec!["deleted table".into()], certain: true };
    status.journal.drifted(&drift, at);
    let text = html(&status, "/drift");
    assert!(text.contains("process 4711") && text.contains("not repaired yet"), "{text}");
    status.journal.repaired(at + Duration::from_millis(40), true);
    assert!(html(&status, "/drift").contains("repaired after 40 ms"));
    let row = &data(&status, "/drift")["drifts"][0];
    assert_eq!((&row["repaired"], &row["durationMilliseconds"]), (&json!(true), &json!(40.0)));

    let writer = Writer { program: "gone".into(), pid: 7, is_thread: true, port: 0 };
    let drift = Drift { writer: Some(writer), changes: Vec::new(), certain: true };
    status.journal.undone(&drift, at);
    let text = html(&status, "/drift");
    assert!(text.contains("process or thread 7") && !text.contains("not repaired yet"), "{text}");
    assert_eq!(data(&status, "/drift")["drifts"][0]["thread"], true);
}

#[test]
fn json_is_selected_by_parameter_or_header() {
    let status = empty();
    let kind = |query, wants_json| {
        let request = Request { path: "/", query, wants_json, host: None };
        status.answer(&request).wait().headers["content-type"].clone()
    };
    assert_eq!(kind("", true), "application/json");
    assert_eq!(kind("format=json", false), "application/json");
    assert_eq!(kind("format=html", true), "text/html; charset=utf-8");
}

#[test]
fn explain_page_shows_frontend_outcomes_and_errors() {
    let status = cluster();
    let explained = |query: &str| data(&status, &format!("/explain?{query}"));
    let web = explained("from=10.244.1.9&to=10.96.0.10:80");
    assert_eq!(web["frontend"]["service"], "shop/web:http");
    let ends = web["ends"].as_array().unwrap();
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|end| end["probability"]["oneIn"] == 3), "{ends:?}");
    assert_eq!(explained("from=10.244.1.9&to=shop/web:http"), web, "by name");
    assert_eq!(explained("from=10.244.1.9&to=shop/web"), web);
    let idle = explained("from=10.244.1.9&to=10.96.0.13:80/tcp");
    assert_eq!(idle["ends"][0]["outcome"], "rejected");
    assert_eq!(explained("from=10.244.1.9&to=192.0.2.1:80")["ends"][0]["outcome"], "passes");

    assert_eq!(explained("from=10.244.1.9&to=web.shop.svc.cluster.local"), web, "DNS name");
    let ping = explained("from=10.244.1.9&to=10.96.0.10/icmp");
    assert_eq!(ping["packet"]["protocol"], "icmp");
    assert_eq!(ping["remarks"][0]["code"], "icmp");
    assert_eq!(explained("from=10.244.1.9&to=shop/web/icmp"), ping, "by name");
    assert_eq!(explained("from=10.244.1.9&to=web.shop.svc/icmp"), ping);

    let text = html(&status, "/explain?from=10.244.1.9&to=shop/web:http");
    assert!(text.matches(">1 in 3<").count() == 3 && text.contains("shop/web:http"), "{text}");
    assert!(html(&status, "/services/shop/web").contains("/explain?to=10.96.0.10%3A80%2Ftcp"));
    assert_eq!(page(&status, "/explain").status, 200, "the form alone");
    assert_eq!(page(&status, "/explain?to=shop/web").status, 200, "filled in");
    for (query, error) in [
        ("from=x&to=10.96.0.10:80", "is not an IP address"),
        ("from=10.0.0.1&to=", "invalid IP:PORT"),
        ("from=10.0.0.1&to=10.96.0.10:80/gre", "(use tcp, udp or sctp)"),
        ("from=10.0.0.1&to=10.96.0.10:80/icmp", "ICMP has no ports: use 10.96.0.10/icmp"),
        ("from=10.0.0.1&to=shop/none", "does not exist"),
        ("from=fd00::1&to=10.96.0.10:80", "different IP families"),
        ("from=fd00::1&to=shop/web", "has no IPv6 cluster IP, only one of the other"),
        ("from=%3Cscript%3E&to=%3Cscript%3E", "is not an IP address"),
        ("from=10.0.0.1&to=shop/web&interface=none0", "this node has no interface none0"),
        ("from=127.0.0.1&to=shop/web&interface=eth0", "does not apply to packets from 127.0.0.1"),
    ] {
        let response = page(&status, &format!("/explain?{query}"));
        let body = text_of(&response);
        assert_eq!(response.status, 400, "{query}");
        assert!(body.contains(error) && !body.contains("<script>"), "{query}: {body}");
        assert!(explained(query)["error"].as_str().unwrap().contains(error), "{query}");
    }
}

/// Information that comes from objects and not from rules, as in `rulegen explain`.
#[test]
fn explain_page_uses_objects_for_reasons_and_names() {
    let status = cluster();
    let two = json!({"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]});
    put(&status, service("shop", "two", "10.96.0.15", &two));
    status.known.store.write().changes();
    let explained = |query: &str| data(&status, &format!("/explain?{query}"));
    let text = |of: &Value| of["remarks"].to_string();
    let bare = explained("from=10.244.1.9&to=other/bare");
    assert!(text(&bare).contains("other/bare:http has no EndpointSlice: the client gets an ICMP"));
    let endpoint = explained("from=10.244.1.9&to=10.244.2.1:8080");
    assert_eq!(endpoint["remarks"][0]["code"], "direct-to-endpoint", "{endpoint}");
    let error = |query: &str| explained(query)["error"].as_str().unwrap().to_owned();
    let several = "Service shop/two has several ports at its IPv4 cluster IP; \
                   it has http 80/tcp, https 443/tcp: name one, as in shop/two:80/tcp";
    assert_eq!(error("from=10.244.1.9&to=shop/two"), several);
    assert!(error("from=10.244.1.9&to=shop/two:81").contains("has no such port"));
    let second = explained("from=10.244.1.9&to=shop/two:https");
    assert_eq!(second["packet"]["to"], "10.96.0.15:443");
    let names_interface = |query: &str| {
        let html = html(&status, &format!("/explain?from=10.244.1.9&to=shop/web{query}"));
        html.contains("in through lo")
    };
    assert!(names_interface("&interface=lo") && !names_interface(""));
}

/// A long commit locks the store only for reading.
#[test]
fn pages_are_served_while_a_commit_reads_the_store() {
    let status = cluster();
    let store = status.known.store.clone();
    let _commit = store.read();
    let other = status.clone();
    let thread = std::thread::spawn(move || {
        ["/", "/services", "/services/shop/web", "/drift"].map(|path| page(&other, path).status)
    });
    assert_eq!(thread.join().unwrap(), [200; 4]);
}

#[test]
fn metrics_port_still_serves_healthz_and_proxy_mode() {
    let about = about();
    let status = cluster();
    let router: Router = crate::http::metrics_port(
        about.clone(),
        {
            let build = crate::metrics::Build::default();
            Arc::new(
                crate::metrics::Metrics::new(ProxyMode::Nftables, &IpFamily::BOTH, &build).unwrap(),
            )
        },
        status.health.clone(),
        status.into_router(),
    );
    assert_eq!(text_of(&ask(&router, "/healthz")), "ok");
    assert_eq!(text_of(&ask(&router, "/proxyMode")), "nftables");
    assert!(text_of(&ask(&router, "/")).starts_with("<!DOCTYPE html>"));
}
