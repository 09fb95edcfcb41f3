//! Tables.

use nftnl::nftnl_sys as sys;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Comment, Name};

use super::raw::Owned;
use super::{family, userdata};

pub(super) type RawTable = Owned<sys::nftnl_table>;

/// A message about this table.
pub(super) fn named(of: IpFamily, name: &Name) -> RawTable {
    RawTable::new()
        .u32(sys::NFTNL_TABLE_FAMILY, family::number(of).into())
        .text(sys::NFTNL_TABLE_NAME, name.as_str())
}

/// Encodes a table without its content.
pub(super) fn encode(of: IpFamily, name: &Name, comment: &Comment) -> RawTable {
    named(of, name)
        .u32(sys::NFTNL_TABLE_FLAGS, 0)
        .bytes(sys::NFTNL_TABLE_USERDATA, &userdata::of_comment(comment))
}

/// The kernel's number for a table. No other table of the namespace gets the same.
pub(super) fn handle(raw: &RawTable) -> Option<u64> {
    raw.borrow().get_u64(sys::NFTNL_TABLE_HANDLE)
}

/// NFT_TABLE_F_DORMANT of linux/netfilter/nf_tables.h: the kernel does not use the table's chains.
pub(super) const DORMANT: u32 = 1;

pub(super) fn is_dormant(raw: &RawTable) -> bool {
    let flags = raw.borrow().get_u32(sys::NFTNL_TABLE_FLAGS);
    flags.is_some_and(|flags| flags & DORMANT != 0)
}

/// Foreign properties of a table itself.
pub(super) fn foreign(raw: &RawTable) -> Vec<String> {
    // NFT_TABLE_F_* of linux/netfilter/nf_tables.h.
    const FLAGS: [(u32, &str); 3] = [(DORMANT, "dormant"), (2, "owner"), (4, "persist")];
    let actual = raw.borrow().get_u32(sys::NFTNL_TABLE_FLAGS).unwrap_or_default();
    let known = FLAGS.iter().filter(|(flag, _)| actual & flag != 0);
    let mut foreign: Vec<String> = known.map(|(_, name)| format!("the flag {name}")).collect();
    let all = FLAGS.iter().fold(0, |all, (flag, _)| all | flag);
    if actual & !all != 0 {
        foreign.push(format!("the flags {:#x}", actual & !all));
    }
    foreign
}
