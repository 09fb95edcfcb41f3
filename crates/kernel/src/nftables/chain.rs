//! Chains.

use nftnl::nftnl_sys as sys;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{ActualChain, BaseChain, ChainKind, Hook, Name};
use sys::libc;

use super::family;
use super::raw::Owned;

pub(super) type RawChain = Owned<sys::nftnl_chain>;

const HOOKS: [(u32, Hook); 5] = [
    (libc::NF_INET_PRE_ROUTING.cast_unsigned(), Hook::Prerouting),
    (libc::NF_INET_LOCAL_IN.cast_unsigned(), Hook::Input),
    (libc::NF_INET_FORWARD.cast_unsigned(), Hook::Forward),
    (libc::NF_INET_LOCAL_OUT.cast_unsigned(), Hook::Output),
    (libc::NF_INET_POST_ROUTING.cast_unsigned(), Hook::Postrouting),
];

const KINDS: [(&str, ChainKind); 2] = [("filter", ChainKind::Filter), ("nat", ChainKind::Nat)];

const ACCEPT: u32 = libc::NF_ACCEPT.cast_unsigned();

/// A message about this chain.
pub(super) fn named(of: IpFamily, table: &Name, name: &Name) -> RawChain {
    RawChain::new()
        .u32(sys::NFTNL_CHAIN_FAMILY, family::number(of).into())
        .text(sys::NFTNL_CHAIN_TABLE, table.as_str())
        .text(sys::NFTNL_CHAIN_NAME, name.as_str())
}

/// Encodes a chain without its rules.
pub(super) fn encode(of: IpFamily, table: &Name, name: &Name, base: Option<BaseChain>) -> RawChain {
    let raw = named(of, table, name);
    let Some(base) = base else { return raw };
    let hook = HOOKS.iter().find(|(_, hook)| *hook == base.hook);
    let kind = KINDS.iter().find(|(_, kind)| *kind == base.kind);
    raw.text(sys::NFTNL_CHAIN_TYPE, kind.map_or("", |(name, _)| name))
        .u32(sys::NFTNL_CHAIN_HOOKNUM, hook.map_or(u32::MAX, |(number, _)| *number))
        .u32(sys::NFTNL_CHAIN_PRIO, base.priority.cast_unsigned())
        .u32(sys::NFTNL_CHAIN_POLICY, ACCEPT)
}

/// Decodes a chain without its rules; `None` in place of the chain if it has a foreign property.
pub(super) fn decode(raw: &RawChain) -> Option<(Name, Option<ActualChain>)> {
    let name = Name::from_kernel(raw.borrow().get_text(sys::NFTNL_CHAIN_NAME)?);
    let chain = decode_base(raw).map(|base| ActualChain { base, rules: Vec::new() });
    Some((name, chain))
}

/// True for the chain of a rule with `jump { … }`.
pub(super) fn is_of_a_rule(raw: &RawChain) -> bool {
    // NFT_CHAIN_BINDING of linux/netfilter/nf_tables.h.
    const BINDING: u32 = 4;
    raw.borrow().get_u32(sys::NFTNL_CHAIN_FLAGS).unwrap_or_default() & BINDING != 0
}

/// NFT_CHAIN_BASE of linux/netfilter/nf_tables.h, which the kernel reports for every base chain.
const IS_BASE: u32 = 1;

fn decode_base(raw: &RawChain) -> Option<Option<BaseChain>> {
    let raw = raw.borrow();
    let number = |attribute: sys::nftnl_chain_attr| raw.get_u32(attribute);
    let flags = number(sys::NFTNL_CHAIN_FLAGS).unwrap_or_default();
    if !raw.has(sys::NFTNL_CHAIN_HOOKNUM) {
        return (flags == 0).then_some(None);
    }
    let hook = number(sys::NFTNL_CHAIN_HOOKNUM)?;
    let kind = raw.get_text(sys::NFTNL_CHAIN_TYPE)?;
    let base = BaseChain {
        kind: KINDS.iter().find(|(name, _)| *name == kind)?.1,
        hook: HOOKS.iter().find(|(number, _)| *number == hook)?.1,
        priority: number(sys::NFTNL_CHAIN_PRIO)?.cast_signed(),
    };
    let is_ours = number(sys::NFTNL_CHAIN_POLICY) == Some(ACCEPT) && flags & !IS_BASE == 0;
    is_ours.then_some(Some(base))
}
