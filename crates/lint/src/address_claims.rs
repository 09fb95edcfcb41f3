//! Addresses and ports that several Services claim.

use rulegen_compiler::FrontendConflict;
use rulegen_model::ProblemCode;
use rulegen_net::{FrontendAddress, FrontendKind};

use crate::finding::LintFinding;

/// The finding about a contested address and port. `None` if nobody claims it. Without the endpoints
/// of a cluster it is not known which Service gets the traffic.
pub fn frontend_conflict(
    conflict: &FrontendConflict,
    knows_endpoints: bool,
) -> Option<LintFinding> {
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
    let outcome = match knows_endpoints {
        true => outcome(conflict),
        false => "only one of them gets the traffic",
    };
    let list = |words: Vec<String>| words.join(" and ");
    let losers = list(others.iter().map(ToString::to_string).collect());
    let remedy = others
        .iter()
        .map(|other| format!("give Service {} another {}", other.port, other.kind.field()));
    let what = format!("{place} ({over}) is claimed by {first} and by {losers}: {outcome}");
    Some(LintFinding::new(ProblemCode::FrontendConflict, what).remedy(list(remedy.collect())))
}

/// The outcome for the traffic.
fn outcome(conflict: &FrontendConflict) -> &'static str {
    let contenders = &conflict.contenders;
    let is_health_check = |kind| kind == FrontendKind::HealthCheckNodePort;
    if contenders.first().is_some_and(|first| first.forwards) {
        "the first Service gets the traffic (first by name with endpoints)"
    } else if contenders.iter().all(|contender| is_health_check(contender.kind)) {
        "health checks are answered for the first Service"
    } else if contenders.iter().any(|contender| is_health_check(contender.kind)) {
        "health checks may be rejected"
    } else {
        "traffic is rejected because no Service has endpoints"
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
    fn address_conflict_names_the_winner_and_the_field_to_change() {
        let contenders = [("b", true), ("a", false)]
            .map(|(name, has)| contender(name, FrontendKind::NodePort, has));
        let found = frontend_conflict(&conflict(&IpFamily::BOTH, contenders.clone()), true);
        let finding = found.unwrap();
        assert_eq!(
            finding.what,
            "node port 30000 (TCP) is claimed by Service default/b (spec.ports[].nodePort) and by \
             Service default/a (spec.ports[].nodePort): the first Service gets the traffic (first by \
             name with endpoints)"
        );
        assert_eq!(finding.remedy, "give Service default/a another spec.ports[].nodePort");
        let found = frontend_conflict(&conflict(&[IpFamily::Ipv6], contenders), true).unwrap();
        assert!(found.what.starts_with("node port 30000 (TCP, IPv6) is claimed"), "{found:?}");
    }

    #[test]
    fn address_conflict_without_endpoints_has_no_winner() {
        for (kinds, end) in [
            ([FrontendKind::NodePort; 2], "traffic is rejected because no Service has endpoints"),
            (
                [FrontendKind::HealthCheckNodePort; 2],
                "health checks are answered for the first Service",
            ),
            (
                [FrontendKind::NodePort, FrontendKind::HealthCheckNodePort],
                "health checks may be rejected",
            ),
        ] {
            let [first, second] = kinds;
            let contenders = [contender("a", first, false), contender("b", second, false)];
            let found = frontend_conflict(&conflict(&IpFamily::BOTH, contenders), true).unwrap();
            assert!(found.what.ends_with(&format!(": {end}")), "{found:?}");
        }
    }
}
