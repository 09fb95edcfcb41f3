//! Names of chains.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Built-in chains, in the order in which packets can traverse them.
pub(super) const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A chain's name, at most 28 characters (XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h).
/// Built-in chains sort first, in the order of iptables-save.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChainName {
    /// Position among the built-in chains; user-defined chains come after all of them.
    #[serde(skip)]
    rank: u8,
    name: Arc<str>,
}

impl ChainName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// True for a built-in chain.
    pub fn is_built_in(&self) -> bool {
        usize::from(self.rank) < BUILT_IN.len()
    }
}

impl<T: Into<Arc<str>>> From<T> for ChainName {
    fn from(name: T) -> Self {
        let name = name.into();
        let rank = (0..).zip(BUILT_IN).find(|(_, built_in)| *built_in == &*name);
        Self { rank: rank.map_or(BEHIND_BUILT_IN, |(rank, _)| rank), name }
    }
}

const BEHIND_BUILT_IN: u8 = u8::MAX;

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
