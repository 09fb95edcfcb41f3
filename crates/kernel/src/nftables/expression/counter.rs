//! Counters (net/netfilter/nft_counter.c).

use nftnl::nftnl_sys::{NFTNL_EXPR_CTR_BYTES as BYTES, NFTNL_EXPR_CTR_PACKETS as PACKETS};
use rulegen_ruleset::nftables::Expression;

use super::attributes::{Raw, has_only};
use crate::nftables::raw::RawExpression;

pub(super) fn encode() -> RawExpression {
    RawExpression::named(c"counter")
}

/// Decodes a counter. Its current count is ignored.
pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[BYTES, PACKETS])?;
    Some(Expression::Counter)
}

/// Current packet count.
pub(super) fn packets(raw: &Raw<'_>) -> Option<u64> {
    raw.get_u64(PACKETS)
}
