//! Verdicts of rules and map elements.

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::nftables::{Name, Verdict};

/// The kernel's number for the verdict, and the chain that it leads to.
pub(super) fn encode(verdict: &Verdict) -> (u32, Option<&Name>) {
    let (number, chain) = match verdict {
        Verdict::Drop => (libc::NF_DROP, None),
        Verdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        Verdict::Return => (libc::NFT_RETURN, None),
    };
    (number.cast_unsigned(), chain)
}

/// Decodes a verdict; `None` if it is foreign.
pub(super) fn decode(number: u32, chain: Option<&str>) -> Option<Verdict> {
    match (number.cast_signed(), chain) {
        (libc::NF_DROP, None) => Some(Verdict::Drop),
        (libc::NFT_JUMP, Some(chain)) => Some(Verdict::Jump(Name::from_kernel(chain))),
        (libc::NFT_GOTO, Some(chain)) => Some(Verdict::Goto(Name::from_kernel(chain))),
        (libc::NFT_RETURN, None) => Some(Verdict::Return),
        _ => None,
    }
}
