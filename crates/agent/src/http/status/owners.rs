//! Who gets the packets to an address that several Services have.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use rulegen_model::{IpFamily, Protocol, ServicePort, ServicePortName, Store};

use super::services::family;

/// What the rules of a family look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    Address(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
}

/// Which service port has which frontend.
pub(super) struct Owners(HashMap<(IpFamily, At), ServicePortName>);

impl Owners {
    /// Of all that the service ports have, where these are the only ones that have it.
    pub(super) fn of<'a>(ports: impl Iterator<Item = &'a ServicePort>) -> Self {
        let mut owners = HashMap::<_, ServicePortName>::new();
        for port in ports {
            for at in frontends(port) {
                let owner = owners.entry(at).or_insert_with(|| port.name.clone());
                if port.name < *owner {
                    *owner = port.name.clone();
                }
            }
        }
        Self(owners)
    }

    /// Another service port that has a frontend of this one.
    pub(super) fn other_than(&self, port: &ServicePort, at: At) -> Option<&ServicePortName> {
        self.0.get(&(family(port), at)).filter(|owner| **owner != port.name)
    }
}

/// The service ports that share a frontend with any of these, of other Services too.
pub(super) fn rivals(store: &Store, ports: &[ServicePort]) -> Vec<ServicePort> {
    let wanted: HashSet<(IpFamily, At)> = ports.iter().flat_map(frontends).collect();
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
