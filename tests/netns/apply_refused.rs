//! The kernel refuses the rules of one Service in iptables mode: `apply` and the agent leave it
//! out.

use crate::apply::saved;
use crate::common::stderr;
use crate::namespace::Namespace;
use crate::running_agent::{Agent, METRICS_PORT, Manifests, eventually, service, service_with};

/// The kernel follows at most 16 jumps from a base chain (NFT_JUMP_STACK_SIZE). With this many
/// foreign chains before KUBE-SERVICES, a cluster IP still fits. An external IP needs one more jump
/// and fails with EMLINK.
const CHAINS: usize = 11;

/// A namespace in which iptables-nft refuses Services with an external IP.
fn refusing_external_ips(label: &str) -> Namespace {
    let namespace = Namespace::new(label);
    let chains: String = (1..=CHAINS).map(|n| format!(":DEEP-{n} - [0:0]\n")).collect();
    let jump = |n: usize| match n {
        CHAINS => format!("-A DEEP-{n} -j KUBE-SERVICES\n"),
        _ => format!("-A DEEP-{n} -j DEEP-{}\n", n + 1),
    };
    let jumps: String = (1..=CHAINS).map(jump).collect();
    let rules =
        format!("*nat\n:KUBE-SERVICES - [0:0]\n{chains}-A PREROUTING -j DEEP-1\n{jumps}COMMIT\n");
    let file = namespace.file("deep", &rules);
    namespace.run(&format!("iptables-nft-restore --noflush {file}"));
    namespace
}

/// Removes the reason why iptables refused the Service.
fn accept(namespace: &Namespace) {
    namespace.run("iptables-nft -t nat -D PREROUTING -j DEEP-1");
}

const EXTERNAL_IP: &str = "externalIPs: [203.0.113.7],";

/// Ten Services. The seventh has an external IP.
fn cluster() -> String {
    let endpoint = |n: usize| format!("10.244.1.{n}");
    let service_of = |n: usize| match n {
        7 => service_with(n, EXTERNAL_IP, &[&endpoint(n)]),
        _ => service(n, &[&endpoint(n)]),
    };
    (1..=10).map(service_of).collect()
}

fn services(namespace: &Namespace) -> Vec<usize> {
    let rules = saved(namespace, "nft", "iptables");
    (1..=10).filter(|n| rules.contains(&format!("\"default/s{n} cluster IP\""))).collect()
}

const ALL_BUT_THE_SEVENTH: [usize; 9] = [1, 2, 3, 4, 5, 6, 8, 9, 10];

#[test]
fn apply_leaves_out_and_names_service_that_iptables_refuses() {
    let namespace = refusing_external_ips("apply-refused");
    let manifest = namespace.file("cluster.yaml", &cluster());
    let apply = || namespace.rulegen(&format!("-f {manifest} --iptables-variant nft"));
    // At the second call the other Services exist already.
    for _ in 0..2 {
        let output = apply();
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{messages}");
        assert!(messages.contains("Too many links"), "{messages}");
        let named = "warning: Service default/s7: skipped: iptables refused its rules";
        assert_eq!(messages.matches(": skipped: ").count(), 1, "{messages}");
        assert!(messages.contains(named), "{messages}");
        assert!(
            messages.contains("rejected one Service (see above); all others are applied"),
            "{messages}"
        );
        // The other family is written too.
        assert!(messages.contains("IPv6 (iptables-nft): "), "{messages}");
        assert_eq!(services(&namespace), ALL_BUT_THE_SEVENTH);
        let rules = saved(&namespace, "nft", "iptables");
        assert!(!rules.contains("default/s7"), "{rules}");
        assert_eq!(rules.matches("-A PREROUTING").count(), 2, "{rules}");
    }

    accept(&namespace);
    let output = apply();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(services(&namespace), Vec::from_iter(1..=10));
}

#[test]
fn quarantine_agent_leaves_out_service_that_kernel_refuses_iptables() {
    let namespace = refusing_external_ips("agent-refused");
    let manifests = Manifests::new(&namespace);
    manifests.put("cluster.yaml", &cluster());
    let flags = "--proxy-mode iptables --iptables-variant nft --iptables-min-sync-period 0";
    let agent = Agent::start(&namespace, &manifests, flags);
    eventually("all others are written", || services(&namespace) == ALL_BUT_THE_SEVENTH);
    eventually("the log names the Service", || {
        agent.log().contains("Service left out service=default/s7")
    });
    eventually("the metric counts the Service", || {
        agent.get(METRICS_PORT, "/metrics").is_some_and(|(_, metrics)| {
            metrics.contains("rulegen_services_left_out{reason=\"refused\"} 1\n")
        })
    });
    assert!(agent.log().contains("Too many links"), "{}", agent.log());

    accept(&namespace);
    // A Service in quarantine that changes is tried again after 5 s.
    let changed = cluster().replace("10.244.1.7", "10.244.2.7");
    manifests.put("cluster.yaml", &changed);
    agent.wait_until_in_sync();
    assert_eq!(services(&namespace), Vec::from_iter(1..=10));
}
