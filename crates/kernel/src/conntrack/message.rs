//! Messages of ctnetlink, as in linux/netfilter/nfnetlink_conntrack.h.

use std::net::{IpAddr, SocketAddr};

use nftnl::nftnl_sys::libc;
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::Flow;

use crate::netlink::{attribute, family};

/// IPCTNL_MSG_CT_*.
const GET: u16 = 1;
const DELETE: u16 = 2;

/// CTA_*.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;

/// CTA_TUPLE_*.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;

/// CTA_IP_*, source and destination.
const IPV4: (u16, u16) = (1, 2);
const IPV6: (u16, u16) = (3, 4);

/// CTA_PROTO_*.
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;

/// CTA_FILTER_ORIG_FLAGS, and its flag to compare the protocol number (CTA_FILTER_F_CTA_PROTO_NUM
/// of net/netfilter/nf_internals.h).
const FILTER_ORIG_FLAGS: u16 = 1;
const BY_PROTOCOL: u32 = 1 << 3;

/// A request for all flows of a family. With a protocol, the kernel skips all others (Linux 5.8 or
/// later): most flows of a node are TCP and need not be sent then.
pub(super) fn list(family: IpFamily, protocol: Option<Protocol>, sequence: u32) -> Vec<u8> {
    let filter = protocol.map(|protocol| {
        let number = encode(PROTO_NUMBER, &[protocol.number()]);
        [
            nest(TUPLE_ORIG, &[nest(TUPLE_PROTO, &[number])]),
            nest(FILTER, &[encode(FILTER_ORIG_FLAGS, &BY_PROTOCOL.to_ne_bytes())]),
        ]
    });
    let filter = filter.as_ref().map_or(&[][..], |parts| parts.as_slice());
    request(GET, libc::NLM_F_DUMP, family, sequence, filter)
}

/// A request to delete one flow. Without its addresses, it would flush the table.
pub(super) fn delete(flow: &Flow, sequence: u32) -> Vec<u8> {
    let mut parts = vec![original(flow), encode(ZONE, &flow.zone.to_be_bytes())];
    parts.extend(flow.id.map(|id| encode(ID, &id.to_be_bytes())));
    request(DELETE, libc::NLM_F_ACK, flow.family(), sequence, &parts)
}

/// Decodes the flow of a message; `None` if Services cannot use its protocol.
pub(super) fn flow(message: &[u8]) -> Option<Flow> {
    let original = Tuple::decode(attribute::find(message, TUPLE_ORIG)?)?;
    let reply = Tuple::decode(attribute::find(message, TUPLE_REPLY)?)?;
    // The zone may apply to both directions or to one.
    let zone = attribute::find(message, ZONE).and_then(be16).or(original.zone);
    Some(Flow {
        protocol: original.protocol,
        source: original.source,
        destination: original.destination,
        reply_source: reply.source,
        reply_destination: reply.destination,
        zone: zone.unwrap_or_default(),
        id: attribute::be32(message, ID),
    })
}

/// The addresses of one direction.
struct Tuple {
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
    zone: Option<u16>,
}

impl Tuple {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let ip = attribute::find_behind(bytes, 0, TUPLE_IP)?;
        let proto = attribute::find_behind(bytes, 0, TUPLE_PROTO)?;
        let number = attribute::find_behind(proto, 0, PROTO_NUMBER)?;
        let protocol = Protocol::from_number(*number.first()?)?;
        let port = |kind| attribute::find_behind(proto, 0, kind).and_then(be16);
        let address = |v4, v6| {
            let found = attribute::find_behind(ip, 0, v4);
            address(found.or_else(|| attribute::find_behind(ip, 0, v6))?)
        };
        Some(Self {
            protocol,
            source: SocketAddr::new(address(IPV4.0, IPV6.0)?, port(PROTO_SOURCE_PORT)?),
            destination: SocketAddr::new(address(IPV4.1, IPV6.1)?, port(PROTO_DESTINATION_PORT)?),
            zone: attribute::find_behind(bytes, 0, TUPLE_ZONE).and_then(be16),
        })
    }
}

fn original(flow: &Flow) -> Vec<u8> {
    let (source, destination) = match flow.family() {
        IpFamily::Ipv4 => IPV4,
        IpFamily::Ipv6 => IPV6,
    };
    let ip = [
        encode(source, &octets(flow.source.ip())),
        encode(destination, &octets(flow.destination.ip())),
    ];
    let proto = [
        encode(PROTO_NUMBER, &[flow.protocol.number()]),
        encode(PROTO_SOURCE_PORT, &flow.source.port().to_be_bytes()),
        encode(PROTO_DESTINATION_PORT, &flow.destination.port().to_be_bytes()),
    ];
    nest(TUPLE_ORIG, &[nest(TUPLE_IP, &ip), nest(TUPLE_PROTO, &proto)])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).ok()
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

/// The netlink and nfnetlink headers (struct nlmsghdr, struct nfgenmsg), and the content.
fn request(kind: u16, flags: i32, of: IpFamily, sequence: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    const HEADERS: usize = 16 + 4;
    let body = parts.concat();
    let length = u32::try_from(HEADERS + body.len()).unwrap_or(u32::MAX);
    let kind = u16::try_from(libc::NFNL_SUBSYS_CTNETLINK).unwrap_or_default() << 8 | kind;
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
    let of = u8::try_from(family::number(of)).unwrap_or_default();
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        // The kernel knows the sender.
        &0_u32.to_ne_bytes(),
        // Family, version (NFNETLINK_V0) and no resource ID.
        &[of, 0, 0, 0],
        &body,
    ]
    .concat()
}

/// A nested attribute.
fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    const NESTED: u16 = 1 << 15;
    encode(kind | NESTED, &parts.concat())
}

/// An attribute (struct nlattr of linux/netlink.h), padded to the alignment of the next.
fn encode(kind: u16, value: &[u8]) -> Vec<u8> {
    const HEADER: usize = 4;
    let length = HEADER + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows() -> [Flow; 2] {
        [
            ("10.0.0.1:40000", "10.96.0.10:53", "10.244.1.5:5353", "10.0.0.2:40001"),
            ("[fd00::1]:40000", "[fd00:96::a]:53", "[fd00:244::5]:5353", "[fd00::2]:40001"),
        ]
        .map(|(source, destination, reply_source, reply_destination)| Flow {
            protocol: Protocol::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            reply_source: reply_source.parse().unwrap(),
            reply_destination: reply_destination.parse().unwrap(),
            zone: 7,
            id: Some(0x0102_0304),
        })
    }

    /// The kernel's message for a flow: the request to delete it plus the reply direction.
    fn kernel_message(flow: &Flow) -> Vec<u8> {
        let reply =
            Flow { source: flow.reply_source, destination: flow.reply_destination, ..*flow };
        let mut reply = original(&reply);
        for (byte, kind) in reply.iter_mut().skip(2).zip((TUPLE_REPLY | 1 << 15).to_ne_bytes()) {
            *byte = kind;
        }
        [delete(flow, 1), reply].concat()
    }

    #[test]
    fn conntrack_message_round_trips() {
        for flow in flows() {
            assert_eq!(super::flow(&kernel_message(&flow)), Some(flow));
        }
    }

    #[test]
    fn conntrack_delete_request_has_correct_length_and_flow_tuple() {
        for flow in flows() {
            let request = delete(&flow, 9);
            let length = u32::try_from(request.len()).unwrap();
            assert_eq!(request[..4], length.to_ne_bytes());
            assert_eq!(request[4..6], (1 << 8 | DELETE).to_ne_bytes());
            let tuple = attribute::find(&request, TUPLE_ORIG).and_then(Tuple::decode).unwrap();
            assert_eq!((tuple.source, tuple.destination), (flow.source, flow.destination));
        }
    }

    #[test]
    fn conntrack_message_that_is_truncated_is_no_flow() {
        for flow in flows() {
            let whole = kernel_message(&flow);
            for length in 0..whole.len() {
                assert_eq!(super::flow(whole.get(..length).unwrap()), None, "{length}");
            }
        }
    }

    #[test]
    fn conntrack_flows_of_other_protocols_are_skipped() {
        const ICMP: u8 = 1;
        for flow in flows() {
            let mut message = kernel_message(&flow);
            for byte in message.iter_mut().filter(|byte| **byte == Protocol::Udp.number()) {
                *byte = ICMP;
            }
            assert_eq!(super::flow(&message), None);
        }
    }
}
