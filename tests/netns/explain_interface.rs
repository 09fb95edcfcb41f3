//! `explain --live` finds the input interface as the kernel does: by the route back to the source.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{root, stderr, stdout};
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto, ask};

/// Records the input interface of each source.
const RECORD: &str = "nft 'table inet seen { \
    set v4 { type ipv4_addr . ifname; flags dynamic; size 1024; }; \
    set v6 { type ipv6_addr . ifname; flags dynamic; size 1024; }; \
    chain c { type filter hook prerouting priority raw; \
        update @v4 { ip saddr . iifname }; update @v6 { ip6 saddr . iifname }; }; }'";

/// A second link between client and node. The node uses it for replies from its address there, and
/// for a network of the client; both are in tables of policy routing.
fn connect_again(lab: &Topology) {
    lab.veth("eth2", &lab.client, "eth1");
    lab.node.run(
        "ip addr add 172.30.0.1/24 dev eth2; ip addr add fd00:30::1/64 dev eth2 nodad; \
         ip route add default via 172.30.0.254 table 100; ip rule add from 172.30.0.1 lookup 100; \
         ip route add default via 172.30.0.254 table 101; ip rule add to 198.51.100.0/24 lookup 101; \
         ip -6 route add default via fd00:30::fe table 100; ip -6 rule add from fd00:30::1 lookup 100; \
         ip -6 route add default via fd00:30::fe table 101; \
         ip -6 rule add to 2001:db8:7::/64 lookup 101",
    );
    lab.client.run(
        "ip addr add 172.30.0.254/24 dev eth1; ip addr add fd00:30::fe/64 dev eth1 nodad; \
         ip addr add 198.51.100.7/32 dev lo; ip addr add 2001:db8:7::7/128 dev lo nodad; \
         ip route add default via 172.30.0.1 table 7; ip rule add from 198.51.100.7 lookup 7; \
         ip -6 route add default via fd00:30::1 table 7; ip -6 rule add from 2001:db8:7::7 lookup 7",
    );
    // A packet from another interface's address waits for a neighbour request from the link-local
    // address, which the kernel does not use for the first second.
    let deadline = Instant::now() + Duration::from_secs(30);
    for (source, to) in [("172.30.0.254", "172.30.0.1:9"), ("fd00:30::fe", "[fd00:30::1]:9")] {
        let (source, to) = (source.parse().unwrap(), to.parse().unwrap());
        while ask(&lab.client, Proto::Udp, source, to) == Answer::Silence {
            assert!(Instant::now() < deadline, "{source} does not reach {to}");
        }
    }
}

#[test]
fn explain_live_input_interface_is_that_of_packets() {
    let lab = Topology::new("explain-interface");
    lab.apply("--proxy-mode nftables --cluster-cidr 10.244.0.0/16,fd00:10:244::/48");
    connect_again(&lab);
    lab.node.run(RECORD);
    let to = |text: &str| text.parse::<SocketAddr>().unwrap();
    let services = [to("10.96.0.10:80"), to("[fd00:96::10]:80")];
    let mut packets: Vec<(From, IpAddr, SocketAddr)> = Vec::new();
    for from in From::ALL {
        packets.extend(services.map(|to| (from, lab.source(from, to).1, to)));
    }
    for (source, to) in [
        // The reply comes from the node's address, for which there is a rule.
        ("198.18.0.1", to("172.30.0.1:30010")),
        ("2001:db8:9::1", to("[fd00:30::1]:30010")),
        // There is a rule for the client's network.
        ("198.51.100.7", services[0]),
        ("2001:db8:7::7", services[1]),
    ] {
        packets.push((From::Outside, source.parse().unwrap(), to));
    }
    for (from, source, to) in packets {
        lab.node.run("nft flush set inet seen v4; nft flush set inet seen v6");
        ask(lab.source(from, to).0, Proto::Udp, source, to);
        let expected = match from {
            From::Node => json!("thisNode"),
            _ => json!({"interface": recorded(&lab, source)}),
        };
        assert_eq!(sender(&lab, source, to), expected, "{source} to {to}");
    }
}

/// The input interface of the packets from a source since the last flush.
fn recorded(lab: &Topology, source: IpAddr) -> String {
    let set = if source.is_ipv4() { "v4" } else { "v6" };
    let elements = lab.node.run(&format!("nft list set inet seen {set}"));
    let mark = format!("{source} . \"");
    let behind: Vec<&str> = elements.split(mark.as_str()).skip(1).collect();
    let [behind] = behind.as_slice() else { panic!("{source}: {elements}") };
    behind.split('"').next().unwrap().to_owned()
}

fn sender(lab: &Topology, source: IpAddr, to: SocketAddr) -> Value {
    explained(lab, source, to)["packet"]["sender"].clone()
}

fn explained(lab: &Topology, source: IpAddr, to: SocketAddr) -> Value {
    let cluster = root().join("tests/netns/cluster.yaml");
    let output = lab.node.rulegen(&format!(
        "explain --live -f {} --hostname-override node-1 --from {source} --to {to} -o json",
        cluster.display()
    ));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Without a single route back, packets may come in anywhere.
#[test]
fn explain_live_input_interface_is_unknown_without_single_route() {
    let lab = Topology::new("explain-interfaces");
    lab.apply("--proxy-mode nftables --cluster-cidr 10.244.0.0/16,fd00:10:244::/48");
    connect_again(&lab);
    lab.node.run(
        "ip route add unreachable 203.0.113.0/24; \
         ip route add 192.0.2.0/24 nexthop via 192.168.50.254 nexthop via 172.30.0.254; \
         ip route add 192.0.3.0/24 nexthop via 192.168.50.254 nexthop via 192.168.50.253; \
         ip -6 route add 2001:db8:2::/64 nexthop via fd00:50::fe nexthop via fd00:30::fe",
    );
    let to = ["10.96.0.10:80", "[fd00:96::10]:80"].map(|to| to.parse::<SocketAddr>().unwrap());
    for source in ["203.0.113.9", "192.0.2.9", "2001:db8:2::9"] {
        let source: IpAddr = source.parse().unwrap();
        let explained = explained(&lab, source, to[usize::from(source.is_ipv6())]);
        assert_eq!(explained["packet"]["sender"], "unknownInterface", "{source}");
        for end in explained["ends"].as_array().unwrap() {
            assert_eq!(end["outcome"], "endpoint", "{source}: {end:#}");
            assert_eq!(end["conditions"][0]["code"], "unknown-interface", "{source}: {end:#}");
        }
    }
    // No interface forwards packets of a link-local address.
    let link_local = explained(&lab, "fe80::9".parse().unwrap(), to[1]);
    assert_eq!(link_local["packet"]["sender"], "unknownInterface");
    for end in link_local["ends"].as_array().unwrap() {
        assert_eq!(end["outcome"], "unreachable", "{end:#}");
        assert_eq!(end["cause"]["code"], "no-route", "{end:#}");
    }
    let same = sender(&lab, "192.0.3.9".parse().unwrap(), to[0]);
    assert_eq!(same, json!({"interface": "eth0"}), "both next hops are behind eth0");
    // A route of type local: a process of this host may use the address.
    lab.node.run("ip route add local 192.0.4.0/24 dev lo");
    assert_eq!(sender(&lab, "192.0.4.9".parse().unwrap(), to[0]), "thisNode");
}
