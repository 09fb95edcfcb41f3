//! Who gets the packets to an address that several Services have.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use rulegen_compiler::{Outcome, ServicePlan, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_model::{Node, ServicePort, Store};
use rulegen_net::{IpFamily, Protocol, ServicePortName};

use super::services::family;

/// What the rules of a family look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    Address(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
}

/// Which service port has which frontend.
pub(super) struct Owners<'a>(HashMap<(IpFamily, At), Claim<'a>>);

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
            let plan = plan_service(port, node, config, family(port));
            for at in frontends(port) {
                let claim = Claim { refuses: !forwards(&plan, at.1), name: &port.name };
                let owner = owners.entry(at).or_insert(claim);
                *owner = claim.min(*owner);
            }
        }
        Self(owners)
    }

    /// Another service port that has a frontend of this one.
    pub(super) fn other_than(&self, port: &ServicePort, at: At) -> Option<&ServicePortName> {
        let owner = self.0.get(&(family(port), at))?.name;
        (*owner != port.name).then_some(owner)
    }
}

/// Whether it leads packets to a frontend anywhere. With policy Local and no endpoint here it still
/// takes them.
fn forwards(plan: &ServicePlan, at: At) -> bool {
    let is_internal = matches!(at, At::Address(ip, _, _) if ip == plan.internal.address);
    match &plan.external {
        _ if is_internal => matches!(plan.internal.outcome, Outcome::Forward(_)),
        external => external.as_ref().is_some_and(|external| external.forwards),
    }
}

/// The service ports that share a frontend with any of these, of other Services too.
pub(super) fn rivals<'a>(
    store: &Store,
    ports: impl Iterator<Item = &'a ServicePort>,
) -> Vec<ServicePort> {
    let wanted: HashSet<(IpFamily, At)> = ports.flat_map(frontends).collect();
    let shares = |port: &&ServicePort| frontends(port).any(|at| wanted.contains(&at));
    store.service_ports().filter(shares).cloned().collect()
}

fn frontends(port: &ServicePort) -> impl Iterator<Item = (IpFamily, At)> {
    let over = port.name.protocol;
    let outside = port.external_ips.iter().chain(&port.load_balancer_ips);
    let ips = std::iter::once(&port.cluster_ip).chain(outside);
    let at_ips = ips.map(move |ip| At::Address(*ip, over, port.port));
    let node_port = port.node_port.map(NonZeroU16::get);
    let all = at_ips.chain(node_port.map(|number| At::NodePort(over, number)));
    all.map(|at| (family(port), at))
}
