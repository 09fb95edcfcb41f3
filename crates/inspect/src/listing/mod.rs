//! The Services of a ruleset, read back from the rules of either backend.
//!
//! ```text
//! nftables::Table ───of_table───▶ Listing ─┐
//! iptables::Ruleset ─of_ruleset─▶ Listing ─┴─compare─▶ missing and unexpected frontends, endpoints
//! Plan ──────────────of_plan────▶ Listing     names and kinds that a ruleset does not show
//! ```
//!
//! Rules are followed as a packet follows them: what counts is where a chain leads, not its name.
//! So a listing is also right for rules that another program changed. Wanted and actual rules are
//! listed by the same functions, and the two listings compared.

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
pub use table::{is_table_of_kube_proxy, of_table};

/// The frontends of one service port, and how traffic to them is treated.
pub type Frontends = BTreeMap<Frontend, Traffic>;

/// The Services of a ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By service port. Frontends whose service port the ruleset does not show, or not completely,
    /// are under `None`.
    pub services: BTreeMap<Option<ServicePortName>, Frontends>,
}

/// How traffic to a frontend is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The kind of address.
    pub kind: FrontendKind,
    /// The traffic policy, if the ruleset shows it: nftables rules are the same for both policies
    /// of cluster IPs.
    pub policy: Option<TrafficPolicy>,
    /// Endpoints for clients not seen before, ordered. Empty if traffic is rejected or dropped.
    pub endpoints: Vec<SocketAddr>,
    /// Endpoints for traffic of this node and its pods, ordered, if the rules treat it separately:
    /// under external policy Local, it may go to all endpoints.
    pub from_node: Vec<SocketAddr>,
    /// Why traffic is rejected or dropped; `None` if it is forwarded.
    pub refusal: Option<Refusal>,
    /// Networks of allowed clients, ordered and merged; `None` if all are allowed.
    pub source_ranges: Option<Vec<IpNet>>,
    /// Timeout of session affinity in seconds; `None` without affinity.
    pub affinity_seconds: Option<u32>,
}

impl Listing {
    /// Adds the listing of another ruleset, of the other IP family.
    pub fn append(&mut self, other: Self) {
        for (name, frontends) in other.services {
            self.services.entry(name).or_default().extend(frontends);
        }
    }

    /// Adds kinds and policies that a ruleset does not show, from a listing with them, usually
    /// [`of_plan`]. Skips frontends for which the two contradict each other.
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

    /// Removes what only the rules of iptables mode show, so that two listings of nothing but rules
    /// are equal in both modes.
    pub fn keep_what_both_modes_show(&mut self) {
        let frontends = self.services.values_mut();
        frontends.flat_map(BTreeMap::values_mut).for_each(Traffic::keep_what_both_modes_show);
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

    /// Only load-balancer IPs have source ranges. A cluster IP without a local endpoint is dropped
    /// under policy Local only.
    fn keep_what_both_modes_show(&mut self) {
        match self.kind {
            FrontendKind::ExternalIP | FrontendKind::LoadBalancerIP | FrontendKind::External => {
                let has_ranges = self.source_ranges.is_some();
                self.kind =
                    if has_ranges { FrontendKind::LoadBalancerIP } else { FrontendKind::External };
            }
            FrontendKind::ClusterIP if self.refusal != Some(Refusal::NoLocalEndpoints) => {
                self.policy = None;
            }
            FrontendKind::ClusterIP
            | FrontendKind::NodePort
            | FrontendKind::HealthCheckNodePort => {}
        }
    }

    /// All endpoints that any traffic can reach, ordered.
    pub fn all_endpoints(&self) -> Vec<SocketAddr> {
        let mut all = [self.endpoints.as_slice(), &self.from_node].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}
