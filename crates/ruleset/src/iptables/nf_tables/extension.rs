//! Matches and targets of xtables in binary form (the structures of linux/netfilter/xt_*.h).
//!
//! What is read is encoded again and compared. So a bit that is not understood makes a match or
//! target foreign.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_net::{IpFamily, Protocol};

use super::attribute::string;
use super::info::{Info, array, port_at, u16_at, u32_at};
use crate::Negatable;
use crate::iptables::rule::{
    AddressType, ConntrackState, Mark, Match, Recent, RecentAction, RejectWith, SetMark, Target,
};

/// A match or target as xtables passes it to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) name: &'static str,
    pub(super) revision: u32,
    pub(super) info: Vec<u8>,
}

/// An extension of a rule in the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActualExtension<'a> {
    pub(super) name: &'a str,
    pub(super) revision: u32,
    pub(super) info: &'a [u8],
}

impl ActualExtension<'_> {
    fn is(&self, other: &Extension) -> bool {
        (self.name, self.revision, self.info) == (other.name, other.revision, &*other.info)
    }
}

fn extension(name: &'static str, revision: u32, info: Info) -> Extension {
    Extension { name, revision, info: info.into_bytes() }
}

/// Any port, in xt_tcp and xt_udp. Their ports and those of xt_sctp have the host's byte order.
const ANY_PORT: [u8; 4] = [0, 0, 0xff, 0xff];

/// The wrapped form of a match; `None` if a name or text is too long. A mark and a port of TCP and
/// UDP have a native form too, which iptables-nft 1.8.9 uses.
pub(super) fn of_match(one: &Match) -> Option<Extension> {
    Some(match one {
        Match::Comment(text) => {
            const LENGTH: usize = 256;
            is_text_below(text, LENGTH)?;
            extension("comment", 0, Info::zero(LENGTH).put(0, text.as_bytes()))
        }
        Match::Transport { protocol, destination_port } => {
            of_transport(*protocol, *destination_port)
        }
        Match::Conntrack(states) => of_states(states),
        Match::Mark(Negatable { negated, value: Mark { value, mask } }) => {
            let info = Info::zero(16).u32(0, *value).u32(4, *mask);
            extension("mark", 1, info.put(8, &[u8::from(*negated)]))
        }
        Match::SourceType(AddressType::Local) => {
            extension("addrtype", 1, Info::zero(8).u16(0, LOCAL))
        }
        Match::DestinationType(AddressType::Local) => {
            extension("addrtype", 1, Info::zero(8).u16(2, LOCAL))
        }
        Match::Recent(recent) => of_recent(recent)?,
        Match::Random(threshold) => {
            // The field at 12 belongs to the other mode; iptables sets it in both.
            extension("statistic", 0, Info::zero(24).u32(4, *threshold).u32(12, *threshold))
        }
    })
}

/// XT_ADDRTYPE_LOCAL.
const LOCAL: u16 = 1 << 2;

/// A text that fits into `length` bytes with its NUL.
fn is_text_below(text: &str, length: usize) -> Option<()> {
    (text.len() < length && !text.contains('\0')).then_some(())
}

fn of_transport(protocol: Protocol, port: Option<u16>) -> Extension {
    let both = |port: u16| port.to_ne_bytes().repeat(2);
    let range = port.map_or_else(|| ANY_PORT.to_vec(), both);
    match protocol {
        Protocol::Tcp => extension("tcp", 0, Info::zero(16).put(0, &ANY_PORT).put(4, &range)),
        Protocol::Udp => extension("udp", 0, Info::zero(16).put(0, &ANY_PORT).put(4, &range)),
        Protocol::Sctp => {
            // The chunk flags are set to "unused".
            const DESTINATION_PORTS: u32 = 2;
            const CHUNKS: usize = 264;
            let port = port.map(|port| (port, DESTINATION_PORTS));
            let (port, flags) = port.unwrap_or_default();
            let info = Info::zero(296).u16(0, port).u16(2, port).u32(284, flags);
            let unused = [0xff, 0, 0].repeat(4);
            extension("sctp", 0, info.put(CHUNKS + 4, &unused))
        }
    }
}

/// struct xt_conntrack_mtinfo3: match_flags, invert_flags, state_mask.
const STATE_FLAGS: [usize; 3] = [146, 148, 150];

fn of_states(states: &Negatable<Vec<ConntrackState>>) -> Extension {
    // XT_CONNTRACK_STATE.
    const STATE: u16 = 1;
    let [matched, inverted, mask] = STATE_FLAGS;
    let bits = states.value.iter().fold(0, |bits, state| bits | state_bit(*state));
    let invert = if states.negated { STATE } else { 0 };
    let info = Info::zero(168).u16(matched, STATE).u16(inverted, invert).u16(mask, bits);
    extension("conntrack", 3, info)
}

/// XT_CONNTRACK_STATE_*.
fn state_bit(state: ConntrackState) -> u16 {
    1 << match state {
        ConntrackState::Invalid => 0,
        ConntrackState::Established => 1,
        ConntrackState::Related => 2,
        ConntrackState::New => 3,
        ConntrackState::Snat => 6,
        ConntrackState::Dnat => 7,
        ConntrackState::Untracked => 8,
    }
}

/// XT_RECENT_CHECK, XT_RECENT_SET and XT_RECENT_REAP.
const CHECK_AND_REAP: u8 = 1 << 0 | 1 << 5;
const SET: u8 = 1 << 1;

fn of_recent(recent: &Recent) -> Option<Extension> {
    const NAME_LENGTH: usize = 200;
    is_text_below(recent.list.as_str(), NAME_LENGTH)?;
    let (seconds, action) = match recent.action {
        RecentAction::Set => (0, SET),
        RecentAction::Check { seconds } => (seconds, CHECK_AND_REAP),
    };
    let info = Info::zero(232).u32(0, seconds).put(8, &[action]);
    let info = info.put(10, recent.list.as_str().as_bytes()).put(212, &octets(recent.mask));
    Some(extension("recent", 1, info))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Reads a match of an address family; `None` if it is foreign.
pub(super) fn read_match(family: IpFamily, actual: ActualExtension<'_>) -> Option<Match> {
    let info = actual.info;
    let found = match (actual.name, actual.revision) {
        ("comment", 0) => Match::Comment(string(info)?.into()),
        ("tcp", 0) => transport(Protocol::Tcp, any_or(u16_at(info, 4)?, info.get(4..8)?)),
        ("udp", 0) => transport(Protocol::Udp, any_or(u16_at(info, 4)?, info.get(4..8)?)),
        ("sctp", 0) => {
            let has_port = u32_at(info, 284)? != 0;
            transport(Protocol::Sctp, has_port.then_some(u16_at(info, 0)?))
        }
        ("conntrack", 3) => {
            let [_, inverted, mask] = STATE_FLAGS;
            let bits = u16_at(info, mask)?;
            let all = ConntrackState::ALL.into_iter().map(|(state, _)| state);
            let value = all.filter(|state| bits & state_bit(*state) != 0).collect();
            Match::Conntrack(Negatable { negated: u16_at(info, inverted)? != 0, value })
        }
        ("mark", 1) => {
            let value = Mark { value: u32_at(info, 0)?, mask: u32_at(info, 4)? };
            Match::Mark(Negatable { negated: *info.get(8)? != 0, value })
        }
        ("addrtype", 1) => match (u16_at(info, 0)?, u16_at(info, 2)?) {
            (LOCAL, 0) => Match::SourceType(AddressType::Local),
            (0, LOCAL) => Match::DestinationType(AddressType::Local),
            _ => return None,
        },
        ("recent", 1) => Match::Recent(recent(family, info)?),
        // The field at 12 belongs to the other mode.
        ("statistic", 0) => {
            let found = Match::Random(u32_at(info, 4)?);
            let written = of_match(&found)?.info;
            let is_same = |at: std::ops::Range<usize>| info.get(at.clone()) == written.get(at);
            return (info.len() == written.len() && is_same(0..12) && is_same(16..24))
                .then_some(found);
        }
        _ => return None,
    };
    actual.is(&of_match(&found)?).then_some(found)
}

fn transport(protocol: Protocol, destination_port: Option<u16>) -> Match {
    Match::Transport { protocol, destination_port }
}

/// The port, unless the range is that of any port.
fn any_or(port: u16, range: &[u8]) -> Option<u16> {
    (*range != ANY_PORT).then_some(port)
}

fn recent(family: IpFamily, info: &[u8]) -> Option<Recent> {
    let list = string(info.get(10..210)?)?.into();
    let seconds = u32_at(info, 0)?;
    let action = match *info.get(8)? {
        SET => RecentAction::Set,
        CHECK_AND_REAP => RecentAction::Check { seconds },
        _ => return None,
    };
    Some(Recent { list, action, mask: address_at(family, info, 212)? })
}

fn address_at(family: IpFamily, info: &[u8], at: usize) -> Option<IpAddr> {
    match family {
        IpFamily::Ipv4 => array::<4>(info, at).map(|bytes| Ipv4Addr::from(bytes).into()),
        IpFamily::Ipv6 => array::<16>(info, at).map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

/// IPT_ICMP_PORT_UNREACHABLE and IP6T_ICMP6_PORT_UNREACH.
fn reject_code(with: RejectWith) -> (IpFamily, u32) {
    match with {
        RejectWith::IcmpPortUnreachable => (IpFamily::Ipv4, 3),
        RejectWith::Icmp6PortUnreachable => (IpFamily::Ipv6, 4),
    }
}

/// NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED and NF_NAT_RANGE_PROTO_RANDOM_FULLY.
const TO_ADDRESS_AND_PORT: u32 = 1 << 0 | 1 << 1;
const RANDOM_FULLY: u32 = 1 << 4;

/// The wrapped form of a target; `None` if it is native, or belongs to the other address family.
pub(super) fn of_target(family: IpFamily, target: &Target) -> Option<Extension> {
    match target {
        Target::Jump(_) | Target::Accept | Target::Drop | Target::Return => None,
        Target::Reject(with) => {
            let (of, code) = reject_code(*with);
            (of == family).then(|| extension("REJECT", 0, Info::zero(8).u32(0, code)))
        }
        Target::SetMark(SetMark { value, mask }) => {
            Some(extension("MARK", 2, Info::zero(8).u32(0, *value).u32(4, *mask)))
        }
        Target::Masquerade { random_fully } => {
            let flags = if *random_fully { RANDOM_FULLY } else { 0 };
            Some(extension(
                "MASQUERADE",
                0,
                match family {
                    // struct nf_nat_ipv4_multi_range_compat with one range.
                    IpFamily::Ipv4 => Info::zero(24).u32(0, 1).u32(4, flags),
                    // struct nf_nat_range.
                    IpFamily::Ipv6 => Info::zero(40).u32(0, flags),
                },
            ))
        }
        Target::Dnat(to) => of_dnat(family, *to),
    }
}

/// struct nf_nat_range2.
fn of_dnat(family: IpFamily, to: SocketAddr) -> Option<Extension> {
    let (address, port) = (octets(to.ip()), to.port().to_be_bytes());
    let info = Info::zero(48).u32(0, TO_ADDRESS_AND_PORT).put(4, &address).put(20, &address);
    let written = extension("DNAT", 2, info.put(36, &port).put(38, &port));
    (IpFamily::of(to.ip()) == family).then_some(written)
}

/// Reads a target of an address family; `None` if it is foreign.
pub(super) fn read_target(family: IpFamily, actual: ActualExtension<'_>) -> Option<Target> {
    let info = actual.info;
    let found = match actual.name {
        "REJECT" => {
            let all = [RejectWith::IcmpPortUnreachable, RejectWith::Icmp6PortUnreachable];
            let code = (family, u32_at(info, 0)?);
            Target::Reject(all.into_iter().find(|with| reject_code(*with) == code)?)
        }
        "MARK" => Target::SetMark(SetMark { value: u32_at(info, 0)?, mask: u32_at(info, 4)? }),
        "MASQUERADE" => {
            let at = if family == IpFamily::Ipv4 { 4 } else { 0 };
            Target::Masquerade { random_fully: u32_at(info, at)? != 0 }
        }
        "DNAT" => return dnat(family, actual),
        _ => return None,
    };
    actual.is(&of_target(family, &found)?).then_some(found)
}

/// Kernels before 4.18 have no revision 2. iptables then writes revision 0 for IPv4 and 1 for IPv6.
fn dnat(family: IpFamily, actual: ActualExtension<'_>) -> Option<Target> {
    let info = actual.info;
    let (to, expected) = match (actual.revision, family) {
        (2, _) => {
            let to = SocketAddr::new(address_at(family, info, 4)?, port_at(info, 36)?);
            (to, of_dnat(family, to)?.info)
        }
        // struct nf_nat_ipv4_multi_range_compat with one range.
        (0, IpFamily::Ipv4) => {
            let to = SocketAddr::new(address_at(family, info, 8)?, port_at(info, 16)?);
            let (address, port) = (octets(to.ip()), to.port().to_be_bytes());
            let info = Info::zero(24).u32(0, 1).u32(4, TO_ADDRESS_AND_PORT);
            let info = info.put(8, &address).put(12, &address).put(16, &port).put(18, &port);
            (to, info.into_bytes())
        }
        // struct nf_nat_range.
        (1, _) => {
            let to = SocketAddr::new(address_at(family, info, 4)?, port_at(info, 36)?);
            (to, of_dnat(family, to)?.info.into_iter().take(40).collect())
        }
        _ => return None,
    };
    (info == expected).then_some(Target::Dnat(to))
}
