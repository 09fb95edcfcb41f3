//! Finds service ports without endpoints, with the reason.

use crate::error::FactResult;
use rulegen_lint::unavailable;
use rulegen_model::{Unavailability, UnavailableReason, unavailable_ports};

use super::node_name;
use crate::finding::{CheckResult, Finding};
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
        let mut finding = Finding::from(unavailable(unavailability));
        if is_misnamed && matches!(unavailability.why, UnavailableReason::NoneLocal { .. }) {
            finding.remedy = "correct the name of this node first (see node-name): until then no \
                              endpoint counts as local"
                .to_owned();
        }
        finding
    };
    unavailable_ports.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use rulegen_model::LocalPolicyScope;
    use rulegen_net::{IpFamily, Protocol, ServicePortName};

    use super::*;

    #[test]
    fn doctor_missing_local_endpoints_of_a_misnamed_node_have_its_name_as_remedy() {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        let remedy = |why, is_misnamed| {
            let unavailability = Unavailability { port: port.clone(), family: IpFamily::Ipv4, why };
            check(&[unavailability], is_misnamed).remove(0).remedy
        };
        let scope = LocalPolicyScope::Internal;
        let local = || UnavailableReason::NoneLocal {
            elsewhere: 1,
            without_node: 0,
            unusable_here: 0,
            scope,
        };
        assert!(remedy(local(), true).starts_with("correct the name of this node"));
        assert!(remedy(local(), false).starts_with("run a pod on this node"));
        assert!(remedy(UnavailableReason::NoSlice, true).contains("describe service web"));
        assert_eq!(check(&[], true), []);
    }
}
