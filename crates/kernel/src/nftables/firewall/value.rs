//! Values in rules and sets.

use std::sync::Arc;

use rulegen_ruleset::firewall::Action;

use crate::nftables::attribute;
use crate::nftables::nat_base_chains::inside;

/// The action of a verdict (NFTA_DATA_VERDICT, NFTA_VERDICT_*).
pub(super) fn verdict(data: &[u8]) -> Option<Action> {
    let verdict = inside(data, 2)?;
    let code = u32::from_be_bytes(inside(verdict, 1)?.try_into().ok()?).cast_signed();
    let chain = || inside(verdict, 2).map(|name| Arc::from(attribute::string(name)));
    // NF_DROP, NF_ACCEPT, NFT_CONTINUE, NFT_BREAK, NFT_JUMP, NFT_GOTO, NFT_RETURN.
    Some(match code {
        0 => Action::Drop,
        1 => Action::Accept,
        -1 | -2 => Action::Continue,
        -3 => Action::Jump(chain()?),
        -4 => Action::Goto(chain()?),
        -5 => Action::Return,
        _ => Action::Anything("verdict …".into()),
    })
}

/// The first 16 bytes as a number, filled with zeros at the end.
pub(super) fn left_aligned(bytes: &[u8]) -> u128 {
    let mut all = [0; 16];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(all)
}
