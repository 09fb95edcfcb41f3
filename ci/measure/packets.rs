//! The cost of a new connection: a node forwards the first packets of UDP flows, directly to pods or
//! through cluster IPs, all on one CPU.
//!
//! A client writes whole packets to a raw socket, each with a different source. The packet has passed
//! the node when the call returns. The pods' host drops the packets, because the addresses are not
//! its own.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;
use crate::{median, rulegen};

const FLOWS: usize = 20_000;
const SERVICES: usize = 10_000;
const ROUNDS: usize = 15;

pub(crate) fn measure(file: &Path) -> Value {
    let (direct, with_table) = (Node::new(), Node::new());
    // Connection tracking starts with the first rule that needs it.
    direct.node.run(
        "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }; \
         add rule ip t c ct state new counter'",
    );
    let flags = "--proxy-mode nftables --hostname-override node-1 --ip-family ipv4";
    with_table.node.run(&format!("{} -f {} {flags}", rulegen().display(), file.display()));
    let pod = |n: usize| address(128, n);
    let cluster_ip = |n: usize| address(96, n);
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(direct.send(pod, 8080));
        times[1].push(with_table.send(pod, 8080));
        times[2].push(with_table.send(cluster_ip, 80));
        times[3].push(direct.send(|_| Ipv4Addr::new(192, 0, 2, 1), 80));
    }
    let [direct, with_table, cluster_ip, sender] = times.map(|times| median(&times));
    json!({
        "direct_us": direct, "direct_with_table_us": with_table, "cluster_ip_us": cluster_ip,
        "sender_alone_us": sender, "ratio": cluster_ip / direct,
        "ratio_without_sender": (cluster_ip - sender) / (direct - sender),
    })
}

/// An address of Service or pod number n, as in the generated clusters.
fn address(net: usize, n: usize) -> Ipv4Addr {
    let n = n % SERVICES;
    Ipv4Addr::new(10, (net + (n >> 16)) as u8, (n >> 8) as u8, n as u8)
}

/// A node between a client and pods.
struct Node {
    node: Namespace,
    client: Namespace,
    _pods: Namespace,
}

impl Node {
    fn new() -> Self {
        let (node, client, pods) = (Namespace::new(), Namespace::new(), Namespace::new());
        node.run(&format!(
            "sysctl -qw net.ipv4.ip_forward=1; ip link set lo up; \
             ip link add eth0 type veth peer name eth0 netns {}; ip link set eth0 up; \
             ip addr add 172.16.0.1/12 dev eth0; \
             ip link add pods type veth peer name pods netns {}; ip link set pods up arp off; \
             ip route add 10.128.0.0/9 via 169.254.1.1 dev pods onlink",
            client.0, pods.0
        ));
        pods.run("ip link set pods up");
        client.run(
            "ip link set lo up; ip link set eth0 up; ip addr add 172.16.0.2/12 dev eth0; \
             ip route add default via 172.16.0.1; ip route add blackhole 192.0.2.0/24",
        );
        Self { node, client, _pods: pods }
    }

    /// Microseconds per packet, one packet per flow. Flushes conntrack first.
    fn send(&self, to: impl Fn(usize) -> Ipv4Addr + Sync, port: u16) -> f64 {
        self.node.run("conntrack -F 2>/dev/null");
        let before = self.arrived();
        let time = self.client.inside(|| {
            let mut processor = CpuSet::new();
            processor.set(0).unwrap();
            sched_setaffinity(Pid::from_raw(0), &processor).unwrap();
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
            let packets: Vec<(Vec<u8>, socket2::SockAddr)> = (0..FLOWS)
                .map(|n| {
                    let source = Ipv4Addr::new(172, 17, (n >> 13) as u8, 1);
                    let packet = packet(source, 1024 + (n & 8191) as u16, to(n), port);
                    (packet, SocketAddrV4::new(to(n), 0).into())
                })
                .collect();
            let begun = Instant::now();
            for (packet, to) in &packets {
                // The blackhole route refuses each packet, which costs as much as sending.
                let _ = socket.send_to(packet, to);
            }
            begun.elapsed().as_secs_f64() * 1e6 / FLOWS as f64
        });
        let arrived = self.arrived() - before;
        assert!(arrived == 0 || arrived >= FLOWS, "only {arrived} of {FLOWS} packets arrived");
        time
    }

    /// Packets that left the node.
    fn arrived(&self) -> usize {
        // Of the thread, not of the process.
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let counters = self.node.inside(read);
        let line = counters.lines().find(|line| line.trim_start().starts_with("pods:")).unwrap();
        line.split_ascii_whitespace().nth(10).unwrap().parse().unwrap()
    }
}

/// A UDP packet with 1 byte. The kernel fills in the IP checksum. A forwarding node does not check
/// a UDP checksum of zero.
fn packet(source: Ipv4Addr, source_port: u16, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(source_port.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 9, 0, 0, b'x']);
    packet
}

pub(crate) fn print(rows: &[Value]) {
    for row in rows.iter().filter(|row| !row["packets"].is_null()) {
        let of = |name: &str| row["packets"][name].as_f64().unwrap_or(f64::NAN);
        println!("\na new UDP flow, microseconds per packet, {} Services", row["services"]);
        println!("straight to a pod, no table, tracked   {:>6.2}", of("direct_us"));
        println!("straight to a pod, with the table      {:>6.2}", of("direct_with_table_us"));
        println!("through a cluster IP                   {:>6.2}", of("cluster_ip_us"));
        println!("sender alone (blackhole route)         {:>6.2}", of("sender_alone_us"));
        println!(
            "through a cluster IP / straight: {:.2}; without the sender: {:.2}",
            of("ratio"),
            of("ratio_without_sender")
        );
    }
}
