//! Tables, chains and rules of iptables, in the format of `iptables-save`. Tested with iptables
//! 1.8.9, both variants.

mod chain_name;
mod describe;
mod diff;
mod edit;
mod isolate;
pub mod nf_tables;
mod parse;
mod retain;
mod rule;
mod ruleset;
mod text;
mod trace;
mod transaction;

pub use crate::negatable::Negatable;
pub use crate::packet::{Origin, Packet, PacketVerdict};
pub use chain_name::ChainName;
pub use describe::TransactionCounts;
pub use diff::{Ownership, diff, removal};
pub use edit::{Edit, RuleWithHandle, edits};
pub use isolate::{Split, Tables, isolate};
pub(crate) use parse::words;
pub use parse::{ParseError, parse};
pub use retain::retaining;
pub use rule::{
    AddressType, ConntrackState, Interface, Mark, Match, Recent, RecentAction, RejectWith, Rule,
    RuleSpec, SetMark, Target,
};
pub use ruleset::{Chain, Policy, Ruleset, Table};
pub use trace::{Branch, Step, Trace, TracedHost, trace, trace_on};
pub use transaction::{Change, TableChanges, Transaction};
