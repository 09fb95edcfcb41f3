//! Finds service ports without endpoints, with the reason.

use crate::error::Result;
use rulegen_model::{LocalPolicyScope, Unavailability, UnavailableReason, unavailable_ports};

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome, Severity};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> Result<Outcome> {
    node.with_services(|cluster| {
        Ok(Outcome::Found(check(&unavailable_ports(&cluster.snapshot, &cluster.objects))))
    })
}

fn check(unavailable_ports: &[Unavailability]) -> Vec<Finding> {
    let finding = |unavailability: &Unavailability| {
        let (code, severity) = (code(&unavailability.why), severity(&unavailability.why));
        Finding::new(
            code,
            severity,
            unavailability.to_string(),
            unavailability.why.remedy(&unavailability.port),
        )
    };
    unavailable_ports.iter().map(finding).collect()
}

fn code(why: &UnavailableReason) -> FindingCode {
    match why {
        UnavailableReason::NoSlice => FindingCode::NoEndpointSlice,
        UnavailableReason::EmptySlices => FindingCode::EmptyEndpointSlices,
        UnavailableReason::NoSuchPort { .. } => FindingCode::NoSuchEndpointPort,
        UnavailableReason::NoneReady { .. } => FindingCode::NoReadyEndpoints,
        UnavailableReason::OnlyTerminating { .. } => FindingCode::OnlyTerminatingEndpoints,
        UnavailableReason::NoneLocal { .. } => FindingCode::NoLocalEndpoints,
    }
}

fn severity(why: &UnavailableReason) -> Severity {
    match why {
        // Load balancers skip such nodes, and terminating endpoints still serve.
        UnavailableReason::NoneLocal { scope: LocalPolicyScope::External, .. }
        | UnavailableReason::OnlyTerminating { .. } => Severity::Note,
        UnavailableReason::NoneLocal { .. }
        | UnavailableReason::NoSlice
        | UnavailableReason::EmptySlices
        | UnavailableReason::NoSuchPort { .. }
        | UnavailableReason::NoneReady { .. } => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use rulegen_net::{IpFamily, Protocol, ServicePortName};

    use super::*;

    #[test]
    fn doctor_missing_endpoints_are_a_warning_or_a_note_with_policy_local() {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        let found =
            |why| check(&[Unavailability { port: port.clone(), family: IpFamily::Ipv4, why }]);
        let [finding] = &found(UnavailableReason::NoSlice)[..] else {
            panic!("expected one finding")
        };
        assert_eq!(finding.code, FindingCode::NoEndpointSlice);
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.what, "Service default/web:http (IPv4) has no EndpointSlice");
        assert!(finding.remedy.contains("kubectl -n default describe service web"), "{finding:?}");
        let local = |scope| UnavailableReason::NoneLocal { elsewhere: 1, without_node: 0, scope };
        assert_eq!(found(local(LocalPolicyScope::External))[0].severity, Severity::Note);
        assert_eq!(found(local(LocalPolicyScope::Internal))[0].severity, Severity::Warning);
        assert_eq!(check(&[]), []);
        // The status page has the same codes.
        let (port, found) = (String::new(), Vec::new());
        for why in [
            UnavailableReason::NoSlice,
            UnavailableReason::EmptySlices,
            UnavailableReason::NoSuchPort { port, found },
            UnavailableReason::NoneReady { not_ready: 1, terminating: 0 },
            UnavailableReason::OnlyTerminating { terminating: 1 },
            local(LocalPolicyScope::Both),
        ] {
            assert_eq!(
                serde_json::json!(code(&why)),
                rulegen_inspect::words::unavailability_code(&why)
            );
        }
    }
}
