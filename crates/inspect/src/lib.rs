//! Reads rules back in terms of Services.
//!
//! ```text
//! ruleset, packet, plan ──explain───────▶ Explanation   what happens to a packet, and why
//! ruleset ──────────────listing─────────▶ Listing       Services as the rules have them
//! two rulesets ─────────diff────────────▶ DiffReport    what changes, by Service
//! kernel trace events ──packet_trace────▶ TracedPacket  what real packets met
//! ```
//!
//! The command line and the status page both use this crate, so they cannot contradict each other.
//! The meaning of each rule comes from `rule_role`, each sentence about outcomes and reasons from
//! `words`. This crate is pure: it performs no I/O, and
//! makes no decisions about Services: those are in the plan.

pub mod diff;
pub mod explain;
pub mod iptables;
pub mod listing;
pub mod packet_trace;
pub mod paths;
pub mod words;

mod kube_proxy;
mod masquerade_reason;
mod rule_comment;
mod rule_role;

pub use masquerade_reason::MasqueradeReason;
