//! Elements that packets put in (net/netfilter/nft_dynset.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_DYNSET_FLAGS as FLAGS, NFTNL_EXPR_DYNSET_OP as OPERATION,
    NFTNL_EXPR_DYNSET_SET_NAME as SET, NFTNL_EXPR_DYNSET_SREG_KEY as FROM,
    NFTNL_EXPR_DYNSET_TIMEOUT as TIMEOUT, libc,
};
use rulegen_ruleset::nftables::{Expression, Name, Register};

use super::{Raw, RawExpression, has_only, register};

const UPDATE: u32 = libc::NFT_DYNSET_OP_UPDATE.cast_unsigned();

pub(super) fn encode(set: &Name, from: Register) -> RawExpression {
    RawExpression::named(c"dynset").u32(FROM, from.0).u32(OPERATION, UPDATE).text(SET, set.as_str())
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, OPERATION, SET, FLAGS, TIMEOUT])?;
    let (set, from) = (Name::held(raw.get_text(SET)?), register(raw, FROM)?);
    // Nought is what the set says.
    let plain = raw.get_u32(FLAGS).unwrap_or_default() == 0
        && raw.get_u64(TIMEOUT).unwrap_or_default() == 0;
    (raw.get_u32(OPERATION)? == UPDATE && plain).then_some(Expression::Update { set, from })
}
