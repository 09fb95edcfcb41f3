//! One rule: what it matches and what it does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::chain_name::ChainName;
use crate::Negatable;
use rulegen_net::Protocol;

/// A rule: one that we can make and understand, or somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// A rule in our own vocabulary.
    Known(RuleSpec),
    /// Any other, kept as its text.
    Foreign {
        /// Everything behind `-A CHAIN`.
        text: Arc<str>,
        /// The chain or target that it jumps or goes to.
        target: Option<ChainName>,
    },
}

impl Rule {
    /// The chain that the rule leads to, if it leads to one.
    pub fn target_chain(&self) -> Option<&ChainName> {
        match self {
            Rule::Known(RuleSpec { target: Some(Target::Jump(chain)), .. }) => Some(chain),
            Rule::Known(_) => None,
            Rule::Foreign { target, .. } => target.as_ref(),
        }
    }
}

impl From<RuleSpec> for Rule {
    fn from(rule: RuleSpec) -> Self {
        Rule::Known(rule)
    }
}

/// The vocabulary of rules that kube-proxy's layout needs. It is printed in the order of its
/// fields, and its matches in the order they are in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RuleSpec {
    /// `-s`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Negatable<IpNet>>,
    /// `-d`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Negatable<IpNet>>,
    /// `-i`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_interface: Option<Negatable<Interface>>,
    /// `-p`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// `-m …`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// `-j …`; without one a rule only counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// An interface, or with a `+` at the end of its text all whose names start so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Interface(pub Arc<str>);

impl Interface {
    /// Whether it stands for the interface of this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(start) => name.starts_with(start),
            None => name == &*self.0,
        }
    }
}

/// `-m`: a loadable match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// `comment`: at most 255 bytes.
    Comment(Arc<str>),
    /// `tcp`, `udp` or `sctp`, with the destination port if one is needed.
    Transport {
        /// Which of them.
        protocol: Protocol,
        /// `--dport`
        #[serde(skip_serializing_if = "Option::is_none")]
        destination_port: Option<u16>,
    },
    /// `conntrack --ctstate`
    Conntrack(Negatable<Vec<ConntrackState>>),
    /// `mark --mark`
    Mark(Negatable<Mark>),
    /// `addrtype --src-type`
    SourceType(AddressType),
    /// `addrtype --dst-type`
    DestinationType(AddressType),
    /// `recent`
    Recent(Recent),
    /// `statistic --mode random`: this many of 2³¹ packets.
    Random(u32),
}

/// A state or status that conntrack gives a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are netfilter's")]
pub enum ConntrackState {
    Invalid,
    New,
    Related,
    Established,
    Untracked,
    Snat,
    Dnat,
}

/// A packet's mark under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Mark {
    pub value: u32,
    pub mask: u32,
}

/// What the routing tables say of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AddressType {
    /// It is one of this host's.
    Local,
}

/// `recent`: lists of addresses seen lately, which session affinity is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Recent {
    /// The list's name.
    pub list: ChainName,
    /// What to do with it.
    pub action: RecentAction,
    /// Under which mask the source address is taken: all bits.
    pub mask: IpAddr,
}

/// What `recent` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RecentAction {
    /// `--set`: puts the source address on the list.
    Set,
    /// `--rcheck --seconds N --reap`: matches what was put there less than so long ago.
    Check {
        /// How long ago at most.
        seconds: u32,
    },
}

/// `-j`: what a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Goes on in a chain and comes back at its end.
    Jump(ChainName),
    /// Lets it pass.
    Accept,
    /// Drops it without a word.
    Drop,
    /// Goes back to the calling chain.
    Return,
    /// Drops it and says so to the sender.
    Reject(RejectWith),
    /// `MARK --set-xmark`
    SetMark(SetMark),
    /// Replaces the source by the outgoing interface's address.
    Masquerade {
        /// Whether the source port is chosen at random (`--random-fully`).
        random_fully: bool,
    },
    /// Replaces the destination.
    Dnat(SocketAddr),
}

/// What a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are netfilter's")]
pub enum RejectWith {
    IcmpPortUnreachable,
    Icmp6PortUnreachable,
}

/// `mark = (mark & !mask) ^ value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct SetMark {
    pub value: u32,
    pub mask: u32,
}
