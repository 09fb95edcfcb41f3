//! Converts the kernel's expressions back into statements: the reverse of [`linearize`], for
//! reading a rule's meaning.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::expression::{ConntrackKey, Expression, MetaKey, NumberKind, PayloadBase, Register};
use super::linearize::linearize;
use super::rule::{Condition, Interface, Number, NumgenMode, Selector, Statement};
use crate::Negatable;
use rulegen_net::{IpFamily, Protocol};

/// Decodes expressions into statements; `None` if they have no statements here. The result is
/// accepted only if it linearizes to the same expressions again, up to the bytes loaded of an
/// address.
pub fn delinearize(family: IpFamily, expressions: &[Expression]) -> Option<Vec<Statement>> {
    let expressions = &*with_whole_addresses(family, expressions);
    let mut statements = Vec::new();
    let mut rest = expressions;
    while !rest.is_empty() {
        let (statement, behind) = Delinearizer { family }.statement(rest)?;
        statements.push(statement);
        rest = behind;
    }
    (linearize(family, &statements) == expressions).then_some(statements)
}

/// Lets comparisons with a network load the whole address. Of a network that ends at a byte, nft
/// loads only the bytes of the prefix.
fn with_whole_addresses(family: IpFamily, expressions: &[Expression]) -> Cow<'_, [Expression]> {
    let pairs = || expressions.iter().zip(expressions.iter().skip(1));
    if !pairs().any(|(load, compare)| whole_address(family, load, compare).is_some()) {
        return Cow::Borrowed(expressions);
    }
    let mut whole = Vec::with_capacity(expressions.len() + 1);
    let mut rest = expressions;
    while let [first, behind @ ..] = rest {
        let replaced = behind
            .split_first()
            .and_then(|(second, behind)| Some((whole_address(family, first, second)?, behind)));
        match replaced {
            Some((three, behind)) => {
                whole.extend(three);
                rest = behind;
            }
            None => {
                whole.push(first.clone());
                rest = behind;
            }
        }
    }
    Cow::Owned(whole)
}

/// The expressions that compare the whole address, in place of these two that compare its first
/// bytes.
fn whole_address(
    family: IpFamily,
    load: &Expression,
    compare: &Expression,
) -> Option<[Expression; 3]> {
    let Expression::Payload { base: PayloadBase::Network, offset, length, to } = *load else {
        return None;
    };
    let Expression::Cmp { from, negated, value } = compare else { return None };
    let (source, destination, address) = match family {
        IpFamily::Ipv4 => (12, 16, 4),
        IpFamily::Ipv6 => (8, 24, 16),
    };
    let bytes = usize::try_from(length).ok()?;
    let is_part = [source, destination].contains(&offset)
        && (1..address).contains(&bytes)
        && (*from, value.len()) == (to, bytes);
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(address, 0);
        bytes
    };
    is_part.then(|| {
        let length = u32::try_from(address).unwrap_or_default();
        let (mask, xor) = (padded(vec![u8::MAX; bytes]), padded(Vec::new()));
        [
            Expression::Payload { base: PayloadBase::Network, offset, length, to },
            Expression::Bitwise { from: to, to, mask, xor },
            Expression::Cmp { from: to, negated: *negated, value: padded(value.clone()) },
        ]
    })
}

/// A statement, and the expressions after its own.
type Matched<'a> = Option<(Statement, &'a [Expression])>;

struct Delinearizer {
    family: IpFamily,
}

impl Delinearizer {
    fn statement<'a>(&self, all: &'a [Expression]) -> Matched<'a> {
        let (first, rest) = all.split_first()?;
        match first {
            Expression::Counter => Some((Statement::Counter, rest)),
            Expression::Masquerade { .. } => Some((Statement::Masquerade, rest)),
            Expression::Reject { .. } => Some((Statement::Reject, rest)),
            Expression::Verdict(verdict) => Some((Statement::Verdict(verdict.clone()), rest)),
            Expression::Conntrack { key, .. } => {
                let condition = match key {
                    ConntrackKey::State => Condition::NewConnection,
                    ConntrackKey::Status => Condition::Translated,
                };
                behind(rest, 2, Statement::Match(condition))
            }
            Expression::Fib { of_source, .. } => {
                let condition = match of_source {
                    true => Condition::SourceIsLocal,
                    false => Condition::DestinationIsLocal,
                };
                behind(rest, 1, Statement::Match(condition))
            }
            Expression::Meta { key: MetaKey::Mark, .. } => mark(rest),
            Expression::Meta { key: MetaKey::InInterfaceName, .. } => interface(rest),
            Expression::Meta { key: MetaKey::TransportProtocol, .. } => {
                self.dnat(rest).or_else(|| self.keyed(all)).or_else(|| protocol(rest))
            }
            Expression::Numgen { .. } => self.number(all).or_else(|| self.keyed(all)),
            Expression::Payload { .. } => self
                .network(all)
                .or_else(|| self.number(all))
                .or_else(|| self.keyed(all))
                .or_else(|| port(rest)),
            _ => None,
        }
    }

    /// DNAT to a constant address: compares the protocol, then replaces the destination.
    fn dnat<'a>(&self, rest: &'a [Expression]) -> Matched<'a> {
        let [
            Expression::Cmp { value, .. },
            Expression::Immediate { value: ip, .. },
            Expression::Immediate { value: port, .. },
            Expression::Dnat { .. },
            rest @ ..,
        ] = rest
        else {
            return None;
        };
        let [protocol] = value.as_slice() else { return None };
        let port = u16::from_be_bytes(port.as_slice().try_into().ok()?);
        let to = SocketAddr::new(address(ip)?, port);
        Some((Statement::Dnat(Protocol::from_number(*protocol)?, to), rest))
    }

    /// Compares an address with a network.
    fn network<'a>(&self, all: &'a [Expression]) -> Matched<'a> {
        let (selector, rest) = self.loaded(all)?;
        let (mask, rest) = match rest {
            [Expression::Bitwise { mask, .. }, rest @ ..] => (Some(mask), rest),
            rest => (None, rest),
        };
        let [Expression::Cmp { negated, value, .. }, rest @ ..] = rest else { return None };
        let ip = address(value)?;
        let network = match mask {
            Some(mask) => IpNet::with_netmask(ip, address(mask)?).ok()?,
            None => IpNet::from(ip),
        };
        let network = Negatable { negated: *negated, value: network };
        let condition = match selector {
            Selector::SourceAddress => Condition::Source(network),
            Selector::DestinationAddress => Condition::Destination(network),
            _ => return None,
        };
        Some((Statement::Match(condition), rest))
    }

    /// Generates a number and compares it.
    fn number<'a>(&self, all: &'a [Expression]) -> Matched<'a> {
        let (Selector::Number(number), rest) = self.selector(all)? else { return None };
        let [Expression::Cmp { value, .. }, rest @ ..] = rest else { return None };
        let value = u32::from_ne_bytes(value.as_slice().try_into().ok()?);
        Some((Statement::Match(Condition::Is(number, value)), rest))
    }

    /// Builds a key and looks it up in a set, or adds it to one.
    fn keyed<'a>(&self, all: &'a [Expression]) -> Matched<'a> {
        let mut key = Vec::new();
        let mut rest = all;
        while let Some((selector, behind)) = self.selector(rest) {
            key.push(selector);
            rest = behind;
        }
        let (last, rest) = rest.split_first()?;
        Some(match last {
            Expression::Dynset { set, timeout, .. } => {
                (Statement::Update { set: set.clone(), key, timeout: *timeout }, rest)
            }
            Expression::Lookup { set, to: Some(Register::VERDICT), .. } => {
                (Statement::VerdictMap { key, map: set.clone() }, rest)
            }
            Expression::Lookup { set, to: Some(_), .. } => {
                let [Expression::Dnat { .. }, rest @ ..] = rest else { return None };
                (Statement::DnatMap { key, map: set.clone() }, rest)
            }
            Expression::Lookup { set, negated, to: None, .. } => {
                let set = Negatable { negated: *negated, value: set.clone() };
                (Statement::Match(Condition::SetLookup { key, set }), rest)
            }
            _ => return None,
        })
    }

    /// The next loaded value, with the mask applied to a source address.
    fn selector<'a>(&self, all: &'a [Expression]) -> Option<(Selector, &'a [Expression])> {
        let (selector, rest) = self.loaded(all)?;
        if let (Selector::SourceAddress, [Expression::Bitwise { mask, .. }, rest @ ..]) =
            (selector, rest)
        {
            let mask = address(mask)?;
            let prefix_length = IpNet::with_netmask(mask, mask).ok()?.prefix_len();
            return Some((Selector::SourceNetwork { prefix_length }, rest));
        }
        Some((selector, rest))
    }

    /// The next loaded value. A hash of the source uses the registers of the source.
    fn loaded<'a>(&self, all: &'a [Expression]) -> Option<(Selector, &'a [Expression])> {
        let (first, rest) = all.split_first()?;
        let selector = match first {
            Expression::Payload { base: PayloadBase::Transport, .. } => Selector::DestinationPort,
            Expression::Payload { base: PayloadBase::Network, offset, .. } => {
                if *offset != self.source_offset() {
                    return Some((Selector::DestinationAddress, rest));
                }
                if let [Expression::Hash { modulus, .. }, rest @ ..] = rest {
                    let number = Number::Modulo(NumgenMode::BySource, *modulus);
                    return Some((Selector::Number(number), rest));
                }
                if let [
                    Expression::Payload { base: PayloadBase::Transport, offset: 0, .. },
                    hash,
                    rest @ ..,
                ] = rest
                    && let Expression::Hash { modulus, .. } = hash
                {
                    let number = Number::Modulo(NumgenMode::ByFlow, *modulus);
                    return Some((Selector::Number(number), rest));
                }
                Selector::SourceAddress
            }
            Expression::Meta { key: MetaKey::TransportProtocol, .. } => Selector::Protocol,
            Expression::Numgen { kind: NumberKind::Random, modulus, .. } => {
                Selector::Number(Number::Modulo(NumgenMode::Random, *modulus))
            }
            Expression::Numgen { kind: NumberKind::Incremental, modulus: 1, offset, .. } => {
                Selector::Number(Number::Constant(*offset))
            }
            Expression::Numgen { kind: NumberKind::Incremental, modulus, .. } => {
                Selector::Number(Number::Modulo(NumgenMode::InTurn, *modulus))
            }
            _ => return None,
        };
        Some((selector, rest))
    }

    fn source_offset(&self) -> u32 {
        match self.family {
            IpFamily::Ipv4 => 12,
            IpFamily::Ipv6 => 8,
        }
    }
}

/// The statement, which takes `own` more expressions.
fn behind(rest: &[Expression], own: usize, statement: Statement) -> Matched<'_> {
    Some((statement, rest.get(own..)?))
}

/// Compares the loaded protocol.
fn protocol(rest: &[Expression]) -> Matched<'_> {
    let [Expression::Cmp { value, .. }, rest @ ..] = rest else { return None };
    let [number] = value.as_slice() else { return None };
    let protocol = Protocol::from_number(*number)?;
    Some((Statement::Match(Condition::Protocol(protocol)), rest))
}

/// Compares the loaded port.
fn port(rest: &[Expression]) -> Matched<'_> {
    let [Expression::Cmp { value, .. }, rest @ ..] = rest else { return None };
    let port = u16::from_be_bytes(value.as_slice().try_into().ok()?);
    Some((Statement::Match(Condition::DestinationPort(port)), rest))
}

/// Compares or changes the mark.
fn mark(rest: &[Expression]) -> Matched<'_> {
    let [Expression::Bitwise { mask, xor, .. }, last, rest @ ..] = rest else { return None };
    let word = |bytes: &Vec<u8>| Some(u32::from_ne_bytes(bytes.as_slice().try_into().ok()?));
    let (mask, xor) = (word(mask)?, word(xor)?);
    let statement = match last {
        Expression::Cmp { value, .. } if word(value)? == 0 => {
            Statement::Match(Condition::NoMarkBits(mask))
        }
        Expression::Cmp { .. } => Statement::Match(Condition::MarkBits(mask)),
        Expression::SetMark { .. } if mask == u32::MAX => Statement::MarkXor(xor),
        Expression::SetMark { .. } => Statement::MarkOr(xor),
        _ => return None,
    };
    Some((statement, rest))
}

/// Compares the name of an interface: the whole name padded with NUL bytes, or its prefix.
fn interface(rest: &[Expression]) -> Matched<'_> {
    let [Expression::Cmp { negated, value, .. }, rest @ ..] = rest else { return None };
    let start: Vec<u8> = value.iter().copied().take_while(|byte| *byte != 0).collect();
    let is_whole = start.len() < value.len();
    let name = String::from_utf8(start).ok()?;
    let interface = if is_whole { Interface::Named(name) } else { Interface::Prefix(name) };
    let interface = Negatable { negated: *negated, value: interface };
    Some((Statement::Match(Condition::InInterface(interface)), rest))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(offset: u32, length: u32) -> Expression {
        let to = Register::of_word(0);
        Expression::Payload { base: PayloadBase::Network, offset, length, to }
    }

    fn compare(negated: bool, value: &[u8]) -> Expression {
        Expression::Cmp { from: Register::of_word(0), negated, value: value.to_vec() }
    }

    /// nft loads only the bytes of a prefix.
    #[test]
    fn delinearize_reads_networks_that_end_at_a_byte() {
        let v6_prefix = [0xfd, 0, 0, 0x10, 0, 0, 0, 0];
        for (family, expressions, network) in [
            (IpFamily::Ipv4, [load(12, 1), compare(true, &[10])], "10.0.0.0/8"),
            (IpFamily::Ipv4, [load(12, 3), compare(true, &[192, 0, 2])], "192.0.2.0/24"),
            (IpFamily::Ipv6, [load(8, 8), compare(true, &v6_prefix)], "fd00:10::/64"),
        ] {
            let network = Negatable { negated: true, value: network.parse().unwrap() };
            let desired = vec![Statement::Match(Condition::Source(network))];
            assert_eq!(delinearize(family, &expressions), Some(desired));
        }
        // The value is not that of the loaded bytes.
        assert_eq!(delinearize(IpFamily::Ipv4, &[load(12, 2), compare(false, &[10])]), None);
        assert_eq!(delinearize(IpFamily::Ipv4, &[load(14, 2), compare(false, &[2, 0])]), None);
    }

    #[test]
    fn delinearize_is_the_reverse_of_linearize_for_rules_of_kube_proxy() {
        let update = |timeout| Statement::Update {
            set: "affinity".into(),
            key: vec![Selector::SourceAddress],
            timeout,
        };
        for statements in [
            vec![Statement::Match(Condition::NoMarkBits(0x4000))],
            vec![Statement::Match(Condition::MarkBits(0x4000))],
            vec![
                Statement::Match(Condition::Protocol(Protocol::Tcp)),
                Statement::Match(Condition::DestinationPort(80)),
            ],
            vec![update(None)],
            vec![update(Some(std::time::Duration::from_secs(9)))],
        ] {
            for family in IpFamily::BOTH {
                let expressions = linearize(family, &statements);
                assert_eq!(delinearize(family, &expressions), Some(statements.clone()));
            }
        }
    }
}
