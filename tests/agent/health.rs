//! Health endpoints, metrics of requests, and Events.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::api_server::{Failure, Kind, Verb};
use crate::node::{HEALTH_PORT, METRICS_PORT, Node, wait_until};
use crate::objects::{ELSEWHERE, HERE, NODE, NODE_IP, local_load_balancer, node, service, slice};

/// The statuses of /livez, /healthz and /readyz.
fn probes(node: &Node) -> [u16; 3] {
    ["/livez", "/healthz", "/readyz"].map(|path| node.probe(path))
}

#[test]
fn health_port_reports_startup_readiness_and_deleted_or_tainted_node() {
    let mut node_of_tests = Node::new("probed");
    // The Node is listed, but not all Services are.
    node_of_tests.server.fail_next(2, Kind::Service, Some(Verb::List), Failure::Code(503));
    node_of_tests.start("");
    let server = node_of_tests.server.clone();
    wait_until("the node is known", || probes(&node_of_tests) == [200, 200, 503]);
    let readiness = node_of_tests.get(HEALTH_PORT, "/readyz").unwrap().json();
    let missing = ["initial list not complete", "first sync of IPv4", "first sync of IPv6"];
    assert_eq!(readiness["missing"], json!(missing), "{readiness}");
    assert_eq!(readiness["sourceInSync"], false);
    let health = node_of_tests.get(HEALTH_PORT, "/healthz").unwrap().json();
    let never = json!({"lastUpdated": "0001-01-01T00:00:00Z", "healthy": true});
    assert_eq!(health["status"], json!({"IPv4": never, "IPv6": never}));

    node_of_tests.settle();
    wait_until("the rules are in place", || probes(&node_of_tests) == [200; 3]);
    let answer = node_of_tests.get(HEALTH_PORT, "/healthz").unwrap();
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let health = answer.json();
    assert_eq!((&health["nodeEligible"], &health["healthy"]), (&true.into(), &true.into()));
    assert_eq!(health["lastUpdated"], health["currentTime"]);
    let live = node_of_tests.get(HEALTH_PORT, "/livez").unwrap().json();
    assert_eq!((&live["nodeEligible"], &live["healthy"]), (&json!(null), &true.into()));

    let mut tainted = node();
    let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"});
    tainted["spec"]["taints"] = json!([taint]);
    server.apply(tainted);
    wait_until("the node is not eligible", || probes(&node_of_tests) == [200, 503, 200]);
    let health = node_of_tests.get(HEALTH_PORT, "/healthz").unwrap().json();
    assert_eq!((&health["nodeEligible"], &health["healthy"]), (&false.into(), &true.into()));
    server.apply(node());
    wait_until("the node is eligible again", || probes(&node_of_tests) == [200; 3]);

    let mut deleted = node();
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    server.apply(deleted);
    wait_until("the node is being deleted", || probes(&node_of_tests) == [200, 503, 200]);
    let before = node_of_tests.generation();
    server.delete(Kind::Node, "", NODE);
    server.apply(node());
    wait_until("a new node of that name exists", || probes(&node_of_tests) == [200; 3]);
    server.delete(Kind::Node, "", NODE);
    wait_until("the node is deleted", || probes(&node_of_tests) == [200, 503, 200]);
    assert_eq!(node_of_tests.generation(), before, "the rules were changed");
    for path in ["/", "/nothing"] {
        assert_eq!(node_of_tests.probe(path), 404);
    }
}

#[test]
fn health_check_node_port_reports_local_endpoints() {
    const PORT: u16 = 31_020;
    let node = Node::in_sync("checked");
    node.server.apply_many([
        local_load_balancer("local", 20, PORT),
        slice("local", "a", &[HERE[0], HERE[1], ELSEWHERE]),
    ]);
    wait_until("the health-check port answers", || {
        node.get_at_node_port(PORT, "/").is_some_and(|answer| answer.status == 200)
    });
    let answer = node.get_at_node_port(PORT, "/").unwrap();
    assert!(answer.head.contains("x-load-balancing-endpoint-weight: 2"), "{}", answer.head);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert!(node.get(PORT, "/").is_none(), "it listens at an address without node ports");
    assert_eq!(
        answer.body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"local\"\n\t},\n\
         \t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
    );

    node.server.apply(slice("local", "a", &[ELSEWHERE]));
    wait_until("no local endpoint", || {
        node.get_at_node_port(PORT, "/").is_some_and(|answer| answer.status == 503)
    });
    let answer = node.get_at_node_port(PORT, "/").unwrap();
    assert!(answer.head.contains("x-load-balancing-endpoint-weight: 0"), "{}", answer.head);
    assert_eq!(answer.json()["localEndpoints"], 0);

    node.server.apply(local_load_balancer("local", 20, PORT + 1));
    wait_until("the port changes", || {
        node.get_at_node_port(PORT, "/").is_none() && node.get_at_node_port(PORT + 1, "/").is_some()
    });
    node.server.delete(Kind::Service, "default", "local");
    wait_until("the port is closed", || node.get_at_node_port(PORT + 1, "/").is_none());
}

/// As kube-proxy: at the addresses of node ports. By default these are the Node's primary addresses in
/// nftables mode, and all addresses in iptables mode. A family without one has all addresses. A Service
/// has listeners for its own families only.
#[test]
fn health_check_node_port_listens_where_node_ports_are_open() {
    const FOUR: u16 = 31_020;
    const DUAL: u16 = 31_021;
    for (label, flags, four, dual) in [
        ("primary", "", vec!["192.168.50.1"], vec!["192.168.50.1", "[::]"]),
        ("primaries", "", vec!["192.168.50.1"], vec!["192.168.50.1", "[fd00:50::1]"]),
        (
            "networks",
            "--nodeport-addresses 192.168.51.0/24,fd00:51::/64",
            vec!["192.168.51.1"],
            vec!["192.168.51.1", "[fd00:51::1]"],
        ),
        (
            "network",
            "--nodeport-addresses 192.168.51.0/24",
            vec!["192.168.51.1"],
            vec!["192.168.51.1", "[::]"],
        ),
        ("all", "--nodeport-addresses 0.0.0.0/0", vec!["0.0.0.0"], vec!["0.0.0.0", "[::]"]),
        ("iptables", "--proxy-mode iptables", vec!["0.0.0.0"], vec!["0.0.0.0", "[::]"]),
        (
            "iptables-primary",
            "--proxy-mode iptables --nodeport-addresses primary",
            vec!["192.168.50.1"],
            vec!["192.168.50.1", "[::]"],
        ),
    ] {
        let mut node = Node::new(&format!("hc-{label}"));
        node.space.run(
            "ip addr add 192.168.51.1/24 dev eth0; ip addr add fd00:51::1/64 dev eth0 nodad; \
             ip addr add fd00:50::1/64 dev eth0 nodad",
        );
        if label == "primaries" {
            let mut dual_stack = crate::objects::node();
            let addresses = dual_stack["status"]["addresses"].as_array_mut().unwrap();
            addresses.push(json!({"type": "InternalIP", "address": "fd00:50::1"}));
            node.server.apply(dual_stack);
        }
        let mut both = local_load_balancer("dual", 21, DUAL);
        both["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        both["spec"]["clusterIPs"] = json!([both["spec"]["clusterIP"], "fd00:96::21"]);
        both["spec"]["ports"][0]["nodePort"] = 30_081.into();
        both["status"] = json!({});
        node.server.apply_many([local_load_balancer("four", 20, FOUR), both]);
        node.start(flags);
        let listeners = |port: u16| {
            let listed = node.space.run(&format!("ss -Hltn 'sport = :{port}'"));
            let local = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
            let mut at: Vec<String> = local
                .filter_map(|socket| Some(socket.strip_suffix(&format!(":{port}"))?.to_owned()))
                .collect();
            at.sort();
            at
        };
        wait_until(&format!("{label}: the ports are open"), || {
            listeners(FOUR) == four && listeners(DUAL) == dual
        });
    }
}

/// With client-go's names and labels, which kubernetes-mixin's dashboard for kube-proxy queries.
#[test]
fn requests_to_the_api_server_are_counted_as_by_client_go() {
    let node = Node::in_sync_by_pages("requests");
    let host = node.server.address().to_string();
    let failures = 3;
    node.server.fail_next(failures, Kind::Service, None, Failure::Code(503));
    node.server.disconnect_all();
    node.wait_for_watches();
    wait_until("an Event is posted", || !node.server.events().is_empty());
    node.server.refuse_connections(true);
    wait_until("a request fails", || node.logged("API server unreachable") > 0);
    let text = node.get(METRICS_PORT, "/metrics").unwrap().body;
    let value = |sample: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{sample} ")));
        line.unwrap_or_else(|| panic!("{sample} is not in {text}")).parse().unwrap()
    };
    let requests = |code, method| {
        value(&format!(
            "rest_client_requests_total{{code=\"{code}\",host=\"{host}\",method=\"{method}\"}}"
        ))
    };
    // One list and watch per kind, and later watches.
    assert!(requests("200", "GET") >= 11.0, "{text}");
    assert_eq!(requests("503", "GET"), failures as f64);
    assert_eq!(requests("201", "POST"), 1.0);
    assert!(requests("<error>", "GET") >= 1.0);
    for verb in ["GET", "POST"] {
        let count = |name| value(&format!("{name}_count{{host=\"{host}\",verb=\"{verb}\"}}"));
        assert!(count("rest_client_request_duration_seconds") >= 1.0);
        assert!(count("rest_client_response_size_bytes") >= 1.0);
        assert!(count("rest_client_rate_limiter_duration_seconds") >= 1.0);
    }
    assert_eq!(
        value(&format!("rest_client_request_size_bytes_count{{host=\"{host}\",verb=\"POST\"}}")),
        1.0
    );
    let sent = format!("rest_client_request_size_bytes_sum{{host=\"{host}\",verb=\"POST\"}}");
    assert!(value(&sent) > 100.0, "the size of the Event");
    let received = format!("rest_client_response_size_bytes_sum{{host=\"{host}\",verb=\"GET\"}}");
    assert!(value(&received) > 400.0, "the size of the lists: {}", value(&received));
}

/// A Service may have an address of the node. It is reported if a process listens there.
#[test]
fn event_and_log_for_listener_whose_node_address_a_service_takes() {
    let mut node = Node::new("shadows");
    let taken = |node: &Node| {
        let events = node.server.events().into_iter();
        let notes = events.filter(|event| event["reason"] == "NodeAddressTaken").map(|event| {
            let about = &event["regarding"];
            assert_eq!((&about["kind"], &event["type"]), (&json!("Service"), &json!("Warning")));
            format!("{}: {}", about["name"].as_str().unwrap(), event["note"].as_str().unwrap())
        });
        notes.collect::<Vec<_>>()
    };
    let at = format!("{NODE_IP}:22");
    let _sshd = node.space.inside(|| TcpListener::bind(&at).unwrap());
    node.start("");
    node.settle();
    let mut shell = service("shell", 60);
    shell["spec"]["externalIPs"] = json!([NODE_IP, "192.0.2.10"]);
    shell["spec"]["ports"][0]["port"] = json!(22);
    node.server.apply(shell.clone());
    node.settle();
    wait_until("an Event is posted", || !taken(&node).is_empty());
    let [event] = &taken(&node)[..] else { panic!("expected one Event") };
    assert!(event.starts_with(&format!("shell: {at} (tcp, spec.externalIPs) is an address of")));
    assert!(event.contains(&format!("listens at {at}")), "{event}");
    let logged = "Service address conflicts with a listening process on this node";
    node.assert_logged(logged, 1);
    // Another conflict is reported, the first one not again.
    let mut other = service("other", 61);
    other["spec"]["externalIPs"] = json!([NODE_IP]);
    other["spec"]["ports"][0]["port"] = json!(22);
    node.server.apply(other);
    node.settle();
    wait_until("another Event is posted", || taken(&node).len() == 2);
    node.assert_logged(logged, 2);
    // Without the node's addresses there is no conflict.
    node.stop(Signal::SIGTERM);
    node.start("--refuse-node-addresses");
    wait_until("the exclusion is logged", || node.logged("--refuse-node-addresses excludes") == 2);
    let key = format!("{NODE_IP} . tcp . 22");
    wait_until("the rules no longer have it", || !node.rules().contains(&key));
    assert!(node.rules().contains("192.0.2.10"));
    node.assert_logged(logged, 2);
}

#[test]
fn event_of_the_node_is_sent_at_start() {
    let node = Node::in_sync("event");
    wait_until("an Event is posted", || !node.server.events().is_empty());
    let event = node.server.events().remove(0);
    assert_eq!((&event["reason"], &event["type"]), (&json!("Starting"), &json!("Normal")));
    let about = &event["regarding"];
    assert_eq!((&about["kind"], &about["name"]), (&json!("Node"), &json!(NODE)), "{event}");
    assert_eq!(event["reportingController"], "rulegen");
}
