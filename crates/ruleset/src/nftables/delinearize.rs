//! Converts the kernel's expressions back into statements: the reverse of [`linearize`], for
//! reading a rule's meaning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::expression::{ConntrackKey, Expression, MetaKey, NumberKind, PayloadBase, Register};
use super::linearize::linearize;
use super::rule::{Condition, Interface, Number, NumgenMode, Selector, Statement};
use crate::Negatable;
use rulegen_net::{IpFamily, Protocol};

/// Decodes expressions into statements; `None` if rulegen does not make such a rule. The result is
/// accepted only if it linearizes to the same expressions again.
pub fn delinearize(family: IpFamily, expressions: &[Expression]) -> Option<Vec<Statement>> {
    let mut statements = Vec::new();
    let mut rest = expressions;
    while !rest.is_empty() {
        let (statement, behind) = Delinearizer { family }.statement(rest)?;
        statements.push(statement);
        rest = behind;
    }
    (linearize(family, &statements) == expressions).then_some(statements)
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
                self.dnat(rest).or_else(|| self.keyed(all))
            }
            Expression::Numgen { .. } => self.number(all).or_else(|| self.keyed(all)),
            Expression::Payload { .. } => {
                self.network(all).or_else(|| self.number(all)).or_else(|| self.keyed(all))
            }
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

    /// The next loaded value. A hash of the source uses the register of the source.
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

/// Compares or changes the mark.
fn mark(rest: &[Expression]) -> Matched<'_> {
    let [Expression::Bitwise { mask, xor, .. }, last, rest @ ..] = rest else { return None };
    let word = |bytes: &Vec<u8>| Some(u32::from_ne_bytes(bytes.as_slice().try_into().ok()?));
    let (mask, xor) = (word(mask)?, word(xor)?);
    let statement = match last {
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
