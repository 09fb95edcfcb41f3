//! Facts about the host's network: routes, bridges, and what else packets meet.

use std::net::IpAddr;

use rulegen_net::{IpFamily, Protocol};
use strum::IntoStaticStr;

/// Facts about the host's network. An implementation asks the kernel.
pub trait HostNetwork {
    /// The routing decision for a packet.
    fn route(&self, query: &RouteQuery<'_>) -> RouteFact;

    /// Whether a bridge returns a packet through the port that it came from, if both addresses are
    /// behind the same port.
    fn hairpin(&self, bridge: &str, from: IpAddr, to: IpAddr) -> HairpinFact;

    /// What packets meet at a place, and is not evaluated.
    fn obstacles(&self, place: &PathStage<'_>) -> Vec<PathObstacle>;
}

/// A place on the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStage<'a> {
    /// The interface through which it comes in.
    In(&'a str),
    /// The interface through which it leaves.
    Out(&'a str),
    /// The route to its destination.
    Route(&'a RouteQuery<'a>),
    /// Connection tracking, for the first packet of a connection.
    ConnectionTracking,
    /// Where this host sends an ICMP error of a family.
    Error(IpFamily),
    /// Anywhere on this host.
    Host,
}

/// Something that may stop or change a packet, and is not evaluated.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum PathObstacle {
    /// XDP programs on these interfaces.
    Xdp(Vec<String>),
    /// Filters or programs of traffic control on these interfaces.
    #[strum(serialize = "tc-filter")]
    Filters(Vec<String>),
    /// The kernel does not list the programs of traffic control to this process.
    #[strum(serialize = "tc-filter")]
    UnlistedFilters,
    /// Queueing disciplines that shape traffic.
    #[strum(serialize = "qdisc")]
    Shapers {
        /// Names of the interfaces with such a queueing discipline.
        interfaces: Vec<String>,
        /// The kinds, such as `tbf`.
        kinds: Vec<String>,
    },
    /// The interface has no carrier: it neither sends nor receives.
    NoCarrier(String),
    /// The interface is down: it neither sends nor receives.
    InterfaceDown(String),
    /// The interface puts packets into others, which this host then sends.
    Tunnel(String),
    /// The interface belongs to a VRF or a switch other than a bridge.
    #[strum(serialize = "master-device")]
    Master {
        /// Name of the interface.
        interface: String,
        /// Name of the VRF or switch.
        master: String,
    },
    /// The route has several next hops, of which ports may choose one.
    #[strum(serialize = "multipath")]
    NextHops {
        /// The destination.
        to: IpAddr,
        /// The interfaces of the next hops.
        interfaces: Vec<String>,
    },
    /// The route puts packets into others.
    #[strum(serialize = "tunnel")]
    Encapsulation(IpAddr),
    /// The kernel did not show the route to this destination.
    #[strum(serialize = "host-network")]
    UnknownRoute(IpAddr),
    /// The hardware address of the next hop, or of the destination, is not known: it did not answer
    /// yet, or not lately.
    NoNeighbour {
        /// IP address of the neighbour.
        ip: IpAddr,
        /// Name of the interface that leads to it.
        interface: String,
    },
    /// The network namespace has IPsec policies.
    Ipsec,
    /// IPVS has services.
    Ipvs,
    /// It cannot be read whether IPVS has services.
    #[strum(serialize = "ipvs")]
    UnreadIpvs,
    /// eBPF programs see what sockets of all processes send, and may replace its destination.
    SocketPrograms,
    /// eBPF programs see what sockets in these cgroups of pods send or receive.
    #[strum(serialize = "socket-programs")]
    PodSocketPrograms(Vec<String>),
    /// It cannot be read whether there are such programs.
    #[strum(serialize = "socket-programs")]
    UnreadSocketPrograms,
    /// The conntrack table is full, or nearly so.
    #[strum(serialize = "conntrack-full")]
    FullTable {
        /// Number of entries.
        count: u64,
        /// Maximum number of entries.
        max: u64,
    },
    /// The kernel limits the rate of ICMP errors by this setting.
    #[strum(serialize = "icmp-rate-limit")]
    ErrorRate(&'static str),
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
    /// Where it comes from.
    pub input: RouteInput<'a>,
    /// Mark, if it is known.
    pub mark: Option<u32>,
}

/// Where a packet to route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteInput<'a> {
    /// This host sends it.
    Host,
    /// It comes in through this interface.
    Interface(&'a str),
    /// It comes in through an interface that is not known.
    UnknownInterface,
}

/// A routing decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFact {
    /// Through this interface.
    Out(String),
    /// Through one of these interfaces.
    OneOf(Vec<String>),
    /// To this host.
    Local,
    /// The packet is not routed.
    Failed(RouteFailure),
    /// It is not known.
    Unknown,
}

/// Why a packet is not routed.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum RouteFailure {
    /// There is no usable route. Holds the kernel's error.
    NoRoute(String),
    /// The reverse-path filter drops it: packets to its source leave through another interface.
    ReversePath,
    /// The source or destination is not allowed there (martian), or a blackhole route drops it.
    Martian,
    /// Packets from the input interface are not forwarded.
    ForwardingOff,
    /// The input interface does not accept IPv6 packets.
    Ipv6Disabled,
    /// Packets from an IPv6 link-local address are not forwarded.
    #[strum(serialize = "no-route")]
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
    /// These ports are isolated from each other. They may be the same.
    Isolated {
        /// The port of the sender.
        from: String,
        /// The port of the receiver.
        to: String,
    },
    /// It is not known behind which port the addresses are.
    Unknown,
}
