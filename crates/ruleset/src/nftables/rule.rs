//! Rules and their statements.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{Comment, Name};
use crate::Negatable;
use rulegen_net::Protocol;

/// A rule: its statements run from left to right until one does not match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// Statements in order.
    pub statements: Vec<Statement>,
    /// Comment of the rule, at most 128 bytes; names the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self { statements: statements.into_iter().collect(), comment: None }
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Comment>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// A statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Ends the rule unless the condition matches.
    Match(Condition),
    /// Sets these bits of the packet's mark.
    MarkOr(u32),
    /// Counts packets.
    Counter,
    /// Inverts these bits of the packet's mark.
    MarkXor(u32),
    /// Adds an element to a set, or restarts its timeout (`update`). If the set is full, the rule
    /// ends here.
    Update {
        /// Name of the set, in the same table.
        set: Name,
        /// Key of the element.
        key: Vec<Selector>,
        /// Timeout of the element; the kernel takes it in milliseconds. `None` for the timeout of
        /// the set, which rulegen's sets do not have.
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<Duration>,
    },
    /// Looks up the packet in a verdict map. Issues its verdict, or ends the rule if the map has no
    /// element for the packet.
    VerdictMap {
        /// Key to look up.
        key: Vec<Selector>,
        /// Name of the verdict map, in the same table.
        map: Name,
    },
    /// Looks up the packet in a map of addresses and ports. Replaces the destination, or ends the
    /// rule if the map has no element for the packet.
    DnatMap {
        /// Key to look up.
        key: Vec<Selector>,
        /// Name of the map, in the same table.
        map: Name,
    },
    /// Replaces the destination of this protocol's packets.
    Dnat(Protocol, SocketAddr),
    /// Replaces the source by the address of the output interface, with a random port (masquerade).
    Masquerade,
    /// Rejects with ICMP or ICMPv6 port unreachable, also for TCP, as kube-proxy does.
    Reject,
    /// Issues a verdict.
    Verdict(Verdict),
}

impl Statement {
    /// The set or map that it refers to.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Match(Condition::SetLookup { set, .. }) => Some(&set.value),
            Self::Update { set, .. } => Some(set),
            Self::VerdictMap { map, .. } | Self::DnatMap { map, .. } => Some(map),
            _ => None,
        }
    }
}

/// What a rule or a verdict map decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Drops the packet.
    Drop,
    /// Continues in a chain, and after that chain with the next rule.
    Jump(Name),
    /// Continues in a chain and does not come back.
    Goto(Name),
    /// Continues after the rule that jumped to this chain.
    Return,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The packet starts a connection (ct state new).
    NewConnection,
    /// The destination of its connection was replaced (ct status dnat).
    Translated,
    /// All of these bits of its mark are set.
    MarkBits(u32),
    /// None of these bits of its mark is set. kube-proxy writes it, rulegen does not.
    NoMarkBits(u32),
    /// It has this transport protocol. kube-proxy writes it, rulegen does not.
    Protocol(Protocol),
    /// It has this destination port. kube-proxy writes it, rulegen does not.
    DestinationPort(u16),
    /// Its source is in a network, or not.
    Source(Negatable<IpNet>),
    /// Its destination is in a network, or not.
    Destination(Negatable<IpNet>),
    /// Its source is an address of this host (`fib saddr type local`). Needs Linux 4.10.
    SourceIsLocal,
    /// Its destination is an address of this host (`fib daddr type local`). Needs Linux 4.10.
    DestinationIsLocal,
    /// Its input interface matches, or not.
    InInterface(Negatable<Interface>),
    /// A set contains the key, or not.
    SetLookup {
        /// Key to look up.
        key: Vec<Selector>,
        /// Name of the set, in the same table.
        set: Negatable<Name>,
    },
    /// The number has this value.
    Is(Number, u32),
}

/// Interfaces by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// The interface of this name.
    Named(String),
    /// All interfaces with this name prefix.
    Prefix(String),
}

/// A part of a key to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Source address of the packet.
    SourceAddress,
    /// Network of the packet's source address: the address with its host bits zero.
    SourceNetwork {
        /// Prefix length in bits.
        prefix_length: u8,
    },
    /// Destination address of the packet.
    DestinationAddress,
    /// Transport protocol of the packet.
    Protocol,
    /// Destination port of the packet.
    DestinationPort,
    /// A number generated by the kernel.
    Number(Number),
}

/// How one of several numbers is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NumgenMode {
    /// At random, all equally probable (`numgen random`). Needs Linux 4.9.
    Random,
    /// In turn, with a counter per rule (`numgen inc`). Needs Linux 4.9.
    InTurn,
    /// By a hash of the packet's source address (`jhash`). Needs Linux 4.9.
    BySource,
    /// By a hash of the packet's source address and source port (`jhash`). Needs Linux 4.9.
    ByFlow,
}

/// A number that the kernel generates for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Number {
    /// A number from 0 to this value, exclusive.
    Modulo(NumgenMode, u32),
    /// Always this number.
    Constant(u32),
}
