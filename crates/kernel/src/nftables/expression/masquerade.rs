//! Masquerade (net/netfilter/nft_masq.c).

use nftnl::nftnl_sys::NFTNL_EXPR_MASQ_FLAGS as FLAGS;
use rulegen_ruleset::nftables::Expression;

use super::attributes::{Raw, has_only};
use crate::nftables::raw::RawExpression;

pub(super) fn encode(flags: u32) -> RawExpression {
    RawExpression::named(c"masq").u32(FLAGS, flags)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FLAGS])?;
    Some(Expression::Masquerade { flags: raw.get_u32(FLAGS).unwrap_or_default() })
}
