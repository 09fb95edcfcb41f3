//! Renders a plan as one nftables table. The number of chains, rules and sets does not depend on
//! the number of Services; only the number of elements does.
//!
//! ```text
//! -110 prerouting, output ─▶ firewall               source ranges of load-balancer IPs
//! nat  prerouting, output ─▶ services ─@services───▶ cluster-ip-N ─▶ endpoints-N ─@endpoints─▶ DNAT
//!                               │                    external-N ──▶ endpoints-N
//!                               │                    local-policy ─@short-circuits▶ endpoints-N
//!                               │                         └────────@local-services▶ local-endpoints-N
//!                               └─────@node-ports──▶ the same with node-port- before the name
//! 0    input, forward, output ─▶ no-endpoints       reject and drop, unused cluster IPs and ports
//! nat  postrouting ─▶ masquerading                  marked packets and hairpin traffic
//! ```
//!
//! N is a number of endpoints: the key that `endpoints-N` looks up ends in a random number below N,
//! so one map holds the endpoints of all Services. kube-proxy makes chains and sets per Service
//! instead. The kernel searches the list of all of them for each new one, so the cost is quadratic
//! in the number of Services.
//!
//! Only session affinity and Services with many frontends need objects of their own: see
//! `own_chains`. The table needs Linux 5.6, and Linux 5.7 if connections are counted.

mod affinity;
mod builder;
mod claims;
mod contribution;
mod counted;
mod edit;
mod layout;
mod live;
mod number;
mod own_chains;
mod service;
mod service_path;
mod set_element;
mod shared_chain;
mod source_ranges;
mod statements;

use rulegen_ruleset::nftables::{Comment, Name, Table};
use service::Renderer;

use crate::plan::Plan;

pub use counted::{
    ConnectionCounts, affinity_service, counted_by_element, counted_by_rule, counted_endpoint,
};
pub use layout::{
    CLOSED, CLUSTER_IPS, FIREWALL, FIREWALL_IPS, FrontendMaps, HAIRPINS, MASQUERADE, REJECT,
    SERVICE_CIDRS, SHARED_ENDPOINTS,
};
pub use live::{ClientSetChange, LiveTable, Patch, ServiceUpdate};
pub use service_path::owner_path;
pub use source_ranges::network_asked_for;

/// Default name of rulegen's table.
pub const DEFAULT_TABLE: &str = "rulegen";

/// Name of kube-proxy's table (pkg/proxy/nftables/proxier.go).
pub const KUBE_PROXY_TABLE: &str = "kube-proxy";

/// Renders a plan as a table with this name.
pub fn table(plan: &Plan, name: &Name) -> Table {
    let mut table = empty(plan, name);
    let mut renderer = Renderer::new(plan);
    for service in &plan.services {
        renderer.contribution(service).add_to(&mut table, plan);
    }
    table
}

/// The table without any Service.
fn empty(plan: &Plan, name: &Name) -> Table {
    Table {
        family: plan.family,
        name: name.clone(),
        comment: Comment::from("made by rulegen from Kubernetes Services"),
        sets: layout::sets(plan),
        chains: layout::chains(plan),
    }
}
