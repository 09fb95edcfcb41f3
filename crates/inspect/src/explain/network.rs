//! Facts about the host's network: routes, and bridges.

use std::net::IpAddr;

use rulegen_net::Protocol;

/// Facts about the host's network. An implementation asks the kernel.
pub trait HostNetwork {
    /// The routing decision for a packet.
    fn route(&self, query: &RouteQuery<'_>) -> RouteFact;

    /// Whether a bridge returns a packet through the port that it came from, if both addresses are
    /// behind the same port.
    fn hairpin(&self, bridge: &str, from: IpAddr, to: IpAddr) -> HairpinFact;
}

/// A packet to route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery<'a> {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Protocol and destination port, if it has one.
    pub to_port: Option<(Protocol, u16)>,
    /// Input interface; `None` for a packet of this host.
    pub in_interface: Option<&'a str>,
    /// Mark, if it is known.
    pub mark: Option<u32>,
}

/// A routing decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFact {
    /// Through this interface.
    Out(String),
    /// To this host.
    Local,
    /// The packet is not routed.
    Failed(RouteFailure),
    /// It is not known.
    Unknown,
}

/// Why a packet is not routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFailure {
    /// There is no usable route. Holds the kernel's error.
    NoRoute(String),
    /// The reverse-path filter drops it: packets to its source leave through another interface.
    ReversePath,
    /// The source or destination is not allowed there (martian).
    Martian,
    /// Packets from the input interface are not forwarded.
    ForwardingOff,
    /// Packets from an IPv6 link-local address are not forwarded.
    LinkLocalSource,
}

/// Whether a packet may leave a bridge through the port that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HairpinFact {
    /// It may, or it does not need to.
    Works,
    /// This port drops it, because hairpin mode is off.
    Dropped {
        /// Name of the port.
        port: String,
    },
    /// It is not known behind which port the addresses are.
    Unknown,
}
