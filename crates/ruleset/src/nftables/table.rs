//! Tables and chains.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Comment, Name, Rule, Set};
use crate::Family;

/// One table of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Whose packets it sees.
    pub family: Family,
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub comment: Comment,
    /// Sets and maps.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
}

/// Rules, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Where packets enter it, if not from other chains alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseChain>,
    /// From top to bottom.
    pub rules: Vec<Rule>,
}

/// Where in a packet's way a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BaseChain {
    /// What it may do.
    #[serde(rename = "type")]
    pub kind: ChainKind,
    /// The place.
    pub hook: Hook,
    /// The turn among the chains of a hook: lower ones come first.
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// Sees every packet, lets it pass or not.
    Filter,
    /// Sees the first packet of a connection, translates all of them.
    Nat,
}

/// The hooks of netfilter in ip and ip6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Before routing, what comes from outside.
    Prerouting,
    /// What is for this host.
    Input,
    /// What goes through it.
    Forward,
    /// What its own processes send.
    Output,
    /// All that leaves.
    Postrouting,
}
