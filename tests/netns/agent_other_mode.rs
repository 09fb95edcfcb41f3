//! Rules of another mode that another program makes while the agent runs.

use std::time::Duration;

use rulegen_kernel::iptables::legacy_tables;

use crate::apply::{VARIANTS, example, saved};
use crate::common::stdout;
use crate::namespace::Namespace;
use crate::running_agent::{Agent, HEALTH_PORT, METRICS_PORT, Manifests, eventually, service};

const ENDPOINT: &str = "10.244.1.5";

/// Rules of iptables mode, as a node may have saved them before it switched to nftables mode.
fn saved_iptables_rules(namespace: &Namespace) -> String {
    let printed = Namespace::new("saved").rulegen(&format!(
        "--dry-run -f {} --hostname-override node-1 --proxy-mode iptables",
        example("nodeport.yaml")
    ));
    namespace.file("rules.v4", &stdout(&printed))
}

fn has_rules(namespace: &Namespace, variant: &str) -> bool {
    saved(namespace, variant, "iptables").contains("KUBE-")
}

const CLEANED_UP: &str = "removed leftover rules of another proxy mode";
const REMOVED: &str = "removed rules of another proxy mode made by another program";

#[test]
fn takeover_nftables_removes_and_reports_restored_iptables_rules() {
    for variant in VARIANTS {
        let namespace = Namespace::new("agent-restored");
        let rules = saved_iptables_rules(&namespace);
        let restore = || namespace.run(&format!("iptables-{variant}-restore < {rules}"));
        restore();
        // A foreign rule in the table is left.
        namespace.run(&format!("iptables-{variant} -t nat -A POSTROUTING -s 10.9.0.0/16"));
        let manifests = Manifests::new(&namespace);
        manifests.put("one.yaml", &service(1, &[ENDPOINT]));
        let agent = Agent::start(&namespace, &manifests, "-v 4");
        agent.wait_until_in_sync();
        agent.wait_for_log(CLEANED_UP);
        for n in 1..=2 {
            restore();
            eventually("the old rules are gone", || !has_rules(&namespace, variant));
            let reports = || agent.log().matches(REMOVED).count();
            eventually("the removal is reported", || reports() >= n);
        }
        let program = if variant == "nft" { "iptables-nft-re" } else { "unknown" };
        agent.wait_for_log(&format!(r#"program="{program}""#));
        let events = format!(r#"rulegen_drift_events_total{{writer="{program}"}}"#);
        eventually("the drift is counted", || agent.metric(&events) >= 2.0);
        let page = || agent.get(METRICS_PORT, "/drift?format=json").unwrap().1;
        assert!(page().contains(&format!("iptables-{variant}")), "{}", page());

        // A table that nothing changed is not read. The changed Service proves that enough time has
        // passed.
        let saves = || agent.log().matches(&format!("tables-{variant}-save\"")).count();
        if variant == "nft" {
            // The agent's own removal also causes a read.
            let mut before = saves();
            eventually("the agent has stopped reading", || {
                let last = std::mem::replace(&mut before, saves());
                std::thread::sleep(Duration::from_secs(1));
                last == saves()
            });
            namespace.run("iptables-nft -t nat -A POSTROUTING -s 10.11.0.0/16");
            manifests.put("one.yaml", &service(1, &["10.244.1.6"]));
            agent.wait_until_in_sync();
            assert_eq!(saves(), before, "{}", agent.log());
        }
    }
}

#[test]
fn iptables_legacy_table_changes_are_detected_without_reading_rules() {
    let namespace = Namespace::new("legacy-tables");
    let tables = || namespace.inside(|| legacy_tables().unwrap());
    assert!(tables().is_empty());
    namespace.run("iptables-legacy -t nat -N ONE; ip6tables-legacy -t filter -N ONE");
    let before = tables();
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(tables(), before);
    namespace.run("iptables-legacy -t nat -A ONE");
    assert_ne!(tables(), before);
}

/// Two programs that remove each other's rules.
#[test]
fn takeover_pauses_and_reports_rival_that_recreates_rules() {
    let namespace = Namespace::new("agent-fight");
    let manifests = Manifests::new(&namespace);
    manifests.put("one.yaml", &service(1, &[ENDPOINT]));
    namespace.run("nft add table ip kube-proxy");
    let agent = Agent::start(&namespace, &manifests, "");
    agent.wait_until_in_sync();
    agent.wait_for_log(CLEANED_UP);
    let is_left = || agent.log().contains("keeps recreating rules of another proxy mode");
    let tables = || namespace.run("nft list tables");
    eventually("the agent gives up", || {
        if !tables().contains("kube-proxy") {
            namespace.run("nft add table ip kube-proxy");
        }
        is_left()
    });
    assert_eq!(agent.log().matches(REMOVED).count(), 5, "{}", agent.log());
    namespace.run("nft add table ip kube-proxy");
    let readiness = || agent.get(HEALTH_PORT, "/readyz").unwrap();
    eventually("/readyz reports it", || {
        let (status, body) = readiness();
        status == 200
            && body.contains("keeps recreating rules of another proxy mode, removal is paused")
    });
    let (_, body) = readiness();
    assert!(body.contains("another program keeps changing the rules"), "{body}");
    let (_, page) = agent.get(METRICS_PORT, "/").unwrap();
    assert!(page.contains("Other programs change the rules"), "{page}");
    manifests.put("one.yaml", &service(1, &["10.244.1.6"]));
    agent.wait_until_in_sync();
    assert!(tables().contains("kube-proxy"), "the agent removed the table");
}
