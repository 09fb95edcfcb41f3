//! DNAT (net/netfilter/nft_nat.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_NAT_FAMILY as FAMILY, NFTNL_EXPR_NAT_FLAGS as FLAGS,
    NFTNL_EXPR_NAT_REG_ADDR_MAX as ADDRESS_MAX, NFTNL_EXPR_NAT_REG_ADDR_MIN as ADDRESS,
    NFTNL_EXPR_NAT_REG_PROTO_MAX as PORT_MAX, NFTNL_EXPR_NAT_REG_PROTO_MIN as PORT,
    NFTNL_EXPR_NAT_TYPE as TYPE, libc,
};
use rulegen_ruleset::nftables::{Expression, Register};

use super::super::family;
use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const DNAT: u32 = libc::NFT_NAT_DNAT.cast_unsigned();

/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED of linux/netfilter/nf_nat.h, which the
/// kernel sets itself if an address and a port are given.
const IMPLIED: u32 = 1 | 2;

pub(super) fn encode(
    of: rulegen_net::IpFamily,
    address: Register,
    port: Register,
) -> RawExpression {
    RawExpression::named(c"nat")
        .u32(TYPE, DNAT)
        .u32(FAMILY, family::number(of).into())
        .u32(ADDRESS, address.0)
        .u32(PORT, port.0)
}

/// Decodes a DNAT. The kernel also reports the end of each range, which equals its start here.
pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[TYPE, FAMILY, ADDRESS, ADDRESS_MAX, PORT, PORT_MAX, FLAGS])?;
    let (address, port) = (register(raw, ADDRESS)?, register(raw, PORT)?);
    let one_address = register(raw, ADDRESS_MAX).is_none_or(|max| max == address);
    let one_port = register(raw, PORT_MAX).is_none_or(|max| max == port);
    let plain = raw.get_u32(FLAGS).unwrap_or_default() & !IMPLIED == 0;
    let family = family::of_number(raw.get_u32(FAMILY)?)?;
    let is_ours = raw.get_u32(TYPE)? == DNAT && one_address && one_port && plain;
    is_ours.then_some(Expression::Dnat { family, address, port })
}
