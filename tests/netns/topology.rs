//! A node with pods, another node's pods and a client outside, each in a namespace.
//!
//! ```text
//! client 192.168.50.254 ── eth0 192.168.50.1 ┐      ┌ cali1 ── pod 10.244.1.5
//!        198.18.0.1             172.20.0.1   │ node │ cali2 ── pod 10.244.1.6
//! other node's pods 10.244.2.6 ─ eth1 ───────┘      └ cni0 ─── pod 10.244.1.133
//! ```
//!
//! The IPv6 side has the same shape: fd00:50::/64, fd00:10:244:1::/64, fd00:10:244:2::/64.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::common::{root, stderr};
use crate::namespace::Namespace;
use crate::traffic::{Answer, Proto, ask, ask_within, serve};

/// The pods' first port.
pub(crate) const POD_PORT: u16 = 8080;
/// The pods' second port.
pub(crate) const OTHER_POD_PORT: u16 = 8081;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// A pod of this node, 10.244.1.5.
    Pod,
    /// A pod of this node behind the bridge, 10.244.1.133.
    BridgedPod,
    /// A pod of another node, 10.244.2.6.
    PodElsewhere,
    /// The node itself.
    Node,
    /// Outside, 192.168.50.254.
    Outside,
    /// Outside, 198.18.0.1.
    OutsideInRange,
}

impl From {
    pub(crate) const ALL: [From; 6] = [
        From::Pod,
        From::BridgedPod,
        From::PodElsewhere,
        From::Node,
        From::Outside,
        From::OutsideInRange,
    ];
}

pub(crate) struct Topology {
    pub(crate) node: Namespace,
    pub(crate) client: Namespace,
    pub(crate) elsewhere: Namespace,
    pub(crate) pods: [Namespace; 3],
}

pub(crate) const POD_IPS: [[&str; 2]; 3] = [
    ["10.244.1.5", "fd00:10:244:1::5"],
    ["10.244.1.6", "fd00:10:244:1::6"],
    ["10.244.1.133", "fd00:10:244:1::133"],
];
pub(crate) const ELSEWHERE_IPS: [&str; 2] = ["10.244.2.6", "fd00:10:244:2::6"];

impl Topology {
    pub(crate) fn new(label: &str) -> Self {
        let space = |role: &str| Namespace::new(&format!("{label}-{role}"));
        let lab = Self {
            node: space("node"),
            client: space("client"),
            elsewhere: space("elsewhere"),
            pods: [space("pod1"), space("pod2"), space("pod3")],
        };
        lab.node.run(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
             net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
             net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.all.send_redirects=0 \
             net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=100000 \
             net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratemask=0,3-127",
        );
        lab.connect_client();
        lab.connect_elsewhere();
        lab.connect_pods();
        for (namespace, addresses) in lab.servers() {
            for ip in addresses {
                serve(namespace, SocketAddr::new(ip.parse().unwrap(), POD_PORT));
                serve(namespace, SocketAddr::new(ip.parse().unwrap(), OTHER_POD_PORT));
            }
        }
        lab.wait_until_connected();
        lab
    }

    /// Waits until all clients reach a pod. Links and bridges need time to come up.
    fn wait_until_connected(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        for from in From::ALL {
            for ip in ELSEWHERE_IPS.into_iter().chain(POD_IPS[1]) {
                let to = SocketAddr::new(ip.parse().unwrap(), POD_PORT);
                while self.ask(from, Proto::Udp, to) == Answer::Silence {
                    assert!(Instant::now() < deadline, "{from:?} does not reach {to}");
                }
            }
        }
    }

    /// The namespaces and addresses of all servers.
    pub(crate) fn servers(&self) -> [(&Namespace, [&str; 2]); 3] {
        [(&self.pods[0], POD_IPS[0]), (&self.pods[1], POD_IPS[1]), (&self.elsewhere, ELSEWHERE_IPS)]
    }

    /// Applies the lab's cluster.
    pub(crate) fn apply(&self, flags: &str) {
        let cluster = root().join("tests/netns/cluster.yaml");
        let output = self
            .node
            .rulegen(&format!("-f {} --hostname-override node-1 {flags}", cluster.display()));
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Sends one request over TCP or UDP.
    pub(crate) fn ask(&self, from: From, proto: Proto, to: SocketAddr) -> Answer {
        let (namespace, source) = self.source(from, to);
        ask(namespace, proto, source, to)
    }

    /// Like [`Topology::ask`], with a longer timeout for a busy machine. A connection whose first
    /// packet met no rules still fails: its conntrack entry has no translation.
    pub(crate) fn ask_with_long_timeout(&self, from: From, proto: Proto, to: SocketAddr) -> Answer {
        let (namespace, source) = self.source(from, to);
        ask_within(Duration::from_secs(10), namespace, proto, source, to)
    }

    /// The namespace and address that a request comes from.
    pub(crate) fn source(&self, from: From, to: SocketAddr) -> (&Namespace, IpAddr) {
        let family = usize::from(to.is_ipv6());
        let (namespace, ips) = match from {
            From::Pod => (&self.pods[0], POD_IPS[0]),
            From::BridgedPod => (&self.pods[2], POD_IPS[2]),
            From::PodElsewhere => (&self.elsewhere, ELSEWHERE_IPS),
            From::Node => {
                (&self.node, if to.ip().is_loopback() { ["127.0.0.1", "::1"] } else { NODE_IPS })
            }
            From::Outside => (&self.client, ["192.168.50.254", "fd00:50::fe"]),
            From::OutsideInRange => (&self.client, ["198.18.0.1", "2001:db8:9::1"]),
        };
        (namespace, ips[family].parse().unwrap())
    }

    /// Whether an address belongs to the node.
    pub(crate) fn is_node_address(&self, ip: IpAddr) -> bool {
        self.node.run("ip -o addr").split([' ', '/']).any(|word| word.parse() == Ok(ip))
    }

    fn connect_client(&self) {
        self.veth("eth0", &self.client, "eth0");
        self.node.run(
            "ip addr add 192.168.50.1/24 dev eth0; ip addr add 172.20.0.1/24 dev eth0; \
             ip addr add fd00:50::1/64 dev eth0 nodad; \
             ip route add default via 192.168.50.254; ip -6 route add default via fd00:50::fe",
        );
        self.client.run(
            "ip addr add 192.168.50.254/24 dev eth0; ip addr add fd00:50::fe/64 dev eth0 nodad; \
             ip addr add 198.18.0.1/32 dev lo; ip addr add 2001:db8:9::1/128 dev lo nodad; \
             ip route add default via 192.168.50.1; ip -6 route add default via fd00:50::1",
        );
    }

    fn connect_elsewhere(&self) {
        self.veth("eth1", &self.elsewhere, "eth0");
        self.node.run(
            "ip addr add 10.0.9.1/24 dev eth1; ip addr add fd00:9::1/64 dev eth1 nodad; \
             ip route add 10.244.2.0/24 via 10.0.9.2; ip -6 route add fd00:10:244:2::/64 via fd00:9::2",
        );
        let [v4, v6] = ELSEWHERE_IPS;
        self.elsewhere.run(&format!(
            "ip addr add 10.0.9.2/24 dev eth0; ip addr add fd00:9::2/64 dev eth0 nodad; \
             ip addr add {v4}/32 dev lo; ip addr add {v6}/128 dev lo nodad; \
             ip route add default via 10.0.9.1; ip -6 route add default via fd00:9::1"
        ));
    }

    fn connect_pods(&self) {
        self.node.run("ip link add cni0 type bridge; ip link set cni0 up");
        let devices = [("cali1", "cali1"), ("cali2", "cali2"), ("veth3", "cni0")];
        for ((pod, [v4, v6]), (link, device)) in self.pods.iter().zip(POD_IPS).zip(devices) {
            self.veth(link, pod, "eth0");
            if link != device {
                self.node.run(&format!("ip link set {link} master {device}"));
            }
            self.node.run(&format!(
                "ip addr add 10.244.1.1/32 dev {device}; ip addr add fd00:10:244:1::1/128 dev {device} nodad; \
                 ip route add {v4}/32 dev {device}; ip -6 route add {v6}/128 dev {device}"
            ));
            pod.run(&format!(
                "ip addr add {v4}/32 dev eth0; ip addr add {v6}/128 dev eth0 nodad; \
                 ip route add 10.244.1.1 dev eth0; ip route add default via 10.244.1.1; \
                 ip -6 route add fd00:10:244:1::1 dev eth0; ip -6 route add default via fd00:10:244:1::1"
            ));
        }
    }

    /// A veth pair from the node to another namespace.
    pub(crate) fn veth(&self, here: &str, other: &Namespace, there: &str) {
        let name = &other.name;
        self.node.run(&format!(
            "ip link add {here} type veth peer name {there} netns {name}; ip link set {here} up"
        ));
        other.run(&format!("ip link set {there} up"));
    }
}

const NODE_IPS: [&str; 2] = ["192.168.50.1", "fd00:50::1"];
