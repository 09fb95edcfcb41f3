//! Snapshot to [`Plan`] to ruleset.
//!
//! ```text
//! Snapshot, ProxyConfig ──plan──▶ Plan ─┬─iptables::ruleset─▶ iptables::Ruleset
//!                                       └─nftables::table───▶ nftables::Table
//! ```
//!
//! All decisions are made in the plan: which endpoints a policy selects, what is masqueraded, what
//! is dropped or rejected. A backend only renders it. This crate is pure and cannot fail: every
//! snapshot can be compiled.

pub mod conntrack;
pub mod iptables;
pub mod nftables;

mod plan;

pub use plan::{
    Contender, External, ExternalAddress, Firewall, FrontendConflict, FrontendOwners, Internal,
    Masquerade, NodePortsAt, Plan, PodTraffic, Refusal, ServicePlan, Slots, Treatment, conflicts,
    node_ports_at, plan, plan_service,
};
