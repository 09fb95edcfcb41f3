//! Table families.

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;

/// NFPROTO_* of linux/netfilter.h.
pub(crate) fn number(family: IpFamily) -> u16 {
    match family {
        IpFamily::Ipv4 => 2,
        IpFamily::Ipv6 => 10,
    }
}

/// The family of the kernel's number.
pub(crate) fn of_number(number: u32) -> Option<IpFamily> {
    match i32::try_from(number).ok()? {
        libc::NFPROTO_IPV4 => Some(IpFamily::Ipv4),
        libc::NFPROTO_IPV6 => Some(IpFamily::Ipv6),
        _ => None,
    }
}
