//! Lookups in sets and maps (net/netfilter/nft_lookup.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_LOOKUP_DREG as TO, NFTNL_EXPR_LOOKUP_FLAGS as FLAGS, NFTNL_EXPR_LOOKUP_SET as SET,
    NFTNL_EXPR_LOOKUP_SREG as FROM,
};
use rulegen_ruleset::nftables::{Expression, Name, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

/// No flag, and NFT_LOOKUP_F_INV of linux/netfilter/nf_tables.h.
const NEGATIONS: [(u32, bool); 2] = [(0, false), (1, true)];

pub(super) fn encode(
    set: &Name,
    from: Register,
    negated: bool,
    to: Option<Register>,
) -> RawExpression {
    let mut raw = RawExpression::named(c"lookup").u32(FROM, from.0).text(SET, set.as_str());
    if let Some(to) = to {
        raw = raw.u32(TO, to.0);
    }
    if negated { raw.u32(FLAGS, super::attributes::number_of(&NEGATIONS, true)) } else { raw }
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, SET, TO, FLAGS])?;
    Some(Expression::Lookup {
        set: Name::from_kernel(raw.get_text(SET)?),
        from: register(raw, FROM)?,
        negated: super::attributes::of_number(&NEGATIONS, raw.get_u32(FLAGS).unwrap_or_default())?,
        to: register(raw, TO),
    })
}
