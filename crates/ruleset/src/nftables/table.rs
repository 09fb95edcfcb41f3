//! Tables and chains.

use std::collections::BTreeMap;

use serde::Serialize;

use super::merge::merge;
use super::{Comment, Name, Rule, Set};
use crate::firewall::NetfilterHook;
use rulegen_net::IpFamily;

/// A table of one family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Table {
    /// Family of the packets that it sees.
    pub family: IpFamily,
    /// Name of the table, `rulegen` by default.
    pub name: Name,
    /// Comment of the table, as `nft list` shows it.
    pub comment: Comment,
    /// Sets and maps by name.
    pub sets: BTreeMap<Name, Set>,
    /// Chains by name.
    pub chains: BTreeMap<Name, Chain>,
}

impl Table {
    /// An empty table of the same name.
    pub fn without_content(&self) -> Self {
        Self {
            family: self.family,
            name: self.name.clone(),
            comment: self.comment.clone(),
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
        }
    }

    /// Replaces the parts that differ between `before` and `after`.
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

/// A chain of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Chain {
    /// Hook of a base chain; `None` for a regular chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseChain>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Hook and priority of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct BaseChain {
    /// Chain type.
    #[serde(rename = "type")]
    pub kind: ChainKind,
    /// The hook at which the kernel runs the chain.
    pub hook: Hook,
    /// Hook priority, as in nft: chains with a lower number run first. NAT of destinations is at
    /// -100, filters are at 0, NAT of sources is at 100 (NF_IP_PRI_* of linux/netfilter_ipv4.h).
    pub priority: i32,
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// Sees every packet and can accept or drop it.
    Filter,
    /// Sees the first packet of a connection; the kernel translates the rest alike. Before Linux
    /// 4.18 such chains cannot be used together with the `nat` table of iptables.
    Nat,
}

/// Netfilter hooks of the families ip and ip6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Received packets, before routing.
    Prerouting,
    /// Packets to this host.
    Input,
    /// Forwarded packets.
    Forward,
    /// Packets sent by local processes.
    Output,
    /// Packets that leave, after routing.
    Postrouting,
}

impl From<Hook> for NetfilterHook {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Prerouting => Self::Prerouting,
            Hook::Input => Self::Input,
            Hook::Forward => Self::Forward,
            Hook::Output => Self::Output,
            Hook::Postrouting => Self::Postrouting,
        }
    }
}
