//! Who gets the packets to an address that several Services have.

use std::collections::{HashMap, HashSet};

use rulegen_compiler::{Outcome, ServicePlan, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_model::{Node, ServicePort, Store};
use rulegen_net::{Frontend, FrontendKind, ServicePortName};

/// Which service port has which frontend.
pub(super) struct Owners<'a>(HashMap<Frontend, Claim<'a>>);

/// What a service port does with the packets to a frontend. The least of all has it: what is
/// forwarded is translated before anything is refused, and among equals the first by name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    refuses: bool,
    name: &'a ServicePortName,
}

impl<'a> Owners<'a> {
    /// Of all that the service ports have, where these are the only ones that have it.
    pub(super) fn of(ports: &'a [ServicePort], node: &Node, config: &ProxyConfig) -> Self {
        let mut owners = HashMap::new();
        for port in ports {
            let plan = plan_service(port, node, config, port.family());
            for (frontend, kind) in port.frontends() {
                let claim = Claim { refuses: !forwards(&plan, kind), name: &port.name };
                let owner = owners.entry(frontend).or_insert(claim);
                *owner = claim.min(*owner);
            }
        }
        Self(owners)
    }

    /// Another service port that has a frontend of this one.
    pub(super) fn other_than(
        &self,
        port: &ServicePort,
        frontend: Frontend,
    ) -> Option<&ServicePortName> {
        let owner = self.0.get(&frontend)?.name;
        (*owner != port.name).then_some(owner)
    }
}

/// Whether it leads packets to a frontend anywhere. With policy Local and no endpoint here it still
/// takes them.
fn forwards(plan: &ServicePlan, kind: FrontendKind) -> bool {
    match &plan.external {
        _ if kind == FrontendKind::ClusterIP => {
            matches!(plan.internal.outcome, Outcome::Forward(_))
        }
        external => external.as_ref().is_some_and(|external| external.forwards),
    }
}

/// The service ports that share a frontend with any of these, of other Services too.
pub(super) fn rivals<'a>(
    store: &Store,
    ports: impl Iterator<Item = &'a ServicePort>,
) -> Vec<ServicePort> {
    let wanted: HashSet<Frontend> =
        ports.flat_map(ServicePort::frontends).map(|(frontend, _)| frontend).collect();
    let shares =
        |port: &&ServicePort| port.frontends().any(|(frontend, _)| wanted.contains(&frontend));
    store.service_ports().filter(shares).cloned().collect()
}
