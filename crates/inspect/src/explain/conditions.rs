//! What is not followed and may change an end of a packet: other tables, and the rest of the host.

use std::collections::BTreeMap;

use serde::Serialize;

use super::outcome::Outcome;
use crate::words::{self, Code};

/// A condition under which an end of a packet does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its code in JSON, which is stable.
    pub code: Code,
    /// The condition, as it stands after "unless".
    pub text: String,
    /// The chains that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<String>,
}

/// A base chain whose rules are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfollowedChain {
    /// The table with its family, such as `inet firewalld`.
    pub table: String,
    /// The name.
    pub chain: String,
    /// The hook, as nft names it.
    pub hook: &'static str,
    /// The type, and the priority if known.
    pub kind: String,
}

/// The rest of the host that a packet passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surroundings {
    /// Nothing is known about it: rules were compiled, not read from a kernel.
    Unknown,
    /// The base chains that are not followed.
    Chains(Vec<UnfollowedChain>),
}

impl Surroundings {
    /// The conditions of an end of a packet. `is_to_local` says whether the packet ends at one of
    /// the host's own addresses.
    pub(super) fn conditions(
        &self,
        is_from_host: bool,
        is_to_local: bool,
        outcome: Outcome,
    ) -> Vec<Condition> {
        match self {
            Self::Unknown => vec![Condition::new(Code::UnknownHost, words::UNKNOWN_HOST)],
            Self::Chains(chains) => {
                conditions(chains, &hooks(is_from_host, is_to_local, outcome), outcome)
            }
        }
    }
}

impl Condition {
    fn new(code: Code, text: &str) -> Self {
        Self { code, text: text.to_owned(), chains: Vec::new() }
    }
}

/// The hooks that a packet passes, at most.
fn hooks(is_from_host: bool, is_to_local: bool, outcome: Outcome) -> Vec<&'static str> {
    let mut hooks = match (is_from_host, is_to_local) {
        (false, true) => vec!["prerouting", "input"],
        (false, false) => vec!["prerouting", "forward", "postrouting"],
        (true, true) => vec!["output", "postrouting", "prerouting", "input"],
        (true, false) => vec!["output", "postrouting"],
    };
    if matches!(outcome, Outcome::Rejected | Outcome::Dropped) {
        hooks.retain(|hook| *hook != "postrouting");
    }
    hooks
}

/// One condition per table, then one for the host's network.
fn conditions(chains: &[UnfollowedChain], hooks: &[&str], outcome: Outcome) -> Vec<Condition> {
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for chain in chains.iter().filter(|chain| hooks.contains(&chain.hook)) {
        let described = format!("{} ({} at {})", chain.chain, chain.kind, chain.hook);
        tables.entry(&chain.table).or_default().push(described);
    }
    let of_tables = tables.into_iter().map(|(table, chains)| Condition {
        code: Code::OtherTable,
        text: words::other_table(table, &chains),
        chains,
    });
    let host = match outcome {
        Outcome::Endpoint { .. } | Outcome::Passes { .. } => words::HOST_NETWORK,
        Outcome::Rejected | Outcome::Dropped => words::HOST_NETWORK_BEFORE_REFUSAL,
    };
    of_tables.chain([Condition::new(Code::HostNetwork, host)]).collect()
}
