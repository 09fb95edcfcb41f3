//! The packets in docs/how-a-packet-travels.md: a node with the rules of an example, a client, the
//! pods, and the packets that the node sees of one connection.
//!
//! `UPDATE_GOLDEN=1` writes the current packets. Review the change before you commit it.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{difference, root, stderr};
use crate::namespace::Namespace;

/// A request on the page.
struct DocumentedRequest {
    /// Marks the block of the request on the page.
    mark: &'static str,
    example: &'static str,
    from: &'static str,
    to: &'static str,
    /// The endpoint that the documented request goes to.
    endpoint: &'static str,
}

const REQUESTS: [DocumentedRequest; 2] = [
    DocumentedRequest {
        mark: "nodeport",
        example: "nodeport",
        from: "192.168.1.100",
        to: "192.168.1.10:30080",
        endpoint: "10.244.2.6:8080",
    },
    DocumentedRequest {
        mark: "clusterip",
        example: "clusterip",
        from: "10.244.1.4",
        to: "10.96.0.20:80",
        endpoint: "10.244.2.8:8080",
    },
];

#[test]
fn documentation_of_packet_paths_matches_captured_packets() {
    let page = root().join("docs/how-a-packet-travels.md");
    let wanted = fs::read_to_string(&page).unwrap();
    for mode in ["nftables", "iptables"] {
        let mut found = wanted.clone();
        for request in &REQUESTS {
            let seen = DocumentedNetwork::new(request, mode).packets(request);
            found = with_block(&found, request.mark, &seen);
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&page, &found).unwrap();
        } else {
            assert!(wanted == found, "{mode}:\n{}", difference(&wanted, &found));
        }
    }
}

/// Replaces the block after a mark of the page.
fn with_block(page: &str, mark: &str, block: &str) -> String {
    let begin = format!("<!-- packets: {mark} -->\n```text\n");
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    format!("{before}{begin}{block}```{after}")
}

/// Node-1 with a pod, node-2 with all other pods, and a client, on one network.
struct DocumentedNetwork {
    node: Namespace,
    pod: Namespace,
    client: Namespace,
    /// Keeps these namespaces until this is dropped.
    _others: [Namespace; 2],
}

const NODE: &str = "192.168.1.10";
const POD: &str = "10.244.1.4";
/// The endpoints of both examples. Those of node-1, except the pod's own, are on node-2 too.
const ENDPOINTS: [&str; 7] = [
    "10.244.1.5",
    "10.244.1.6",
    "10.244.2.6",
    "10.244.2.8",
    "10.244.2.9",
    "10.244.3.7",
    "10.244.3.10",
];

impl DocumentedNetwork {
    fn new(request: &DocumentedRequest, mode: &str) -> Self {
        let space = |role: &str| Namespace::new(&format!("{}-{mode}-{role}", request.mark));
        let switch = space("switch");
        let (node, pod, client, elsewhere) =
            (space("node"), space("pod"), space("client"), space("elsewhere"));
        switch.run("ip link add lan type bridge; ip link set lan up");
        for (port, namespace, ip) in [
            ("port1", &node, NODE),
            ("port2", &elsewhere, "192.168.1.11"),
            ("port3", &client, "192.168.1.100"),
        ] {
            switch.run(&format!(
                "ip link add {port} type veth peer name eth0 netns {}; ip link set {port} master lan up",
                namespace.name
            ));
            namespace.run(&format!("ip addr add {ip}/24 dev eth0; ip link set eth0 up"));
        }
        node.run(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0; \
             ip link add pod0 type veth peer name eth0 netns {}; ip link set pod0 up; \
             ip addr add 10.244.1.1/32 dev pod0; ip route add {POD}/32 dev pod0; \
             ip route add 10.244.0.0/16 via 192.168.1.11",
            pod.name
        ));
        pod.run(&format!(
            "ip addr add {POD}/32 dev eth0; ip link set eth0 up; \
             ip route add 10.244.1.1 dev eth0; ip route add default via 10.244.1.1"
        ));
        elsewhere.run(&format!("ip route add {POD}/32 via {NODE}"));
        for ip in ENDPOINTS {
            elsewhere.run(&format!("ip addr replace {ip}/32 dev lo"));
        }
        serve(&elsewhere);
        let example = root().join("examples").join(request.example);
        let output = node.rulegen(&format!(
            "-f {0}.yaml $(cat {0}.flags) --proxy-mode {mode} --ip-family ipv4",
            example.display()
        ));
        assert!(output.status.success(), "{}", stderr(&output));
        Self { node, pod, client, _others: [switch, elsewhere] }
    }

    /// The packets that the node sees: the first one to the endpoint and its reply, each coming in
    /// and leaving.
    fn packets(&self, request: &DocumentedRequest) -> String {
        let sniffer = self.node.inside(sniffer);
        let sender = if request.from == POD { &self.pod } else { &self.client };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let port = sender.next_port();
            let from = format!("{}:{port}", request.from).parse().unwrap();
            sender.inside(|| ask(from, request.to.parse().unwrap()));
            let seen = seen(&self.node, &sniffer, port);
            if seen.iter().any(|packet| packet.to.to_string() == request.endpoint) {
                return format_packets(&seen, port, request);
            }
        }
        panic!("no connection went to {}", request.endpoint);
    }
}

fn serve(namespace: &Namespace) {
    let listener = namespace.inside(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    thread::spawn(move || while listener.accept().is_ok() {});
}

/// Opens one connection. The server closes it.
fn ask(from: SocketAddr, to: SocketAddr) {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), Duration::from_secs(5)).unwrap();
    socket.read_to_end(&mut Vec::new()).unwrap();
}

/// A TCP SYN or SYN-ACK.
#[derive(Debug, Clone)]
struct Packet {
    interface: String,
    is_leaving: bool,
    from: SocketAddrV4,
    to: SocketAddrV4,
    is_answer: bool,
}

/// A socket that receives all packets on all interfaces of the current namespace (packet(7)).
fn sniffer() -> OwnedFd {
    socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)
        .unwrap()
}

/// The first packets of the connection from this port of the client: SYN and SYN-ACK, each coming
/// in and leaving.
fn seen(node: &Namespace, sniffer: &OwnedFd, port: u16) -> Vec<Packet> {
    let mut all: Vec<Packet> = Vec::new();
    let mut buffer = [0; 256];
    while let Ok((length, Some(address))) = recvfrom::<LinkAddr>(sniffer.as_raw_fd(), &mut buffer) {
        all.extend(parse(node, &buffer[..length], &address));
    }
    let begin = all.iter().position(|packet| packet.from.port() == port && !packet.is_answer);
    all.into_iter().skip(begin.unwrap_or(usize::MAX)).take(4).collect()
}

fn parse(node: &Namespace, bytes: &[u8], address: &LinkAddr) -> Option<Packet> {
    const OUTGOING: u8 = 4;
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let header = usize::from(bytes.first()? & 15) * 4;
    let flags = *bytes.get(header + 13)?;
    if bytes[0] >> 4 != 4 || bytes[9] != TCP || flags & SYN == 0 {
        return None;
    }
    let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([bytes[header + at], bytes[header + at + 1]]);
    let name = |index: usize| node.inside(move || if_indextoname(u32::try_from(index).unwrap()));
    Some(Packet {
        interface: name(address.ifindex()).unwrap().into_string().unwrap(),
        is_leaving: address.pkttype() == OUTGOING,
        from: SocketAddrV4::new(ip(12), port(0)),
        to: SocketAddrV4::new(ip(16), port(2)),
        is_answer: flags & ACK != 0,
    })
}

/// One line per packet. The client's port is always shown as 40000, and a port chosen by
/// masquerading as "any".
fn format_packets(seen: &[Packet], port: u16, request: &DocumentedRequest) -> String {
    let shown = |address: SocketAddrV4| {
        let is_masqueraded_port =
            address.ip().to_string() == NODE && address.to_string() != request.to;
        match address.port() {
            own if own == port => format!("{}:40000", address.ip()),
            _ if is_masqueraded_port => format!("{}:any", address.ip()),
            _ => address.to_string(),
        }
    };
    let lines = seen.iter().map(|packet| {
        let what = if packet.is_answer { "the answer" } else { "the request" };
        let direction = if packet.is_leaving { "leaves through" } else { "comes in through" };
        let place = format!("{what} {direction} {}", packet.interface);
        format!("{place:<34} {:>20} → {}\n", shown(packet.from), shown(packet.to))
    });
    assert_eq!(seen.len(), 4, "{}: {seen:?}", request.mark);
    lines.collect()
}
