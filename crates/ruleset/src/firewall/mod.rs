//! Evaluates packets against chains of other programs, of which neither the rules nor the packet are
//! known completely.
//!
//! ```text
//! rules of iptables ─of_iptables─┐
//!                                ├─▶ FilterChains ─┐
//! rules of nf_tables (kernel) ───┘                 ├─evaluate─▶ Evaluation: accepts, drops, or unknown
//! PartialPacket ───────────────────────────────────┘
//! ```
//!
//! The logic has three values: a condition that depends on an unknown fact, or that is not
//! understood, is unknown. An evaluation is certain only if every possibility leads to it.

mod bits;
mod evaluation;
mod field;
mod mark;
mod of_iptables;
mod packet;
mod rule;
#[cfg(test)]
mod tests;
mod text;

pub use bits::{Bits, Ternary};
pub use evaluation::{
    Budget, CertainVerdict, Effect, Evaluation, Hit, RefusalKind, evaluate, refuses_rest,
};
pub use field::{PacketField, conntrack};
pub use mark::{MarkChange, PartialMark};
pub(crate) use of_iptables::hook_and_priority;
pub use of_iptables::{chain_of_iptables, of_iptables, rule_of_iptables, target_of_extension};
pub use packet::{Connection, Fact, PartialPacket};
pub use rule::{
    Action, FilterChains, FilterCondition, FilterRule, FirewallBaseChain, FirewallChainKind,
    NetfilterHook, Ranges,
};
