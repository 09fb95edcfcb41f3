//! Packets traced through a ruleset, and their verdicts.

use std::net::{IpAddr, SocketAddr};

use rulegen_net::Protocol;

use crate::firewall::NetfilterHook;

/// Where a packet enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Received on this interface.
    Interface(String),
    /// Received on an interface that is not known. Conditions on interfaces do not hold.
    UnknownInterface,
    /// Sent by a process on this host.
    Host,
}

impl Origin {
    /// The input interface, if it is known. Empty for a packet of this host.
    pub fn in_interface(&self) -> Option<&str> {
        match self {
            Self::Interface(name) => Some(name),
            Self::UnknownInterface => None,
            Self::Host => Some(""),
        }
    }
}

/// The first packet of a connection from a client not seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it enters.
    pub origin: Origin,
    /// Source address.
    pub source: IpAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// What happens to a packet in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketVerdict {
    /// Passed on.
    Delivered {
        /// Final destination: the original one, or the one after DNAT.
        destination: SocketAddr,
        /// True if DNAT replaced the destination.
        translated: bool,
        /// True if SNAT replaced the source by an address of this host (masquerade).
        masqueraded: bool,
    },
    /// Refused with an ICMP error (reject).
    Rejected,
    /// Dropped silently.
    Dropped,
}

/// Where rules reject or drop a packet, and what it looks like there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedAt {
    /// The hook at which it happens.
    pub hook: NetfilterHook,
    /// Priority of the base chain.
    pub priority: i32,
    /// Destination: the original one, or the one after DNAT.
    pub destination: SocketAddr,
    /// True if DNAT replaced the destination.
    pub translated: bool,
    /// True if SNAT replaced the source.
    pub masqueraded: bool,
    /// True if a rule of another program rejects it: with any ICMP error, or with a TCP reset.
    pub by_others: bool,
}
