//! Packets that are followed through a ruleset, and what became of them.

use std::net::{IpAddr, SocketAddr};

use rulegen_net::Protocol;

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In through an interface.
    Interface(String),
    /// A process on this host.
    Host,
}

/// The first packet of a connection, of a client that was not seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub origin: Origin,
    /// Whom it says it is from.
    pub source: IpAddr,
    /// Whom it is to.
    pub destination: SocketAddr,
    /// What carries it.
    pub protocol: Protocol,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on.
    Delivered {
        /// To there, which is where it was sent to unless it was translated.
        destination: SocketAddr,
        /// Whether the destination was replaced.
        translated: bool,
        /// Whether the source was replaced by this host's address.
        masqueraded: bool,
    },
    /// It is refused, and the sender is told.
    Rejected,
    /// It is gone.
    Dropped,
}
