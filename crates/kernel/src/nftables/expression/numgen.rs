//! Generated numbers (net/netfilter/nft_numgen.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_NG_DREG as TO, NFTNL_EXPR_NG_MODULUS as MODULUS, NFTNL_EXPR_NG_OFFSET as OFFSET,
    NFTNL_EXPR_NG_TYPE as TYPE, libc,
};
use rulegen_ruleset::nftables::{Expression, NumberKind, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const KINDS: [(u32, NumberKind); 2] = [
    (libc::NFT_NG_INCREMENTAL.cast_unsigned(), NumberKind::Incremental),
    (libc::NFT_NG_RANDOM.cast_unsigned(), NumberKind::Random),
];

pub(super) fn encode(kind: NumberKind, modulus: u32, offset: u32, to: Register) -> RawExpression {
    RawExpression::named(c"numgen")
        .u32(TO, to.0)
        .u32(MODULUS, modulus)
        .u32(TYPE, super::attributes::number_of(&KINDS, kind))
        .u32(OFFSET, offset)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[TO, MODULUS, TYPE, OFFSET])?;
    Some(Expression::Numgen {
        kind: super::attributes::of_number(&KINDS, raw.get_u32(TYPE)?)?,
        modulus: raw.get_u32(MODULUS)?,
        offset: raw.get_u32(OFFSET).unwrap_or_default(),
        to: register(raw, TO)?,
    })
}
