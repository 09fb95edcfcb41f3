//! Families of tables.

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::Family;

/// NFPROTO_* of linux/netfilter.h.
pub(crate) fn number(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

/// The family of that number.
pub(crate) fn of_number(number: u32) -> Option<Family> {
    match i32::try_from(number).ok()? {
        libc::NFPROTO_IPV4 => Some(Family::Ipv4),
        libc::NFPROTO_IPV6 => Some(Family::Ipv6),
        _ => None,
    }
}
