//! Rejects with ICMP (net/netfilter/nft_reject.c).

use nftnl::nftnl_sys::{NFTNL_EXPR_REJECT_CODE as CODE, NFTNL_EXPR_REJECT_TYPE as TYPE, libc};
use rulegen_ruleset::nftables::Expression;

use super::attributes::{Raw, has_only};
use crate::nftables::raw::RawExpression;

const ICMP: u32 = libc::NFT_REJECT_ICMP_UNREACH.cast_unsigned();

pub(super) fn encode(code: u8) -> RawExpression {
    RawExpression::named(c"reject").u32(TYPE, ICMP).u8(CODE, code)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[TYPE, CODE])?;
    let code = raw.get_u8(CODE)?;
    (raw.get_u32(TYPE)? == ICMP).then_some(Expression::Reject { code })
}
