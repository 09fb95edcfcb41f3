//! Routing table lookups (net/netfilter/nft_fib.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_FIB_DREG as TO, NFTNL_EXPR_FIB_FLAGS as FLAGS, NFTNL_EXPR_FIB_RESULT as RESULT,
};
use rulegen_ruleset::nftables::{Expression, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

/// NFT_FIB_RESULT_ADDRTYPE of linux/netfilter/nf_tables.h.
const ADDRESS_TYPE: u32 = 3;

/// NFTA_FIB_F_SADDR and NFTA_FIB_F_DADDR of linux/netfilter/nf_tables.h.
const FLAGS_OF: [(u32, bool); 2] = [(1, true), (2, false)];

pub(super) fn encode(of_source: bool, to: Register) -> RawExpression {
    RawExpression::named(c"fib")
        .u32(TO, to.0)
        .u32(RESULT, ADDRESS_TYPE)
        .u32(FLAGS, super::attributes::number_of(&FLAGS_OF, of_source))
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[TO, RESULT, FLAGS])?;
    let of_source = super::attributes::of_number(&FLAGS_OF, raw.get_u32(FLAGS)?)?;
    let to = register(raw, TO)?;
    (raw.get_u32(RESULT)? == ADDRESS_TYPE).then_some(Expression::Fib { of_source, to })
}
