//! What a ruleset says of Services, in terms of Services, read back from either backend.
//!
//! ```text
//! nftables::Table ───of_table───▶ Listing ─┐
//! iptables::Ruleset ─of_ruleset─▶ Listing ─┴─compare─▶ what the kernel lacks and has too much
//! Plan ──────────────of_plan────▶ Listing     names and kinds that a ruleset does not tell
//! ```
//!
//! The rules are followed as a packet would: not what a chain is called counts, but where it
//! leads. So a listing is right of rules that somebody changed, too. What is wanted goes
//! through the same functions as what is held, and the two are compared.

mod compare;
mod entrance;
mod loss;
mod owner;
mod plan;
mod reachable;
mod ruleset;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use rulegen_compiler::Refusal;
use rulegen_model::TrafficPolicy;
use rulegen_net::{Frontend, FrontendKind, ServicePortName};

pub use compare::{Compared, Comparison, State, compare};
pub use entrance::{closed_hooks_of_ruleset, closed_hooks_of_table};
pub use loss::{Loss, loss, services_of_kube_proxy};
pub use owner::{Owners, owner_of_object, owners_of_chains};
pub use plan::of_plan;
pub use ruleset::of_ruleset;
pub(crate) use table::frontend as frontend_of_key;
pub use table::of_table;

/// The frontends of one service port and what becomes of traffic to them.
pub type Frontends = BTreeMap<Frontend, Traffic>;

/// Services as a ruleset has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By service port. Frontends of which the ruleset does not tell the name, or not all of it,
    /// are those of `None`.
    pub services: BTreeMap<Option<ServicePortName>, Frontends>,
}

/// What becomes of traffic to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// What kind of address the frontend has.
    pub kind: FrontendKind,
    /// The policy that chooses, where the ruleset tells it: nftables rules are the same for both
    /// policies of cluster IPs.
    pub policy: Option<TrafficPolicy>,
    /// Where it goes that is of a client who was not seen before, ordered.
    pub endpoints: Vec<SocketAddr>,
    /// Where traffic of this node and of its pods goes, ordered, if it has a way of its own that
    /// leads somewhere: under external policy Local they reach all endpoints.
    pub from_node: Vec<SocketAddr>,
    /// How traffic is refused that goes nowhere.
    pub refusal: Option<Refusal>,
    /// Who is let through, ordered and merged, if not everybody.
    pub source_ranges: Option<Vec<IpNet>>,
    /// How long a client keeps its endpoint, in seconds.
    pub affinity_seconds: Option<u32>,
}

impl Listing {
    /// Adds what another ruleset says: of the other family.
    pub fn append(&mut self, other: Self) {
        for (name, frontends) in other.services {
            self.services.entry(name).or_default().extend(frontends);
        }
    }

    /// Says of frontends what a ruleset does not tell, where another listing knows it and does
    /// not contradict: what kind of address it is, and by which policy an endpoint is chosen.
    pub fn complete(&mut self, from: &Self) {
        for (name, frontends) in &mut self.services {
            let Some(known) = from.services.get(name) else { continue };
            for (frontend, traffic) in frontends {
                if let Some(known) = known.get(frontend) {
                    traffic.complete(known);
                }
            }
        }
    }

    fn traffic(
        &mut self,
        name: Option<ServicePortName>,
        frontend: Frontend,
        kind: FrontendKind,
    ) -> &mut Traffic {
        let frontends = self.services.entry(name).or_default();
        frontends.entry(frontend).or_insert_with(|| Traffic::to(kind))
    }

    fn refuse(
        &mut self,
        name: Option<ServicePortName>,
        frontend: Frontend,
        kind: FrontendKind,
        refusal: Refusal,
    ) {
        let traffic = self.traffic(name, frontend, kind);
        traffic.refusal = Some(refusal);
        if refusal == Refusal::NoLocalEndpoints {
            traffic.policy = Some(TrafficPolicy::Local);
        }
    }
}

impl Traffic {
    fn to(kind: FrontendKind) -> Self {
        Self {
            kind,
            policy: None,
            endpoints: Vec::new(),
            from_node: Vec::new(),
            refusal: None,
            source_ranges: None,
            affinity_seconds: None,
        }
    }

    fn complete(&mut self, known: &Self) {
        if self.kind == FrontendKind::External {
            self.kind = known.kind;
        }
        self.policy = self.policy.or(known.policy);
    }

    /// All endpoints that some traffic goes to, ordered.
    pub fn all_endpoints(&self) -> Vec<SocketAddr> {
        let mut all = [self.endpoints.as_slice(), &self.from_node].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}
