//! Fields of a packet that rules read.

use rulegen_net::IpFamily;

/// A part of a packet, or of what the kernel knows about it, that a rule can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketField {
    /// Bytes of the IP header.
    Network {
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        length: u32,
    },
    /// Bytes of the transport header.
    Transport {
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        length: u32,
    },
    /// Transport protocol, one byte.
    Protocol,
    /// IP family (NFPROTO_*), one byte.
    Family,
    /// Ethernet type, two bytes.
    EtherType,
    /// Name of the input interface, 16 bytes.
    InInterface,
    /// Name of the output interface, 16 bytes.
    OutInterface,
    /// Mark, four bytes.
    Mark,
    /// State of the connection, as bits ([`conntrack`]), four bytes.
    ConnectionState,
    /// Status of the connection, as bits. A packet without connection does not have it.
    ConnectionStatus,
    /// The same in iptables: a packet without connection has no bits.
    NatStatus,
    /// 1 if the source is an address of this host, else 0.
    SourceIsLocal,
    /// 1 if the destination is an address of this host, else 0.
    DestinationIsLocal,
}

/// Bits of connections, as in nftables (NF_CT_STATE_* and enum ip_conntrack_status).
pub mod conntrack {
    /// State: of no connection, or against its protocol.
    pub const INVALID: u32 = 1;
    /// State: packets were seen in both directions.
    pub const ESTABLISHED: u32 = 2;
    /// State: a new connection that another one expects, or an ICMP error about one.
    pub const RELATED: u32 = 4;
    /// State: no reply was seen yet.
    pub const NEW: u32 = 8;
    /// State: not tracked (`notrack`).
    pub const UNTRACKED: u32 = 64;
    /// Status: a reply was seen.
    pub const SEEN_REPLY: u32 = 2;
    /// Status: the entry is not evicted early.
    pub const ASSURED: u32 = 4;
    /// Status: the source is translated.
    pub const SNAT: u32 = 16;
    /// Status: the destination is translated.
    pub const DNAT: u32 = 32;
}

impl PacketField {
    /// The source address.
    pub fn source(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Network { offset: 12, length: 4 },
            IpFamily::Ipv6 => Self::Network { offset: 8, length: 16 },
        }
    }

    /// The destination address.
    pub fn destination(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Network { offset: 16, length: 4 },
            IpFamily::Ipv6 => Self::Network { offset: 24, length: 16 },
        }
    }

    /// The source port of TCP, UDP and SCTP: 2 bytes.
    pub const SOURCE_PORT: Self = Self::Transport { offset: 0, length: 2 };
    /// The destination port of TCP, UDP and SCTP: 2 bytes.
    pub const DESTINATION_PORT: Self = Self::Transport { offset: 2, length: 2 };
    /// The byte with the flags of TCP (SYN, ACK, …).
    pub const TCP_FLAGS: Self = Self::Transport { offset: 13, length: 1 };
}
