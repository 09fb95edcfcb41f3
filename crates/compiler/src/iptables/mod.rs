//! Renders a plan in kube-proxy's iptables layout, rule for rule (kube-proxy 1.36).
//!
//! ```text
//! nat     PREROUTING, OUTPUT ─▶ KUBE-SERVICES ─▶ KUBE-SVC-…   cluster IP, policy Cluster
//!                                    │           KUBE-SVL-…   cluster IP, policy Local
//!                                    │           KUBE-FW-…  ─▶ KUBE-EXT-…  source ranges
//!                                    ├─────────▶ KUBE-EXT-… ─▶ KUBE-SVC-… or KUBE-SVL-…
//!                                    └▶ KUBE-NODEPORTS ─▶ KUBE-EXT-…
//!         KUBE-SVC-…, KUBE-SVL-… ─▶ KUBE-SEP-… ─▶ DNAT
//!         POSTROUTING ─▶ KUBE-POSTROUTING ─▶ MASQUERADE      packets with KUBE-MARK-MASQ's mark
//! filter  INPUT, FORWARD, OUTPUT ─▶ KUBE-SERVICES, KUBE-EXTERNAL-SERVICES  REJECT and DROP
//!                                   KUBE-PROXY-FIREWALL  DROP outside of the source ranges
//! ```

mod chains;
mod cleanup;
mod layout;
mod live;
mod names;
mod rules;
mod service;

use rayon::prelude::*;
use rulegen_ruleset::iptables::Ruleset;

pub use cleanup::removal_of_everything;
pub use layout::{
    EXTERNAL_SERVICES, KUBELET_CHAINS, MARK_MASQUERADE, NODE_PORTS, OURS, POSTROUTING,
    PROXY_FIREWALL, SERVICES, SHARED_FIREWALL, concerns, leads_to_services, loopback_guard,
};
pub use live::{LiveRuleset, Patch, Sizes};

use chains::RenderedChains;

use crate::plan::{Plan, ServicePlan};

/// Renders a plan as the tables `filter` and `nat`, with all rules that rulegen makes there.
pub fn ruleset(plan: &Plan) -> Ruleset {
    let services: Vec<&ServicePlan> = plan.services.iter().collect();
    chains(plan, &services, service::render).into_ruleset(plan.family)
}

/// Number of Services that one thread renders at a time.
const SERVICES_OF_A_PART: usize = 256;

/// The chains of a plan, with those that `render` adds for each service port, ordered by name.
fn chains(
    plan: &Plan,
    services: &[&ServicePlan],
    render: fn(&Plan, &ServicePlan, &mut RenderedChains),
) -> RenderedChains {
    let mut chains = RenderedChains::default();
    layout::begin(plan, &mut chains);
    let rendered = |part: &[&ServicePlan]| {
        let mut chains = RenderedChains::default();
        part.iter().for_each(|service| render(plan, service, &mut chains));
        chains
    };
    let parts: Vec<RenderedChains> =
        services.par_chunks(SERVICES_OF_A_PART).map(rendered).collect();
    parts.into_iter().for_each(|part| chains.append(part));
    layout::finish(plan, &mut chains);
    chains
}
