//! Which service port gets the traffic to a frontend that several claim.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};

use rulegen_net::{Frontend, FrontendKind, IpFamily, Protocol, ServicePortName};

use super::service_plan::Precedence;
use super::{Plan, ServicePlan};

impl Plan {
    /// The service port that gets the traffic to a frontend, and the kind of the frontend for it.
    pub fn owner_of(&self, frontend: Frontend) -> Option<(&ServicePlan, FrontendKind)> {
        self.owner_of_any(|of| *of == frontend)
    }

    /// The service port that gets packets to an address and port at this node. `is_local` tells
    /// whether the kernel calls an address local.
    pub fn owner_at(
        &self,
        to: SocketAddr,
        protocol: Protocol,
        is_local: impl FnOnce(IpAddr) -> bool,
    ) -> Option<(&ServicePlan, FrontendKind)> {
        let address = Frontend::at_ip(to.ip(), protocol, to.port());
        let at_node = Frontend::node_port(IpFamily::of(to.ip()), protocol, to.port());
        let is_open = self.node_ports_at.is_open_at(to.ip(), is_local);
        self.owner_of_any(|of| *of == address || is_open && *of == at_node)
    }

    fn owner_of_any(
        &self,
        is_wanted: impl Fn(&Frontend) -> bool,
    ) -> Option<(&ServicePlan, FrontendKind)> {
        let claims = self.services.iter().filter_map(|of| {
            let (_, kind) = of.frontends().find(|(frontend, _)| is_wanted(frontend))?;
            Some((of, kind))
        });
        claims.min_by_key(|(of, kind)| of.precedence(*kind))
    }
}

/// The claim that wins each frontend.
#[derive(Debug, Default)]
pub struct FrontendOwners(HashMap<Frontend, Precedence>);

impl FrontendOwners {
    /// The owners of the frontends of service ports. These must include all claimants.
    pub fn of(plans: impl IntoIterator<Item = ServicePlan>) -> Self {
        let mut owners = HashMap::new();
        for plan in plans {
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

    /// The owner of a frontend, if it is another service port than this.
    pub fn other_than(
        &self,
        port: &ServicePortName,
        frontend: Frontend,
    ) -> Option<&ServicePortName> {
        let owner = &self.0.get(&frontend)?.name;
        (owner != port).then_some(owner)
    }
}
