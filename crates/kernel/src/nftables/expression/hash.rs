//! Hashes (net/netfilter/nft_hash.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_HASH_DREG as TO, NFTNL_EXPR_HASH_LEN as LENGTH, NFTNL_EXPR_HASH_MODULUS as MODULUS,
    NFTNL_EXPR_HASH_OFFSET as OFFSET, NFTNL_EXPR_HASH_SEED as SEED, NFTNL_EXPR_HASH_SREG as FROM,
    NFTNL_EXPR_HASH_TYPE as TYPE,
};
use rulegen_ruleset::nftables::{Expression, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

/// NFT_HASH_JENKINS of linux/netfilter/nf_tables.h.
const JENKINS: u32 = 0;

pub(super) fn encode(
    from: Register,
    length: u32,
    modulus: u32,
    seed: u32,
    to: Register,
) -> RawExpression {
    RawExpression::named(c"hash")
        .u32(FROM, from.0)
        .u32(TO, to.0)
        .u32(LENGTH, length)
        .u32(MODULUS, modulus)
        .u32(SEED, seed)
        .u32(TYPE, JENKINS)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, TO, LENGTH, MODULUS, SEED, TYPE, OFFSET])?;
    let offset = raw.get_u32(OFFSET).unwrap_or_default();
    let hash = Expression::Hash {
        from: register(raw, FROM)?,
        length: raw.get_u32(LENGTH)?,
        modulus: raw.get_u32(MODULUS)?,
        seed: raw.get_u32(SEED)?,
        to: register(raw, TO)?,
    };
    (raw.get_u32(TYPE)? == JENKINS && offset == 0).then_some(hash)
}
