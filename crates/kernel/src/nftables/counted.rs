//! Counters in the kernel.

use std::net::SocketAddr;

use rulegen_ruleset::nftables::{Comment, Key, Name};

/// Counter of an element or rule, since its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// An element of a set.
    Element {
        /// Set.
        set: Name,
        /// Key.
        key: Key,
        /// Endpoint that it leads to.
        endpoint: SocketAddr,
        /// Comment.
        comment: Comment,
        /// Number of lookups that found it.
        packets: u64,
    },
    /// A rule.
    Rule {
        /// Chain.
        chain: Name,
        /// Number of packets that matched it.
        packets: u64,
    },
}
