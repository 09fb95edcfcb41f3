//! Snapshot to [`Plan`] to ruleset.
//!
//! ```text
//! Snapshot, ProxyConfig ──plan──▶ Plan ─┬─iptables::ruleset─▶ iptables::Ruleset
//!                                       └─nftables::table───▶ nftables::Table
//! ```
//!
//! Every decision is taken in the plan: which endpoints a policy sees, what is masqueraded,
//! what is refused and how. A backend only spells it. Pure, and it cannot fail: what a
//! snapshot holds can be compiled.

pub mod conntrack;
pub mod iptables;
pub mod nftables;

mod plan;

pub use plan::{
    Contender, External, ExternalAddress, Firewall, FrontendConflict, Internal, Masquerade,
    NodePortsAt, Outcome, Plan, PodTraffic, Precedence, Refusal, ServicePlan, conflicts,
    node_ports_at, plan, plan_service,
};
