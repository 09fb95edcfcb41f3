//! Decodes NFT_MSG_TRACE (linux/netfilter/nf_tables.h, net/netfilter/nf_tables_trace.c).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::nftables::{
    ChainId, Name, PacketHeader, Ports, TableFamily, TraceEvent, TraceStep, TraceVerdict,
};

use crate::netlink::attribute;

/// NFTA_TRACE_*.
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const TYPE: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const NETWORK_HEADER: u16 = 8;
const TRANSPORT_HEADER: u16 = 9;
const IN_INTERFACE: u16 = 10;
const OUT_INTERFACE: u16 = 12;
const MARK: u16 = 14;
const POLICY: u16 = 16;

/// NFTA_VERDICT_*.
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// After the netlink header: the family of the table, in the nfnetlink header.
const FAMILY: usize = 16;

/// Decodes a trace message; `None` if it is malformed. `interface` returns the name of an interface
/// index.
pub(super) fn decode(
    message: &[u8],
    interface: impl Fn(u32) -> Option<String>,
) -> Option<TraceEvent> {
    let at = ChainId {
        family: family_of_number(*message.get(FAMILY)?)?,
        table: Name::from_kernel(&attribute::text(message, TABLE)?),
        chain: Name::from_kernel(&attribute::text(message, CHAIN)?),
    };
    Some(TraceEvent {
        packet: attribute::be32(message, ID)?,
        at,
        step: step(message)?,
        mark: attribute::be32(message, MARK).unwrap_or_default(),
        header: header(message, interface),
    })
}

fn step(message: &[u8]) -> Option<TraceStep> {
    match attribute::be32(message, TYPE)?.cast_signed() {
        libc::NFT_TRACETYPE_RULE => {
            let verdict = verdict(attribute::find(message, VERDICT)?)?;
            let Some(handle) = attribute::find(message, RULE_HANDLE) else {
                // End of a chain, which has no rule (nf_trace_fill_rule_info()).
                return (verdict == TraceVerdict::Continue).then_some(TraceStep::Return);
            };
            Some(TraceStep::Rule { handle: u64::from_be_bytes(handle.try_into().ok()?), verdict })
        }
        libc::NFT_TRACETYPE_RETURN => Some(TraceStep::Return),
        libc::NFT_TRACETYPE_POLICY => {
            let code = attribute::be32(message, POLICY)?.cast_signed();
            Some(TraceStep::Policy(of_code(code, None)))
        }
        _ => None,
    }
}

fn verdict(nested: &[u8]) -> Option<TraceVerdict> {
    let code = attribute::find_behind(nested, 0, VERDICT_CODE)?.try_into().ok()?;
    let chain = attribute::find_behind(nested, 0, VERDICT_CHAIN).map(attribute::string);
    Some(of_code(i32::from_be_bytes(code), chain))
}

fn of_code(code: i32, chain: Option<String>) -> TraceVerdict {
    // The upper bits hold the queue number or the errno of a drop (NF_VERDICT_MASK).
    const MASK: i32 = 0xff;
    let chain = chain.map(|name| Name::from_kernel(&name));
    match (code, chain) {
        (libc::NFT_CONTINUE, _) => TraceVerdict::Continue,
        (libc::NFT_RETURN, _) => TraceVerdict::Return,
        (libc::NFT_JUMP, Some(chain)) => TraceVerdict::Jump(chain),
        (libc::NFT_GOTO, Some(chain)) => TraceVerdict::Goto(chain),
        (code, _) if code < 0 => TraceVerdict::Other(code),
        (code, _) => match code & MASK {
            libc::NF_ACCEPT => TraceVerdict::Accept,
            libc::NF_DROP => TraceVerdict::Drop,
            libc::NF_QUEUE => TraceVerdict::Queue,
            libc::NF_STOLEN => TraceVerdict::Stolen,
            _ => TraceVerdict::Other(code),
        },
    }
}

fn header(message: &[u8], interface: impl Fn(u32) -> Option<String>) -> Option<PacketHeader> {
    let network = attribute::find(message, NETWORK_HEADER)?;
    let (source, destination, protocol) = network_header(network)?;
    let named = |attribute| {
        let index = attribute::be32(message, attribute)?;
        Some(interface(index).unwrap_or_else(|| format!("interface {index}")))
    };
    Some(PacketHeader {
        source,
        destination,
        protocol,
        ports: attribute::find(message, TRANSPORT_HEADER).and_then(|bytes| ports(protocol, bytes)),
        in_interface: named(IN_INTERFACE),
        out_interface: named(OUT_INTERFACE),
    })
}

/// Addresses and protocol: RFC 791, 3.1, and RFC 8200, 3. The kernel does not report IPv6 extension
/// headers, so they are not searched.
fn network_header(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u8)> {
    match bytes.first()? >> 4 {
        4 => {
            let address = |at| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?).into());
            Some((address(12)?, address(16)?, *bytes.get(9)?))
        }
        6 => {
            let address = |at| Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?).into());
            Some((address(8)?, address(24)?, *bytes.get(6)?))
        }
        _ => None,
    }
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite start with their ports.
fn ports(protocol: u8, bytes: &[u8]) -> Option<Ports> {
    const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    let [a, b, c, d, ..] = *bytes else { return None };
    WITH_PORTS.contains(&protocol).then_some(Ports {
        source: u16::from_be_bytes([a, b]),
        destination: u16::from_be_bytes([c, d]),
    })
}

/// NFPROTO_* of linux/netfilter.h.
const FAMILIES: [(i32, TableFamily); 6] = [
    (libc::NFPROTO_INET, TableFamily::Inet),
    (libc::NFPROTO_IPV4, TableFamily::Ip),
    (libc::NFPROTO_ARP, TableFamily::Arp),
    (libc::NFPROTO_NETDEV, TableFamily::Netdev),
    (libc::NFPROTO_BRIDGE, TableFamily::Bridge),
    (libc::NFPROTO_IPV6, TableFamily::Ip6),
];

/// The table family of the kernel's number.
pub(in crate::nftables) fn family_of_number(number: u8) -> Option<TableFamily> {
    let number = i32::from(number);
    FAMILIES.into_iter().find(|(other, _)| *other == number).map(|(_, family)| family)
}

/// The kernel's number of a table family.
pub(super) fn number_of_family(of: TableFamily) -> u16 {
    let number = FAMILIES.into_iter().find(|(_, family)| *family == of);
    number.and_then(|(number, _)| u16::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Built like nft_trace_notify() of net/netfilter/nf_tables_trace.c.
    fn message(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(parts.concat());
        bytes
    }

    fn beginning(kind: i32) -> Vec<Vec<u8>> {
        vec![
            attribute(TYPE, &kind.to_be_bytes()),
            attribute(ID, &0x0102_0304_u32.to_be_bytes()),
            attribute(CHAIN, b"services\0"),
            attribute(TABLE, b"rulegen\0"),
        ]
    }

    fn packet_v4() -> Vec<Vec<u8>> {
        let mut network = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0];
        network.extend([10, 244, 1, 133, 10, 96, 0, 10]);
        let mut transport = vec![0x80, 0xe8, 0, 80];
        transport.extend([0; 16]);
        vec![
            attribute(NETWORK_HEADER, &network),
            attribute(TRANSPORT_HEADER, &transport),
            attribute(IN_INTERFACE, &7_u32.to_be_bytes()),
            attribute(OUT_INTERFACE, &8_u32.to_be_bytes()),
        ]
    }

    fn rule(code: i32, chain: Option<&str>) -> Vec<Vec<u8>> {
        let mut nested = attribute(VERDICT_CODE, &code.to_be_bytes());
        nested.extend(
            chain
                .map(|name| attribute(VERDICT_CHAIN, &[name.as_bytes(), &[0]].concat()))
                .unwrap_or_default(),
        );
        let mut parts = beginning(libc::NFT_TRACETYPE_RULE);
        parts.push(attribute(RULE_HANDLE, &42_u64.to_be_bytes()));
        parts.push(attribute(VERDICT | 1 << 15, &nested));
        parts
    }

    fn name(index: u32) -> Option<String> {
        (index == 7).then(|| "cni0".to_owned())
    }

    #[test]
    fn trace_event_has_rule_and_packet_header() {
        let mut parts = rule(libc::NFT_GOTO, Some("cluster-ip-2"));
        parts.push(attribute(MARK, &0x4000_u32.to_be_bytes()));
        parts.extend(packet_v4());
        let event = decode(&message(&parts), name).unwrap();
        assert_eq!(event.packet, 0x0102_0304);
        assert_eq!(event.at.to_string(), "ip rulegen services");
        assert_eq!(event.mark, 0x4000);
        let verdict = TraceVerdict::Goto(Name::from("cluster-ip-2"));
        assert_eq!(event.step, TraceStep::Rule { handle: 42, verdict });
        let header = event.header.unwrap();
        assert_eq!(header.to_string(), "10.244.1.133:33000 → 10.96.0.10:80/tcp");
        assert_eq!(header.in_interface.as_deref(), Some("cni0"));
        assert_eq!(header.out_interface.as_deref(), Some("interface 8"));
    }

    #[test]
    fn trace_event_of_ipv6_and_a_protocol_without_ports() {
        let mut network = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        network.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        network.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        let mut parts = beginning(libc::NFT_TRACETYPE_RETURN);
        parts.push(attribute(NETWORK_HEADER, &network));
        parts.push(attribute(TRANSPORT_HEADER, &[128, 0, 1, 2, 3, 4, 5, 6]));
        let event = decode(&message(&parts), name).unwrap();
        assert_eq!(event.step, TraceStep::Return);
        assert_eq!(event.header.unwrap().to_string(), "fd00::1 → fd00::2 icmpv6");
    }

    #[test]
    fn trace_event_at_the_end_of_a_chain_is_a_rule_without_handle() {
        let mut parts = beginning(libc::NFT_TRACETYPE_RULE);
        parts.push(attribute(VERDICT, &attribute(VERDICT_CODE, &libc::NFT_CONTINUE.to_be_bytes())));
        parts.extend(packet_v4());
        let event = decode(&message(&parts), name).unwrap();
        assert_eq!(event.step, TraceStep::Return);
        assert!(event.header.is_some());
    }

    #[test]
    fn trace_verdicts_are_decoded() {
        for (code, chain, verdict) in [
            (libc::NF_DROP, None, TraceVerdict::Drop),
            (libc::NF_ACCEPT, None, TraceVerdict::Accept),
            (libc::NF_QUEUE | 5 << 16, None, TraceVerdict::Queue),
            (libc::NF_STOLEN, None, TraceVerdict::Stolen),
            (libc::NFT_CONTINUE, None, TraceVerdict::Continue),
            (libc::NFT_RETURN, None, TraceVerdict::Return),
            (libc::NFT_JUMP, Some("x"), TraceVerdict::Jump(Name::from("x"))),
            (libc::NFT_JUMP, None, TraceVerdict::Other(libc::NFT_JUMP)),
            (9, None, TraceVerdict::Other(9)),
        ] {
            let event = decode(&message(&rule(code, chain)), name).unwrap();
            assert_eq!(event.step, TraceStep::Rule { handle: 42, verdict }, "{code}");
        }
        let mut policy = beginning(libc::NFT_TRACETYPE_POLICY);
        policy.push(attribute(POLICY, &libc::NF_DROP.to_be_bytes()));
        let event = decode(&message(&policy), name).unwrap();
        assert_eq!(event.step, TraceStep::Policy(TraceVerdict::Drop));
    }

    /// Truncated and corrupted messages: the decoder returns an event or `None` and never panics.
    #[test]
    fn trace_message_that_is_malformed_does_not_panic() {
        let mut parts = rule(libc::NFT_JUMP, Some("x"));
        parts.extend(packet_v4());
        let whole = message(&parts);
        let needed = message(&rule(libc::NFT_JUMP, Some("x"))).len();
        for length in 0..whole.len() {
            let event = decode(&whole[..length], name);
            assert_eq!(event.is_some(), length >= needed, "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = decode(&bytes, name);
            }
        }
    }
}
