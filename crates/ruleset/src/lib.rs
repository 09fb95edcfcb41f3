//! What a dataplane holds, in types, without a word of Kubernetes.
//!
//! ```text
//! Ruleset ◀──parse── iptables-save text          (what the kernel holds)
//! Ruleset ──text───▶ iptables-save text          (what is wanted)
//! diff(held, wanted) ──▶ Transaction ──text──▶ iptables-restore text
//! trace(ruleset or table, packet) ──▶ where the packet ends, with exact chances
//! Table ──text──▶ what `nft -f` reads
//! ```
//!
//! Pure: no I/O, no C, and nothing here can fail but reading text, which says what it could
//! not read.

pub mod dataplane;
pub mod iptables;
pub mod nftables;

mod bisect;
mod flow;
mod packet;
mod probability;
mod words;

pub use bisect::{Bisection, MOST_TRIALS, bisect, isolate};
pub use flow::Flow;
pub use packet::{Origin, Packet};
pub use probability::Probability;
pub use words::Negatable;
