//! Comparisons (net/netfilter/nft_cmp.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_CMP_DATA as DATA, NFTNL_EXPR_CMP_OP as OPERATION, NFTNL_EXPR_CMP_SREG as FROM, libc,
};
use rulegen_ruleset::nftables::{Expression, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const OPERATIONS: [(u32, bool); 2] =
    [(libc::NFT_CMP_EQ.cast_unsigned(), false), (libc::NFT_CMP_NEQ.cast_unsigned(), true)];

pub(super) fn encode(from: Register, negated: bool, value: &[u8]) -> RawExpression {
    RawExpression::named(c"cmp")
        .u32(FROM, from.0)
        .u32(OPERATION, super::attributes::number_of(&OPERATIONS, negated))
        .bytes(DATA, value)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, OPERATION, DATA])?;
    let negated = super::attributes::of_number(&OPERATIONS, raw.get_u32(OPERATION)?)?;
    let (from, value) = (register(raw, FROM)?, raw.get(DATA)?.to_vec());
    Some(Expression::Cmp { from, negated, value })
}
