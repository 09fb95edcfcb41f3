//! Trace events of the kernel.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use crate::nftables::Name;
use rulegen_net::{IpFamily, Protocol};

/// One step of a traced packet (NFT_MSG_TRACE of linux/netfilter/nf_tables.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// Trace ID of the packet: a hash by the kernel. It is reused for other packets, and NAT and
    /// loopback may change it (nft_trace_init() of net/netfilter/nf_tables_trace.c).
    pub packet: u32,
    /// Chain.
    pub at: ChainId,
    /// What the packet met.
    pub step: TraceStep,
    /// Mark of the packet; 0 if it is not reported.
    pub mark: u32,
    /// Headers of the packet. Reported once per base chain, before the chain changes the packet.
    pub header: Option<PacketHeader>,
}

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// Family of the table.
    pub family: TableFamily,
    /// Name of the table, of any program.
    pub table: Name,
    /// Name of the chain in the table.
    pub chain: Name,
}

/// Table families, with nft's names (NFPROTO_* of linux/netfilter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
    /// Frames that a bridge forwards.
    Bridge,
    /// Frames of one network device.
    Netdev,
}

/// A step of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceStep {
    /// All statements of a rule matched.
    Rule {
        /// The kernel's handle of the rule.
        handle: u64,
        /// Verdict of the rule.
        verdict: TraceVerdict,
    },
    /// A regular chain ended, and the packet returns to the caller.
    Return,
    /// A base chain ended with its policy.
    Policy(TraceVerdict),
}

/// Verdict for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceVerdict {
    /// Accepted by this base chain.
    Accept,
    /// Dropped. Rules that reject end with it too.
    Drop,
    /// Passed to userspace.
    Queue,
    /// Taken over by another part of the kernel.
    Stolen,
    /// Continues with the next rule.
    Continue,
    /// Leaves the chain.
    Return,
    /// Continues in a chain, then with the next rule.
    Jump(Name),
    /// Continues in a chain.
    Goto(Name),
    /// An unknown verdict, by the kernel's number.
    Other(i32),
}

/// Headers and interfaces of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketHeader {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Ports, if the protocol has them and the kernel reports them.
    pub ports: Option<Ports>,
    /// Name of the input interface; none if this host sent the packet.
    pub in_interface: Option<String>,
    /// Output interface, once known.
    pub out_interface: Option<String>,
}

/// Ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

impl TraceVerdict {
    /// True if processing in this network namespace ends.
    pub fn is_end(&self) -> bool {
        matches!(self, TraceVerdict::Drop | TraceVerdict::Queue | TraceVerdict::Stolen)
    }
}

impl PacketHeader {
    /// The protocol, if Services can use it.
    pub fn service_protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.protocol)
    }

    /// Address family.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.destination)
    }

    /// Source address and port.
    pub fn source_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source, self.ports?.source))
    }

    /// Destination address and port.
    pub fn destination_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination, self.ports?.destination))
    }
}

/// For example `10.0.0.1:40000 → 10.96.0.10:80/tcp`.
impl Display for PacketHeader {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { source, destination, protocol, ports, .. } = self;
        match ports {
            Some(ports) => {
                let source = SocketAddr::new(*source, ports.source);
                let destination = SocketAddr::new(*destination, ports.destination);
                write!(f, "{source} → {destination}/{}", ProtocolName(*protocol))
            }
            None => write!(f, "{source} → {destination} {}", ProtocolName(*protocol)),
        }
    }
}

/// The name of a protocol, or its number if it has no name here.
struct ProtocolName(u8);

impl Display for ProtocolName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (Protocol::from_number(self.0), self.0) {
            (Some(protocol), _) => f.write_str(protocol.name()),
            (None, 1) => f.write_str("icmp"),
            (None, 58) => f.write_str("icmpv6"),
            (None, number) => write!(f, "protocol {number}"),
        }
    }
}

impl TableFamily {
    /// nft's keyword for the family.
    pub fn word(self) -> &'static str {
        match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Inet => "inet",
            TableFamily::Arp => "arp",
            TableFamily::Bridge => "bridge",
            TableFamily::Netdev => "netdev",
        }
    }
}

impl TableFamily {
    /// The family of the packets in its tables, if there is only one.
    pub fn of_packets(self) -> Option<IpFamily> {
        match self {
            TableFamily::Ip => Some(IpFamily::Ipv4),
            TableFamily::Ip6 => Some(IpFamily::Ipv6),
            _ => None,
        }
    }
}

impl From<IpFamily> for TableFamily {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => TableFamily::Ip,
            IpFamily::Ipv6 => TableFamily::Ip6,
        }
    }
}

impl Display for ChainId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.word(), self.table, self.chain)
    }
}

impl Display for TraceVerdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            TraceVerdict::Accept => f.write_str("accept"),
            TraceVerdict::Drop => f.write_str("drop"),
            TraceVerdict::Queue => f.write_str("queue"),
            TraceVerdict::Stolen => f.write_str("stolen"),
            TraceVerdict::Continue => f.write_str("continue"),
            TraceVerdict::Return => f.write_str("return"),
            TraceVerdict::Jump(chain) => write!(f, "jump {chain}"),
            TraceVerdict::Goto(chain) => write!(f, "goto {chain}"),
            TraceVerdict::Other(number) => write!(f, "verdict {number}"),
        }
    }
}
