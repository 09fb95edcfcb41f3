//! Metadata of the packet (net/netfilter/nft_meta.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_META_DREG as TO, NFTNL_EXPR_META_KEY as KEY, NFTNL_EXPR_META_SREG as FROM, libc,
};
use rulegen_ruleset::nftables::{Expression, MetaKey, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const MARK: u32 = libc::NFT_META_MARK.cast_unsigned();

const KEYS: [(u32, MetaKey); 3] = [
    (MARK, MetaKey::Mark),
    (libc::NFT_META_IIFNAME.cast_unsigned(), MetaKey::InInterfaceName),
    (libc::NFT_META_L4PROTO.cast_unsigned(), MetaKey::TransportProtocol),
];

pub(super) fn encode(key: MetaKey, to: Register) -> RawExpression {
    RawExpression::named(c"meta").u32(KEY, super::attributes::number_of(&KEYS, key)).u32(TO, to.0)
}

pub(super) fn encode_mark(from: Register) -> RawExpression {
    RawExpression::named(c"meta").u32(KEY, MARK).u32(FROM, from.0)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    let key = raw.get_u32(KEY)?;
    if let Some(from) = register(raw, FROM) {
        has_only(raw, &[KEY, FROM])?;
        return (key == MARK).then_some(Expression::SetMark { from });
    }
    has_only(raw, &[KEY, TO])?;
    Some(Expression::Meta {
        key: super::attributes::of_number(&KEYS, key)?,
        to: register(raw, TO)?,
    })
}
