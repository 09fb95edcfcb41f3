//! Addresses and ports that several Services claim.

use anyhow::Result;
use rulegen_compiler::{FrontendConflict, conflicts};
use rulegen_net::{FrontendAddress, FrontendKind};

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    rim.with_cluster(|cluster| {
        Ok(Outcome::Found(check(&conflicts(&cluster.snapshot, rim.config()))))
    })
}

fn check(conflicts: &[FrontendConflict]) -> Vec<Finding> {
    conflicts.iter().filter_map(finding).collect()
}

fn finding(conflict: &FrontendConflict) -> Option<Finding> {
    let FrontendConflict { frontend, families, contenders } = conflict;
    let (first, others) = contenders.split_first()?;
    let protocol = frontend.protocol.api_name();
    let over = match (frontend.address, families.as_slice()) {
        (FrontendAddress::Node(_), [family]) => format!("{protocol}, {}", family.api_name()),
        _ => protocol.to_owned(),
    };
    let place = match frontend.socket() {
        Some(socket) => socket.to_string(),
        None => format!("node port {}", frontend.port),
    };
    let end = end(conflict);
    let list = |words: Vec<String>| words.join(" and ");
    let losers = list(others.iter().map(ToString::to_string).collect());
    let remedy = others
        .iter()
        .map(|other| format!("give Service {} another {}", other.port, other.kind.field()));
    Some(Finding::warning(
        format!("{place} ({over}) is claimed by {first} and by {losers}: {end}"),
        list(remedy.collect()),
    ))
}

/// What becomes of the traffic.
fn end(conflict: &FrontendConflict) -> &'static str {
    let contenders = &conflict.contenders;
    let is_health_check = |kind| kind == FrontendKind::HealthCheckNodePort;
    if contenders.first().is_some_and(|first| first.forwards) {
        "the first gets it, as the first by name that has endpoints"
    } else if contenders.iter().all(|contender| is_health_check(contender.kind)) {
        "load balancers are answered for the first"
    } else if contenders.iter().any(|contender| is_health_check(contender.kind)) {
        "load balancers may be refused there"
    } else {
        "the first refuses it, as none has endpoints"
    }
}

#[cfg(test)]
mod tests {
    use rulegen_compiler::Contender;
    use rulegen_net::{Frontend, IpFamily, Protocol, ServicePortName};

    use super::*;

    fn contender(service: &str, kind: FrontendKind, forwards: bool) -> Contender {
        let port = ServicePortName {
            namespace: "default".into(),
            service: service.into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        Contender { port, kind, forwards }
    }

    fn conflict(families: &[IpFamily], contenders: [Contender; 2]) -> FrontendConflict {
        let (families, contenders) = (families.to_vec(), contenders.to_vec());
        let frontend = Frontend::node_port(families[0], Protocol::Tcp, 30000);
        FrontendConflict { frontend, families, contenders }
    }

    #[test]
    fn the_winner_and_the_field_to_change_are_named() {
        let contenders = [("b", true), ("a", false)]
            .map(|(name, has)| contender(name, FrontendKind::NodePort, has));
        let found = check(&[conflict(&IpFamily::BOTH, contenders.clone())]);
        let [finding] = &found[..] else { panic!("one is wrong") };
        assert_eq!(
            finding.what,
            "node port 30000 (TCP) is claimed by Service default/b (spec.ports[].nodePort) and by \
             Service default/a (spec.ports[].nodePort): the first gets it, as the first by name \
             that has endpoints"
        );
        assert_eq!(finding.remedy, "give Service default/a another spec.ports[].nodePort");
        let found = check(&[conflict(&[IpFamily::Ipv6], contenders)]);
        assert!(found[0].what.starts_with("node port 30000 (TCP, IPv6) is claimed"), "{found:?}");
    }

    #[test]
    fn without_endpoints_nobody_gets_it() {
        for (kinds, end) in [
            ([FrontendKind::NodePort; 2], "the first refuses it, as none has endpoints"),
            ([FrontendKind::HealthCheckNodePort; 2], "load balancers are answered for the first"),
            (
                [FrontendKind::NodePort, FrontendKind::HealthCheckNodePort],
                "load balancers may be refused there",
            ),
        ] {
            let [first, second] = kinds;
            let contenders = [contender("a", first, false), contender("b", second, false)];
            let found = check(&[conflict(&IpFamily::BOTH, contenders)]);
            assert!(found[0].what.ends_with(&format!(": {end}")), "{found:?}");
        }
    }
}
