//! Elements added by packets (net/netfilter/nft_dynset.c).

use std::time::Duration;

use nftnl::nftnl_sys::{
    NFTNL_EXPR_DYNSET_FLAGS as FLAGS, NFTNL_EXPR_DYNSET_OP as OPERATION,
    NFTNL_EXPR_DYNSET_SET_NAME as SET, NFTNL_EXPR_DYNSET_SREG_KEY as FROM,
    NFTNL_EXPR_DYNSET_TIMEOUT as TIMEOUT, libc,
};
use rulegen_ruleset::nftables::{Expression, Name, Register};

use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

const UPDATE: u32 = libc::NFT_DYNSET_OP_UPDATE.cast_unsigned();

pub(super) fn encode(set: &Name, from: Register, timeout: Option<Duration>) -> RawExpression {
    let raw = RawExpression::named(c"dynset").u32(FROM, from.0).u32(OPERATION, UPDATE);
    let raw = match timeout {
        Some(timeout) => raw.u64(TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        None => raw,
    };
    raw.text(SET, set.as_str())
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    has_only(raw, &[FROM, OPERATION, SET, FLAGS, TIMEOUT])?;
    let (set, from) = (Name::from_kernel(raw.get_text(SET)?), register(raw, FROM)?);
    // 0 means the timeout of the set.
    let timeout = raw.get_u64(TIMEOUT).filter(|timeout| *timeout != 0).map(Duration::from_millis);
    let is_plain = raw.get_u32(FLAGS).unwrap_or_default() == 0;
    let is_ours = raw.get_u32(OPERATION)? == UPDATE && is_plain;
    is_ours.then_some(Expression::Dynset { set, from, timeout })
}
