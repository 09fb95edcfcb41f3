//! Rules and what they are made of.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{Comment, Name};
use crate::Negatable;
use rulegen_net::Protocol;

/// Statements that are carried out from left to right until one does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What it does.
    pub statements: Vec<Statement>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self { statements: statements.into_iter().collect(), comment: None }
    }

    /// The same rule with a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Comment>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Goes on only if it holds.
    Match(Condition),
    /// Sets these bits of the packet's mark.
    MarkOr(u32),
    /// Counts packets.
    Counter,
    /// Turns these bits of the packet's mark round.
    MarkXor(u32),
    /// Puts an element into a set, or starts its time anew.
    Update {
        /// The set.
        set: Name,
        /// The element.
        key: Vec<Selector>,
        /// How long the element stays in the set after this.
        timeout: Duration,
    },
    /// Carries out the verdict that a map has for the packet; without one the rule ends.
    VerdictMap {
        /// What is looked up.
        key: Vec<Selector>,
        /// The map.
        map: Name,
    },
    /// Replaces the destination by what a map has for the packet; without one the rule ends.
    DnatMap {
        /// What is looked up.
        key: Vec<Selector>,
        /// The map.
        map: Name,
    },
    /// Replaces the destination.
    Dnat(Protocol, SocketAddr),
    /// Replaces the source by the address of the interface that the packet leaves through, and
    /// its port by a random one.
    Masquerade,
    /// Tells the sender that the port is unreachable.
    Reject,
    /// Ends or leaves the chain.
    Verdict(Verdict),
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nowhere.
    Drop,
    /// In a chain, and behind this rule if the chain lets it.
    Jump(Name),
    /// In a chain, without a way back.
    Goto(Name),
    /// Behind the rule that jumped to this chain.
    Return,
}

/// What can be asked of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It begins a connection.
    NewConnection,
    /// Its connection's destination was translated.
    Translated,
    /// All of these bits of its mark are set.
    MarkBits(u32),
    /// Its source is in a network, or not.
    Source(Negatable<IpNet>),
    /// Its destination is in a network, or not.
    Destination(Negatable<IpNet>),
    /// Its source is an address of this host.
    SourceIsLocal,
    /// Its destination is an address of this host.
    DestinationIsLocal,
    /// It came in through an interface, or not.
    InInterface(Negatable<Interface>),
    /// A set holds it, or not.
    SetLookup {
        /// What is looked up.
        key: Vec<Selector>,
        /// The set.
        set: Negatable<Name>,
    },
    /// A number has a value.
    Is(Number, u32),
}

/// Interfaces by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// The one of that name.
    Named(String),
    /// All whose names start so.
    Prefix(String),
}

/// A part of what is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// The packet's source address.
    SourceAddress,
    /// The first bits of the packet's source address; the rest is zero.
    SourceNetwork {
        /// How many bits, at most those of an address.
        prefix_length: u8,
    },
    /// The packet's destination address.
    DestinationAddress,
    /// The packet's protocol.
    Protocol,
    /// The packet's destination port.
    DestinationPort,
    /// A number that the kernel makes.
    Number(Number),
}

/// How one of several numbers is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NumgenMode {
    /// Each as probable as the other.
    Random,
    /// One after the other, by a counter of the rule's own.
    InTurn,
    /// By the packet's source address.
    BySource,
}

/// Numbers that the kernel makes for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Number {
    /// One from 0 up to, not including, this.
    Modulo(NumgenMode, u32),
    /// Always this.
    Constant(u32),
}
