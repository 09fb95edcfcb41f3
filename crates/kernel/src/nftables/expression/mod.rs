//! Encodes and decodes libnftnl's expressions, one file per type.
//!
//! An expression with an attribute that rulegen never sets is foreign, whatever its other
//! attributes are.

mod attributes;
mod bitwise;
mod cmp;
mod conntrack;
mod counter;
mod dynset;
mod fib;
mod hash;
mod immediate;
mod lookup;
mod masquerade;
mod meta;
mod nat;
mod numgen;
mod payload;
mod reject;

use nftnl::nftnl_sys as sys;
use rulegen_ruleset::nftables::Expression;

use super::raw::RawExpression;
use attributes::Raw;

/// Encodes an expression.
pub(super) fn encode(expression: &Expression) -> RawExpression {
    match expression {
        Expression::Payload { base, offset, length, to } => {
            payload::encode(*base, *offset, *length, *to)
        }
        Expression::Meta { key, to } => meta::encode(*key, *to),
        Expression::SetMark { from } => meta::encode_mark(*from),
        Expression::Conntrack { key, to } => conntrack::encode(*key, *to),
        Expression::Fib { of_source, to } => fib::encode(*of_source, *to),
        Expression::Numgen { kind, modulus, offset, to } => {
            numgen::encode(*kind, *modulus, *offset, *to)
        }
        Expression::Hash { from, length, modulus, seed, to } => {
            hash::encode(*from, *length, *modulus, *seed, *to)
        }
        Expression::Bitwise { from, to, mask, xor } => bitwise::encode(*from, *to, mask, xor),
        Expression::Cmp { from, negated, value } => cmp::encode(*from, *negated, value),
        Expression::Lookup { set, from, negated, to } => lookup::encode(set, *from, *negated, *to),
        Expression::Dynset { set, from, timeout } => dynset::encode(set, *from, *timeout),
        Expression::Immediate { to, value } => immediate::encode(*to, value),
        Expression::Verdict(verdict) => immediate::encode_verdict(verdict),
        Expression::Dnat { family, address, port } => nat::encode(*family, *address, *port),
        Expression::Masquerade { flags } => masquerade::encode(*flags),
        Expression::Reject { code } => reject::encode(*code),
        Expression::Counter => counter::encode(),
    }
}

/// Decodes an expression; `None` if it is foreign.
pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    match raw.get_text(sys::NFTNL_EXPR_NAME)? {
        "payload" => payload::decode(raw),
        "meta" => meta::decode(raw),
        "ct" => conntrack::decode(raw),
        "fib" => fib::decode(raw),
        "numgen" => numgen::decode(raw),
        "hash" => hash::decode(raw),
        "bitwise" => bitwise::decode(raw),
        "cmp" => cmp::decode(raw),
        "lookup" => lookup::decode(raw),
        "dynset" => dynset::decode(raw),
        "immediate" => immediate::decode(raw),
        "nat" => nat::decode(raw),
        "masq" => masquerade::decode(raw),
        "reject" => reject::decode(raw),
        "counter" => counter::decode(raw),
        _ => None,
    }
}

/// Packet count of a counter; `None` for other expressions.
pub(super) fn packets(raw: &Raw<'_>) -> Option<u64> {
    (raw.get_text(sys::NFTNL_EXPR_NAME)? == "counter").then(|| counter::packets(raw))?
}
