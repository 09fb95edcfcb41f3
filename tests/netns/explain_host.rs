//! `explain --live` and what else than rules decides on a node: neighbours, the reverse-path filter,
//! interfaces, the way of replies, and programs at sockets.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::{root, stderr, stdout};
use crate::explain::{AttachedProgram, apply, one_endpoint, only_end};
use crate::running_agent::eventually;
use crate::topology::{ELSEWHERE_IPS, From, POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Proto};

fn end(outcome: &str, cause: &str, conditions: &[&str]) -> (String, Value, Vec<String>) {
    let cause = if cause.is_empty() { Value::Null } else { json!(cause) };
    (outcome.to_owned(), cause, conditions.iter().map(|code| (*code).to_owned()).collect())
}

/// A dead pod, or a next hop that is off, does not answer. The kernel learns it when a packet comes.
#[test]
fn explain_endpoint_that_never_answered_has_a_condition() {
    let lab = Topology::new("explain-dead");
    let file = one_endpoint(&lab, "10.244.1.77");
    lab.node.run("ip route add 10.244.1.77 dev cali2; ip -6 route add fd00:10:244:1::77 dev cali2");
    let service: SocketAddr = "10.96.9.9:80".parse().unwrap();
    let packet = format!("--from 192.168.50.254 --to {service}");
    for mode in ["iptables", "nftables"] {
        let flags = apply(&lab, &file, mode);
        assert_eq!(
            only_end(&lab, &flags, &packet),
            end("endpoint", "", &["no-neighbour"]),
            "{mode}"
        );
        assert_eq!(lab.ask(From::Outside, Proto::Tcp, service), Answer::Silence, "{mode}");
        assert_eq!(
            only_end(&lab, &flags, &packet),
            end("endpoint", "", &["no-neighbour"]),
            "{mode}"
        );
        lab.node.run("ip neigh flush dev cali2; ip neigh del 10.244.1.77 dev cali2 || true");
        lab.node.rulegen("cleanup");
    }
    // Without a Service, the destination itself is the neighbour.
    let flags = apply(&lab, &file, "nftables");
    let applied = lab.node.rulegen(&format!("{flags} --ip-family ipv6 --allow-empty"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    for (from, dead) in [("192.168.50.254", "10.244.1.77"), ("fd00:50::fe", "fd00:10:244:1::77")] {
        let to = SocketAddr::new(dead.parse().unwrap(), POD_PORT);
        let packet = format!("--from {from} --to {to}");
        assert_eq!(only_end(&lab, &flags, &packet), end("passes", "", &["no-neighbour"]), "{dead}");
        assert_eq!(lab.ask(From::Outside, Proto::Tcp, to), Answer::Silence, "{dead}");
        assert_eq!(only_end(&lab, &flags, &packet), end("passes", "", &["no-neighbour"]), "{dead}");
    }
    for (from, pod) in [("192.168.50.254", POD_IPS[1][0]), ("fd00:50::fe", POD_IPS[1][1])] {
        let to = SocketAddr::new(pod.parse().unwrap(), POD_PORT);
        let answers = || matches!(lab.ask(From::Outside, Proto::Tcp, to), Answer::From { .. });
        eventually("the pod answers", answers);
        let packet = format!("--from {from} --to {to}");
        assert_eq!(only_end(&lab, &flags, &packet), end("passes", "", &[]), "{pod}");
    }
}

/// Linux 6.18 calls all packets invalid that the reverse-path filter drops.
#[test]
fn explain_reverse_path_filter_is_told_from_martian_addresses() {
    let lab = Topology::new("explain-rpf");
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let service: SocketAddr = "10.96.9.9:80".parse().unwrap();
    let flags = apply(&lab, &file, "nftables");
    let explained = |from: &str| {
        only_end(&lab, &flags, &format!("--from {from} --to {service} --interface eth0"))
    };
    let answer = || lab.ask(From::OutsideInRange, Proto::Tcp, service);
    eventually("the endpoint answers", || matches!(answer(), Answer::From { .. }));
    assert_eq!(explained("198.18.0.1"), end("endpoint", "", &[]));
    for setting in ["all", "eth0"] {
        for (value, route) in [(1, "via 10.0.9.2"), (1, ""), (2, "")] {
            let kind = if route.is_empty() { "unreachable" } else { "" };
            lab.node.run(&format!(
                "sysctl -qw net.ipv4.conf.{setting}.rp_filter={value}; \
                 ip route add {kind} 198.18.0.0/15 {route}"
            ));
            assert_eq!(answer(), Answer::Silence, "{setting} {value} {route}");
            let wanted = end("dropped", "reverse-path", &[]);
            assert_eq!(explained("198.18.0.1"), wanted, "{setting} {value} {route}");
            lab.node.run(&format!(
                "ip route del {kind} 198.18.0.0/15; sysctl -qw net.ipv4.conf.{setting}.rp_filter=0"
            ));
        }
    }
    lab.node.run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let martian = end("dropped", "martian", &[]);
    assert_eq!(explained("224.1.2.3"), martian);
    lab.node.run(&format!("ip route add blackhole {}", ELSEWHERE_IPS[0]));
    assert_eq!(explained("198.18.0.1"), martian);
    assert_eq!(answer(), Answer::Silence);
}

/// Without a route to the endpoint, no input interface helps.
#[test]
fn explain_from_unknown_interface_evaluates_missing_routes() {
    let lab = Topology::new("explain-missing");
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let flags = apply(&lab, &file, "nftables");
    lab.node.run("ip route add unreachable 203.0.113.0/24");
    let explained = || only_end(&lab, &flags, "--from 203.0.113.9 --to 10.96.9.9:80");
    assert_eq!(explained(), end("endpoint", "", &["unknown-interface"]));
    lab.node.run(&format!("ip route add unreachable {}", ELSEWHERE_IPS[0]));
    assert_eq!(explained(), end("unreachable", "no-route", &["unknown-interface"]));
}

#[test]
fn explain_interface_is_that_of_the_bridge_and_must_exist() {
    let lab = Topology::new("explain-input");
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let flags = apply(&lab, &file, "nftables");
    let service = "10.96.9.9:80".parse().unwrap();
    for from in [From::BridgedPod, From::Outside] {
        let answers = || matches!(lab.ask(from, Proto::Tcp, service), Answer::From { .. });
        eventually("the endpoint answers", answers);
    }
    let run = |packet: &str| {
        lab.node.rulegen(&format!("explain --live {flags} --to 10.96.9.9:80 {packet} -o json"))
    };
    let explained = |packet: &str| -> Value {
        let output = run(packet);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let bridged = explained(&format!("--from {} --interface veth3", POD_IPS[2][0]));
    assert_eq!(bridged["packet"]["sender"], json!({"interface": "cni0"}));
    assert_eq!(bridged["remarks"][0]["code"], "port-of-master");
    assert_eq!(bridged["ends"][0]["conditions"], Value::Null, "{bridged:#}");

    lab.node.run("ip link add off0 type veth peer name off1");
    let down = explained("--from 192.168.50.254 --interface off0");
    assert_eq!(down["ends"][0]["outcome"], "dropped");
    assert_eq!(down["ends"][0]["cause"]["code"], "interface-down");
    lab.node.run("ip link set off0 up");
    let down = explained("--from 192.168.50.254 --interface off0");
    assert_eq!(down["ends"][0]["cause"]["code"], "no-carrier");

    for (packet, message) in [
        ("--from 192.168.50.254 --interface none0", "this node has no interface none0"),
        ("--from 192.168.50.1 --interface eth0", "does not apply to packets from 192.168.50.1"),
    ] {
        let output = run(packet);
        assert_eq!(output.status.code(), Some(2), "{packet}");
        assert!(stderr(&output).contains(message), "{packet}: {}", stderr(&output));
    }

    // The reply leaves where the route to the client leads.
    let explained = explained("--from 192.168.50.254 --interface cali1");
    let conditions = &explained["ends"][0]["conditions"];
    assert_eq!(conditions[0]["code"], "asymmetric-route", "{explained:#}");
    assert_eq!(conditions[1], Value::Null, "{explained:#}");
}

/// Programs at a cgroup see connect(2) before any rule does.
#[test]
fn explain_socket_program_of_root_cgroup_is_a_condition() {
    let lab = Topology::new("explain-cgroup");
    let bpf = lab.node.folder("bpf").join("bpf").to_str().unwrap().to_owned();
    let source = root().join("tests/netns/bpf.c");
    lab.node.run(&format!("cc -o {bpf} {}", source.display()));
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let flags = apply(&lab, &file, "nftables");
    let service: SocketAddr = "10.96.9.9:80".parse().unwrap();
    let answers = || matches!(lab.ask(From::Node, Proto::Tcp, service), Answer::From { .. });
    eventually("the endpoint answers", answers);
    let packet = format!("--from 192.168.50.1 --to {service}");
    assert_eq!(only_end(&lab, &flags, &packet), end("endpoint", "", &[]));

    // In a cgroup namespace a cgroup of the test is the root.
    let folder = lab.node.folder("cgroups").to_str().unwrap().to_owned();
    let cgroup = format!("{folder}/{}", lab.node.name);
    let inside = |command: &str| {
        lab.node.shell(&format!(
            "mount -t cgroup2 none {folder} && mkdir -p {cgroup} && echo $$ > {cgroup}/cgroup.procs && \
             unshare -C sh -c 'umount {folder}; mount -t cgroup2 none {folder} && {command}'"
        ))
    };
    let connect = format!("bash -c \"exec 3<>/dev/tcp/{}/{}\"", service.ip(), service.port());
    let explain =
        format!("{} explain --live {flags} {packet} -o json", env!("CARGO_BIN_EXE_rulegen"));
    let codes = || {
        let output = inside(&explain);
        assert!(output.status.success(), "{}", stderr(&output));
        let explained: Value = serde_json::from_str(&stdout(&output)).unwrap();
        explained["ends"][0]["conditions"][0]["code"].clone()
    };
    assert!(inside(&connect).status.success(), "{}", stderr(&inside(&connect)));
    assert_eq!(codes(), Value::Null);
    let script = format!("mount -t cgroup2 none {folder} && exec {bpf} connect4 {cgroup}");
    let attach = lab.node.file("attach", &format!("#!/bin/sh\n{script}\n"));
    let attached = AttachedProgram::new(&lab.node, "sh", [&attach, ""]);
    assert!(!inside(&connect).status.success());
    assert_eq!(codes(), "socket-programs");
    drop(attached);

    // The program of a pod's cgroup sees only the packets of that pod.
    let pod = format!("{cgroup}/kubepods.slice/pod1");
    let script =
        format!("mount -t cgroup2 none {folder} && mkdir -p {pod} && exec {bpf} connect4 {pod}");
    let attach = lab.node.file("attach-pod", &format!("#!/bin/sh\n{script}\n"));
    let attached = AttachedProgram::new(&lab.node, "sh", [&attach, ""]);
    assert!(inside(&connect).status.success());
    assert_eq!(codes(), "socket-programs");
    drop(attached);
    assert_eq!(codes(), Value::Null);
    let rmdir = format!("rmdir {pod} {cgroup}/kubepods.slice {cgroup}");
    let _ = lab.node.shell(&format!("mount -t cgroup2 none {folder} && {rmdir}"));
}

/// IPv6 does not forward packets with a link-local source. A route of type local has no address of
/// this host, and its packets are received (AnyIP).
#[test]
fn explain_link_local_source_reaches_addresses_of_local_routes_only() {
    let lab = Topology::new("explain-anyip");
    let file = one_endpoint(&lab, ELSEWHERE_IPS[0]);
    let flags = apply(&lab, &file, "nftables");
    let applied = lab.node.rulegen(&format!("{flags} --ip-family ipv6 --allow-empty"));
    assert!(applied.status.success(), "{}", stderr(&applied));
    lab.node.run("ip -6 route add local 2001:db8:a::/64 dev lo");
    for (to, wanted) in [
        ("[2001:db8:a::5]:80", end("passes", "", &[])),
        ("[fd00:10:244:1::5]:80", end("unreachable", "no-route", &[])),
    ] {
        let packet = format!("--from fe80::1 --to {to} --interface eth0");
        assert_eq!(only_end(&lab, &flags, &packet), wanted, "{to}");
    }
}
