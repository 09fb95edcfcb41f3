//! An endpoint, as seen from this node.

use std::net::SocketAddr;

/// A topology hint, relative to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// For this node or its zone.
    Here,
    /// For other nodes or zones only.
    Elsewhere,
    /// No hint.
    Absent,
}

/// An endpoint of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Destination of the traffic.
    pub address: SocketAddr,
    /// Whether it runs on this node.
    pub local: bool,
    /// Whether its slice names the node that it runs on. Without `nodeName` it is on no known node.
    pub has_node: bool,
    /// Condition `ready`: whether it accepts new connections.
    pub ready: bool,
    /// Condition `serving`: whether it answers, even if terminating.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
    /// `hints.forZones` against this node's zone.
    pub zone_hint: Hint,
    /// `hints.forNodes` against this node.
    pub node_hint: Hint,
}

impl Endpoint {
    /// Whether it may get traffic, if its policy and topology hints allow it.
    pub fn is_usable(&self) -> bool {
        self.ready || self.is_terminating_and_serving()
    }

    /// Whether it is terminating and still serving. It gets traffic only if no endpoint is ready
    /// (KEP-1669).
    pub fn is_terminating_and_serving(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }

    /// Sort key of duplicate entries with the same `IP:port`; the smallest is used. If the address was
    /// reassigned to a new pod while the old one is still terminating, the new pod is used
    /// (kubernetes#135593). The other fields make the choice independent of the order of slices.
    pub(crate) fn precedence(&self) -> impl Ord + use<> {
        (self.terminating, !self.local, !self.ready, !self.serving, self.zone_hint, self.node_hint)
    }
}
