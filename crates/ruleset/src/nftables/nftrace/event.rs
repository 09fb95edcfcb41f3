//! What the kernel tells of a packet that is traced.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use crate::nftables::Name;
use rulegen_net::{IpFamily, Protocol};

/// One step of a packet (NFT_MSG_TRACE of linux/netfilter/nf_tables.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// Tells packets apart. A hash of the kernel's own: it comes again for others, and translation
    /// and loopback may change it (nft_trace_init() of net/netfilter/nf_tables_trace.c).
    pub packet: u32,
    /// Where it is.
    pub at: ChainId,
    /// What happened to it.
    pub step: TraceStep,
    /// Its mark, 0 also if that is not told.
    pub mark: u32,
    /// What it looks like, told once a base chain, before the chain does anything to it.
    pub header: Option<PacketHeader>,
}

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The table's family.
    pub family: TableFamily,
    /// The table.
    pub table: Name,
    /// The chain in it.
    pub chain: Name,
}

/// Families of tables (NFPROTO_* of linux/netfilter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum TableFamily {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

/// What happened to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceStep {
    /// A rule held to its end.
    Rule {
        /// The kernel's number for the rule.
        handle: u64,
        /// What follows.
        verdict: TraceVerdict,
    },
    /// A chain ended, and the packet goes on where it came from.
    Return,
    /// A base chain ended, and its policy counts.
    Policy(TraceVerdict),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceVerdict {
    /// It leaves this base chain unharmed.
    Accept,
    /// It is gone. Also what a rule that rejects ends with.
    Drop,
    /// A program decides.
    Queue,
    /// Something else took it.
    Stolen,
    /// The next rule follows.
    Continue,
    /// The chain is left.
    Return,
    /// A chain follows, and the next rule behind it.
    Jump(Name),
    /// A chain follows.
    Goto(Name),
    /// A verdict that is not known here.
    Other(i32),
}

/// The headers of a packet and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketHeader {
    /// Whom it is from.
    pub source: IpAddr,
    /// Whom it is to.
    pub destination: IpAddr,
    /// The number of what it carries (IANA's protocol numbers).
    pub protocol: u8,
    /// The ports, where its protocol has them and they are told.
    pub ports: Option<Ports>,
    /// The interface that it came in through.
    pub in_interface: Option<String>,
    /// The interface that it leaves through, as soon as that is known.
    pub out_interface: Option<String>,
}

/// Ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

impl TraceVerdict {
    /// Whether nothing follows in this network namespace.
    pub fn is_end(&self) -> bool {
        matches!(self, TraceVerdict::Drop | TraceVerdict::Queue | TraceVerdict::Stolen)
    }
}

impl PacketHeader {
    /// The protocol, if Services know it.
    pub fn service_protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.protocol)
    }

    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.destination)
    }

    /// Whom it is from, with the port.
    pub fn source_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source, self.ports?.source))
    }

    /// Whom it is to, with the port.
    pub fn destination_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination, self.ports?.destination))
    }
}

/// As `10.0.0.1:40000 → 10.96.0.10:80/tcp`.
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

/// The name of a protocol, or its number where it has none here.
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
    /// The word of nft for it.
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
    /// The only family of packets that its tables see, if it is one.
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
