//! A packet of which only a part is known.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_net::{IpFamily, Protocol};

use super::bits::Bits;
use super::field::{PacketField, conntrack};
use super::mark::PartialMark;

/// The first packet of a connection at one place of its way. `None` means unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialPacket {
    /// IP family.
    pub family: IpFamily,
    /// Source address.
    pub source: Bits,
    /// Whether the source is an address of this host.
    pub source_is_local: Option<bool>,
    /// Destination address.
    pub destination: Bits,
    /// Whether the destination is an address of this host.
    pub destination_is_local: Option<bool>,
    /// IP number of the transport protocol.
    pub protocol: Option<u8>,
    /// Destination port of TCP, UDP or SCTP.
    pub destination_port: Option<u16>,
    /// Input interface; empty if there is none, as for packets of this host.
    pub in_interface: Option<String>,
    /// Output interface; empty if there is none yet.
    pub out_interface: Option<String>,
    /// Conntrack's view.
    pub connection: Connection,
    /// Packet mark (`meta mark`).
    pub mark: PartialMark,
}

/// Conntrack's view of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Conntrack has not seen the packet yet.
    Before,
    /// It is not tracked.
    Untracked,
    /// A new connection.
    New {
        /// Whether the destination was replaced.
        translated: Option<bool>,
        /// Whether the source was replaced.
        masqueraded: Option<bool>,
    },
    /// An ICMP error about a packet of a tracked connection.
    Related,
    /// Nothing is known.
    Unknown,
}

/// What is known about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Its value, as far as it is known.
    Is(Bits),
    /// The packet does not have the field: a rule that reads it does not match (NFT_BREAK).
    Absent,
}

impl PartialPacket {
    /// A packet of which only the family is known.
    pub fn unknown(family: IpFamily) -> Self {
        Self {
            family,
            source: Bits::UNKNOWN,
            source_is_local: None,
            destination: Bits::UNKNOWN,
            destination_is_local: None,
            protocol: None,
            destination_port: None,
            in_interface: None,
            out_interface: None,
            connection: Connection::Unknown,
            mark: PartialMark::UNKNOWN,
        }
    }

    /// The packet with this source.
    #[must_use]
    pub fn from(mut self, source: IpAddr, is_local: bool) -> Self {
        (self.source, self.source_is_local) = (Bits::of_address(source), Some(is_local));
        self
    }

    /// The packet with this destination.
    #[must_use]
    pub fn to(mut self, destination: IpAddr, is_local: bool) -> Self {
        self.destination = Bits::of_address(destination);
        self.destination_is_local = Some(is_local);
        self
    }

    /// The packet to some address of a network.
    #[must_use]
    pub fn to_network(mut self, network: IpNet) -> Self {
        self.destination = Bits::of_network(network);
        self
    }

    /// What is known about a field.
    pub(super) fn fact(&self, field: PacketField) -> Fact {
        let number = |number: Option<u32>| match number {
            Some(number) => Bits::of_bytes(&number.to_be_bytes()),
            None => Bits::UNKNOWN,
        };
        Fact::Is(match field {
            PacketField::Network { offset, length } => self.network_header().part(offset, length),
            PacketField::Transport { offset, length } => {
                self.transport_header().part(offset, length)
            }
            PacketField::Protocol => byte(self.protocol),
            PacketField::Family => byte(Some(match self.family {
                IpFamily::Ipv4 => 2,
                IpFamily::Ipv6 => 10,
            })),
            PacketField::EtherType => Bits::of_bytes(match self.family {
                IpFamily::Ipv4 => &[0x08, 0x00],
                IpFamily::Ipv6 => &[0x86, 0xdd],
            }),
            PacketField::InInterface => name(self.in_interface.as_deref()),
            PacketField::OutInterface => name(self.out_interface.as_deref()),
            PacketField::Mark => {
                let (value, known) = self.mark.bytes();
                Bits::partly(&value, &known)
            }
            PacketField::SourceIsLocal => byte(self.source_is_local.map(u8::from)),
            PacketField::DestinationIsLocal => byte(self.destination_is_local.map(u8::from)),
            PacketField::ConnectionState => number(match self.connection {
                Connection::Before => Some(conntrack::INVALID),
                Connection::Untracked => Some(conntrack::UNTRACKED),
                Connection::New { .. } => Some(conntrack::NEW),
                Connection::Related => Some(conntrack::RELATED),
                Connection::Unknown => None,
            }),
            PacketField::ConnectionStatus => match self.connection {
                Connection::Before | Connection::Untracked => return Fact::Absent,
                Connection::New { .. } | Connection::Related | Connection::Unknown => self.status(),
            },
            PacketField::NatStatus => self.status(),
        })
    }

    /// The status bits of the connection. Without a connection there are none.
    fn status(&self) -> Bits {
        let (translated, masqueraded) = match self.connection {
            Connection::Before | Connection::Untracked => (Some(false), Some(false)),
            Connection::New { translated, masqueraded } => (translated, masqueraded),
            Connection::Related | Connection::Unknown => return Bits::UNKNOWN,
        };
        // No reply was seen yet.
        let known_bits = conntrack::SEEN_REPLY | conntrack::ASSURED;
        let facts = [(translated, conntrack::DNAT), (masqueraded, conntrack::SNAT)];
        let (value, known) = facts.iter().fold((0, known_bits), |(value, known), (is, bit)| {
            (
                if *is == Some(true) { value | bit } else { value },
                if is.is_some() { known | bit } else { known },
            )
        });
        Bits::partly(&value.to_be_bytes(), &known.to_be_bytes())
    }

    fn network_header(&self) -> Header {
        let mut header = Header::default();
        let (at_protocol, at_source, at_destination, length) = match self.family {
            IpFamily::Ipv4 => (9, 12, 16, 4),
            IpFamily::Ipv6 => (6, 8, 24, 16),
        };
        if let Some(protocol) = self.protocol {
            header.put(at_protocol, &[protocol], &[u8::MAX]);
        }
        for (at, Bits { value, known }) in
            [(at_source, self.source), (at_destination, self.destination)]
        {
            let (value, known) = (value.to_be_bytes(), known.to_be_bytes());
            let of = |bytes: &[u8; 16]| bytes.get(..length).unwrap_or_default().to_vec();
            header.put(at, &of(&value), &of(&known));
        }
        header
    }

    fn transport_header(&self) -> Header {
        let mut header = Header::default();
        if let Some(port) = self.destination_port {
            header.put(2, &port.to_be_bytes(), &[u8::MAX; 2]);
        }
        if self.protocol == Some(Protocol::Tcp.number()) {
            // The first packet has SYN; its flags for congestion control are unknown.
            const SYN: u8 = 0x02;
            const KNOWN: u8 = 0x3f;
            header.put(13, &[SYN], &[KNOWN]);
        }
        header
    }
}

fn byte(number: Option<u8>) -> Bits {
    number.map_or(Bits::UNKNOWN, |number| Bits::of_bytes(&[number]))
}

/// A name, filled with zeros to the length of a name in the kernel (IFNAMSIZ).
fn name(name: Option<&str>) -> Bits {
    name.map_or(Bits::UNKNOWN, |name| Bits::of_bytes(name.as_bytes()))
}

/// The start of a header.
struct Header {
    value: [u8; Self::LENGTH],
    known: [u8; Self::LENGTH],
}

impl Default for Header {
    fn default() -> Self {
        Self { value: [0; Self::LENGTH], known: [0; Self::LENGTH] }
    }
}

impl Header {
    /// Length of the IPv6 header.
    const LENGTH: usize = 40;

    fn put(&mut self, at: usize, value: &[u8], known: &[u8]) {
        let copy = |to: &mut [u8; Self::LENGTH], from: &[u8]| {
            to.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
        };
        copy(&mut self.value, value);
        copy(&mut self.known, known);
    }

    fn part(&self, offset: u32, length: u32) -> Bits {
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let range = range.and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        let part = |of: &[u8; Self::LENGTH]| Some(of.get(range.clone()?)?.to_vec());
        match part(&self.value).zip(part(&self.known)) {
            Some((value, known)) => Bits::partly(&value, &known),
            None => Bits::UNKNOWN,
        }
    }
}
