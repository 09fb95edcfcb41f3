//! `rulegen doctor`: each check in a namespace without problems, and in one with exactly the problem
//! that the check looks for.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rulegen_doctor::FindingCode;
use rulegen_kernel::nftables::NfTables;
use rulegen_model::ProblemCode;
use serde_json::Value;

use crate::common::{root, stderr, stdout};
use crate::faults::preload;
use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, eventually, service};
use crate::traffic::{Answer, Proto, ask};

const NODE: &str = r#"{"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-1"}, "status":
    {"addresses": [{"type": "InternalIP", "address": "192.168.50.1"},
    {"type": "InternalIP", "address": "fd00:50::1"}]}}"#;

const CLUSTER_CIDR: &str = "10.244.0.0/16,fd00:10:244::/48";

const SERVICES: &str = r#"{"kind": "List", "apiVersion": "v1", "items": [
    {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}, "spec":
    {"type": "NodePort", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
    "ipFamilies": ["IPv4", "IPv6"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}},
    {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "front"}, "spec":
    {"type": "LoadBalancer", "clusterIP": "10.96.0.11", "externalTrafficPolicy": "Local",
    "healthCheckNodePort": 30090, "ports": [{"name": "http", "port": 80, "nodePort": 30081}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}]}"#;

/// One slice with an endpoint of this node.
fn slice(service: &str, family: &str, address: &str) -> String {
    format!(
        r#"{{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
        {{"name": "{service}-{family}", "labels": {{"kubernetes.io/service-name": "{service}"}}}},
        "addressType": "{family}", "ports": [{{"name": "http", "port": 8080}}],
        "endpoints": [{{"addresses": ["{address}"], "nodeName": "node-1"}}]}}"#
    )
}

fn objects() -> Vec<String> {
    vec![
        NODE.to_owned(),
        SERVICES.to_owned(),
        slice("web", "IPv4", "10.244.1.5"),
        slice("web", "IPv6", "fd00:10:244:1::5"),
        slice("front", "IPv4", "10.244.1.5"),
    ]
}

/// A node to examine.
struct Patient {
    namespace: Namespace,
    flags: String,
}

/// Result and findings by check.
type Findings = BTreeMap<String, (String, Vec<String>)>;

impl Patient {
    /// A node without problems.
    fn new(label: &str, mode: &str) -> Self {
        let namespace = Namespace::new(&format!("doctor-{label}"));
        // Interfaces that are created later inherit these values.
        namespace.run(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
             net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        );
        // Another route with a metric of 0 comes first.
        namespace.run(
            "ip link add uplink type veth peer name router; ip link set router up; \
             ip link set uplink up; ip addr add 192.168.50.1/32 dev uplink; \
             ip addr add fd00:50::1/128 dev uplink nodad; \
             ip route add default dev uplink metric 1000; \
             ip -6 route add default dev uplink metric 1000",
        );
        let mut flags =
            format!("--hostname-override node-1 --proxy-mode {mode} --cluster-cidr {CLUSTER_CIDR}");
        match mode {
            "nftables" => {
                drop(namespace.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1"))
            }
            _ => flags.push_str(" --iptables-variant nft"),
        }
        let patient = Self { namespace, flags };
        patient.apply(&objects(), "");
        if mode == "iptables" {
            // Like the agent, once the guard rule is written.
            patient.namespace.run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
        }
        let (status, found) = patient.examine("");
        assert_eq!(status, Some(0), "{found:#?}");
        let wrong: Findings = found.into_iter().filter(|(_, (result, _))| result != "ok").collect();
        assert_eq!(wrong, Findings::new());
        patient
    }

    fn apply(&self, objects: &[String], flags: &str) {
        self.namespace.file("cluster.yaml", &objects.join("\n---\n"));
        let output = self.namespace.rulegen(&format!("{} {flags}", self.given()));
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Flags with the objects.
    fn given(&self) -> String {
        let file = self.namespace.lock_file().replace("xtables.lock", "cluster.yaml");
        format!("-f {file} {}", self.flags)
    }

    /// Runs all checks. Omits the check of a running agent, because there is none.
    fn examine(&self, flags: &str) -> (Option<i32>, Findings) {
        let command = format!("doctor -o json {} {flags}", self.given());
        let (status, mut found) = read(&self.namespace.rulegen(&command));
        found.retain(|check, (result, _)| check != "left-out" || result != "notChecked");
        (status, found)
    }

    /// The findings of the only check that found something.
    fn only(&self, check: &str, result: &str) -> Vec<String> {
        let (status, found) = self.examine("");
        let mut wrong: Findings =
            found.into_iter().filter(|(_, (result, _))| result != "ok").collect();
        let Some((found, what)) = wrong.remove(check) else { panic!("{check} found nothing") };
        assert_eq!(found, result, "{what:?}");
        assert_eq!(wrong, Findings::new(), "in addition to {check}");
        assert_eq!(status, Some(i32::from(result != "note")));
        what
    }

    /// Runs the command at the start of a check's only remedy. The check then finds nothing.
    fn follow_remedy(&self, check: &str) {
        self.namespace.run(command(&self.remedy(check, "")));
        self.is_cured(check);
    }

    /// A check's only remedy.
    fn remedy(&self, check: &str, flags: &str) -> String {
        let command = format!("doctor -o json {} --check {check} {flags}", self.given());
        only_remedy(&self.namespace.rulegen(&command))
    }

    /// A check that found something is ok now.
    fn is_cured(&self, check: &str) {
        let (_, found) = self.examine(&format!("--check {check}"));
        assert_eq!(found[check], ("ok".to_owned(), Vec::new()), "{check} after the remedy");
    }

    /// The check of endpoints has one finding about wrong objects, and none about those that its
    /// remedy leads to.
    fn is_cured_by(&self, code: &str, wrong: &[String], remedy: &str, cure: &[String]) {
        self.apply(wrong, "");
        let flags = format!("doctor -o json --check endpoints {}", self.given());
        let output = self.namespace.rulegen(&flags);
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let findings = report["checks"][0]["findings"].as_array().unwrap();
        let [finding] = &findings[..] else { panic!("{code}: {report:#}") };
        assert_eq!(finding["code"], code, "{finding:#}");
        let said = finding["remedy"].as_str().unwrap();
        assert!(said.contains(remedy), "{code}: {said}");
        self.apply(cure, "");
        self.is_cured("endpoints");
    }

    /// The kernel notices a carrier some time later.
    fn wait_for_port_state(&self, port: &str, state: &str) {
        let read = format!("cat /sys/class/net/{port}/brport/state");
        eventually("the bridge port has the state", || self.namespace.run(&read).trim() == state);
    }

    /// The only finding.
    fn one(&self, check: &str, result: &str) -> String {
        let what = self.only(check, result);
        let [what] = &what[..] else { panic!("{check}: {what:#?}") };
        what.clone()
    }
}

/// The command at the start of a remedy.
fn command(remedy: &str) -> &str {
    let end = [", ", "; "].iter().filter_map(|mark| remedy.find(mark)).min();
    &remedy[..end.unwrap_or(remedy.len())]
}

/// The remedy of all findings of the only check. Other tests may run a kube-proxy at the same time.
fn only_remedy(output: &Output) -> String {
    let report: Value = serde_json::from_str(&stdout(output))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(output)));
    let findings = report["checks"][0]["findings"].as_array().unwrap();
    let mut remedies: Vec<&Value> = findings.iter().map(|finding| &finding["remedy"]).collect();
    remedies.dedup();
    let [remedy] = &remedies[..] else { panic!("{report}") };
    remedy.as_str().unwrap().to_owned()
}

fn read(output: &Output) -> (Option<i32>, Findings) {
    let report: Value = serde_json::from_str(&stdout(output))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(output)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_check = |check: &Value| {
        let findings = check["findings"].as_array().unwrap();
        assert!(findings.iter().all(|finding| !text(&finding["remedy"]).is_empty()), "{check}");
        let is_code = |code: String| {
            let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !code.is_empty() && code.chars().all(is_kebab)
        };
        assert!(findings.iter().all(|finding| is_code(text(&finding["code"]))), "{check}");
        let what = findings.iter().map(|finding| text(&finding["what"])).collect();
        (text(&check["check"]), (text(&check["result"]), what))
    };
    (output.status.code(), report["checks"].as_array().unwrap().iter().map(of_check).collect())
}

#[test]
fn doctor_on_healthy_node_changes_nothing() {
    for mode in ["nftables", "iptables"] {
        let patient = Patient::new(&format!("well-{mode}"), mode);
        let namespace = &patient.namespace;
        let generation = || namespace.inside(|| NfTables::open().unwrap().generation().unwrap());
        let before = generation();
        patient.examine("");
        assert_eq!(generation(), before, "{mode}");
        let (_, found) = patient.examine("--ip-family ipv4 --check firewall nat-order");
        let wrong: Findings = found.into_iter().filter(|(_, (result, _))| result != "ok").collect();
        assert_eq!(wrong, Findings::new(), "{mode}: own IPv6 rules are not foreign");
    }
}

#[test]
fn doctor_on_bare_node_reports_missing_rules_and_objects() {
    let namespace = Namespace::new("doctor-bare");
    let (status, found) = read(&namespace.rulegen("doctor -o json"));
    assert_eq!(status, Some(1));
    assert_eq!(found["rules-present"].0, "error");
    for check in [
        "drift",
        "affinity-sets",
        "node-name",
        "objects",
        "endpoints",
        "address-claims",
        "node-ports",
    ] {
        assert_eq!(found[check].0, "notChecked", "{check}");
    }
    let text = stdout(&namespace.rulegen("doctor --check drift"));
    assert!(text.contains("use -f or --kubeconfig"), "{text}");
}

#[test]
fn doctor_unreadable_facts_are_errors_or_unknown() {
    let patient = Patient::new("unknown", "nftables");
    patient.namespace.file("broken.yaml", "kind: [");
    let broken = patient.given().replace("cluster.yaml", "broken.yaml");
    let output = patient.namespace.rulegen(&format!("doctor -o json --check drift {broken}"));
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let program = env!("CARGO_BIN_EXE_rulegen");
    let given = patient.given().replace("nftables", "iptables");
    let doctor = format!("PATH=/nonexistent {program} doctor --iptables-backend exec");
    let drift = format!("{doctor} -o json --check drift {given}");
    let (status, found) = read(&patient.namespace.shell(&drift));
    assert_eq!((status, found["drift"].0.as_str()), (Some(2), "unknown"));
    let absent = patient.namespace.rulegen("doctor --kubeconfig /nonexistent");
    assert_eq!(absent.status.code(), Some(2), "{}", stderr(&absent));
    let wrong = patient.namespace.rulegen("doctor --check nothing");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("[possible values: kernel-features"), "{}", stderr(&wrong));
}

#[test]
fn left_out_asks_the_metrics_address_of_the_flag_or_the_configuration() {
    let namespace = Namespace::new("doctor-metrics-address");
    let reason = |flags: &str| {
        let output = namespace.rulegen(&format!("doctor -o json --check left-out {flags}"));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        report["checks"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("").contains("127.0.0.1:10249"), "{}", reason(""));
    let file = namespace.file(
        "config.yaml",
        "{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, \
         metricsBindAddress: \"127.0.0.3:10000\"}",
    );
    let configured = reason(&format!("--config {file}"));
    assert!(configured.contains("127.0.0.3:10000"), "{configured}");
    let given = reason(&format!("--config {file} --metrics-bind-address 127.0.0.4:10001"));
    assert!(given.contains("127.0.0.4:10001"), "{given}");
    let given = reason("--metrics-port 10002");
    assert!(given.contains("127.0.0.1:10002"), "{given}");
}

#[test]
fn doctor_kernel_features_iptables_not_installed() {
    let namespace = Namespace::new("doctor-not-installed");
    let program = env!("CARGO_BIN_EXE_rulegen");
    let flags = "doctor -o json --proxy-mode iptables --check kernel-features";
    let doctor = format!("PATH=/nonexistent {program} {flags}");
    let (_, found) = read(&namespace.shell(&format!("{doctor} --iptables-backend exec")));
    assert_eq!(found["kernel-features"].0, "error");
    let (_, found) = read(&namespace.shell(&doctor));
    assert_eq!(found["kernel-features"].0, "ok", "netlink needs no program");
    let (status, found) = read(&namespace.rulegen(flags));
    assert_eq!((status, found["kernel-features"].0.as_str()), (Some(0), "ok"));
}

#[test]
fn doctor_iptables_rules_that_no_installed_program_can_read_are_not_ok() {
    let patient = Patient::new("unread", "nftables");
    let program = env!("CARGO_BIN_EXE_rulegen");
    let given = patient.given();
    let results = |flags: &str| {
        let doctor = format!("PATH=/nonexistent {program} doctor -o json {given} --check {flags}");
        let (_, found) = read(&patient.namespace.shell(&doctor));
        found.into_values().map(|(result, _)| result).collect::<Vec<_>>()
    };
    let checks = "iptables-variants nat-order other-mode";
    assert_eq!(results(checks), ["ok", "ok", "ok"], "the kernel has no rules of iptables");
    patient.namespace.run("iptables-legacy -t filter -S");
    assert_eq!(results(checks), ["ok", "ok", "ok"], "the table is empty");
    patient.namespace.run("iptables-legacy -A INPUT -p tcp --dport 81 -j DROP");
    assert_eq!(results(checks), ["notChecked", "notChecked", "notChecked"]);
    patient.namespace.run("iptables-legacy -F; ip6tables-nft -t nat -N KUBE-SERVICES");
    assert!(!results(checks).contains(&"notChecked".to_owned()), "netlink reads iptables-nft");
}

#[test]
fn doctor_ip_forward_off_is_an_error() {
    let patient = Patient::new("forward", "nftables");
    patient.namespace.run("sysctl -qw net.ipv4.ip_forward=0");
    assert!(patient.one("ip-forward", "error").starts_with("net.ipv4.ip_forward is 0"));
    patient.follow_remedy("ip-forward");
    patient.namespace.run("sysctl -qw net.ipv6.conf.all.forwarding=0");
    let what = patient.one("ipv6-forward", "error");
    assert!(what.starts_with("net.ipv6.conf.all.forwarding is 0"), "{what}");
    let (_, found) = patient.examine("--check ipv6-forward --ip-family ipv4");
    assert_eq!(found["ipv6-forward"].0, "notChecked");
    patient.follow_remedy("ipv6-forward");
}

#[test]
fn doctor_forwarding_off_on_one_interface() {
    let patient = Patient::new("interface-forward", "nftables");
    patient.namespace.run("sysctl -qw net.ipv4.conf.uplink.forwarding=0");
    let what = patient.one("ip-forward", "error");
    let start = "net.ipv4.conf.uplink.forwarding is 0: traffic to Services that arrives on uplink, \
                 which has this node's address 192.168.50.1,";
    assert!(what.starts_with(start), "{what}");
    patient.follow_remedy("ip-forward");
    patient.namespace.run("sysctl -qw net.ipv4.conf.router.forwarding=0");
    let what = patient.one("ip-forward", "warning");
    assert!(what.starts_with("net.ipv4.conf.router.forwarding is 0"), "{what}");
    patient.follow_remedy("ip-forward");
}

#[test]
fn doctor_no_route_to_cluster_ips_is_an_error() {
    let patient = Patient::new("route", "nftables");
    patient.namespace.run("ip route del default");
    let what = patient.one("cluster-ip-routes", "error");
    assert!(what.starts_with("no route to the cluster IPs 10.96.0.10, 10.96.0.11:"), "{what}");
    let explain =
        format!("explain --live --to 10.96.0.10:80 --from 192.168.50.1 {}", patient.given());
    let explanation = stdout(&patient.namespace.rulegen(&explain));
    assert!(explanation.contains("not routed"), "{explanation}");
    assert!(explanation.contains("Rules that it would pass if it were routed:"), "{explanation}");
    assert!(!explanation.contains("Rules that it passes"), "{explanation}");
    patient.namespace.run("ip route add 10.96.0.0/16 dev uplink; ip -6 route del default");
    let what = patient.one("cluster-ip-routes", "error");
    assert!(what.starts_with("no route to the cluster IPs fd00:96::10:"), "{what}");
    patient.namespace.run("ip -6 route add fd00:96::/112 dev uplink");
    patient.is_cured("cluster-ip-routes");
}

#[test]
fn doctor_bridge_netfilter_off_is_a_warning() {
    let patient = Patient::new("bridge", "nftables");
    let off = "sysctl -qw net.bridge.bridge-nf-call-iptables=0";
    patient.namespace.run(&format!(
        "ip link add cni0 type bridge; ip link add pod1 type veth peer name a; ip link set pod1 master cni0; \
         ip link set cni0 up; ip link set pod1 up; ip link set dev a up; bridge link set dev pod1 hairpin on; {off}"
    ));
    patient.wait_for_port_state("pod1", "3");
    assert_eq!(patient.examine("").0, Some(0), "one port has no traffic on the bridge");
    patient.namespace.run(
        "ip link add pod2 type veth peer name b; ip link set pod2 master cni0; ip link set pod2 up; \
         ip link set dev b up; bridge link set dev pod2 hairpin on",
    );
    patient.wait_for_port_state("pod2", "3");
    let what = patient.one("bridge-netfilter", "warning");
    assert!(what.contains("bridge-nf-call-iptables is 0"), "{what}");
    assert!(what.contains("(cni0)"), "{what}");
    patient.follow_remedy("bridge-netfilter");
    // Without the module there are no such settings. `modprobe` cannot load a module that is there,
    // so the end of the mount stands for it.
    let program = env!("CARGO_BIN_EXE_rulegen");
    let empty = patient.namespace.folder("empty");
    let doctor = format!("{program} doctor -o json {} --check bridge-netfilter", patient.given());
    let output = patient.namespace.shell(&format!(
        "unshare -m sh -c 'mount --bind {} /proc/sys/net/bridge && {doctor}'",
        empty.display()
    ));
    let remedy = only_remedy(&output);
    assert!(remedy.starts_with("modprobe br_netfilter, and"), "{remedy}");
    patient.is_cured("bridge-netfilter");
}

/// The kernel passes packets of both families to the rules, and the endpoint of each is behind a port.
#[test]
fn doctor_bridge_port_of_an_endpoint_hairpin_isolated_or_closed() {
    let patient = Patient::new("hairpin", "nftables");
    let namespace = &patient.namespace;
    namespace.run(
        "ip link add cni0 type bridge; ip link set cni0 up; ip link add pod1 type veth peer name a; \
         ip link set pod1 master cni0; ip link set pod1 up; ip link set dev a up; \
         sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1",
    );
    patient.wait_for_port_state("pod1", "3");
    let (_, found) = patient.examine("--check hairpin");
    assert_eq!(found["hairpin"].0, "notChecked", "no endpoint is known");
    let neighbour = |ip: &str| {
        namespace.run(&format!(
            "bridge fdb replace 02:00:00:00:00:05 dev pod1 master static; \
             ip neigh replace {ip} lladdr 02:00:00:00:00:05 dev cni0 nud permanent"
        ));
    };
    let other_family = |ip: &str| match ip.contains(':') {
        true => "net.bridge.bridge-nf-call-iptables",
        false => "net.bridge.bridge-nf-call-ip6tables",
    };
    for ip in ["fd00:10:244:1::5", "10.244.1.5"] {
        neighbour(ip);
        // The other family is not known at the port.
        namespace.run(&format!(
            "sysctl -qw {}=0; bridge link set dev pod1 hairpin off",
            other_family(ip)
        ));
        let (_, found) = patient.examine("--check hairpin");
        let what = &found["hairpin"].1.concat();
        let start =
            format!("hairpin mode is off on port pod1 of bridge cni0: its endpoint {ip} of");
        assert!(what.starts_with(&start), "{found:?}");
        patient.follow_remedy("hairpin");
        namespace.run(&format!("sysctl -qw {}=1", other_family(ip)));
    }
    patient.is_cured("hairpin");

    namespace.run("bridge link set dev pod1 isolated on");
    let what = patient.one("hairpin", "warning");
    assert!(what.starts_with("port pod1 of bridge cni0 is isolated: its endpoint"), "{what}");
    patient.follow_remedy("hairpin");
    namespace.run(
        "ip link set dev pod1 down; ip link set dev cni0 type bridge forward_delay 3000 stp_state 1; \
         ip link set dev pod1 up",
    );
    patient.wait_for_port_state("pod1", "1");
    let what = patient.one("hairpin", "error");
    assert!(what.starts_with("port pod1 of bridge cni0 is listening: its endpoint"), "{what}");
    namespace.run(command(&patient.remedy("hairpin", "")));
    patient.wait_for_port_state("pod1", "3");
    patient.is_cured("hairpin");
    namespace.run("ip link set pod1 down");
    let what = patient.one("hairpin", "error");
    assert!(what.starts_with("port pod1 of bridge cni0 is disabled: its endpoint"), "{what}");
    namespace.run(command(&patient.remedy("hairpin", "")));
    patient.wait_for_port_state("pod1", "3");
    patient.is_cured("hairpin");
}

#[test]
fn doctor_rp_filter_strict_with_drops_is_a_warning() {
    let patient = Patient::new("rp-filter", "nftables");
    let client = Namespace::new("doctor-rp-filter-client");
    patient.namespace.run(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}; ip link set eth0 up; \
         ip addr add 192.168.50.1/24 dev eth0; ip link add eth1 type veth peer name a; ip link set eth1 up; ip link set a up; \
         ip addr add 192.168.60.1/24 dev eth1; ip route add default via 192.168.60.254; \
         sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
        client.name
    ));
    // Like a router that forwards the packet, it sends ARP requests from its own address.
    client.run(
        "sysctl -qw net.ipv4.conf.all.arp_announce=2; ip link set eth0 up; ip addr add 192.168.50.2/24 dev eth0; \
         ip addr add 198.18.0.1/32 dev lo",
    );
    assert_eq!(patient.examine("").0, Some(0), "strict, and nothing was dropped yet");
    let to = "192.168.50.1:9".parse().unwrap();
    let from = "198.18.0.1".parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while patient.examine("--check rp-filter").0 == Some(0) {
        assert!(Instant::now() < deadline, "no packet was dropped");
        assert_eq!(ask(&client, Proto::Udp, from, to), Answer::Silence);
    }
    let what = patient.one("rp-filter", "warning");
    assert!(what.ends_with("rp_filter is strict on eth0"), "{what}");
    let remedy = patient.remedy("rp-filter", "");
    let command = "sysctl -w net.ipv4.conf.all.rp_filter=2";
    assert!(remedy.contains(command), "{remedy}");
    patient.namespace.run(command);
    assert_eq!(patient.examine("").0, Some(0), "the larger value counts");
}

#[test]
fn doctor_route_localnet_on_is_a_warning() {
    let patient = Patient::new("localnet", "nftables");
    patient.namespace.run(
        "ip link add eth0 type veth peer name a; sysctl -qw net.ipv4.conf.eth0.route_localnet=1",
    );
    let what = patient.one("route-localnet", "warning");
    assert!(what.starts_with("route_localnet is 1 (eth0)"), "{what}");
    patient.namespace.run("sysctl -qw net.ipv4.conf.eth0.route_localnet=0");
    patient.is_cured("route-localnet");
    patient.namespace.run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
    patient.one("route-localnet", "warning");
    patient.follow_remedy("route-localnet");
}

#[test]
fn doctor_route_localnet_off_is_a_note_for_loopback_node_ports() {
    let patient = Patient::new("localhost", "iptables");
    patient.namespace.run("sysctl -qw net.ipv4.conf.all.route_localnet=0");
    let what = patient.one("route-localnet", "note");
    assert!(what.contains("route_localnet is 0"), "{what}");
    let (_, found) = patient.examine("--iptables-localhost-nodeports=false --check route-localnet");
    assert_eq!(found["route-localnet"].0, "ok");
    patient.follow_remedy("route-localnet");
}

#[test]
fn doctor_tcp_be_liberal_off_without_rule_that_drops_invalid() {
    let patient = Patient::new("liberal", "nftables");
    patient.namespace.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0");
    patient.one("tcp-be-liberal", "note");
    let (status, found) = patient.examine("--conntrack-tcp-be-liberal");
    assert_eq!((status, found["tcp-be-liberal"].0.as_str()), (Some(1), "warning"));
    patient.follow_remedy("tcp-be-liberal");
    assert_eq!(patient.examine("--conntrack-tcp-be-liberal").0, Some(0));
}

/// The table and its counters belong to the machine, so files replace those of the kernel.
#[test]
fn doctor_conntrack_table_full_nearly_full_or_was_full() {
    let patient = Patient::new("conntrack", "nftables");
    let namespace = &patient.namespace;
    let program = env!("CARGO_BIN_EXE_rulegen");
    let preload = preload(namespace);
    let max = 65_536_u64;
    for (count, drops, code) in [
        (max / 10, 0, None),
        (max / 10, 9, None),
        (max * 60 / 100, 0, None),
        (max * 60 / 100, 9, Some(("note", "was full"))),
        (max * 95 / 100, 9, Some(("warning", "is nearly full"))),
        (max, 9, Some(("error", "is full, and"))),
    ] {
        namespace.file("count", &count.to_string());
        namespace
            .file("stat", &format!("entries drop early_drop\n00000000 {drops:08x} 00000000\n"));
        let limit = namespace.file("max", &max.to_string());
        let folder = limit.strip_suffix("/max").unwrap();
        let run = |before: &str| {
            namespace.shell(&format!(
                "unshare -m sh -c 'cd {folder} && \
                 mount --bind count /proc/sys/net/netfilter/nf_conntrack_count && \
                 mount --bind max /proc/sys/net/netfilter/nf_conntrack_max && \
                 {before} FAULT_CONNTRACK_STAT=stat {preload} {program} doctor -o json \
                 --check conntrack-table'"
            ))
        };
        let output = run("");
        let (_, found) = read(&output);
        let (result, what) = &found["conntrack-table"];
        let Some((wanted, state)) = code else {
            assert_eq!(result, "ok", "{count} {drops}: {what:?}");
            continue;
        };
        assert_eq!(result, wanted, "{what:?}");
        let start = format!("the conntrack table {state}");
        assert!(what[0].starts_with(&start), "{what:?}");
        let numbers = format!(" has {count} of at most {max} entries ");
        assert!(what[0].contains(&numbers), "{what:?}");
        let remedy = only_remedy(&output);
        let set = remedy.split(" in ").next().unwrap();
        let (_, found) = read(&run(&format!("{set} >&2 &&")));
        assert_eq!(found["conntrack-table"].0, "ok", "after {set}: {found:?}");
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    /// A process with this name that does nothing.
    fn named(name: &str, namespace: &Namespace) -> Self {
        let program = namespace.folder("bin").join(name);
        fs::copy("/bin/sleep", &program).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name])
            .arg(program)
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        let running = Self(child);
        while fs::read_to_string(&comm).unwrap().trim() != name {
            std::thread::yield_now();
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(pid, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn doctor_kube_proxy_running_or_its_table_left() {
    let patient = Patient::new("kube-proxy", "nftables");
    let other = Namespace::new("doctor-kube-proxy-elsewhere");
    let elsewhere = Running::named("kube-proxy", &other);
    assert_eq!(patient.examine("").0, Some(0));
    let here = Running::named("kube-proxy", &patient.namespace);
    let what = patient.one("kube-proxy", "error");
    let pid = here.0.id();
    assert!(what.starts_with(&format!("kube-proxy (pid {pid}) is running")), "{what}");
    drop((here, elsewhere));
    patient.is_cured("kube-proxy");
    patient.namespace.run("nft add table ip6 kube-proxy");
    let what = patient.one("kube-proxy", "warning");
    assert!(what.contains("table ip6 kube-proxy"), "{what}");
    patient.follow_remedy("kube-proxy");
}

#[test]
fn doctor_kube_proxy_in_a_network_namespace_that_cannot_be_read() {
    let patient = Patient::new("kube-proxy-unknown", "nftables");
    let other = Namespace::new("doctor-kube-proxy-unseen");
    let _elsewhere = Running::named("kube-proxy", &other);
    let program = env!("CARGO_BIN_EXE_rulegen");
    let doctor = format!("{program} doctor -o json {} --check kube-proxy", patient.given());
    let restricted = format!("setpriv --bounding-set=-sys_ptrace {doctor}");
    let output = patient.namespace.shell(&restricted);
    let (status, found) = read(&output);
    assert_eq!((status, found["kube-proxy"].0.as_str()), (Some(0), "note"), "{found:?}");
    assert_eq!(only_remedy(&output), "run rulegen doctor as root with CAP_SYS_PTRACE");
    patient.is_cured("kube-proxy");
}

#[test]
fn doctor_kernel_without_nf_tables_or_a_kind_of_rule() {
    let patient = Patient::new("kernel-features", "nftables");
    let program = env!("CARGO_BIN_EXE_rulegen");
    let preload = preload(&patient.namespace);
    for (fault, what, remedy) in [
        (
            "FAULT_NO_NETFILTER=1",
            "the kernel does not support nf_tables",
            "modprobe nf_tables, use a kernel built with CONFIG_NF_TABLES, or use --proxy-mode iptables",
        ),
        (
            "FAULT_NO_NFTABLES=1",
            "the kernel does not support nf_tables",
            "modprobe nf_tables, use a kernel built with CONFIG_NF_TABLES, or use --proxy-mode iptables",
        ),
        (
            "FAULT_NO_EXPRESSION=numgen",
            "the kernel does not support random choice in ip tables: requires Linux 4.9",
            "use Linux 4.9 or newer, built with NFT_NUMGEN; or --proxy-mode iptables",
        ),
    ] {
        let doctor = |mode: &str| {
            let flags = format!("doctor -o json --ip-family ipv4 --check kernel-features {mode}");
            patient.namespace.shell(&format!("{preload} {fault} {program} {flags}"))
        };
        let output = doctor("--proxy-mode nftables");
        let (status, found) = read(&output);
        let (result, found) = &found["kernel-features"];
        assert_eq!((status, result.as_str()), (Some(1), "error"), "{fault}: {}", stdout(&output));
        assert!(found[0].starts_with(what), "{found:?}");
        assert_eq!(only_remedy(&output), remedy);
        // The flag of the remedy. The newer kernel is this one.
        let (_, found) = read(&doctor("--proxy-mode iptables"));
        assert_eq!(found["kernel-features"].0, "ok", "{fault}");
        patient.is_cured("kernel-features");
    }
}

#[test]
fn doctor_ip6tables_not_installed_is_a_warning() {
    let patient = Patient::new("no-ip6tables", "iptables");
    let programs = patient.namespace.folder("programs");
    let install = |names: &str| {
        patient.namespace.run(&format!(
            "for name in {names}; do ln -sf $(command -v $name) {}; done",
            programs.display()
        ));
    };
    install("iptables-nft-save iptables-nft-restore");
    let program = env!("CARGO_BIN_EXE_rulegen");
    let flags = "--iptables-backend exec --proxy-mode iptables --check kernel-features";
    let doctor = |more: &str| {
        patient
            .namespace
            .shell(&format!("PATH={} {program} doctor -o json {flags} {more}", programs.display()))
    };
    let output = doctor("");
    let (status, found) = read(&output);
    let (result, what) = &found["kernel-features"];
    assert_eq!((status, result.as_str()), (Some(1), "warning"), "{what:?}");
    assert_eq!(what[0], "ip6tables is not installed: Services get no IPv6 rules");
    assert_eq!(only_remedy(&output), "install ip6tables, or use --ip-family ipv4");
    assert_eq!(read(&doctor("--ip-family ipv4")).1["kernel-features"].0, "ok");
    install("ip6tables-nft-save ip6tables-nft-restore");
    assert_eq!(read(&doctor("")).1["kernel-features"].0, "ok");
}

#[test]
fn doctor_service_that_the_agent_left_out() {
    let namespace = Namespace::new("doctor-left-out");
    let manifests = Manifests::new(&namespace);
    let endpoints: Vec<String> = (1..=100).map(|n| format!("10.0.0.{n}")).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    manifests.put("one.yaml", &service(1, &endpoints));
    let agent = Agent::start(&namespace, &manifests, "--max-service-size 50");
    agent.wait_until_in_sync();
    let doctor = || {
        let output = namespace.rulegen("doctor -o json --check left-out");
        let found = read(&output).1.remove("left-out").unwrap();
        (found, output)
    };
    let ((result, what), output) = doctor();
    assert_eq!(result, "error", "{what:?}");
    assert!(what[0].starts_with("Service default/s1 "), "{what:?}");
    let remedy = "change the Service; the agent then tries it again within seconds";
    assert_eq!(only_remedy(&output), remedy);
    manifests.put("one.yaml", &service(1, &endpoints[..1]));
    eventually("the agent has its rules", || doctor().0 == ("ok".to_owned(), Vec::new()));
}

/// The test that follows the remedy of a finding.
enum Followed {
    /// The compiler demands that it exists.
    By(#[expect(dead_code, reason = "its existence is enough")] fn()),
    Elsewhere(&'static str),
    /// Holds the reason.
    Not(&'static str),
}

/// A finding whose remedy does not help would stay for ever.
fn followed(code: FindingCode) -> Followed {
    use FindingCode as Code;
    use Followed::{By, Elsewhere, Not};
    match code {
        Code::NfTablesUnsupported | Code::KernelFeatureMissing => {
            By(doctor_kernel_without_nf_tables_or_a_kind_of_rule)
        }
        Code::IptablesNotInstalled => By(doctor_kernel_features_iptables_not_installed),
        Code::Ip6tablesNotInstalled => By(doctor_ip6tables_not_installed_is_a_warning),
        Code::Ipv4ForwardingOff | Code::Ipv6ForwardingOff => By(doctor_ip_forward_off_is_an_error),
        Code::InterfaceForwardingOff => By(doctor_forwarding_off_on_one_interface),
        Code::Ipv6Unavailable => By(doctor_ipv6_disabled_although_services_use_it),
        Code::NoRouteToClusterIps => By(doctor_no_route_to_cluster_ips_is_an_error),
        Code::BridgeNetfilterOff | Code::BridgeNetfilterNotLoaded => {
            By(doctor_bridge_netfilter_off_is_a_warning)
        }
        Code::HairpinOff | Code::BridgePortIsolated | Code::BridgePortNotForwarding => {
            By(doctor_bridge_port_of_an_endpoint_hairpin_isolated_or_closed)
        }
        Code::ReversePathDrops => By(doctor_rp_filter_strict_with_drops_is_a_warning),
        Code::RouteLocalnetUnguarded => By(doctor_route_localnet_on_is_a_warning),
        Code::RouteLocalnetOff => By(doctor_route_localnet_off_is_a_note_for_loopback_node_ports),
        Code::TcpBeLiberalNotApplied | Code::TcpBeLiberalOff => {
            By(doctor_tcp_be_liberal_off_without_rule_that_drops_invalid)
        }
        Code::ConntrackTableFull | Code::ConntrackTableNearlyFull | Code::ConntrackTableWasFull => {
            By(doctor_conntrack_table_full_nearly_full_or_was_full)
        }
        Code::KubeProxyRunning | Code::KubeProxyTable => {
            By(doctor_kube_proxy_running_or_its_table_left)
        }
        Code::KubeProxyNamespaceUnknown => {
            By(doctor_kube_proxy_in_a_network_namespace_that_cannot_be_read)
        }
        Code::IptablesRulesLeft | Code::NftablesTableLeft => By(doctor_other_mode_leftover_rules),
        Code::BothVariantsInUse => By(doctor_iptables_variants_with_rules_in_both),
        Code::KubeletUsesOtherVariant => By(doctor_iptables_variant_is_that_of_the_rules),
        Code::NatChainFirst | Code::NatChainSamePriority => {
            By(doctor_nat_order_foreign_nat_chain_runs_first)
        }
        Code::NatRuleFirst => By(doctor_nat_order_foreign_iptables_rule_runs_first),
        Code::NatRuleSamePriority => By(doctor_nat_order_rules_in_other_iptables_variant),
        Code::ForwardDropped | Code::ForwardDroppedByDefault | Code::MayBeDropped => {
            By(doctor_firewall_of_others_drops_forwarded_traffic)
        }
        Code::NoRules | Code::OutOfSync => By(doctor_drift_and_missing_rules),
        Code::ServiceLeftOut => By(doctor_service_that_the_agent_left_out),
        Code::MoreServicesLeftOut => {
            Not("it goes with the findings of the Services that are named")
        }
        Code::AffinitySetNearlyFull => Elsewhere("tests/netns/affinity.rs"),
        Code::AffinityListNearlyFull => Not("the module's limit belongs to the machine"),
        Code::NodeNotFound => By(doctor_node_name_unlike_that_of_the_node_object),
        Code::PodNetworkUnset | Code::PodsOutsidePodNetwork => {
            By(doctor_pods_outside_cluster_cidr_or_no_cluster_cidr)
        }
        Code::NodeAddressInUse => By(doctor_listener_at_node_address_taken_by_service),
        Code::NodePortInUse | Code::HealthCheckNodePortInUse => By(doctor_listener_at_node_port),
        // Each has its own text of `rulegen lint`.
        Code::Object(ProblemCode::NodePortsEphemeral) => {
            By(doctor_node_ports_in_ephemeral_range_are_a_note)
        }
        Code::Object(
            ProblemCode::NoEndpointSlice
            | ProblemCode::EmptyEndpointSlices
            | ProblemCode::NoSuchEndpointPort
            | ProblemCode::NoReadyEndpoints
            | ProblemCode::OnlyTerminatingEndpoints
            | ProblemCode::NoLocalEndpoints,
        ) => By(doctor_remedies_about_endpoints_of_objects_help),
        Code::Object(ProblemCode::SourceRangesExcludeAll) => {
            By(doctor_objects_with_faults_that_lint_finds)
        }
        Code::Object(ProblemCode::FrontendConflict) => By(doctor_address_claimed_by_two_services),
        Code::Object(ProblemCode::ServiceTooLarge) => {
            By(doctor_service_too_large_is_an_error_until_the_limit_is_raised)
        }
        // Problems of fields: the remedy names the field, and the tests of lint correct it.
        Code::Object(_) => Elsewhere("tests/lint"),
    }
}

/// Each remedy is followed by a change of the manifests. Doctor then finds nothing.
#[test]
fn doctor_remedies_about_endpoints_of_objects_help() {
    let patient = Patient::new("object-remedies", "nftables");
    let good = slice("web", "IPv6", "fd00:10:244:1::5");
    let with = |slice: &str| {
        let objects = objects().into_iter().filter(|object| !object.contains("web-IPv6"));
        objects.chain([slice.to_owned()]).filter(|object| !object.is_empty()).collect::<Vec<_>>()
    };
    let endpoint = r#"{"addresses": ["fd00:10:244:1::5"], "nodeName": "node-1"}"#;
    let condition = |conditions: &str| {
        let with = format!(r#""node-1", "conditions": {{{conditions}}}}}"#);
        good.replace(r#""node-1"}"#, &with)
    };
    let not_ready = condition(r#""ready": false"#);
    let terminating = condition(r#""ready": false, "serving": true, "terminating": true"#);
    for (code, wrong, remedy) in [
        ("no-endpoint-slice", String::new(), "kubernetes.io/service-name: web"),
        ("empty-endpoint-slices", good.replace(endpoint, ""), "start pods that its selector"),
        (
            "no-such-endpoint-port",
            good.replace("http", "https"),
            "ports[].name must be the name of the Service's port",
        ),
        ("no-ready-endpoints", not_ready, "check why the pods are not ready"),
        ("only-terminating-endpoints", terminating, "check why no new pods start"),
    ] {
        patient.is_cured_by(code, &with(&wrong), remedy, &with(&good));
    }
    let front = |slice: &str| {
        let objects = objects().into_iter().filter(|object| !object.contains("front-IPv4"));
        objects.chain([slice.to_owned()]).collect::<Vec<_>>()
    };
    let here = slice("front", "IPv4", "10.244.1.5");
    let elsewhere = here.replace("node-1", "node-2");
    let nowhere = here.replace(r#", "nodeName": "node-1""#, "");
    let both = here.replace(
        r#""endpoints": ["#,
        r#""endpoints": [{"addresses": ["10.244.2.6"], "nodeName": "node-2"}, "#,
    );
    let unready = both.replace(r#""node-1"}"#, r#""node-1", "conditions": {"ready": false}}"#);
    for (wrong, remedy, cure) in [
        (&elsewhere, "run a pod on this node, or", &both),
        (&nowhere, "set endpoints[].nodeName in the EndpointSlices, or", &here),
        (&unready, "check why no pod on this node is ready", &both),
    ] {
        patient.is_cured_by("no-local-endpoints", &front(wrong), remedy, &front(cure));
        // The other remedy.
        let cluster: Vec<String> = front(wrong)
            .iter()
            .map(|object| object.replace(r#""externalTrafficPolicy": "Local","#, ""))
            .map(|object| object.replace(r#""healthCheckNodePort": 30090, "#, ""))
            .collect();
        let remedy = "set spec.externalTrafficPolicy to Cluster";
        patient.is_cured_by("no-local-endpoints", &front(wrong), remedy, &cluster);
    }
}

/// The compiler demands an entry for each code.
#[test]
fn doctor_remedy_of_each_finding_is_followed_by_a_test_or_has_a_reason() {
    let test = |code| match followed(code) {
        Followed::By(_) => None,
        Followed::Elsewhere(path) => Some(root().join(path).exists().to_string()),
        Followed::Not(reason) => Some(reason.to_owned()),
    };
    assert_eq!(test(FindingCode::HairpinOff), None);
    for code in
        [FindingCode::AffinitySetNearlyFull, FindingCode::Object(ProblemCode::InvalidAddress)]
    {
        assert_eq!(test(code).as_deref(), Some("true"), "{code:?}");
    }
    assert!(test(FindingCode::AffinityListNearlyFull).unwrap().contains("machine"));
}

#[test]
fn doctor_other_mode_leftover_rules() {
    let patient = Patient::new("other-mode", "nftables");
    let given = patient.given().replace("nftables", "iptables");
    let output = patient.namespace.rulegen(&format!("{given} --ip-family ipv4"));
    assert!(output.status.success(), "{}", stderr(&output));
    let what = patient.one("other-mode", "warning");
    assert!(what.starts_with("iptables-nft has KUBE-* chains"), "{what}");
    // A cleanup keeps this chain because a rule of another program jumps to it.
    patient
        .namespace
        .run("iptables-nft -t nat -N CNI; iptables-nft -t nat -A CNI -j KUBE-MARK-MASQ");
    assert!(patient.namespace.rulegen("cleanup").status.success());
    patient.namespace.run("iptables-nft -t nat -S KUBE-MARK-MASQ");
    patient.apply(&objects(), "");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");

    let patient = Patient::new("other-mode-2", "iptables");
    patient.namespace.run("nft add table ip rulegen");
    let what = patient.one("other-mode", "warning");
    assert!(what.starts_with("the nftables table ip rulegen"), "{what}");
    patient.follow_remedy("other-mode");
}

#[test]
fn doctor_iptables_variants_with_rules_in_both() {
    let patient = Patient::new("variants", "iptables");
    patient.namespace.run("iptables-legacy -t mangle -N KUBE-IPTABLES-HINT");
    let what = patient.one("iptables-variants", "warning");
    assert!(what.starts_with("kubelet uses iptables-legacy"), "{what}");
    patient.namespace.run("iptables-legacy -t mangle -X; iptables-legacy -t nat -N KUBE-SERVICES");
    let what = patient.one("iptables-variants", "error");
    assert!(what.starts_with("iptables-nft and iptables-legacy both"), "{what}");
    // A cleanup keeps this chain because a rule of another program jumps to it.
    patient.namespace.run(
        "iptables-legacy -t nat -N KUBE-MARK-MASQ; iptables-legacy -t nat -N CNI; \
         iptables-legacy -t nat -A CNI -j KUBE-MARK-MASQ",
    );
    assert!(patient.namespace.rulegen("cleanup").status.success());
    patient.apply(&objects(), "");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");
}

#[test]
fn doctor_remedies_help_in_iptables_legacy() {
    let mut patient = Patient::new("legacy", "iptables");
    assert!(patient.namespace.rulegen("cleanup").status.success());
    patient.flags = patient.flags.replace("variant nft", "variant legacy");
    patient.apply(&objects(), "");
    assert_eq!(patient.examine("").0, Some(0));

    patient.namespace.run("iptables-legacy -P FORWARD DROP");
    let what = patient.one("firewall", "warning");
    assert!(what.starts_with("the chain FORWARD of iptables-legacy drops what no rule"), "{what}");
    patient.follow_remedy("firewall");

    let rule = "PREROUTING -p tcp --dport 81 -j DNAT --to-destination 192.0.2.9:81";
    patient.namespace.run(&format!("iptables-legacy -t nat -I {rule}"));
    let what = patient.one("nat-order", "warning");
    assert!(what.contains("iptables-legacy -t nat -A PREROUTING"), "{what}");
    patient
        .namespace
        .run(&format!("iptables-legacy -t nat -D {rule}; iptables-legacy -t nat -A {rule}"));
    patient.is_cured("nat-order");

    patient.namespace.run("iptables-legacy -t nat -F KUBE-SERVICES");
    let what = patient.one("drift", "error");
    assert!(what.starts_with("iptables-legacy is out of sync"), "{what}");
    patient.apply(&objects(), "");
    assert_eq!(patient.examine("").0, Some(0));
    let said = stderr(&patient.namespace.rulegen("cleanup"));
    assert!(said.contains("note: net.ipv4.conf.all.route_localnet is 1"), "{said}");
    let (_, found) = patient.examine("");
    assert_eq!(found["rules-present"].0, "error");
    // The guard is gone, and the sysctl is not.
    assert_eq!(found["route-localnet"].0, "warning");
    patient.follow_remedy("route-localnet");
}

/// A node like one on which another administrator chose the variant.
#[test]
fn doctor_iptables_variant_is_that_of_the_rules() {
    let mut patient = Patient::new("variant", "iptables");
    assert!(patient.namespace.rulegen("cleanup").status.success());
    let flags = patient.flags.clone();
    patient.apply(&objects(), "--iptables-variant legacy");
    patient.flags = flags.replace("--iptables-variant nft", "");
    assert_eq!(patient.examine("").0, Some(0), "the rules are in sync in their variant");
    patient.namespace.run("iptables-legacy -t nat -F KUBE-SERVICES");
    let what = patient.one("drift", "error");
    assert!(what.starts_with("iptables-legacy is out of sync"), "{what}");
    patient.apply(&objects(), "--iptables-variant legacy");
    patient.namespace.run("iptables-nft -t mangle -N KUBE-IPTABLES-HINT");
    let what = patient.one("iptables-variants", "warning");
    assert!(what.starts_with("kubelet uses iptables-nft"), "{what}");
    assert!(patient.namespace.rulegen("cleanup").status.success());
    patient.apply(&objects(), "--iptables-variant nft");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");
}

#[test]
fn doctor_nat_order_foreign_nat_chain_runs_first() {
    let patient = Patient::new("nat-order", "nftables");
    let namespace = &patient.namespace;
    namespace.run(
        "nft 'add table inet other; \
         add chain inet other first { type nat hook prerouting priority -150; }; \
         add chain inet other taken; add rule inet other first jump taken'",
    );
    assert_eq!(patient.examine("").0, Some(0), "it translates nothing");
    namespace.run("nft add rule inet other taken tcp dport 81 redirect to :8081");
    let what = patient.one("nat-order", "warning");
    assert!(what.contains("chain inet other first translates first (priority -150)"), "{what}");
    let remedy = patient.remedy("nat-order", "");
    let list = "nft list chain inet other first";
    assert!(remedy.contains(&format!("{list}; set a priority above -100")), "{remedy}");
    namespace.run(list);
    for (priority, result) in [(-100, "note"), (-99, "ok")] {
        namespace.run(&format!(
            "nft 'delete chain inet other first; \
             add chain inet other first {{ type nat hook prerouting priority {priority}; }}; \
             add rule inet other first jump taken'"
        ));
        let (_, found) = patient.examine("--check nat-order");
        assert_eq!(found["nat-order"].0, result, "priority {priority}: {found:?}");
    }
    namespace.run("nft delete table inet other");
    namespace.run("iptables-nft -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 82");
    let what = patient.one("nat-order", "note");
    assert!(what.contains("iptables-nft -t nat -A OUTPUT"), "{what}");
    namespace.run("nft delete table ip nat");
    namespace.run(
        "nft 'add table ip other; \
         add chain ip other mapped { type nat hook output priority -101; }; \
         add chain ip other taken; add rule ip other taken dnat to 192.0.2.9; \
         add rule ip other mapped tcp dport vmap { 81 : goto taken }'",
    );
    let what = patient.one("nat-order", "warning");
    assert!(what.contains("chain ip other mapped translates first"), "{what}");
}

#[test]
fn doctor_nat_order_foreign_iptables_rule_runs_first() {
    let patient = Patient::new("nat-rules", "iptables");
    let namespace = &patient.namespace;
    let rule = "PREROUTING -p tcp --dport 81 -j DNAT --to-destination 192.0.2.9:81";
    namespace.run(&format!("iptables-nft -t nat -A {rule}"));
    assert_eq!(patient.examine("").0, Some(0), "the rule is after ours");
    namespace.run(&format!("iptables-nft -t nat -I {rule}"));
    let what = patient.one("nat-order", "warning");
    assert!(what.contains("iptables-nft -t nat -A PREROUTING") && what.contains("DNAT"), "{what}");
    let remedy = patient.remedy("nat-order", "");
    assert!(remedy.contains("delete the jump to KUBE-SERVICES"), "{remedy}");
    let own = "iptables-nft -t nat -S PREROUTING | sed -n 's/^-A/-D/; /-j KUBE-SERVICES/p'";
    namespace.run(&format!("eval iptables-nft -t nat $({own})"));
    patient.apply(&objects(), "");
    patient.is_cured("nat-order");
}

#[test]
fn doctor_nat_order_rules_in_other_iptables_variant() {
    for mode in ["nftables", "iptables"] {
        let patient = Patient::new(&format!("nat-legacy-{mode}"), mode);
        let namespace = &patient.namespace;
        let rule = "PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.0.2.9:80";
        namespace.run(&format!("iptables-legacy -t nat -A {rule}"));
        let what = patient.one("nat-order", "note");
        assert!(what.contains("iptables-legacy -t nat -A PREROUTING"), "{mode}: {what}");
        let remedy = patient.remedy("nat-order", "");
        assert!(remedy.ends_with("delete the rule"), "{mode}: {remedy}");
        namespace.run("iptables-legacy -t nat -F");
        namespace
            .run("ip6tables-legacy -t nat -N TAKEN; ip6tables-legacy -t nat -A OUTPUT -j TAKEN");
        assert_eq!(patient.examine("").0, Some(0), "{mode}: it translates nothing");
        let redirect = "TAKEN -p tcp --dport 80 -j REDIRECT --to-ports 81";
        namespace.run(&format!("ip6tables-legacy -t nat -A {redirect}"));
        let what = patient.one("nat-order", "note");
        assert!(what.contains("ip6tables-legacy -t nat -A OUTPUT"), "{mode}: {what}");
        namespace.run("ip6tables-legacy -t nat -D OUTPUT -j TAKEN");
        patient.is_cured("nat-order");
    }
}

/// Rules in iptables-nft are found although the Services are in iptables-legacy.
#[test]
fn doctor_nat_order_iptables_nft_rules_with_services_in_legacy() {
    let patient = Patient::new("nat-nft", "iptables");
    patient.namespace.run(
        "nft delete table ip nat; nft delete table ip6 nat; \
         iptables-nft -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 82; \
         iptables-legacy -t nat -N KUBE-SERVICES; \
         iptables-legacy -t nat -A OUTPUT -j KUBE-SERVICES",
    );
    let (_, found) = patient.examine("--check nat-order");
    let (result, what) = &found["nat-order"];
    assert_eq!(result, "note");
    assert!(what.iter().any(|what| what.contains("iptables-nft -t nat -A OUTPUT")), "{what:?}");
}

#[test]
fn doctor_firewall_of_others_drops_forwarded_traffic() {
    let patient = Patient::new("firewall", "nftables");
    let namespace = &patient.namespace;
    namespace.run("iptables-nft -P FORWARD DROP");
    let what = patient.one("firewall", "error");
    assert!(what.starts_with("the chain FORWARD of iptables-nft drops everything"), "{what}");
    namespace.run("iptables-nft -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");
    namespace.run(
        "nft 'add table inet fw; \
         add chain inet fw guard { type filter hook forward priority 0; policy drop; }'",
    );
    let what = patient.one("firewall", "error");
    assert!(what.starts_with("the nftables chain inet fw guard drops everything"), "{what}");
    namespace.run("nft add rule inet fw guard ct state established accept");
    let what = patient.one("firewall", "error");
    assert!(what.starts_with("the nftables chain inet fw guard drops everything"), "{what}");
    namespace.run("nft add rule inet fw guard ip saddr '{ 192.0.2.0/24, 198.51.100.1 }' accept");
    let what = patient.one("firewall", "error");
    assert!(what.starts_with("the nftables chain inet fw guard drops all IPv6 packets"), "{what}");
    namespace.run("nft add rule inet fw guard tcp dport 80-90 accept");
    let what = patient.one("firewall", "warning");
    assert!(what.starts_with("the nftables chain inet fw guard drops what no rule"), "{what}");
    namespace.run("nft insert rule inet fw guard ct status dnat accept");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");
    namespace.run(
        "nft 'delete table inet fw; add table inet fw; \
         add chain inet fw guard { type filter hook input priority 0; policy accept; }; \
         add rule inet fw guard tcp dport 23 reject'",
    );
    let what = patient.one("firewall", "note");
    assert!(what.starts_with("the nftables chain inet fw guard has rules that drop"), "{what}");
    namespace.run("nft insert rule inet fw guard ct status dnat accept");
    patient.is_cured("firewall");
    namespace.run(
        "nft 'delete table inet fw; add table inet fw; \
         add chain inet fw early { type filter hook prerouting priority raw; policy accept; }; \
         add rule inet fw early ct state vmap { established : accept, related : accept }; \
         add rule inet fw early udp dport 53 notrack'",
    );
    assert_eq!(patient.examine("").0, Some(0), "nothing is dropped");
    namespace.run("nft add rule inet fw early fib saddr . iif oif missing drop");
    let what = patient.one("firewall", "note");
    assert!(what.starts_with("the nftables chain inet fw early has rules that drop"), "{what}");
    let remedy = patient.remedy("firewall", "");
    assert!(remedy.contains("accept packets to the addresses of Services"), "{remedy}");
    for [family, addresses, node_ip] in
        [["ip", "10.96.0.0/16, 192.0.2.1", "192.168.50.1"], ["ip6", "fd00:96::/64", "fd00:50::1"]]
    {
        namespace.run(&format!(
            "nft insert rule inet fw early {family} daddr '{{ {addresses}, {node_ip} }}' accept"
        ));
    }
    patient.is_cured("firewall");
    // As firewalld: behind DNAT.
    namespace.run(
        "nft 'delete table inet fw; add table inet fw; \
         add chain inet fw late { type filter hook prerouting priority filter + 10; }; \
         add rule inet fw late fib saddr . mark . iif oif missing drop'",
    );
    let what = patient.one("firewall", "note");
    assert!(what.starts_with("the nftables chain inet fw late has rules that drop"), "{what}");
    let remedy = patient.remedy("firewall", "");
    let command = "nft insert rule inet fw late ct status dnat accept";
    assert!(remedy.contains(command), "{remedy}");
    namespace.run(command);
    patient.is_cured("firewall");
}

#[test]
fn doctor_input_without_usable_service_is_not_checked() {
    let patient = Patient::new("left-out-all", "nftables");
    let invalid = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.999", "ports": [{"port": 80}]}}"#;
    patient.namespace.file("cluster.yaml", &format!("{NODE}\n---\n{invalid}"));
    let (_, found) = patient.examine("");
    for check in [
        "cluster-ip-routes",
        "hairpin",
        "drift",
        "service-size",
        "pod-network",
        "endpoints",
        "address-claims",
        "node-addresses",
        "node-ports",
        "ephemeral-ports",
    ] {
        assert_eq!(found[check].0, "notChecked", "{check}: {found:?}");
    }
    let (result, what) = &found["objects"];
    assert_eq!(result, "error", "the reason is a finding of another check");
    assert!(what[0].starts_with("Service default/web spec.clusterIP"), "{what:?}");
}

#[test]
fn doctor_drift_and_missing_rules() {
    for (mode, drift, place, removal) in [
        (
            "nftables",
            "nft flush map ip6 rulegen endpoints",
            "table ip6 rulegen",
            "nft delete table ip rulegen; nft delete table ip6 rulegen",
        ),
        (
            "iptables",
            "ip6tables-nft -t nat -F KUBE-SERVICES",
            "ip6tables-nft",
            "nft delete table ip nat; nft delete table ip6 nat",
        ),
    ] {
        let patient = Patient::new(&format!("drift-{mode}"), mode);
        patient.namespace.run(drift);
        let what = patient.one("drift", "error");
        assert!(what.starts_with(&format!("{place} is out of sync with the objects")), "{what}");
        patient.apply(&objects(), "");
        patient.is_cured("drift");
        patient.namespace.run(removal);
        let (status, found) = patient.examine("");
        assert_eq!((status, found["rules-present"].0.as_str()), (Some(1), "error"));
        assert_eq!(found["drift"].0, "notChecked");
        patient.apply(&objects(), "");
        assert_eq!(patient.examine("").0, Some(0), "{mode}: the remedy helps");
    }
}

#[test]
fn doctor_node_name_unlike_that_of_the_node_object() {
    let mut patient = Patient::new("node-name", "nftables");
    let other: Vec<String> =
        objects().iter().map(|object| object.replace("node-1", "node-1.example")).collect();
    patient.apply(&other, "");
    let (status, found) = patient.examine("");
    assert_eq!(status, Some(1));
    let (result, what) = &found["node-name"];
    assert_eq!(result, "warning");
    let end = "Node node-1.example has this host's address 192.168.50.1";
    assert!(what[0].starts_with("no Node is named node-1, ") && what[0].ends_with(end), "{what:?}");
    patient.flags.push_str(" --hostname-override node-1.example");
    patient.apply(&other, "");
    assert_eq!(patient.examine("").0, Some(0), "the remedy helps");
}

/// The API server is asked only for the Node with this node's name; manifests may have no Nodes.
#[test]
fn doctor_node_name_without_node_objects_is_not_checked() {
    let patient = Patient::new("no-node", "nftables");
    let without_node = objects().split_off(1).join("\n---\n");
    patient.namespace.file("cluster.yaml", &without_node.replace("node-1", "other"));
    let (_, found) = patient.examine("--check node-name");
    assert_eq!(found["node-name"].0, "notChecked");
}

#[test]
fn doctor_pods_outside_cluster_cidr_or_no_cluster_cidr() {
    let mut patient = Patient::new("pod-network", "nftables");
    let flags = patient.flags.clone();
    patient.flags = flags.replace("10.244.0.0/16", "10.32.0.0/16");
    patient.apply(&objects(), "");
    let what = patient.one("pod-network", "warning");
    assert!(
        what.starts_with("10.244.1.5 of this node is outside clusterCIDR 10.32.0.0/16"),
        "{what}"
    );
    patient.flags = flags.replace(CLUSTER_CIDR, "fd00:10:244::/48");
    patient.apply(&objects(), "");
    let what = patient.one("pod-network", "note");
    assert!(what.starts_with("no IPv4 clusterCIDR is configured"), "{what}");
    assert!(what.contains("default/front:http"), "{what}");
    patient.flags = flags;
    patient.apply(&objects(), "");
    patient.is_cured("pod-network");
}

#[test]
fn doctor_services_without_endpoints() {
    let patient = Patient::new("endpoints", "nftables");
    let mut without = objects();
    without.retain(|object| !object.contains("web-IPv6"));
    patient.apply(&without, "");
    let what = patient.one("endpoints", "warning");
    assert_eq!(what, "Service default/web:http (IPv6) has no EndpointSlice");
    let other_port = slice("web", "IPv6", "fd00::5").replace("http", "https");
    patient.apply(&[without.clone(), vec![other_port]].concat(), "");
    let what = patient.one("endpoints", "warning");
    assert!(
        what.ends_with("none with its port (http over TCP): they have https over TCP"),
        "{what}"
    );
    let mut elsewhere: Vec<String> = objects()
        .iter()
        .map(|object| match object.contains("front-IPv4") {
            true => object.replace("node-1", "node-2"),
            false => object.clone(),
        })
        .collect();
    elsewhere
        .push(NODE.replace("node-1", "node-2").replace("50.1", "50.2").replace("50::1", "50::2"));
    patient.apply(&elsewhere, "");
    let what = patient.one("endpoints", "note");
    assert!(
        what.starts_with("Service default/front:http (IPv4) has no usable endpoint on this node"),
        "{what}"
    );
    patient.apply(&objects(), "");
    patient.is_cured("endpoints");
}

/// The check runs those of `rulegen lint` which no other check of the doctor runs.
#[test]
fn doctor_objects_with_faults_that_lint_finds() {
    let patient = Patient::new("objects", "nftables");
    let ranges = |ranges: &str| -> Vec<String> {
        let spec = format!(r#""loadBalancerSourceRanges": {ranges}, "externalTrafficPolicy""#);
        objects().iter().map(|of| of.replace(r#""externalTrafficPolicy""#, &spec)).collect()
    };
    patient.apply(&ranges(r#"["127.0.0.0/8"]"#), "");
    let what = patient.one("objects", "error");
    let start = "Service default/front spec.loadBalancerSourceRanges: no IPv4 client can have";
    assert!(what.starts_with(start), "{what}");
    assert_eq!(patient.remedy("objects", ""), "list the networks of the clients");
    patient.apply(&ranges(r#"["192.0.2.0/24"]"#), "");
    patient.is_cured("objects");
    let lost = ["10.244.1.6", "10.244.1.7"].map(|ip| slice(&format!("gone-{ip}"), "IPv4", ip));
    patient.apply(&[objects(), lost.to_vec()].concat(), "");
    let what = patient.one("objects", "warning");
    let start = "an EndpointSlice belongs to a Service that is not in the input: EndpointSlice \
                 default/gone-10.244.1.6-IPv4 metadata.labels";
    assert!(what.starts_with(start), "{what}");
    let output = patient.namespace.rulegen(&format!("doctor -o json {}", patient.given()));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == "objects").unwrap();
    assert_eq!(check["findings"][0]["code"], ProblemCode::UnknownService.name());
}

#[test]
fn doctor_service_too_large_is_an_error_until_the_limit_is_raised() {
    let patient = Patient::new("too-large", "nftables");
    let (status, found) = patient.examine("--max-service-size 5 --check service-size");
    let (result, what) = &found["service-size"];
    assert_eq!((status, result.as_str()), (Some(1), "error"));
    let [what] = &what[..] else { panic!("one is too large: {what:?}") };
    let remedy = patient.remedy("service-size", "--max-service-size 5");
    assert!(remedy.contains("increase --max-service-size"), "{remedy}");
    let (_, size) = what.split_once("its size ").unwrap();
    let size = size.split(' ').next().unwrap();
    let (_, found) = patient.examine(&format!("--max-service-size {size} --check service-size"));
    assert_eq!(found["service-size"].0, "ok");
}

#[test]
fn doctor_ipv6_disabled_although_services_use_it() {
    let patient = Patient::new("no-ipv6", "nftables");
    let disable = |value| format!("sysctl -qw net.ipv6.conf.all.disable_ipv6={value}");
    patient.namespace.run(&disable(1));
    let (_, found) = patient.examine("--check ipv6-forward");
    let (result, what) = &found["ipv6-forward"];
    assert_eq!(result, "error");
    assert!(what[0].starts_with("Services have IPv6 addresses, but IPv6 is"), "{what:?}");
    let (_, found) = patient.examine("--check ipv6-forward --ip-family ipv4");
    assert_eq!(found["ipv6-forward"].0, "notChecked");
    patient.follow_remedy("ipv6-forward");
}

#[test]
fn doctor_address_claimed_by_two_services() {
    let patient = Patient::new("claims", "nftables");
    let second = SERVICES.replace("\"front\"", "\"second\"").replace("\"web\"", "\"other\"");
    let second =
        second.replace("30081", "30082").replace("30090", "30091").replace("30080", "30083");
    let second = second.replace("10.96.0", "10.96.1").replace("fd00:96::10", "fd00:96::20");
    let slices = [
        slice("other", "IPv4", "10.244.1.6"),
        slice("other", "IPv6", "fd00:10:244:1::6"),
        slice("second", "IPv4", "10.244.1.6"),
    ];
    let all = [objects(), vec![second.clone()], slices.to_vec()].concat();
    patient.apply(&all, "");
    let what = patient.one("address-claims", "warning");
    assert!(
        what.starts_with("192.0.2.1:80 (TCP) is claimed by Service default/front:http"),
        "{what}"
    );
    patient.apply(
        &[objects(), vec![second.replace("192.0.2.1", "192.0.2.2")], slices.to_vec()].concat(),
        "",
    );
    assert_eq!(patient.examine("").0, Some(0));
}

#[test]
fn doctor_affinity_list_of_xt_recent_full_in_iptables_mode() {
    let patient = Patient::new("affinity-list", "iptables");
    let sticky = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "sticky"}, "spec":
        {"clusterIP": "10.96.0.18", "sessionAffinity": "ClientIP",
        "ports": [{"name": "http", "port": 80}]}}"#;
    let more = vec![sticky.to_owned(), slice("sticky", "IPv4", "10.244.1.7")];
    patient.apply(&[objects(), more.clone()].concat(), "");
    assert_eq!(patient.examine("").0, Some(0), "no client yet");
    patient.namespace.run(
        "limit=$(cat /sys/module/xt_recent/parameters/ip_list_tot); \
         list=$(echo /proc/net/xt_recent/KUBE-SEP-*); \
         for n in $(seq $limit); do echo +198.51.$((n / 250)).$((n % 250 + 1)) \
         >$list; done",
    );
    let what = patient.one("affinity-sets", "warning");
    let start = "session affinity of Service default/sticky:http to endpoint 10.244.1.7:8080 is \
                 nearly full: 100 clients that connected within 10800 s.";
    assert!(what.starts_with(start), "{what}");
    // The list keeps its clients although they expire now.
    let timeout = r#""sessionAffinity": "ClientIP", "sessionAffinityConfig":
        {"clientIP": {"timeoutSeconds": 1}},"#;
    let brief = sticky.replace(r#""sessionAffinity": "ClientIP","#, timeout);
    patient.apply(&[objects(), vec![brief], more[1..].to_vec()].concat(), "");
    let deadline = Instant::now() + Duration::from_secs(30);
    while patient.examine("--check affinity-sets").0 != Some(0) {
        assert!(Instant::now() < deadline, "expired clients are counted");
    }
    let count = patient.namespace.run("cat /proc/net/xt_recent/KUBE-SEP-* | wc -l");
    assert_eq!(count.trim(), "100");
}

/// Retries: a process that another test forks has a copy of a closed socket until it
/// executes its program.
fn listen(address: &str) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            bound => return bound.unwrap(),
        }
    }
}

/// A Service with node port 30085, and its endpoint.
fn only_ipv6() -> Vec<String> {
    let service = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "six"}, "spec":
        {"type": "NodePort", "clusterIP": "fd00:96::16", "ipFamilies": ["IPv6"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30085}]}}"#;
    vec![service.to_owned(), slice("six", "IPv6", "fd00:10:244:1::6")]
}

/// A Service may have an address of the node. It is reported if a process listens there.
#[test]
fn doctor_listener_at_node_address_taken_by_service() {
    let patient = Patient::new("node-addresses", "nftables");
    patient.namespace.run("ip addr add 192.168.50.1/24 dev lo; ip addr add 192.168.50.2/24 dev lo");
    let listen = |address: &str| patient.namespace.inside(|| listen(address));
    let greedy = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "greedy"}, "spec":
        {"type": "LoadBalancer", "clusterIP": "10.96.0.17", "externalIPs": ["192.168.50.1"],
        "ports": [{"name": "http", "port": 30022, "nodePort": 30087}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.168.50.2"}]}}}"#;
    let more = [greedy.to_owned(), slice("greedy", "IPv4", "10.244.1.5")];
    patient.apply(&[objects(), more.to_vec()].concat(), "");
    let other = listen("127.0.0.1:30022");
    assert_eq!(patient.examine("").0, Some(0), "no process listens at the address");
    drop(other);
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!("{} (pid {})", own.trim(), std::process::id());
    // The Node object does not have this address.
    for (listener, at, field) in [
        ("192.168.50.1:30022", "192.168.50.1:30022", "spec.externalIPs"),
        ("192.168.50.2:30022", "192.168.50.2:30022", "status.loadBalancer.ingress"),
        ("0.0.0.0:30022", "192.168.50.1:30022 (and 1 more address)", "spec.externalIPs"),
        ("[::]:30022", "192.168.50.1:30022 (and 1 more address)", "spec.externalIPs"),
    ] {
        let socket = listen(listener);
        let what = patient.one("node-addresses", "warning");
        let service = format!("{at} (TCP) of Service default/greedy:http ({field})");
        assert!(what.starts_with(&service), "{what}");
        assert!(what.contains(&format!("{holder} listens on {listener}")), "{what}");
        drop(socket);
    }
    assert_eq!(patient.examine("").0, Some(0));
    let _socket = listen("192.168.50.1:30022");
    let remedy = patient.remedy("node-addresses", "");
    assert!(remedy.starts_with("choose another address or port for Service"), "{remedy}");
    assert!(remedy.contains("--refuse-node-addresses"), "{remedy}");
    let refused = patient.namespace.rulegen(&format!(
        "doctor --check node-addresses {} --refuse-node-addresses",
        patient.given()
    ));
    assert_eq!(refused.status.code(), Some(0), "{}", stdout(&refused));
    let said = stderr(&refused);
    assert!(said.contains("192.168.50.1 is an address of the node \"node-1\""), "{said}");
}

#[test]
fn doctor_listener_at_node_port() {
    let patient = Patient::new("node-ports", "nftables");
    let listen = |address: &str| patient.namespace.inside(|| listen(address));
    let closed = listen("127.0.0.1:30080");
    assert_eq!(patient.examine("").0, Some(0), "node ports are not open at loopback");
    drop(closed);
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!("{} (pid {})", own.trim(), std::process::id());
    let open = listen("0.0.0.0:30080");
    let what = patient.one("node-ports", "warning");
    assert!(what.contains("node port 30080 (TCP) of Service default/web:http"), "{what}");
    assert!(what.contains(&format!("{holder} listens on 0.0.0.0:30080")), "{what}");
    let remedy = patient.remedy("node-ports", "");
    assert!(remedy.contains("add 30080 to net.ipv4.ip_local_reserved_ports"), "{remedy}");
    drop(open);
    patient.apply(&[objects(), only_ipv6()].concat(), "");
    let ipv4 = listen("0.0.0.0:30085");
    assert_eq!(patient.examine("").0, Some(0), "the Service has it in IPv6 only");
    drop(ipv4);
    let both = listen("[::]:30085");
    let what = patient.one("node-ports", "warning");
    assert!(what.contains("Service default/six:http is in use"), "{what}");
    drop(both);
    let asked = listen("[::]:30090");
    let what = patient.one("node-ports", "error");
    assert!(
        what.contains("port 30090 of Service default/front (spec.healthCheckNodePort)"),
        "{what}"
    );
    let remedy = patient.remedy("node-ports", "");
    assert!(remedy.starts_with(&format!("stop {}", own.trim())), "{remedy}");
    drop(asked);
    assert_eq!(patient.examine("").0, Some(0));
}

#[test]
fn doctor_node_ports_in_ephemeral_range_are_a_note() {
    let patient = Patient::new("ephemeral", "nftables");
    patient.namespace.run("sysctl -qw net.ipv4.ip_local_port_range='30080 60999'");
    let what = patient.one("ephemeral-ports", "note");
    let start = "the kernel may use node ports 30080 (Service default/web:http), 30081 (Service \
                 default/front:http), 30090 (Service default/front, healthCheckNodePort) for";
    assert!(what.starts_with(start), "{what}");
    patient.follow_remedy("ephemeral-ports");
    assert_eq!(patient.examine("").0, Some(0));
}
