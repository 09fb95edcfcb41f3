//! Table tests: which flows are stale.
//!
//! The Service is at 10.96.0.10:53, 192.0.2.7:53 and 203.0.113.7:53 and has node port 30053. The
//! node is 192.168.50.1 and 172.20.0.1.

use std::num::NonZeroU16;

use rulegen_model::{Endpoint, Hint, LoadBalancing, TrafficPolicy};
use rulegen_net::ServicePortName;

use super::*;

const READY: &str = "10.244.1.5:5353";
const TERMINATING: &str = "10.244.1.6:5353";
const UNREADY: &str = "10.244.1.7:5353";
const FINISHED: &str = "10.244.1.8:5353";
const REMOVED: &str = "10.244.1.9:5353";

const CLUSTER_IP: &str = "10.96.0.10:53";
const EXTERNAL_IP: &str = "192.0.2.7:53";
const LOAD_BALANCER_IP: &str = "203.0.113.7:53";
const NODE_PORT: &str = "192.168.50.1:30053";
const OTHER_NODE_PORT: &str = "172.20.0.1:30053";
const LOOPBACK_NODE_PORT: &str = "127.0.0.1:30053";
const FOREIGN_HOST: &str = "198.51.100.1:30053";
const FRONTENDS: [&str; 4] = [CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER_IP, NODE_PORT];

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Endpoint {
    Endpoint {
        address: at(address),
        local: false,
        has_node: true,
        ready,
        serving,
        terminating,
        zone_hint: Hint::Absent,
        node_hint: Hint::Absent,
    }
}

/// One endpoint per combination of conditions.
fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(READY, true, true, false),
        endpoint(TERMINATING, false, true, true),
        endpoint(UNREADY, false, false, false),
        endpoint(FINISHED, false, false, true),
    ]
}

fn service(protocol: Protocol, endpoints: Vec<Endpoint>) -> ServicePort {
    let name = ServicePortName {
        namespace: "kube-system".into(),
        service: "dns".into(),
        port: "dns".into(),
        protocol,
    };
    ServicePort {
        name,
        cluster_ip: at(CLUSTER_IP).ip(),
        port: 53,
        node_port: NonZeroU16::new(30053),
        external_ips: vec![at(EXTERNAL_IP).ip()],
        load_balancer_ips: vec![at(LOAD_BALANCER_IP).ip()],
        source_ranges: [].into(),
        health_check_node_port: None,
        internal_policy: TrafficPolicy::Local,
        external_policy: TrafficPolicy::Local,
        affinity_seconds: None,
        load_balancing: Some(LoadBalancing::Random),
        ports_of_service: 1,
        endpoints,
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn flow(protocol: Protocol, destination: &str, reply_source: &str) -> Flow {
    Flow {
        protocol,
        source: at("10.244.2.6:40000"),
        destination: at(destination),
        reply_source: at(reply_source),
        reply_destination: at("10.244.2.6:40000"),
        zone: 0,
        id: None,
    }
}

/// The inputs of a [`StaleFlowFilter`], on a node where node ports are open at all local addresses
/// except loopback.
struct FilterFixture {
    ports: Vec<ServicePort>,
    past: History,
    node_ports_at: NodePortsAt,
    resets_removed_tcp: bool,
}

impl FilterFixture {
    fn of(ports: Vec<ServicePort>) -> Self {
        Self {
            ports,
            past: History::Vanished(HashSet::new()),
            node_ports_at: NodePortsAt::AnyLocal { loopback: false },
            resets_removed_tcp: false,
        }
    }

    fn filter(&self) -> StaleFlowFilter {
        let local_addresses = ["192.168.50.1:0", "172.20.0.1:0", "127.0.0.1:0"].map(|a| at(a).ip());
        let service_cidrs: Vec<IpNet> = vec!["10.96.0.0/16".parse().unwrap()];
        let context = Context {
            node_ports_at: &self.node_ports_at,
            local_addresses: &local_addresses,
            service_cidrs: &service_cidrs,
            resets_removed_tcp: self.resets_removed_tcp,
        };
        StaleFlowFilter::new(&self.ports, self.past.clone(), &context)
    }

    #[track_caller]
    fn assert(&self, protocol: Protocol, cases: &[(&str, &str, bool)]) {
        let filter = self.filter();
        for (destination, reply_source, want) in cases {
            let flow = flow(protocol, destination, reply_source);
            assert_eq!(filter.is_stale(&flow), *want, "{protocol:?} {destination} {reply_source}");
        }
    }
}

const DATAGRAMS: [(Protocol, Protocol); 2] =
    [(Protocol::Udp, Protocol::Udp), (Protocol::Sctp, Protocol::Sctp)];

#[test]
fn conntrack_flow_is_kept_for_ready_or_serving_terminating_endpoint_only() {
    for (of, protocol) in DATAGRAMS {
        let bench = FilterFixture::of(vec![service(of, endpoints())]);
        for frontend in FRONTENDS {
            bench.assert(
                protocol,
                &[
                    (frontend, READY, false),
                    (frontend, TERMINATING, false),
                    (frontend, UNREADY, true),
                    (frontend, FINISHED, true),
                    (frontend, REMOVED, true),
                    // Same address, another port.
                    (frontend, "10.244.1.5:53", true),
                    // Older than the Service.
                    (frontend, frontend, true),
                ],
            );
        }
    }
}

#[test]
fn conntrack_flow_to_ready_endpoint_is_kept_even_if_not_serving() {
    let bench =
        FilterFixture::of(vec![service(Protocol::Udp, vec![endpoint(READY, true, false, false)])]);
    bench.assert(Protocol::Udp, &[(CLUSTER_IP, READY, false)]);
}

#[test]
fn conntrack_flow_to_host_network_endpoint_at_node_port_is_kept() {
    let host = endpoint(NODE_PORT, true, true, false);
    let bench = FilterFixture::of(vec![service(Protocol::Udp, vec![host])]);
    bench.assert(Protocol::Udp, &[(NODE_PORT, NODE_PORT, false), (CLUSTER_IP, NODE_PORT, false)]);
}

#[test]
fn conntrack_service_without_endpoints_makes_only_translated_flows_stale() {
    for (of, protocol) in DATAGRAMS {
        for left in [Vec::new(), vec![endpoint(FINISHED, false, false, true)]] {
            let bench = FilterFixture::of(vec![service(of, left)]);
            for frontend in FRONTENDS {
                bench.assert(protocol, &[(frontend, REMOVED, true), (frontend, frontend, false)]);
            }
        }
    }
}

#[test]
fn conntrack_flows_of_other_addresses_and_ports_are_kept() {
    let bench = FilterFixture::of(vec![service(Protocol::Udp, endpoints())]);
    bench.assert(
        Protocol::Udp,
        &[
            // Other ports and addresses, translated by another program or not at all.
            ("10.96.0.10:54", "10.96.0.10:54", false),
            ("10.96.0.10:54", REMOVED, false),
            ("10.96.0.11:53", REMOVED, false),
            ("192.168.50.1:53", REMOVED, false),
            ("10.96.0.10:30053", REMOVED, false),
            (READY, READY, false),
            ("8.8.8.8:53", "8.8.8.8:53", false),
            ("[fd00:10:96::a]:53", "[fd00:10:244:1::9]:5353", false),
        ],
    );
    bench.assert(Protocol::Sctp, &[(CLUSTER_IP, REMOVED, false)]);
    bench.assert(Protocol::Tcp, &[(CLUSTER_IP, REMOVED, false), (CLUSTER_IP, CLUSTER_IP, false)]);
}

#[test]
fn conntrack_node_port_flows_are_stale_only_where_node_ports_are_open() {
    let stale = |node_ports_at: NodePortsAt| {
        let mut bench = FilterFixture::of(vec![service(Protocol::Udp, endpoints())]);
        bench.node_ports_at = node_ports_at;
        let filter = bench.filter();
        [NODE_PORT, OTHER_NODE_PORT, LOOPBACK_NODE_PORT, "127.0.0.2:30053", FOREIGN_HOST].map(
            |destination| {
                let translated = filter.is_stale(&flow(Protocol::Udp, destination, REMOVED));
                let plain = filter.is_stale(&flow(Protocol::Udp, destination, destination));
                assert_eq!(translated, plain, "{destination}");
                translated
            },
        )
    };
    let any = |loopback| NodePortsAt::AnyLocal { loopback };
    assert_eq!(stale(any(false)), [true, true, false, false, false]);
    assert_eq!(stale(any(true)), [true, true, true, true, false]);
    let these = |addresses: &[&str]| {
        NodePortsAt::These(addresses.iter().map(|address| at(address).ip()).collect())
    };
    assert_eq!(stale(these(&[OTHER_NODE_PORT])), [false, true, false, false, false]);
    assert_eq!(stale(these(&[LOOPBACK_NODE_PORT])), [false, false, true, false, false]);
    assert_eq!(stale(these(&[])), [false; 5]);
}

#[test]
fn conntrack_translated_flows_of_removed_frontend_are_stale() {
    for (of, protocol) in DATAGRAMS {
        let mut bench = FilterFixture::of(Vec::new());
        bench.past = History::Vanished(frontends(&service(of, Vec::new())).collect());
        for frontend in FRONTENDS {
            bench.assert(protocol, &[(frontend, READY, true), (frontend, frontend, false)]);
        }
        bench.assert(
            protocol,
            &[
                (FOREIGN_HOST, READY, false),
                (LOOPBACK_NODE_PORT, READY, false),
                ("10.96.0.11:53", READY, false),
            ],
        );
    }
}

#[test]
fn conntrack_flows_of_removed_load_balancer_ip_are_stale_others_kept() {
    let mut bench = FilterFixture::of(vec![ServicePort {
        load_balancer_ips: Vec::new(),
        ..service(Protocol::Udp, endpoints())
    }]);
    let vanished = Frontend::at_ip(at(LOAD_BALANCER_IP).ip(), Protocol::Udp, 53);
    bench.past = History::Vanished(HashSet::from([vanished]));
    bench.assert(Protocol::Udp, &[(LOAD_BALANCER_IP, READY, true), (CLUSTER_IP, READY, false)]);
}

#[test]
fn conntrack_recreated_frontend_is_compared_with_its_current_endpoints() {
    let again = service(Protocol::Udp, endpoints());
    let past = History::Vanished(frontends(&again).collect());
    let bench = FilterFixture { past, ..FilterFixture::of(vec![again]) };
    bench.assert(Protocol::Udp, &[(CLUSTER_IP, READY, false), (CLUSTER_IP, REMOVED, true)]);
}

#[test]
fn conntrack_after_restart_cluster_ips_without_service_count_as_removed() {
    let mut bench = FilterFixture::of(vec![service(Protocol::Udp, endpoints())]);
    bench.past = History::Unknown;
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        bench.assert(
            protocol,
            &[
                ("10.96.0.99:53", READY, true),
                // The Service no longer has this port, or only for another protocol.
                ("10.96.0.10:54", READY, true),
                ("10.96.0.99:53", "10.96.0.99:53", false),
                // Outside of the service CIDRs, other programs translate too.
                ("192.168.50.1:53", READY, false),
                ("203.0.113.99:53", READY, false),
            ],
        );
    }
    bench.assert(Protocol::Udp, &[(CLUSTER_IP, READY, false), (CLUSTER_IP, REMOVED, true)]);
    bench.assert(Protocol::Sctp, &[(CLUSTER_IP, READY, true)]);
    bench.assert(Protocol::Tcp, &[("10.96.0.99:53", READY, false)]);
}

#[test]
fn tcp_reset_is_opt_in_and_only_for_removed_endpoints() {
    let cases = |reset| {
        FRONTENDS.map(|frontend| {
            [
                (frontend, READY, false),
                (frontend, TERMINATING, false),
                (frontend, UNREADY, false),
                (frontend, FINISHED, false),
                (frontend, REMOVED, reset),
                (frontend, frontend, false),
            ]
        })
    };
    let mut bench = FilterFixture::of(vec![service(Protocol::Tcp, endpoints())]);
    bench.assert(Protocol::Tcp, cases(false).as_flattened());
    bench.resets_removed_tcp = true;
    bench.assert(Protocol::Tcp, cases(true).as_flattened());
    bench.assert(Protocol::Udp, &[(CLUSTER_IP, REMOVED, false)]);
    // All endpoints are removed.
    bench.ports = vec![service(Protocol::Tcp, Vec::new())];
    bench.assert(Protocol::Tcp, &[(CLUSTER_IP, REMOVED, true), (CLUSTER_IP, CLUSTER_IP, false)]);
    // The Service is removed.
    bench.past = History::Vanished(bench.ports.iter().flat_map(frontends).collect());
    bench.ports = Vec::new();
    bench.assert(Protocol::Tcp, &[(CLUSTER_IP, REMOVED, false)]);
    bench.past = History::Unknown;
    bench.assert(Protocol::Tcp, &[(CLUSTER_IP, REMOVED, false)]);
}

#[test]
fn conntrack_services_sharing_an_external_ip_keep_flows_of_both() {
    let first = service(Protocol::Udp, vec![endpoint(READY, true, true, false)]);
    let mut second = service(Protocol::Udp, vec![endpoint(UNREADY, true, true, false)]);
    second.cluster_ip = at("10.96.0.11:0").ip();
    for ports in [vec![first.clone(), second.clone()], vec![second, first]] {
        FilterFixture::of(ports).assert(
            Protocol::Udp,
            &[
                (EXTERNAL_IP, READY, false),
                (EXTERNAL_IP, UNREADY, false),
                (EXTERNAL_IP, REMOVED, true),
                (CLUSTER_IP, UNREADY, true),
            ],
        );
    }
}

#[test]
fn conntrack_flow_in_another_zone_is_stale_only_if_translated() {
    let filter = FilterFixture::of(vec![service(Protocol::Udp, endpoints())]).filter();
    let in_zone = |reply_source| Flow { zone: 7, ..flow(Protocol::Udp, CLUSTER_IP, reply_source) };
    assert!(filter.is_stale(&in_zone(REMOVED)));
    assert!(!filter.is_stale(&in_zone(READY)));
    assert!(!filter.is_stale(&in_zone(CLUSTER_IP)));
}

#[test]
fn conntrack_dumps_only_protocols_that_may_have_stale_flows() {
    use Protocol::{Sctp, Tcp, Udp};
    let of = |of| service(of, Vec::new());
    let protocols = |ports: Vec<ServicePort>, past: &History, resets_removed_tcp| {
        FilterFixture { past: past.clone(), resets_removed_tcp, ..FilterFixture::of(ports) }
            .filter()
            .protocols()
    };
    let nothing = History::Vanished(HashSet::new());
    let vanished = |protocol| History::Vanished(frontends(&of(protocol)).collect());
    let (tcp, udp) = (of(Protocol::Tcp), of(Protocol::Udp));
    assert_eq!(protocols(vec![tcp.clone(), udp.clone()], &nothing, false), [Udp]);
    assert_eq!(protocols(vec![tcp.clone(), udp], &nothing, true), [Tcp, Udp]);
    assert_eq!(protocols(vec![tcp], &nothing, false), []);
    assert_eq!(protocols(Vec::new(), &vanished(Protocol::Sctp), false), [Sctp]);
    assert_eq!(protocols(Vec::new(), &vanished(Protocol::Tcp), true), []);
    assert_eq!(protocols(Vec::new(), &History::Unknown, false), [Udp, Sctp]);
}
