//! Flows tracked by conntrack.

use std::net::SocketAddr;

use rulegen_net::{IpFamily, Protocol};

/// A conntrack entry: the addresses of the original direction and of the reply direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source of the first packet.
    pub source: SocketAddr,
    /// Destination of the first packet.
    pub destination: SocketAddr,
    /// Source of replies: the destination, or the address that DNAT replaced it with.
    pub reply_source: SocketAddr,
    /// Destination of replies: the source, or the address that SNAT replaced it with.
    pub reply_destination: SocketAddr,
    /// Conntrack zone (`ct zone`), 0 by default.
    pub zone: u16,
    /// Kernel's ID of the entry, which distinguishes it from a later one with the same addresses;
    /// `None` if the kernel does not report it.
    pub id: Option<u32>,
}

impl Flow {
    /// Address family.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.destination.ip())
    }

    /// True if the destination was replaced (DNAT).
    pub fn is_translated(&self) -> bool {
        self.reply_source != self.destination
    }
}
