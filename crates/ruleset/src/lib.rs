//! Typed rulesets of iptables and nftables, independent of Kubernetes.
//!
//! ```text
//! Ruleset ◀──parse── iptables-save text          (read from the kernel)
//! Ruleset ──text───▶ iptables-save text          (desired state)
//! diff(actual, desired) ──▶ Transaction ──text──▶ iptables-restore text
//! trace(ruleset or table, packet) ──▶ verdicts with exact probabilities
//! Table ──text──▶ input of `nft -f`
//! evaluate(chain of another program, partly known packet) ──▶ accepts, drops or unknown
//! ```
//!
//! Pure: no I/O and no C. Only parsing can fail, and its errors name the line.

pub mod dataplane;
pub mod firewall;
pub mod iptables;
pub mod nftables;

mod bisect;
mod flow;
mod negatable;
mod packet;
mod probability;
mod walk;

pub use bisect::{Bisection, MOST_TRIALS, bisect, isolate};
pub use flow::Flow;
pub use negatable::Negatable;
pub use packet::{Origin, Packet, RefusedAt};
pub use probability::Probability;
pub use walk::TraceBranch;
