//! Flows that conntrack follows.

use std::net::SocketAddr;

use rulegen_net::{IpFamily, Protocol};

/// A flow as conntrack remembers it: how its packets came, and how answers to them come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// What carries it.
    pub protocol: Protocol,
    /// Whom the first packet was from.
    pub source: SocketAddr,
    /// Whom it was to.
    pub destination: SocketAddr,
    /// Whom answers are from: the destination, or what it was replaced by.
    pub reply_source: SocketAddr,
    /// Whom they are to: the source, or what it was replaced by.
    pub reply_destination: SocketAddr,
    /// The number of the table within the network namespace (`ct zone`), 0 unless something
    /// says otherwise.
    pub zone: u16,
    /// What tells the flow from a later one of the same addresses, if the kernel says it.
    pub id: Option<u32>,
}

impl Flow {
    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.destination.ip())
    }

    /// Whether its destination was replaced.
    pub fn is_translated(&self) -> bool {
        self.reply_source != self.destination
    }
}
