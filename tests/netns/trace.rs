//! `rulegen trace`: its output for real packets, and that it leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::{stderr, stdout};
use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, SOON, cluster_ip, eventually, service};
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

const NFTABLES: &str = "--proxy-mode nftables --cluster-cidr 10.244.0.0/16,fd00:10:244::/48";

/// A running trace. Dropping it sends SIGKILL.
struct Trace {
    child: Child,
    lines: Receiver<String>,
}

impl Trace {
    /// Starts it, and waits until tracing is on.
    fn start(namespace: &Namespace, flags: &str) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, env!("CARGO_BIN_EXE_rulegen"), "trace"])
            .args(flags.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
        let mut first_line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first_line).unwrap();
        assert!(first_line.starts_with("tracing "), "{first_line}");
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("no more output of trace")
    }

    /// The next packet with `-o json`.
    fn packet(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        // `ip netns exec` replaces itself with the program.
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its exit status.
    fn status(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The step with this value in a field.
fn step<'a>(packet: &'a Value, field: &str, value: &str) -> &'a Value {
    let mut steps = packet["steps"].as_array().unwrap().iter();
    steps.find(|step| step[field] == value).unwrap_or_else(|| panic!("no {value}: {packet:#}"))
}

fn endpoint_of(answer: Answer) -> SocketAddr {
    match answer {
        Answer::From { endpoint, .. } => endpoint,
        other => panic!("{other:?}"),
    }
}

fn printed_endpoint(packet: &Value) -> SocketAddr {
    let Value::Object(socket) = &packet["endpoint"] else { panic!("no endpoint: {packet:#}") };
    let ip = socket["address"].as_str().unwrap().parse().unwrap();
    SocketAddr::new(ip, socket["port"].as_u64().unwrap().try_into().unwrap())
}

#[test]
fn trace_reports_service_and_endpoint_of_packet() {
    let lab = Topology::new("trace");
    lab.apply(NFTABLES);
    let trace = Trace::start(&lab.node, "--to lab/cluster -o json");
    for (ip, port, proto, name, from, masqueraded) in [
        ("10.96.0.10", 80, Proto::Tcp, "lab/cluster:tcp", From::BridgedPod, false),
        ("10.96.0.10", 80, Proto::Udp, "lab/cluster:udp", From::BridgedPod, false),
        ("fd00:96::10", 80, Proto::Tcp, "lab/cluster:tcp", From::BridgedPod, false),
        ("fd00:96::10", 80, Proto::Udp, "lab/cluster:udp", From::Outside, true),
        ("10.96.0.10", 80, Proto::Tcp, "lab/cluster:tcp", From::Node, true),
        ("192.168.50.1", 30010, Proto::Tcp, "lab/cluster:tcp", From::Outside, true),
        ("203.0.113.10", 80, Proto::Tcp, "lab/cluster:tcp", From::Outside, true),
    ] {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        let endpoint = endpoint_of(lab.ask(from, proto, to));
        let packet = trace.packet();
        assert_eq!(packet["destination"]["address"], ip, "{packet:#}");
        assert_eq!(packet["destination"]["port"], port, "{packet:#}");
        assert_eq!(packet["source"]["address"], lab.source(from, to).1.to_string());
        assert_eq!(packet["service"], name, "{packet:#}");
        assert_eq!(printed_endpoint(&packet), endpoint, "{packet:#}");
        assert_eq!(packet["end"], "left", "{packet:#}");
        assert_eq!(packet["why"], Value::Null, "{packet:#}");
        assert_eq!(packet["masqueraded"], masqueraded, "{packet:#}");
        assert_eq!(packet["masqueradedBecause"].is_string(), masqueraded, "{packet:#}");
        assert_eq!(packet["newConnection"], true, "{packet:#}");
        assert_eq!(packet["inInterface"].is_null(), from == From::Node, "{packet:#}");
        let lookup = step(&packet, "service", name);
        assert!(lookup["rule"].as_str().unwrap().contains(" vmap @"), "{lookup:#}");
        assert!(lookup["verdict"].as_str().unwrap().starts_with("goto "), "{lookup:#}");
    }
}

#[test]
fn trace_reports_why_packet_is_rejected_or_dropped() {
    let lab = Topology::new("trace-why");
    lab.apply(NFTABLES);
    lab.node.run(
        "nft 'add table inet guard; \
         add chain inet guard wall { type filter hook forward priority 10; }; \
         add rule inet guard wall tcp dport 8081 counter drop comment \"no admin port\"'",
    );
    let to = "--to 10.96.0.0/16 --to 192.168.50.1:30040 --to 198.51.100.80 --to 10.244.2.6";
    let trace = Trace::start(&lab.node, &format!("{to} -o json"));
    for (from, to, end, code) in [
        (From::BridgedPod, "10.96.0.40:80", "rejected", "no-endpoints"),
        (From::Node, "10.96.0.40:80", "rejected", "no-endpoints"),
        (From::Outside, "192.168.50.1:30040", "rejected", "no-endpoints"),
        (From::BridgedPod, "10.96.0.60:80", "dropped", "no-local-endpoints"),
        (From::Outside, "198.51.100.80:80", "dropped", "source-range"),
        (From::BridgedPod, "10.96.0.10:9999", "rejected", "no-such-port"),
        (From::BridgedPod, "10.244.2.6:8081", "dropped", "refused-by-others"),
    ] {
        let (namespace, _) = lab.source(from, socket(to));
        let answer = lab.ask(from, Proto::Tcp, socket(to));
        let packet = trace.packet();
        assert_eq!(packet["end"], end, "{from:?} {to}: {packet:#}");
        assert_eq!(packet["whyCode"], code, "{from:?} {to}: {packet:#}");
        let silent = end == "dropped";
        assert_eq!(answer == Answer::Silence, silent, "{}: {to} {answer:?}", namespace.name);
    }
}

/// Later packets are translated like the first one, and meet no rule that chooses an endpoint.
#[test]
fn trace_every_packet_of_a_connection() {
    let lab = Topology::new("trace-every");
    lab.apply(NFTABLES);
    let trace = Trace::start(&lab.node, "--to lab/cluster:tcp --every-packet -o json");
    let endpoint = endpoint_of(lab.ask(From::BridgedPod, Proto::Tcp, socket("10.96.0.10:80")));
    // Packets are printed in the order in which they end.
    for packet in [trace.packet(), trace.packet(), trace.packet()] {
        assert_eq!(packet["newConnection"], packet["packet"] == 1, "{packet:#}");
        assert_eq!(packet["end"], "left", "{packet:#}");
        assert_eq!(packet["service"], "lab/cluster:tcp", "{packet:#}");
        assert_eq!(printed_endpoint(&packet), endpoint, "{packet:#}");
    }
}

/// A foreign rule without a verdict is a step too. A packet without a route is lost.
#[test]
fn trace_reports_foreign_rules_and_missing_route() {
    let lab = Topology::new("trace-others");
    lab.apply(NFTABLES);
    lab.node.run(
        "nft 'add table inet guard; \
         add chain inet guard wall { type filter hook forward priority 10; }; \
         add rule inet guard wall udp dport 8080 counter comment \"seen\"'; ip route add blackhole 203.0.113.77/32",
    );
    let trace = Trace::start(&lab.node, "--to 10.96.0.10:80/udp --to 203.0.113.77 -o json");
    endpoint_of(lab.ask(From::BridgedPod, Proto::Udp, socket("10.96.0.10:80")));
    let packet = trace.packet();
    let rule = step(&packet, "comment", "seen");
    assert_eq!(
        (&rule["family"], &rule["table"], &rule["chain"]),
        (&Value::from("inet"), &Value::from("guard"), &Value::from("wall"))
    );
    assert_eq!(rule["hook"], "forward");
    assert!(rule["rule"].as_str().unwrap().contains("[ counter ]"), "{rule:#}");
    lab.ask(From::BridgedPod, Proto::Udp, socket("203.0.113.77:80"));
    let packet = trace.packet();
    assert_eq!(packet["end"], "lost", "{packet:#}");
    assert_eq!(packet["whyCode"], "no-further-event", "{packet:#}");
    assert_eq!(packet["service"], Value::Null, "{packet:#}");
}

/// A packet that the host sends to itself comes in again as another packet.
#[test]
fn trace_follows_packet_through_loopback() {
    let node = Namespace::new("trace-loopback");
    node.run(
        "ip link add there type veth peer name here; ip link set there up; ip link set here up; \
         ip addr add 10.0.0.1/24 dev here; \
         ip route add default via 10.0.0.2",
    );
    let listener = node.inside(|| TcpListener::bind("10.0.0.1:8080").unwrap());
    let manifest = node.file("s.yaml", &service(1, &["10.0.0.1"]));
    assert!(node.rulegen(&format!("-f {manifest} {NFTABLES}")).status.success());
    let mut trace = Trace::start(&node, "--to default/s1:80 -o json --count 1");
    let stream = node.inside(|| TcpStream::connect(cluster_ip(1)).unwrap());
    drop((stream, listener));
    let packet = trace.packet();
    assert_eq!(packet["end"], "delivered", "{packet:#}");
    assert_eq!(packet["service"], "default/s1", "{packet:#}");
    assert_eq!(printed_endpoint(&packet), socket("10.0.0.1:8080"), "{packet:#}");
    assert_eq!(packet["inInterface"], Value::Null, "{packet:#}");
    assert_eq!(step(&packet, "hook", "input")["chain"], "filter-input");
    assert_eq!(trace.status(), Some(0));
}

#[test]
fn trace_text_output_has_steps_and_endpoint() {
    let lab = Topology::new("trace-text");
    lab.apply(NFTABLES);
    let trace = Trace::start(&lab.node, "--to lab/cluster:tcp --from 10.244.1.133");
    let endpoint = endpoint_of(lab.ask(From::BridgedPod, Proto::Tcp, socket("10.96.0.10:80")));
    let mut lines = vec![trace.line()];
    assert!(
        lines[0].starts_with("1 ")
            && lines[0].ends_with("→ 10.96.0.10:80/tcp (lab/cluster:tcp) in cni0"),
        "{lines:?}"
    );
    while lines.last().unwrap().starts_with("1   ") || lines.len() == 1 {
        lines.push(trace.line());
    }
    let text = lines.join("\n");
    let lookup = "services: ip daddr . meta l4proto . th dport vmap @services → goto cluster-ip-2 \
                  for lab/cluster:tcp";
    for part in [
        lookup.to_owned(),
        "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2".to_owned(),
        format!("new destination {endpoint}"),
    ] {
        assert!(text.contains(&part), "no {part:?} in\n{text}");
    }
    let end = format!("to {endpoint}, an endpoint of lab/cluster:tcp");
    assert!(lines.last().unwrap().contains(&end), "{text}");
    // The packet of another client is filtered out, so the next printed packet is the second one
    // here.
    lab.ask(From::Outside, Proto::Tcp, socket("10.96.0.10:80"));
    lab.ask(From::BridgedPod, Proto::Tcp, socket("10.96.0.10:80"));
    assert!(trace.line().contains(" 10.244.1.133:"), "a packet of another client");
}

#[test]
fn trace_removes_its_table_on_every_kind_of_exit() {
    let lab = Topology::new("trace-end");
    lab.apply(NFTABLES);
    let ruleset = || lab.node.run("nft -a list ruleset");
    let before = ruleset();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let mut trace = Trace::start(&lab.node, "--to lab/cluster --from 10.244.1.133");
        endpoint_of(lab.ask(From::BridgedPod, Proto::Tcp, socket("10.96.0.10:80")));
        trace.line();
        assert!(lab.node.run("nft list tables").contains("rulegen-trace-"), "{signal}");
        trace.signal(signal);
        assert_eq!(trace.status(), (signal != Signal::SIGKILL).then_some(0), "{signal}");
        eventually("the ruleset is unchanged", || ruleset() == before);
    }
    // It ends after a number of packets, after a time, and when its output is closed.
    let mut trace = Trace::start(&lab.node, "--to lab/cluster --count 2 -o json");
    for turn in 1..=3 {
        lab.ask(From::BridgedPod, Proto::Udp, socket("10.96.0.10:80"));
        if turn <= 2 {
            assert_eq!(trace.packet()["packet"], turn);
        }
    }
    assert_eq!(trace.status(), Some(0));
    assert_eq!(ruleset(), before);
    assert_eq!(Trace::start(&lab.node, "--to lab/cluster --for 200ms").status(), Some(0));
    assert_eq!(ruleset(), before);
    let program = env!("CARGO_BIN_EXE_rulegen");
    // It notices the closed output even if it sees no packet.
    let start = Instant::now();
    lab.node.run(&format!("timeout 60 {program} trace --to 10.244.1.1 2>/dev/null | :"));
    assert!(start.elapsed() < SOON, "trace did not notice the closed output");
    assert_eq!(ruleset(), before);
    // NET_ADMIN is the only capability that it needs.
    let only = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
    lab.node.run(&format!("{only} {program} trace --to lab/cluster --for 100ms"));
}

/// Two traces at the same time have their own tables, and each prints its own packets.
#[test]
fn trace_twice_at_once_reports_own_packets() {
    let lab = Topology::new("trace-two");
    lab.apply(NFTABLES);
    let tcp = Trace::start(&lab.node, "--to lab/cluster:tcp -o json");
    let udp = Trace::start(&lab.node, "--to lab/cluster:udp -o json");
    lab.ask(From::BridgedPod, Proto::Udp, socket("10.96.0.10:80"));
    lab.ask(From::BridgedPod, Proto::Tcp, socket("10.96.0.10:80"));
    lab.ask(From::BridgedPod, Proto::Udp, socket("10.96.0.10:80"));
    assert_eq!(tcp.packet()["protocol"], "tcp");
    assert_eq!(udp.packet()["protocol"], "udp");
    assert_eq!(udp.packet()["protocol"], "udp");
}

/// The agent ignores the commits of trace, and trace still works after the agent's commits.
#[test]
fn trace_beside_agent_causes_no_drift() {
    let lab = Topology::new("trace-agent");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &["10.244.1.5"]));
    let agent = Agent::start(&lab.node, &manifests, "--cluster-cidr 10.244.0.0/16");
    agent.wait_until_in_sync();
    let trace = Trace::start(&lab.node, "--to 10.96.1.0/24 -o json");
    endpoint_of(lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(1)));
    assert_eq!(trace.packet()["service"], "default/s1");
    manifests.put("two.yaml", &service(2, &["10.244.1.6"]));
    agent.wait_until_in_sync();
    endpoint_of(lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(2)));
    let packet = trace.packet();
    assert_eq!(packet["service"], "default/s2", "{packet:#}");
    assert_eq!(printed_endpoint(&packet), socket("10.244.1.6:8080"), "{packet:#}");
    drop(trace);
    eventually("the table is gone", || !lab.node.run("nft list tables").contains("trace"));
    assert_eq!(agent.metric("rulegen_drift_repairs_total"), 0.0);
    let (_, metrics) = agent.get(crate::running_agent::METRICS_PORT, "/metrics").unwrap();
    assert!(!metrics.contains("rulegen_drift_events_total{"), "{metrics}");
    assert!(!agent.log().contains("another program changed"), "{}", agent.log());
}

#[test]
fn trace_refuses_invalid_targets_and_iptables_mode() {
    let node = Namespace::new("trace-refused");
    let none = node.rulegen("trace --to 10.96.0.1");
    assert_eq!(none.status.code(), Some(1));
    for part in ["nftables mode", "rulegen explain", "xtables-monitor"] {
        assert!(stderr(&none).contains(part), "no {part}: {}", stderr(&none));
    }
    let manifest = node.file("s.yaml", &service(1, &["10.244.1.5"]));
    assert!(node.rulegen(&format!("-f {manifest} {NFTABLES}")).status.success());
    for (flags, status, part) in [
        ("--to default/none", 1, "no such Service"),
        ("--to default/s1:https", 1, "its ports are 80"),
        ("--to 10.96.0.1 --from fd00::1", 2, "different IP families"),
        ("--to 10.96.0.1:80/icmp", 2, "expected tcp, udp or sctp"),
        ("--from nowhere", 2, "an address or a network"),
        ("", 2, "--to"),
    ] {
        let refused = node.rulegen(&format!("trace {flags}"));
        assert_eq!(refused.status.code(), Some(status), "{flags}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(part), "{flags}: {}", stderr(&refused));
        assert!(stdout(&refused).is_empty(), "{flags}");
    }
    assert!(!node.run("nft list tables").contains("trace"));
}
