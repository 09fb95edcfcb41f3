//! Clients in session affinity sets: what the affinity thread is asked for, and what it finds.

use std::collections::BTreeSet;

use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Key, Name, Set};

/// A set to search for clients of these endpoint numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadClients {
    pub(crate) family: IpFamily,
    pub(crate) name: Name,
    /// The set's definition, without elements.
    pub(crate) set: Set,
    pub(crate) numbers: BTreeSet<u32>,
}

/// Clients found in a set.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) family: IpFamily,
    /// The name of the set.
    pub(crate) name: Name,
    pub(crate) keys: Vec<Key>,
    /// Whether this is the last batch of the search.
    pub(crate) is_last: bool,
}
