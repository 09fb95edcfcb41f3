//! Service ports without endpoints.

use rulegen_inspect::words;
use rulegen_model::{LocalPolicyScope, Unavailability, UnavailableReason};

use crate::finding::LintFinding;

/// The finding about a service port without usable endpoints on a node.
pub fn unavailable(unavailability: &Unavailability) -> LintFinding {
    let Unavailability { port, why, .. } = unavailability;
    let finding = LintFinding::new(why.code(), words::unavailability(unavailability))
        .remedy(words::unavailability_remedy(why, port));
    match why {
        // Load balancers skip a node without endpoints, if others have some.
        UnavailableReason::NoneLocal {
            elsewhere: 1.., scope: LocalPolicyScope::External, ..
        } => finding.lowered_to_note(),
        _ => finding,
    }
}

/// The finding about a service port in the whole cluster. `None` if it has endpoints on some nodes.
pub(crate) fn unavailable_anywhere(unavailability: &Unavailability) -> Option<LintFinding> {
    let scope = match unavailability.why {
        UnavailableReason::NoneLocal { elsewhere: 0, scope, .. } => scope,
        UnavailableReason::NoneLocal { .. } => return None,
        _ => return Some(unavailable(unavailability)),
    };
    let Unavailability { port, family, .. } = unavailability;
    let what = words::unavailable_anywhere(port, *family, scope);
    Some(LintFinding { what, ..unavailable(unavailability) })
}

#[cfg(test)]
mod tests {
    use rulegen_model::ProblemCode;
    use rulegen_net::{IpFamily, Protocol, ServicePortName};

    use super::*;
    use crate::severity::FindingSeverity;

    fn found(why: UnavailableReason) -> Unavailability {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        Unavailability { port, family: IpFamily::Ipv4, why }
    }

    #[test]
    fn missing_endpoints_are_a_warning_or_a_note_with_policy_local() {
        let finding = unavailable(&found(UnavailableReason::NoSlice));
        assert_eq!(finding.code, ProblemCode::NoEndpointSlice);
        assert_eq!(finding.severity, FindingSeverity::Warning);
        assert_eq!(finding.what, "Service default/web:http (IPv4) has no EndpointSlice");
        assert!(finding.remedy.contains("kubectl -n default describe service web"), "{finding:?}");
        let local = |elsewhere, scope| {
            let (without_node, unusable_here) = (1, 0);
            found(UnavailableReason::NoneLocal { elsewhere, without_node, unusable_here, scope })
        };
        let external = unavailable(&local(1, LocalPolicyScope::External));
        assert_eq!(external.severity, FindingSeverity::Note);
        assert!(external.remedy.starts_with("run a pod on this node"), "{external:?}");
        let internal = unavailable(&local(1, LocalPolicyScope::Internal));
        assert_eq!(internal.severity, FindingSeverity::Warning);
        for scope in [LocalPolicyScope::External, LocalPolicyScope::Both] {
            assert_eq!(unavailable(&local(0, scope)).severity, FindingSeverity::Warning);
            assert_eq!(unavailable_anywhere(&local(1, scope)), None);
            let anywhere = unavailable_anywhere(&local(0, scope)).unwrap();
            assert!(anywhere.what.contains("on any node"), "{anywhere:?}");
        }
    }
}
