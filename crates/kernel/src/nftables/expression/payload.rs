//! Packet bytes (net/netfilter/nft_payload.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_PAYLOAD_BASE as BASE, NFTNL_EXPR_PAYLOAD_DREG as TO,
    NFTNL_EXPR_PAYLOAD_LEN as LENGTH, NFTNL_EXPR_PAYLOAD_OFFSET as OFFSET, libc,
};
use rulegen_ruleset::nftables::{Expression, PayloadBase, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const BASES: [(u32, PayloadBase); 2] = [
    (libc::NFT_PAYLOAD_NETWORK_HEADER.cast_unsigned(), PayloadBase::Network),
    (libc::NFT_PAYLOAD_TRANSPORT_HEADER.cast_unsigned(), PayloadBase::Transport),
];

pub(super) fn encode(base: PayloadBase, offset: u32, length: u32, to: Register) -> RawExpression {
    let number = super::attributes::number_of(&BASES, base);
    RawExpression::named(c"payload")
        .u32(TO, to.0)
        .u32(BASE, number)
        .u32(OFFSET, offset)
        .u32(LENGTH, length)
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[TO, BASE, OFFSET, LENGTH])?;
    Some(Expression::Payload {
        base: super::attributes::of_number(&BASES, raw.get_u32(BASE)?)?,
        offset: raw.get_u32(OFFSET)?,
        length: raw.get_u32(LENGTH)?,
        to: register(raw, TO)?,
    })
}
