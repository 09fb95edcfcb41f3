//! The owners of addresses that several Services claim.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rulegen_compiler::{Precedence, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_model::{Node, ServicePort, Store};
use rulegen_net::{Frontend, ServicePortName};

/// The owner of each frontend.
pub(super) struct FrontendOwners(HashMap<Frontend, Precedence>);

impl FrontendOwners {
    /// The owners of the service ports' frontends. The ports must include all claimants.
    pub(super) fn of(ports: &[ServicePort], node: &Node, config: &ProxyConfig) -> Self {
        let mut owners = HashMap::new();
        for port in ports {
            let plan = plan_service(port, node, config, port.family());
            for (frontend, kind) in plan.frontends() {
                let claim = plan.precedence(kind);
                match owners.entry(frontend) {
                    Entry::Vacant(free) => {
                        free.insert(claim);
                    }
                    Entry::Occupied(mut taken) if claim < *taken.get() => {
                        taken.insert(claim);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        Self(owners)
    }

    /// The owner of a frontend, if it is another service port.
    pub(super) fn other_than(
        &self,
        port: &ServicePort,
        frontend: Frontend,
    ) -> Option<&ServicePortName> {
        let owner = &self.0.get(&frontend)?.name;
        (*owner != port.name).then_some(owner)
    }
}

/// All service ports that share a frontend with one of these ports, including those of other
/// Services.
pub(super) fn claimants<'a>(
    store: &Store,
    ports: impl Iterator<Item = &'a ServicePort>,
) -> Vec<ServicePort> {
    let wanted: HashSet<Frontend> =
        ports.flat_map(ServicePort::frontends).map(|(frontend, _)| frontend).collect();
    let shares =
        |port: &&ServicePort| port.frontends().any(|(frontend, _)| wanted.contains(&frontend));
    store.service_ports().filter(shares).cloned().collect()
}
