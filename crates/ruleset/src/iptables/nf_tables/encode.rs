//! Writes rules as iptables-nft 1.8.9 does (iptables/nft.c, nft-shared.c, nft-ipv4.c).

use ipnet::IpNet;
use rulegen_net::{IpFamily, Protocol};

use super::attribute::Attributes;
use super::extension::{Extension, of_match, of_target};
use crate::Negatable;
use crate::iptables::chain_name::ChainName;
use crate::iptables::rule::{Interface, Mark, Match, RuleSpec, Target};
use crate::iptables::ruleset::Table;

/// A rule in the form of nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRule {
    /// The content of NFTA_RULE_EXPRESSIONS.
    pub expressions: Vec<u8>,
    /// The protocol of `-p` for matches and targets of xtables (NFTA_RULE_COMPAT), 0 for any.
    pub protocol: u8,
}

/// Reason that a rule cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotEncodable {
    /// A name, comment or interface is longer than xtables allows, or there are too many matches.
    #[error("a name or comment is too long")]
    TooLong,
    /// An address, mask or ICMP error belongs to the other address family.
    #[error("an address or ICMP error belongs to the other IP family")]
    OtherFamily,
    /// `! -i +` is never true.
    #[error("a negated interface that matches all names")]
    NoInterface,
    /// Ports of TCP and UDP need `-p`.
    #[error("a port without its protocol")]
    NoProtocol,
}

/// Hook, priority and type of a built-in chain (NF_IP_PRI_* of linux/netfilter_ipv4.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltInChain {
    /// Number of the hook (NF_INET_*).
    pub hook: u32,
    /// Hook priority; the lowest runs first.
    pub priority: i32,
    /// Type in nf_tables.
    pub kind: &'static str,
}

/// The properties that iptables-nft gives a built-in chain; `None` if the table does not have it.
pub fn built_in_chain(table: Table, chain: &ChainName) -> Option<BuiltInChain> {
    let hook = match chain.as_str() {
        "PREROUTING" => 0,
        "INPUT" => 1,
        "FORWARD" => 2,
        "OUTPUT" => 3,
        "POSTROUTING" => 4,
        _ => return None,
    };
    let priority = match (table, hook) {
        (Table::Raw, 0 | 3) => -300,
        (Table::Mangle, _) => -150,
        (Table::Filter, 1..=3) => 0,
        (Table::Security, 1..=3) => 50,
        (Table::Nat, 0 | 3) => -100,
        (Table::Nat, 1 | 4) => 100,
        _ => return None,
    };
    let kind = match (table, hook) {
        (Table::Nat, _) => "nat",
        (Table::Mangle, 3) => "route",
        _ => "filter",
    };
    Some(BuiltInChain { hook, priority, kind })
}

/// Encodes a rule.
///
/// # Errors
/// xtables cannot express the rule.
pub fn encode(family: IpFamily, rule: &RuleSpec) -> Result<EncodedRule, NotEncodable> {
    let mut expressions = Expressions::default();
    if let Some(interface) = &rule.in_interface {
        expressions.interface(interface)?;
    }
    if let Some(protocol) = rule.protocol {
        expressions.meta(META_L4PROTO);
        expressions.compare(false, &[protocol.number()]);
    }
    let networks = [(Side::Source, rule.source), (Side::Destination, rule.destination)];
    for (side, network) in networks {
        if let Some(network) = network {
            expressions.network(family, side, network)?;
        }
    }
    for one in &rule.matches {
        expressions.one_match(rule.protocol, one)?;
    }
    expressions.counter();
    if let Some(target) = &rule.target {
        expressions.target(family, target)?;
    }
    // The length of an attribute has 16 bits.
    if expressions.0.0.len() > usize::from(u16::MAX) - 4 {
        return Err(NotEncodable::TooLong);
    }
    let protocol = rule.protocol.map_or(0, Protocol::number);
    Ok(EncodedRule { expressions: expressions.0.0, protocol })
}

/// NFT_META_*.
pub(super) const META_MARK: u32 = 3;
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_L4PROTO: u32 = 16;

/// NFT_PAYLOAD_*_HEADER.
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;

/// Offset of the destination port in the headers of TCP and UDP.
pub(super) const DESTINATION_PORT: u32 = 2;

/// NFT_RETURN and NFT_JUMP.
pub(super) const RETURN: u32 = (-5_i32).cast_unsigned();
pub(super) const JUMP: u32 = (-3_i32).cast_unsigned();
/// NF_DROP and NF_ACCEPT.
pub(super) const DROP: u32 = 0;
pub(super) const ACCEPT: u32 = 1;

/// NFT_REG_1, the only register used.
const REGISTER: u32 = 1;

/// The address that a network is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Offset of an address in the header of its family.
pub(super) fn address_offset(family: IpFamily, side: Side) -> u32 {
    match (family, side) {
        (IpFamily::Ipv4, Side::Source) => 12,
        (IpFamily::Ipv4, Side::Destination) => 16,
        (IpFamily::Ipv6, Side::Source) => 8,
        (IpFamily::Ipv6, Side::Destination) => 24,
    }
}

#[derive(Default)]
struct Expressions(Attributes);

impl Expressions {
    /// Adds an expression: NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
    fn add(&mut self, name: &str, data: impl FnOnce(&mut Attributes)) {
        self.0.nest(1, |element| {
            element.text(1, name);
            element.nest(2, data);
        });
    }

    fn interface(&mut self, interface: &Negatable<Interface>) -> Result<(), NotEncodable> {
        // IFNAMSIZ, with the NUL.
        const LONGEST: usize = 16;
        let name = interface.value.0.as_bytes();
        let (compared, length) = match name {
            [start @ .., b'+'] => (start.to_vec(), start.len() + 1),
            name => (name.iter().copied().chain([0]).collect(), name.len() + 1),
        };
        if length > LONGEST {
            return Err(NotEncodable::TooLong);
        }
        if compared.is_empty() && interface.negated {
            return Err(NotEncodable::NoInterface);
        }
        self.meta(META_IIFNAME);
        if !compared.is_empty() {
            self.compare(interface.negated, &compared);
        }
        Ok(())
    }

    /// Compares whole bytes without a mask.
    fn network(
        &mut self,
        family: IpFamily,
        side: Side,
        network: Negatable<IpNet>,
    ) -> Result<(), NotEncodable> {
        if IpFamily::of(network.value.addr()) != family {
            return Err(NotEncodable::OtherFamily);
        }
        let address = octets(&network.value.network());
        let mask = octets(&network.value.netmask());
        let offset = address_offset(family, side);
        let prefix = usize::from(network.value.prefix_len());
        if prefix > 0 && prefix.is_multiple_of(8) {
            let compared = address.get(..prefix / 8).unwrap_or_default();
            self.payload(NETWORK_HEADER, offset, compared.len());
            self.compare(network.negated, compared);
        } else {
            self.payload(NETWORK_HEADER, offset, address.len());
            self.mask(&mask);
            self.compare(network.negated, &address);
        }
        Ok(())
    }

    fn one_match(&mut self, protocol: Option<Protocol>, one: &Match) -> Result<(), NotEncodable> {
        match one {
            Match::Transport {
                protocol: of @ (Protocol::Tcp | Protocol::Udp),
                destination_port: Some(port),
            } => {
                if protocol != Some(*of) {
                    return Err(NotEncodable::NoProtocol);
                }
                self.payload(TRANSPORT_HEADER, DESTINATION_PORT, 2);
                self.compare(false, &port.to_be_bytes());
            }
            Match::Mark(Negatable { negated, value: Mark { value, mask } }) => {
                self.meta(META_MARK);
                if *mask != u32::MAX {
                    self.mask(&mask.to_ne_bytes());
                }
                self.compare(*negated, &value.to_ne_bytes());
            }
            wrapped => {
                let extension = of_match(wrapped).ok_or(NotEncodable::TooLong)?;
                self.extension("match", &extension);
            }
        }
        Ok(())
    }

    fn target(&mut self, family: IpFamily, target: &Target) -> Result<(), NotEncodable> {
        match target {
            Target::Accept => self.verdict(ACCEPT, None),
            Target::Drop => self.verdict(DROP, None),
            Target::Return => self.verdict(RETURN, None),
            Target::Jump(chain) => self.verdict(JUMP, Some(chain)),
            wrapped => {
                let extension = of_target(family, wrapped).ok_or(NotEncodable::OtherFamily)?;
                self.extension("target", &extension);
            }
        }
        Ok(())
    }

    fn meta(&mut self, key: u32) {
        self.add("meta", |data| {
            data.be32(2, key);
            data.be32(1, REGISTER);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: usize) {
        let length = u32::try_from(length).unwrap_or_default();
        self.add("payload", |data| {
            data.be32(1, REGISTER);
            data.be32(2, base);
            data.be32(3, offset);
            data.be32(4, length);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        self.add("bitwise", |data| {
            data.be32(1, REGISTER);
            data.be32(2, REGISTER);
            data.be32(3, length);
            data.nest(4, |value| value.bytes(1, mask));
            data.nest(5, |value| value.bytes(1, &vec![0; mask.len()]));
        });
    }

    fn compare(&mut self, negated: bool, value: &[u8]) {
        self.add("cmp", |data| {
            data.be32(1, REGISTER);
            data.be32(2, u32::from(negated));
            data.nest(3, |data| data.bytes(1, value));
        });
    }

    fn counter(&mut self) {
        self.add("counter", |data| {
            data.bytes(1, &[0; 8]);
            data.bytes(2, &[0; 8]);
        });
    }

    fn verdict(&mut self, code: u32, chain: Option<&ChainName>) {
        self.add("immediate", |data| {
            data.be32(1, 0);
            data.nest(2, |value| {
                value.nest(2, |verdict| {
                    verdict.be32(1, code);
                    if let Some(chain) = chain {
                        verdict.text(2, chain.as_str());
                    }
                });
            });
        });
    }

    fn extension(&mut self, what: &str, extension: &Extension) {
        self.add(what, |data| {
            data.text(1, extension.name);
            data.be32(2, extension.revision);
            data.bytes(3, &extension.info);
        });
    }
}

fn octets(address: &std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}
