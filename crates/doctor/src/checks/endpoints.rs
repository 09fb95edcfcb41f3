//! Finds service ports without endpoints, with the reason.

use crate::error::FactResult;
use rulegen_model::{LocalPolicyScope, Unavailability, UnavailableReason, unavailable_ports};

use super::node_name;
use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding, FindingSeverity};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let unavailable = unavailable_ports(&cluster.snapshot, &cluster.objects);
        let is_misnamed = !unavailable.is_empty() && node_name::is_wrong(node, cluster)?;
        Ok(CheckResult::Found(check(&unavailable, is_misnamed)))
    })
}

/// `is_misnamed`: no endpoint counts as local, because no Node has this node's name.
fn check(unavailable_ports: &[Unavailability], is_misnamed: bool) -> Vec<Finding> {
    let finding = |unavailability: &Unavailability| {
        let (code, severity) = (code(&unavailability.why), severity(&unavailability.why));
        let remedy = match unavailability.why {
            UnavailableReason::NoneLocal { .. } if is_misnamed => {
                "correct the name of this node first (see node-name): until then no endpoint counts \
                 as local"
                    .to_owned()
            }
            _ => unavailability.why.remedy(&unavailability.port).to_string(),
        };
        Finding::new(code, severity, unavailability.to_string(), remedy)
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

fn severity(why: &UnavailableReason) -> FindingSeverity {
    match why {
        // Load balancers skip such nodes, and terminating endpoints still serve.
        UnavailableReason::NoneLocal { scope: LocalPolicyScope::External, .. }
        | UnavailableReason::OnlyTerminating { .. } => FindingSeverity::Note,
        UnavailableReason::NoneLocal { .. }
        | UnavailableReason::NoSlice
        | UnavailableReason::EmptySlices
        | UnavailableReason::NoSuchPort { .. }
        | UnavailableReason::NoneReady { .. } => FindingSeverity::Warning,
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
        let found = |why, is_misnamed| {
            check(
                &[Unavailability { port: port.clone(), family: IpFamily::Ipv4, why }],
                is_misnamed,
            )
        };
        let [finding] = &found(UnavailableReason::NoSlice, true)[..] else {
            panic!("expected one finding")
        };
        assert_eq!(finding.code, FindingCode::NoEndpointSlice);
        assert_eq!(finding.severity, FindingSeverity::Warning);
        assert_eq!(finding.what, "Service default/web:http (IPv4) has no EndpointSlice");
        assert!(finding.remedy.contains("kubectl -n default describe service web"), "{finding:?}");
        let local = |scope| UnavailableReason::NoneLocal { elsewhere: 1, without_node: 0, scope };
        let external = &found(local(LocalPolicyScope::External), false)[0];
        assert_eq!(external.severity, FindingSeverity::Note);
        assert!(external.remedy.starts_with("run a pod on this node"), "{external:?}");
        let internal = &found(local(LocalPolicyScope::Internal), true)[0];
        assert_eq!(internal.severity, FindingSeverity::Warning);
        assert!(internal.remedy.starts_with("correct the name of this node"), "{internal:?}");
        assert_eq!(check(&[], true), []);
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
