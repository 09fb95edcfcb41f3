//! Rules.

use nftnl::nftnl_sys as sys;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{ActualRule, Name, Rule, linearize};

use super::raw::Owned;
use super::{expression, family, userdata};

pub(super) type RawRule = Owned<sys::nftnl_rule>;

/// A message about the rules of a chain.
pub(super) fn of_chain(of: IpFamily, table: &Name, chain: &Name) -> RawRule {
    of_table(of, table).text(sys::NFTNL_RULE_CHAIN, chain.as_str())
}

/// A message about the rules of a table.
pub(super) fn of_table(of: IpFamily, table: &Name) -> RawRule {
    RawRule::new()
        .u32(sys::NFTNL_RULE_FAMILY, family::number(of).into())
        .text(sys::NFTNL_RULE_TABLE, table.as_str())
}

/// A message about one rule, or without a handle about all rules of the chain.
pub(super) fn with_handle(
    of: IpFamily,
    table: &Name,
    chain: &Name,
    handle: Option<u64>,
) -> RawRule {
    let raw = of_chain(of, table, chain);
    match handle {
        Some(handle) => raw.u64(sys::NFTNL_RULE_HANDLE, handle),
        None => raw,
    }
}

/// Encodes a rule.
pub(super) fn encode(of: IpFamily, table: &Name, chain: &Name, rule: &Rule) -> RawRule {
    let mut raw = of_chain(of, table, chain);
    if let Some(comment) = &rule.comment {
        raw = raw.bytes(sys::NFTNL_RULE_USERDATA, &userdata::of_comment(comment));
    }
    linearize(of, &rule.statements)
        .iter()
        .fold(raw, |raw, expression| raw.expression(expression::encode(expression)))
}

/// Chain name and packet count of a rule with a counter.
pub(super) fn counted(raw: &RawRule) -> Option<(Name, u64)> {
    let chain = Name::from_kernel(raw.borrow().get_text(sys::NFTNL_RULE_CHAIN)?);
    let packets = raw.expressions(|raw| expression::packets(&raw)).into_iter().flatten().next()?;
    Some((chain, packets))
}

/// Decodes a rule and the name of its chain.
pub(super) fn decode(raw: &RawRule) -> Option<(Name, ActualRule)> {
    let part = raw.borrow();
    let chain = Name::from_kernel(part.get_text(sys::NFTNL_RULE_CHAIN)?);
    let rule = ActualRule {
        handle: part.get_u64(sys::NFTNL_RULE_HANDLE),
        expressions: raw.expressions(|raw| expression::decode(&raw)).into_iter().collect(),
        comment: part.get(sys::NFTNL_RULE_USERDATA).and_then(userdata::comment_of),
    };
    Some((chain, rule))
}
