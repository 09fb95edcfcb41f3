//! Tables and chains.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diff::merge;
use super::{Comment, Name, Rule, Set};
use rulegen_net::IpFamily;

/// One table of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Whose packets it sees.
    pub family: IpFamily,
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub comment: Comment,
    /// Sets and maps.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
}

impl Table {
    /// A table of the same name with nothing in it.
    pub fn without_content(&self) -> Self {
        Self {
            family: self.family,
            name: self.name.clone(),
            comment: self.comment.clone(),
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
        }
    }

    /// Makes a part of the table what another is, where that differs.
    pub fn replace(&mut self, before: &Self, after: &Self) {
        replace(&mut self.chains, &before.chains, &after.chains);
        self.sets
            .retain(|name, _| !before.sets.contains_key(name) || after.sets.contains_key(name));
        for (name, after) in &after.sets {
            match (self.sets.get_mut(name), before.sets.get(name)) {
                (Some(set), Some(before)) if before.shape() == after.shape() => {
                    replace(&mut set.elements, &before.elements, &after.elements);
                }
                _ => {
                    self.sets.insert(name.clone(), after.clone());
                }
            }
        }
    }
}

fn replace<K: Ord + Clone, V: Eq + Clone>(
    whole: &mut BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) {
    for (key, before, after) in merge(before, after) {
        match after {
            None => {
                whole.remove(key);
            }
            Some(value) if before != after => {
                whole.insert(key.clone(), value.clone());
            }
            Some(_) => {}
        }
    }
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
