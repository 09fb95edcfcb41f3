//! Bitwise operations (net/netfilter/nft_bitwise.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_BITWISE_DREG as TO, NFTNL_EXPR_BITWISE_LEN as LENGTH,
    NFTNL_EXPR_BITWISE_MASK as MASK, NFTNL_EXPR_BITWISE_OP as OPERATION,
    NFTNL_EXPR_BITWISE_SREG as FROM, NFTNL_EXPR_BITWISE_XOR as XOR,
};
use rulegen_ruleset::nftables::{Expression, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

/// NFT_BITWISE_BOOL of linux/netfilter/nf_tables.h, the name of mask and xor since Linux 5.6.
const MASK_AND_XOR: u32 = 0;

pub(super) fn encode(from: Register, to: Register, mask: &[u8], xor: &[u8]) -> RawExpression {
    let length = u32::try_from(mask.len()).unwrap_or_default();
    RawExpression::named(c"bitwise")
        .u32(FROM, from.0)
        .u32(TO, to.0)
        .u32(OPERATION, MASK_AND_XOR)
        .u32(LENGTH, length)
        .bytes(MASK, mask)
        .bytes(XOR, xor)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, TO, OPERATION, LENGTH, MASK, XOR])?;
    let (mask, xor) = (raw.get(MASK)?.to_vec(), raw.get(XOR)?.to_vec());
    let expression =
        Expression::Bitwise { from: register(raw, FROM)?, to: register(raw, TO)?, mask, xor };
    (raw.get_u32(OPERATION).unwrap_or(MASK_AND_XOR) == MASK_AND_XOR).then_some(expression)
}
