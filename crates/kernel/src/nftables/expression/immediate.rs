//! Constants and verdicts (net/netfilter/nft_immediate.c).

use nftnl::nftnl_sys::{
    NFTNL_EXPR_IMM_CHAIN as CHAIN, NFTNL_EXPR_IMM_DATA as DATA, NFTNL_EXPR_IMM_DREG as TO,
    NFTNL_EXPR_IMM_VERDICT as VERDICT,
};
use rulegen_ruleset::nftables::{Expression, Register, Verdict};

use super::super::verdict;
use super::attributes::{Raw, has_only, register};
use crate::nftables::raw::RawExpression;

pub(super) fn encode(to: Register, value: &[u8]) -> RawExpression {
    RawExpression::named(c"immediate").u32(TO, to.0).bytes(DATA, value)
}

pub(super) fn encode_verdict(of: &Verdict) -> RawExpression {
    let (number, chain) = verdict::encode(of);
    let raw = RawExpression::named(c"immediate").u32(TO, Register::VERDICT.0).u32(VERDICT, number);
    match chain {
        Some(chain) => raw.text(CHAIN, chain.as_str()),
        None => raw,
    }
}

pub(super) fn decode(raw: &Raw<'_>) -> Option<Expression> {
    let to = register(raw, TO)?;
    if to == Register::VERDICT {
        has_only(raw, &[TO, VERDICT, CHAIN])?;
        let verdict = verdict::decode(raw.get_u32(VERDICT)?, raw.get_text(CHAIN))?;
        return Some(Expression::Verdict(verdict));
    }
    has_only(raw, &[TO, DATA])?;
    Some(Expression::Immediate { to, value: raw.get(DATA)?.to_vec() })
}
