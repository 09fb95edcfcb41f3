//! `explain` predicts what becomes of a packet that the rules of Services refuse, with chains of
//! other programs in front of the refusal, behind it, and on the way of the ICMP error.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::common::{root, stderr, stdout};
use crate::namespace::Namespace;
use crate::topology::{POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Proto, ask};

const FROM: &str = "192.168.50.1";
const NODE_PORT: &str = "172.20.0.1:30002";
const CLUSTER_IP: &str = "10.96.9.9:80";

/// A chain of another program, its rule, and whether an explanation without a condition is expected.
const CHAINS: [(&str, &str, bool); 15] = [
    ("output priority -160", "udp dport { 80, 30002 } drop", true),
    ("output priority 10", "udp dport { 80, 30002 } drop", true),
    ("postrouting priority 10", "udp dport { 80, 30002 } drop", true),
    ("prerouting priority -160", "udp dport { 80, 30002 } drop", true),
    ("prerouting priority 10", "iifname lo ip daddr 172.20.0.1 ct state new drop", true),
    ("input priority -90", "ip saddr 192.168.50.1 udp dport { 80, 30002 } drop", true),
    ("input priority -90", "udp dport { 80, 30002 } reject", true),
    ("input priority 10", "udp dport { 80, 30002 } drop", true),
    ("forward priority -90", "drop", true),
    ("output priority 10", "ip protocol icmp drop", false),
    ("postrouting priority 10", "ip protocol icmp drop", false),
    ("prerouting priority -160", "ip protocol icmp drop", false),
    ("input priority 10", "ip protocol icmp drop", false),
    ("input priority 10", "ct state related accept; ip protocol icmp drop", true),
    ("input priority 10", "ct state != { new, related } drop", true),
];

#[test]
fn explain_refused_packet_of_node_matches_packets_iptables() {
    check("iptables");
}

#[test]
fn explain_refused_packet_of_node_matches_packets_nftables() {
    check("nftables");
}

/// A Service without endpoints: its cluster IP is refused at output, its node port in iptables mode
/// at input only.
fn check(mode: &str) {
    let node = Namespace::new(&format!("refusals-{mode}"));
    node.run(
        "ip link add eth0 type veth peer name peer; ip link set eth0 up; ip link set peer up; ip addr add 192.168.50.1/24 dev eth0; \
         ip addr add 172.20.0.1/24 dev eth0; ip route add default via 192.168.50.254; \
         sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_ratemask=0 \
         net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=100000",
    );
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "empty"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.9.9",
            "ports": [{"port": 80, "nodePort": 30002, "protocol": "UDP"}]}});
    let file = node.file("empty.json", &service.to_string());
    let flags = format!(
        "-f {file} --proxy-mode {mode} --nodeport-addresses 0.0.0.0/0 --hostname-override n"
    );
    let applied = node.rulegen(&format!("apply {flags} --ip-family ipv4"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    let mut wrong = Vec::new();
    for (to, (chain, rules, is_certain)) in
        [NODE_PORT, CLUSTER_IP].iter().flat_map(|to| CHAINS.map(|chain| (*to, chain)))
    {
        let rules = rules.replace("; ", "\n");
        let table = format!(
            "table inet others {{ chain c {{ type filter hook {chain}; policy accept;\n{rules}\n}}\n}}\n"
        );
        node.run(&format!("nft -f {}", node.file("others.nft", &table)));
        let explained =
            node.rulegen(&format!("explain --live {flags} --from {FROM} --to {to}/udp -o json"));
        assert!(explained.status.success(), "{}", stderr(&explained));
        let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
        let answer = ask(&node, Proto::Udp, FROM.parse().unwrap(), to.parse().unwrap());
        let end = &explained["ends"][0];
        let predicted = match end["outcome"].as_str().unwrap() {
            _ if !end["conditions"].is_null() => None,
            "rejected" => Some(Answer::Refused),
            "dropped" => Some(Answer::Silence),
            other => panic!("{other}: {end:#}"),
        };
        if predicted != is_certain.then_some(answer) {
            wrong.push(format!("{to}, {chain}: {rules}: {answer:?}, explained as {end:#}"));
        }
        node.run("nft delete table inet others");
    }
    assert!(wrong.is_empty(), "{mode}:\n{}", wrong.join("\n"));
}

/// IPv6 does not forward packets from link-local addresses (ip6_forward()). The client gets an error.
#[test]
fn explain_packet_from_link_local_address_matches_packets() {
    let lab = Topology::new("link-local");
    let client = lab.client.run("ip -6 -o addr show dev eth0 scope link");
    let client: Ipv6Addr = client
        .split([' ', '/'])
        .find_map(|word| word.parse().ok())
        .expect("the client has no link-local address");
    let pod = POD_IPS[0][1];
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "six"},
            "spec": {"clusterIP": "fd00:96::9", "ipFamilies": ["IPv6"],
                "ports": [{"port": 80, "targetPort": POD_PORT}]}},
        {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "six-1", "labels": {"kubernetes.io/service-name": "six"}},
            "addressType": "IPv6", "ports": [{"port": POD_PORT}],
            "endpoints": [{"addresses": [pod]}]},
    ]});
    let file = lab.node.file("six.json", &objects.to_string());
    for mode in ["iptables", "nftables"] {
        let flags = format!("-f {file} --proxy-mode {mode} --hostname-override n");
        let applied = lab.node.rulegen(&format!("apply {flags} --ip-family ipv6"));
        assert!(applied.status.success(), "{}", stderr(&applied));
        let error = lab.client.inside(|| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddrV6::new(client, 0, 0, eth0()).into()).unwrap();
            let to: SocketAddr = "[fd00:96::9]:80".parse().unwrap();
            socket.connect_timeout(&to.into(), Duration::from_secs(10)).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{mode}: {error}");
        let explained = lab.node.rulegen(&format!(
            "explain --live {flags} --interface eth0 --from {client} --to [fd00:96::9]:80/tcp -o json"
        ));
        assert!(explained.status.success(), "{}", stderr(&explained));
        let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
        let end = &explained["ends"][0];
        assert_eq!(end["outcome"], "unreachable", "{mode}: {end:#}");
        assert_eq!(end["conditions"], Value::Null, "{mode}: {end:#}");
        lab.node.rulegen("cleanup");
    }
}

/// The index of eth0 in the namespace of this thread.
fn eth0() -> u32 {
    nix::net::if_::if_nametoindex("eth0").unwrap()
}

/// Rules of iptables-legacy that no installed program can read may do anything.
#[test]
fn explain_unreadable_iptables_rules_are_a_condition() {
    let node = Namespace::new("unreadable");
    node.run(
        "sysctl -qw net.ipv4.ip_forward=1; ip addr add 192.168.1.10/24 dev lo; \
         ip link add pods type veth peer name pod; ip link set pods up; ip link set pod up; \
         ip route add 10.244.0.0/16 dev pods; \
         ip neigh add 10.244.1.5 dev pods lladdr 02:00:00:00:00:01 nud permanent",
    );
    let example = root().join("examples/nodeport.yaml");
    let flags = format!(
        "-f {} --hostname-override node-1 --cluster-cidr 10.244.0.0/16 --proxy-mode nftables",
        example.display()
    );
    let applied = node.rulegen(&format!("apply {flags} --ip-family ipv4"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    let program = env!("CARGO_BIN_EXE_rulegen");
    let conditions = || {
        let output = node.shell(&format!(
            "PATH=/nonexistent {program} explain --live {flags} --from 10.244.1.20 --to 10.96.0.10:80 -o json"
        ));
        assert!(output.status.success(), "{}", stderr(&output));
        let explained: Value = serde_json::from_str(&stdout(&output)).unwrap();
        explained["ends"][0]["conditions"].clone()
    };
    assert_eq!(conditions(), Value::Null, "there are no such rules");
    node.run("iptables-legacy -t filter -S");
    let conditions = conditions();
    assert_eq!(conditions[0]["code"], "other-table", "{conditions:#}");
    let text = conditions[0]["text"].as_str().unwrap();
    assert!(
        text.starts_with(
            "table ip filter of iptables-legacy changes or does something that is not understood"
        ),
        "{text}"
    );
}
