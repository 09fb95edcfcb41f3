//! Counters in the kernel.

use std::net::SocketAddr;

use rulegen_ruleset::nftables::{Comment, Key, Name};

/// Counter of an element or rule, since its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// An element of a set.
    Element {
        /// Name of the set, in the table that was read.
        set: Name,
        /// Key of the element in the set.
        key: Key,
        /// Endpoint that it leads to.
        endpoint: SocketAddr,
        /// Comment of the element, by which its Service is known.
        comment: Comment,
        /// Number of lookups that found it.
        packets: u64,
    },
    /// A rule with a counter.
    Rule {
        /// Name of the chain of the rule.
        chain: Name,
        /// Number of packets that matched it.
        packets: u64,
    },
}
