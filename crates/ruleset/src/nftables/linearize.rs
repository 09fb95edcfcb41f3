//! Converts rules into the kernel's expressions, exactly as `nft` does, because `nft list` decodes
//! only the patterns that it produces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::expression::{ConntrackKey, Expression, MetaKey, NumberKind, PayloadBase, Register};
use super::rule::{Condition, Interface, Number, NumgenMode, Selector, Statement};
use crate::Negatable;
use rulegen_net::{IpFamily, Protocol};

/// The expressions of a rule in a table of this family.
pub fn linearize(family: IpFamily, statements: &[Statement]) -> Vec<Expression> {
    let mut lowerer = Linearizer { family, done: Vec::new() };
    statements.iter().for_each(|statement| lowerer.statement(statement));
    lowerer.done
}

struct Linearizer {
    family: IpFamily,
    done: Vec<Expression>,
}

/// The first register, used for all temporary values.
fn first() -> Register {
    Register::of_word(0)
}

/// IP_CT_NEW as a bit (NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h).
const STATE_NEW: u32 = 1 << 3;
/// IPS_DST_NAT of the same file.
const STATUS_DST_NAT: u32 = 1 << 5;
/// RTN_LOCAL of linux/rtnetlink.h.
const ROUTE_LOCAL: u32 = 2;
/// NF_NAT_RANGE_PROTO_RANDOM_FULLY of linux/netfilter/nf_nat.h.
const RANDOM_FULLY: u32 = 1 << 4;
/// The same seed everywhere, so that every node leads a client to the same endpoint, also after a
/// restart.
pub(super) const HASH_SEED: u32 = 0x5eed;
/// Length of the register that contains a port, in bytes.
const PORT_REGISTER: u32 = 4;
/// IFNAMSIZ of linux/if.h.
const INTERFACE_NAME: usize = 16;

impl Linearizer {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(condition) => self.condition(condition),
            Statement::Counter => self.done.push(Expression::Counter),
            Statement::MarkOr(bits) => self.change_mark(!bits, *bits),
            Statement::MarkXor(bits) => self.change_mark(u32::MAX, *bits),
            Statement::Update { set, key, timeout } => {
                self.key(key);
                let (set, timeout) = (set.clone(), *timeout);
                self.done.push(Expression::Dynset { set, from: first(), timeout });
            }
            Statement::VerdictMap { key, map } => {
                self.key(key);
                let to = Some(Register::VERDICT);
                let set = map.clone();
                self.done.push(Expression::Lookup { set, from: first(), negated: false, to });
            }
            Statement::DnatMap { key, map } => {
                self.key(key);
                let (set, to) = (map.clone(), Some(first()));
                self.done.push(Expression::Lookup { set, from: first(), negated: false, to });
                self.dnat(Register::of_word(words(self.address_length())));
            }
            Statement::Dnat(protocol, to) => self.dnat_to(*protocol, *to),
            Statement::Masquerade => {
                self.done.push(Expression::Masquerade { flags: RANDOM_FULLY });
            }
            Statement::Reject => {
                self.done.push(Expression::Reject { code: self.port_unreachable() })
            }
            Statement::Verdict(verdict) => self.done.push(Expression::Verdict(verdict.clone())),
        }
    }

    fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::NewConnection => self.any_bit(ConntrackKey::State, STATE_NEW),
            Condition::Translated => self.any_bit(ConntrackKey::Status, STATUS_DST_NAT),
            Condition::MarkBits(bits) => {
                self.done.push(Expression::Meta { key: MetaKey::Mark, to: first() });
                self.bitwise(*bits, 0);
                self.compare(false, bits.to_ne_bytes().to_vec());
            }
            Condition::NoMarkBits(bits) => {
                self.done.push(Expression::Meta { key: MetaKey::Mark, to: first() });
                self.bitwise(*bits, 0);
                self.compare(false, 0_u32.to_ne_bytes().to_vec());
            }
            Condition::Protocol(protocol) => {
                self.load(Selector::Protocol, 0);
                self.compare(false, vec![protocol.number()]);
            }
            Condition::DestinationPort(port) => {
                self.load(Selector::DestinationPort, 0);
                self.compare(false, port.to_be_bytes().to_vec());
            }
            Condition::Source(network) => self.network(Selector::SourceAddress, network),
            Condition::Destination(network) => self.network(Selector::DestinationAddress, network),
            Condition::SourceIsLocal => self.is_local(true),
            Condition::DestinationIsLocal => self.is_local(false),
            Condition::InInterface(interface) => self.interface(interface),
            Condition::SetLookup { key, set } => {
                self.key(key);
                let (negated, set) = (set.negated, set.value.clone());
                self.done.push(Expression::Lookup { set, from: first(), negated, to: None });
            }
            Condition::Is(number, value) => {
                self.number(*number, 0);
                self.compare(false, value.to_ne_bytes().to_vec());
            }
        }
    }

    /// Loads the parts of a key into consecutive registers.
    fn key(&mut self, key: &[Selector]) {
        let mut word = 0;
        for selector in key {
            self.load(*selector, word);
            word += words(self.length(*selector));
        }
    }

    fn load(&mut self, selector: Selector, word: u32) {
        let to = Register::of_word(word);
        let network =
            |offset, length| Expression::Payload { base: PayloadBase::Network, offset, length, to };
        self.done.push(match (selector, self.family) {
            (Selector::SourceAddress, IpFamily::Ipv4) => network(12, 4),
            (Selector::DestinationAddress, IpFamily::Ipv4) => network(16, 4),
            (Selector::SourceAddress, IpFamily::Ipv6) => network(8, 16),
            (Selector::DestinationAddress, IpFamily::Ipv6) => network(24, 16),
            (Selector::Protocol, _) => Expression::Meta { key: MetaKey::TransportProtocol, to },
            (Selector::DestinationPort, _) => {
                Expression::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to }
            }
            (Selector::SourceNetwork { prefix_length }, _) => {
                return self.source_network(prefix_length, word);
            }
            (Selector::Number(number), _) => return self.number(number, word),
        });
    }

    fn source_network(&mut self, prefix_length: u8, word: u32) {
        self.load(Selector::SourceAddress, word);
        let register = Register::of_word(word);
        let mask = octets(netmask(self.family, prefix_length));
        let xor = vec![0; mask.len()];
        self.done.push(Expression::Bitwise { from: register, to: register, mask, xor });
    }

    fn number(&mut self, number: Number, word: u32) {
        let to = Register::of_word(word);
        let below = |kind, modulus| Expression::Numgen { kind, modulus, offset: 0, to };
        let expression = match number {
            Number::Modulo(NumgenMode::Random, modulus) => below(NumberKind::Random, modulus),
            Number::Modulo(NumgenMode::InTurn, modulus) => below(NumberKind::Incremental, modulus),
            Number::Modulo(NumgenMode::BySource, modulus) => {
                self.load(Selector::SourceAddress, word);
                let length = self.address_length();
                Expression::Hash { from: to, length, modulus, seed: HASH_SEED, to }
            }
            Number::Modulo(NumgenMode::ByFlow, modulus) => {
                self.load(Selector::SourceAddress, word);
                let length = self.address_length();
                self.done.push(Expression::Payload {
                    base: PayloadBase::Transport,
                    offset: 0,
                    length: 2,
                    to: Register::of_word(word + words(length)),
                });
                // As in nft, the port takes a whole register. The kernel fills it with zeros.
                let length = length + PORT_REGISTER;
                Expression::Hash { from: to, length, modulus, seed: HASH_SEED, to }
            }
            Number::Constant(offset) => {
                Expression::Numgen { kind: NumberKind::Incremental, modulus: 1, offset, to }
            }
        };
        self.done.push(expression);
    }

    fn length(&self, selector: Selector) -> u32 {
        match selector {
            Selector::SourceAddress
            | Selector::SourceNetwork { .. }
            | Selector::DestinationAddress => self.address_length(),
            Selector::Protocol => 1,
            Selector::DestinationPort => 2,
            Selector::Number(_) => 4,
        }
    }

    fn address_length(&self) -> u32 {
        match self.family {
            IpFamily::Ipv4 => 4,
            IpFamily::Ipv6 => 16,
        }
    }

    /// ICMP_PORT_UNREACH and ICMPV6_PORT_UNREACH.
    fn port_unreachable(&self) -> u8 {
        match self.family {
            IpFamily::Ipv4 => 3,
            IpFamily::Ipv6 => 4,
        }
    }

    fn dnat(&mut self, port: Register) {
        self.done.push(Expression::Dnat { family: self.family, address: first(), port });
    }

    fn dnat_to(&mut self, protocol: Protocol, to: SocketAddr) {
        self.done.push(Expression::Meta { key: MetaKey::TransportProtocol, to: first() });
        self.compare(false, vec![protocol.number()]);
        let port = Register::of_word(4);
        let address = octets(to.ip());
        self.done.push(Expression::Immediate { to: first(), value: address });
        self.done.push(Expression::Immediate { to: port, value: to.port().to_be_bytes().to_vec() });
        self.dnat(port);
    }

    fn change_mark(&mut self, mask: u32, xor: u32) {
        self.done.push(Expression::Meta { key: MetaKey::Mark, to: first() });
        self.bitwise(mask, xor);
        self.done.push(Expression::SetMark { from: first() });
    }

    fn any_bit(&mut self, key: ConntrackKey, bits: u32) {
        self.done.push(Expression::Conntrack { key, to: first() });
        self.bitwise(bits, 0);
        self.compare(true, 0_u32.to_ne_bytes().to_vec());
    }

    fn is_local(&mut self, of_source: bool) {
        self.done.push(Expression::Fib { of_source, to: first() });
        self.compare(false, ROUTE_LOCAL.to_ne_bytes().to_vec());
    }

    fn network(&mut self, selector: Selector, network: &Negatable<IpNet>) {
        self.load(selector, 0);
        let prefix = network.value;
        if prefix.prefix_len() < prefix.max_prefix_len() {
            let mask = octets(prefix.netmask());
            let xor = vec![0; mask.len()];
            self.done.push(Expression::Bitwise { from: first(), to: first(), mask, xor });
        }
        self.compare(network.negated, octets(prefix.network()));
    }

    /// A whole name is compared including its padding of NUL bytes, a prefix without.
    fn interface(&mut self, interface: &Negatable<Interface>) {
        self.done.push(Expression::Meta { key: MetaKey::InInterfaceName, to: first() });
        let value = match &interface.value {
            Interface::Named(name) => {
                let padding = std::iter::repeat(0);
                name.bytes().chain(padding).take(INTERFACE_NAME).collect()
            }
            Interface::Prefix(start) => start.bytes().take(INTERFACE_NAME).collect(),
        };
        self.compare(interface.negated, value);
    }

    fn bitwise(&mut self, mask: u32, xor: u32) {
        let (mask, xor) = (mask.to_ne_bytes().to_vec(), xor.to_ne_bytes().to_vec());
        self.done.push(Expression::Bitwise { from: first(), to: first(), mask, xor });
    }

    fn compare(&mut self, negated: bool, value: Vec<u8>) {
        self.done.push(Expression::Cmp { from: first(), negated, value });
    }
}

/// Number of 4-byte registers that hold this many bytes.
fn words(bytes: u32) -> u32 {
    bytes.div_ceil(4)
}

/// Netmask of a prefix length.
pub(super) fn netmask(family: IpFamily, prefix_length: u8) -> IpAddr {
    let zeros = |bits: u32| bits.saturating_sub(prefix_length.into());
    match family {
        IpFamily::Ipv4 => {
            let mask = u32::MAX.checked_shl(zeros(u32::BITS)).unwrap_or_default();
            Ipv4Addr::from_bits(mask).into()
        }
        IpFamily::Ipv6 => {
            let mask = u128::MAX.checked_shl(zeros(u128::BITS)).unwrap_or_default();
            Ipv6Addr::from_bits(mask).into()
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
