//! Packets traced through a ruleset, and their verdicts.

use std::net::{IpAddr, SocketAddr};

use rulegen_net::Protocol;

/// Where a packet enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Received on this interface.
    Interface(String),
    /// Sent by a process on this host.
    Host,
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

/// Verdict for a packet.
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
