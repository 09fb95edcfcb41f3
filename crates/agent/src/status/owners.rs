//! Who gets the packets to an address that several Services have.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rulegen_compiler::{Precedence, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_model::{Node, ServicePort, Store};
use rulegen_net::{Frontend, ServicePortName};

/// Which service port has which frontend.
pub(super) struct Owners(HashMap<Frontend, Precedence>);

impl Owners {
    /// Of all that the service ports have, where these are the only ones that have it.
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

    /// Another service port that has a frontend of this one.
    pub(super) fn other_than(
        &self,
        port: &ServicePort,
        frontend: Frontend,
    ) -> Option<&ServicePortName> {
        let owner = &self.0.get(&frontend)?.name;
        (*owner != port.name).then_some(owner)
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
