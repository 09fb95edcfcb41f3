//! Rules of iptables in the form that iptables-nft gives them in nf_tables.
//!
//! A rule is a list of expressions, in netlink attributes (NFTA_RULE_EXPRESSIONS of
//! linux/netfilter/nf_tables.h). iptables-nft uses native expressions for addresses, interfaces,
//! protocols, ports and marks, and wraps all other matches and targets: `match` and `target` hold
//! the structure that xtables passes to the kernel, with its name and revision.
//!
//! [`encode`] writes what iptables-nft 1.8.9 writes. [`decode`] reads this, what 1.8.11 writes, and
//! the wrapped forms of ports and marks that older versions write. A rule with anything else is
//! foreign: its text contains what is understood in the words of iptables, and the rest as bytes, so
//! that two foreign rules are equal only if they do the same.

mod attribute;
mod decode;
mod encode;
mod extension;
mod foreign;
mod info;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test panics"
)]
mod tests;

pub use decode::decode;
pub use encode::{BuiltInChain, EncodedRule, NotEncodable, built_in_chain, encode};
