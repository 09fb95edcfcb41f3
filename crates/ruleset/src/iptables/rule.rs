//! Rules with their matches and targets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::chain_name::ChainName;
use crate::Negatable;
use rulegen_net::Protocol;

/// A rule: one that rulegen can make, or a foreign one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// A decoded rule.
    Known(RuleSpec),
    /// A foreign rule, kept as text.
    Foreign {
        /// Everything after `-A CHAIN`.
        text: Arc<str>,
        /// Chain or target that it jumps or goes to.
        target: Option<ChainName>,
    },
}

impl Rule {
    /// The chain that the rule leads to.
    pub fn target_chain(&self) -> Option<&ChainName> {
        match self {
            Rule::Known(RuleSpec { target: Some(Target::Jump(chain)), .. }) => Some(chain),
            Rule::Known(_) => None,
            Rule::Foreign { target, .. } => target.as_ref(),
        }
    }
}

impl Rule {
    /// True unless the rule has an expression of nf_tables in place of a match or target.
    pub(super) fn is_shown_by_iptables(&self) -> bool {
        match self {
            Rule::Known(_) => true,
            Rule::Foreign { text, .. } => !text.contains(NATIVE_EXPRESSION),
        }
    }
}

/// How the text of a foreign rule begins an expression that has no words in iptables. The bytes of
/// the expression and `]` follow.
pub(super) const NATIVE_EXPRESSION: &str = "[nft ";

impl From<RuleSpec> for Rule {
    fn from(rule: RuleSpec) -> Self {
        Rule::Known(rule)
    }
}

/// A rule with the options that kube-proxy's layout needs. Printed in the order of the fields, and
/// the matches in their order in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RuleSpec {
    /// Source address (`-s`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Negatable<IpNet>>,
    /// Destination address (`-d`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Negatable<IpNet>>,
    /// Input interface (`-i`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_interface: Option<Negatable<Interface>>,
    /// Transport protocol (`-p`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Matches in the order of iptables-save (`-m …`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// `-j …`; a rule without a target only counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// An interface name; a trailing `+` matches every name with that prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Interface(pub Arc<str>);

impl Interface {
    /// True if it matches this interface name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(start) => name.starts_with(start),
            None => name == &*self.0,
        }
    }
}

/// `-m`: a match extension.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// `comment`, at most 255 bytes.
    Comment(Arc<str>),
    /// `tcp`, `udp` or `sctp`, with an optional destination port.
    Transport {
        /// Transport protocol that the ports belong to.
        protocol: Protocol,
        /// `--dport`
        #[serde(skip_serializing_if = "Option::is_none")]
        destination_port: Option<u16>,
    },
    /// `conntrack --ctstate`
    Conntrack(Negatable<Vec<ConntrackState>>),
    /// Compares the packet mark (`mark --mark`).
    Mark(Negatable<Mark>),
    /// `addrtype --src-type`
    SourceType(AddressType),
    /// `addrtype --dst-type`
    DestinationType(AddressType),
    /// Session affinity by a list of addresses (`recent`).
    Recent(Recent),
    /// `statistic --mode random`: the probability in units of 2⁻³¹, from 1 to 2³¹.
    Random(u32),
}

/// State or status of a packet in conntrack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConntrackState {
    /// Of no connection, or against its protocol.
    Invalid,
    /// No reply was seen yet.
    New,
    /// A new connection that another one expects, or an ICMP error about one.
    Related,
    /// Packets were seen in both directions.
    Established,
    /// Not tracked (`NOTRACK`).
    Untracked,
    /// The source is translated. A virtual state, which a packet has besides its state.
    Snat,
    /// The destination is translated. A virtual state, too.
    Dnat,
}

/// A condition on the packet mark: `mark & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Mark {
    /// The value of the bits in the mask.
    pub value: u32,
    /// The bits that are compared.
    pub mask: u32,
}

/// Route type of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AddressType {
    /// An address of this host.
    Local,
}

/// `recent`: lists of recently seen addresses, used for session affinity. The kernel keeps 100
/// addresses per list by default and drops the oldest (parameter `ip_list_tot` of the module
/// xt_recent).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Recent {
    /// Name of the list.
    pub list: ChainName,
    /// What is done with the list.
    pub action: RecentAction,
    /// Mask of the source address; all bits are set.
    pub mask: IpAddr,
}

/// What `recent` does with the source address and its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RecentAction {
    /// `--set`: adds the source address to the list.
    Set,
    /// `--rcheck --seconds N --reap`: matches addresses that were added less than N seconds ago.
    Check {
        /// Maximum age in seconds.
        seconds: u32,
    },
}

/// `-j`: target of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Continues in a chain and returns at its end.
    Jump(ChainName),
    /// Accepts the packet.
    Accept,
    /// Drops the packet silently.
    Drop,
    /// Returns to the calling chain.
    Return,
    /// Rejects the packet with an ICMP error.
    Reject(RejectWith),
    /// `MARK --set-xmark`
    SetMark(SetMark),
    /// Replaces the source by the address of the output interface.
    Masquerade {
        /// True if the source port is chosen at random (`--random-fully`). Needs iptables 1.6.2 or
        /// newer.
        random_fully: bool,
    },
    /// Replaces the destination.
    Dnat(SocketAddr),
}

/// ICMP error of a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectWith {
    /// `icmp-port-unreachable`: ICMP type 3, code 3.
    IcmpPortUnreachable,
    /// `icmp6-port-unreachable`: ICMPv6 type 1, code 4.
    Icmp6PortUnreachable,
}

/// `mark = (mark & !mask) ^ value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct SetMark {
    /// The bits that are inverted after the others are cleared.
    pub value: u32,
    /// The bits that are cleared.
    pub mask: u32,
}
