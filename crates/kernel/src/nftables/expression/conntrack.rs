//! Metadata of the connection (net/netfilter/nft_ct.c).

use nftnl::nftnl_sys::{NFTNL_EXPR_CT_DREG as TO, NFTNL_EXPR_CT_KEY as KEY, libc};
use rulegen_ruleset::nftables::{ConntrackKey, Expression, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const KEYS: [(u32, ConntrackKey); 2] = [
    (libc::NFT_CT_STATE.cast_unsigned(), ConntrackKey::State),
    (libc::NFT_CT_STATUS.cast_unsigned(), ConntrackKey::Status),
];

pub(super) fn encode(key: ConntrackKey, to: Register) -> RawExpression {
    RawExpression::named(c"ct").u32(KEY, super::attributes::number_of(&KEYS, key)).u32(TO, to.0)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[KEY, TO])?;
    let key = super::attributes::of_number(&KEYS, raw.get_u32(KEY)?)?;
    Some(Expression::Conntrack { key, to: register(raw, TO)? })
}
