//! Flows of real packets: list them, find stale ones, and delete them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rulegen_compiler::NodePortsAt;
use rulegen_compiler::conntrack::{Context, History, StaleFlowFilter, frontends};
use rulegen_kernel::conntrack::Conntrack;
use rulegen_model::{Host, Objects, Snapshot, SnapshotOptions, read_manifest, snapshot};
use rulegen_net::{Frontend, IpFamily, Protocol};
use rulegen_ruleset::Flow;

use crate::common::stderr;
use crate::namespace::Namespace;

/// Addresses of one family: the node, two endpoints on it, and a cluster IP.
struct Addresses {
    family: IpFamily,
    node: IpAddr,
    endpoints: [SocketAddr; 2],
    cluster_ip: SocketAddr,
}

fn addresses() -> [Addresses; 2] {
    [
        ["192.0.2.1", "10.244.1.5:5353", "10.244.1.6:5353", "10.96.0.10:53"],
        ["2001:db8::1", "[fd00:244::5]:5353", "[fd00:244::6]:5353", "[fd00:96::a]:53"],
    ]
    .map(|[node, first, second, cluster_ip]| {
        let node: IpAddr = node.parse().unwrap();
        Addresses {
            family: IpFamily::of(node),
            node,
            endpoints: [first.parse().unwrap(), second.parse().unwrap()],
            cluster_ip: cluster_ip.parse().unwrap(),
        }
    })
}

/// A node whose outgoing packets are dropped.
fn node(label: &str) -> Namespace {
    let namespace = Namespace::new(label);
    // The other end of the veth pair drops the packets, because the MAC address is not its own.
    namespace.run(
        "ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up; \
         ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad; \
         ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0; \
         ip neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev eth0; \
         ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2",
    );
    for endpoint in addresses().iter().flat_map(|of_family| of_family.endpoints) {
        let nodad = if endpoint.is_ipv6() { "nodad" } else { "" };
        namespace.run(&format!("ip addr add {} dev lo {nodad}", endpoint.ip()));
    }
    namespace
}

/// Translates UDP and TCP from the cluster IPs to the first endpoints.
const TRANSLATION: &str = "
    table ip nat {
        chain output {
            type nat hook output priority -100
            ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 53 dnat to 10.244.1.5:5353
        }
    }
    table ip6 nat {
        chain output {
            type nat hook output priority -100
            ip6 daddr fd00:96::a meta l4proto { tcp, udp } th dport 53 dnat to [fd00:244::5]:5353
        }
    }";

fn translating_node(label: &str) -> Namespace {
    let node = node(label);
    let rules = node.file("rules.nft", TRANSLATION);
    node.run(&format!("nft -f {rules}"));
    node
}

pub(crate) fn conntrack(node: &Namespace) -> Conntrack {
    node.inside(|| Conntrack::open().unwrap())
}

pub(crate) fn flows(conntrack: &mut Conntrack, family: IpFamily, protocol: Protocol) -> Vec<Flow> {
    let mut flows = Vec::new();
    conntrack.for_each(family, protocol, |flow| flows.push(flow)).unwrap();
    flows
}

fn udp(node: &Namespace, at: SocketAddr) -> UdpSocket {
    let socket = node.inside(|| UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

#[test]
fn conntrack_flows_are_listed_with_dnat_and_deleted() {
    let node = translating_node("flows");
    let mut conntrack = conntrack(&node);
    for Addresses { family, node: source, endpoints: [endpoint, _], cluster_ip } in addresses() {
        let server = udp(&node, endpoint);
        let listener = node.inside(|| TcpListener::bind(endpoint).unwrap());
        let clients: Vec<UdpSocket> =
            (1..=3).map(|n| udp(&node, SocketAddr::new(source, 40000 + n))).collect();
        for client in &clients {
            client.send_to(b"?", cluster_ip).unwrap();
            server.recv(&mut [0]).unwrap();
        }
        let stream = node.inside(|| TcpStream::connect(cluster_ip).unwrap());
        let _accepted = listener.accept().unwrap();
        let want = |protocol, source| Flow {
            protocol,
            source,
            destination: cluster_ip,
            reply_source: endpoint,
            reply_destination: source,
            zone: 0,
            id: None,
        };
        let tcp = HashSet::from([want(Protocol::Tcp, stream.local_addr().unwrap())]);
        let mut left: HashSet<Flow> =
            clients.iter().map(|it| want(Protocol::Udp, it.local_addr().unwrap())).collect();

        let listed = flows(&mut conntrack, family, Protocol::Udp);
        assert_eq!(without_ids(&listed), left);
        let ids: HashSet<Option<u32>> = listed.iter().map(|flow| flow.id).collect();
        assert!(ids.len() == listed.len() && !ids.contains(&None), "{ids:?}");
        for flow in &listed {
            let later = Flow { id: flow.id.map(|id| id ^ 1), ..*flow };
            assert!(
                !conntrack.delete(&later).unwrap(),
                "a later flow of the same addresses was deleted"
            );
            assert!(conntrack.delete(flow).unwrap());
            assert!(!conntrack.delete(flow).unwrap(), "deleted twice");
            left.remove(&Flow { id: None, ..*flow });
            assert_eq!(without_ids(&flows(&mut conntrack, family, Protocol::Udp)), left);
        }
        assert_eq!(without_ids(&flows(&mut conntrack, family, Protocol::Tcp)), tcp);
        assert_eq!(flows(&mut conntrack, family, Protocol::Sctp), []);
    }
}

fn without_ids(flows: &[Flow]) -> HashSet<Flow> {
    flows.iter().map(|flow| Flow { id: None, ..*flow }).collect()
}

#[test]
fn conntrack_flows_of_other_network_namespaces_are_kept() {
    let (node, other) = (translating_node("own"), translating_node("other"));
    for Addresses { family, node: source, endpoints: [endpoint, _], cluster_ip } in addresses() {
        let _server = udp(&node, endpoint);
        udp(&node, SocketAddr::new(source, 40001)).send_to(b"?", cluster_ip).unwrap();
        let (mut own, mut foreign) = (conntrack(&node), conntrack(&other));
        let listed = flows(&mut own, family, Protocol::Udp);
        assert_eq!(listed.len(), 1);
        assert_eq!(flows(&mut foreign, family, Protocol::Udp), []);
        assert!(!foreign.delete(&Flow { id: None, ..listed[0] }).unwrap());
        assert_eq!(flows(&mut own, family, Protocol::Udp), listed);
    }
}

#[test]
fn conntrack_flow_is_deleted_in_its_zone_only() {
    let node = translating_node("zones");
    let mut conntrack = conntrack(&node);
    for Addresses { family, node: source, endpoints: [endpoint, _], cluster_ip } in addresses() {
        let _server = udp(&node, endpoint);
        let client = udp(&node, SocketAddr::new(source, 40001));
        // A zone for both directions, a zone for the original direction only, and no zone.
        for zone in ["ct zone set 7", "ct original zone set 8", "accept"] {
            let rules = format!(
                "add table inet zones; delete table inet zones; table inet zones {{ \
                 chain output {{ type filter hook output priority -300; {zone}; }}; }}"
            );
            node.run(&format!("nft '{rules}'"));
            client.send_to(b"?", cluster_ip).unwrap();
        }
        for zone in [7, 8, 0] {
            let mut listed = flows(&mut conntrack, family, Protocol::Udp);
            let found = listed.iter().position(|flow| flow.zone == zone);
            let flow = listed.remove(found.unwrap_or_else(|| panic!("{zone}: {listed:?}")));
            assert!(conntrack.delete(&flow).unwrap(), "{zone}");
            let left: HashSet<Flow> =
                flows(&mut conntrack, family, Protocol::Udp).into_iter().collect();
            assert_eq!(left, listed.into_iter().collect(), "{zone}");
        }
    }
}

#[test]
fn conntrack_fifty_thousand_flows_are_all_listed() {
    const FLOWS: u16 = 50_000;
    let node = translating_node("many-flows");
    let mut conntrack = conntrack(&node);
    for (Addresses { family, node: source, .. }, to) in
        addresses().into_iter().zip(["192.0.2.2", "2001:db8::2"])
    {
        let to: IpAddr = to.parse().unwrap();
        let client = udp(&node, SocketAddr::new(source, 40001));
        for port in 1..=FLOWS {
            client.send_to(b"?", SocketAddr::new(to, port)).unwrap();
        }
        let listed = flows(&mut conntrack, family, Protocol::Udp);
        let mut ports: Vec<u16> = listed.iter().map(|flow| flow.destination.port()).collect();
        ports.sort_unstable();
        assert!(ports.into_iter().eq(1..=FLOWS), "{} flows were listed", listed.len());
        assert!(listed.iter().all(|flow| !flow.is_translated()));
        for flow in &listed {
            assert!(conntrack.delete(flow).unwrap());
        }
        assert_eq!(flows(&mut conntrack, family, Protocol::Udp), []);
    }
}

/// A cluster with at most one UDP Service of both families, with the endpoints from this index on.
fn manifest(endpoints: Option<usize>) -> String {
    let mut text = "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: it}, \
                    spec: {cidrs: [10.96.0.0/16, 'fd00:96::/112']}}\n"
        .to_owned();
    let Some(endpoints) = endpoints else { return text };
    text += "---\n{apiVersion: v1, kind: Service, metadata: {name: dns, namespace: it}, \
             spec: {type: NodePort, clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, 'fd00:96::a'], \
             ports: [{protocol: UDP, port: 53, nodePort: 30053}]}}\n";
    for Addresses { family, endpoints: all, .. } in addresses() {
        let endpoints: Vec<String> = all[endpoints..]
            .iter()
            .map(|endpoint| format!("{{addresses: ['{}']}}", endpoint.ip()))
            .collect();
        let (endpoints, word) = (endpoints.join(", "), format!("{family:?}").replace("Ip", "IP"));
        let _ = writeln!(
            text,
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: {word}, \
             metadata: {{name: dns-{}, namespace: it, labels: {{kubernetes.io/service-name: dns}}}}, \
             ports: [{{protocol: UDP, port: 5353}}], endpoints: [{endpoints}]}}",
            word.to_lowercase()
        );
    }
    text
}

/// Applies a cluster, then deletes all flows that became stale. Returns its frontends.
fn apply_and_clean(node: &Namespace, manifest: &str, past: &History) -> HashSet<Frontend> {
    let file = node.file("cluster.yaml", manifest);
    let flags = "--proxy-mode nftables --nodeport-addresses 192.0.2.1/32,2001:db8::1/128";
    let applied = node.rulegen(&format!("-f {file} {flags} --prune --allow-empty"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    let cluster = cluster(manifest);
    let mut conntrack = conntrack(node);
    for (of, of_family) in IpFamily::BOTH.into_iter().zip(addresses()) {
        let context = Context {
            node_ports_at: &NodePortsAt::These(vec![of_family.node]),
            local_addresses: &[],
            service_cidrs: &cluster.service_cidrs,
            resets_removed_tcp: false,
        };
        let filter = StaleFlowFilter::new(cluster.service_ports(of), past.clone(), &context);
        for protocol in filter.protocols() {
            let mut stale = flows(&mut conntrack, of, protocol);
            stale.retain(|flow| filter.is_stale(flow));
            for flow in stale {
                conntrack.delete(&flow).unwrap();
            }
        }
    }
    IpFamily::BOTH
        .into_iter()
        .flat_map(|of| cluster.service_ports(of))
        .flat_map(frontends)
        .collect()
}

fn cluster(manifest: &str) -> Snapshot {
    let mut objects = Objects::default();
    let problems = read_manifest("cluster", manifest.as_bytes(), &mut objects);
    assert!(problems.is_empty(), "{problems:?}");
    let host = Host { name: "node-1".to_owned(), addresses: Vec::new() };
    snapshot(&objects, &SnapshotOptions::default(), &host).0
}

/// Servers at all endpoints of a node, and clients of each frontend that keep their ports, and
/// therefore their flows.
struct FixedPortClients {
    servers: Vec<[UdpSocket; 2]>,
    clients: Vec<UdpSocket>,
    sent_count: u32,
}

impl FixedPortClients {
    fn new(node: &Namespace) -> Self {
        let server = |endpoint| {
            let server = udp(node, endpoint);
            server.set_nonblocking(true).unwrap();
            server
        };
        let client = |source, frontend| {
            let client = udp(node, SocketAddr::new(source, 0));
            client.connect(frontend).unwrap();
            client
        };
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for Addresses { node: ip, endpoints, cluster_ip, .. } in addresses() {
            servers.push(endpoints.map(server));
            clients.extend([cluster_ip, SocketAddr::new(ip, 30053)].map(|to| client(ip, to)));
        }
        Self { servers, clients, sent_count: 0 }
    }

    /// The endpoint that receives each client's packet, or `None` if the packet is rejected.
    fn receivers(&mut self) -> [Option<usize>; 4] {
        [0, 1, 2, 3].map(|client| {
            self.sent_count += 1;
            let payload = self.sent_count.to_ne_bytes();
            let servers = &self.servers[client / 2];
            let client = &self.clients[client];
            // Clears the error of an earlier rejection.
            let _ = client.take_error();
            match client.send(&payload) {
                // Rules dropped the packet on output.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
                sent => drop(sent.unwrap()),
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let mut received = [0; 4];
                let has_received = |server: &UdpSocket| server.recv(&mut received).is_ok();
                if let Some(endpoint) = servers.iter().position(has_received) {
                    assert_eq!(received, payload);
                    return Some(endpoint);
                }
                if client.take_error().unwrap().is_some() {
                    return None;
                }
                assert!(Instant::now() < deadline, "neither received nor rejected: {client:?}");
                thread::yield_now();
            }
        })
    }
}

#[test]
fn udp_clients_follow_service_changes() {
    let node = node("follow");
    let mut fixed_clients = FixedPortClients::new(&node);
    let nothing = || History::Vanished(HashSet::new());

    // The Service does not exist yet. Its node port is an ordinary port.
    apply_and_clean(&node, &manifest(None), &History::Unknown);
    assert_eq!(fixed_clients.receivers(), [None; 4]);

    // Two endpoints, either of which may be chosen. Then only the second.
    let frontends = apply_and_clean(&node, &manifest(Some(0)), &nothing());
    let chosen = fixed_clients.receivers();
    assert!(chosen.iter().all(Option::is_some), "{chosen:?}");
    apply_and_clean(&node, &manifest(Some(0)), &nothing());
    assert_eq!(fixed_clients.receivers(), chosen, "clients keep their endpoints");
    apply_and_clean(&node, &manifest(Some(1)), &nothing());
    assert_eq!(fixed_clients.receivers(), [Some(1); 4]);

    // No endpoint, then the second again.
    apply_and_clean(&node, &manifest(Some(2)), &nothing());
    assert_eq!(fixed_clients.receivers(), [None; 4]);
    apply_and_clean(&node, &manifest(Some(1)), &nothing());
    assert_eq!(fixed_clients.receivers(), [Some(1); 4]);

    // No Service, but the history knows that it existed.
    apply_and_clean(&node, &manifest(None), &History::Vanished(frontends));
    assert_eq!(fixed_clients.receivers(), [None; 4]);
}

#[test]
fn conntrack_stale_flows_are_deleted_after_restart() {
    let node = node("restart");
    let mut fixed_clients = FixedPortClients::new(&node);
    apply_and_clean(&node, &manifest(Some(1)), &History::Unknown);
    assert_eq!(fixed_clients.receivers(), [Some(1); 4]);
    apply_and_clean(&node, &manifest(None), &History::Unknown);
    // The node port's history is lost.
    assert_eq!(fixed_clients.receivers(), [None, Some(1), None, Some(1)]);
}
