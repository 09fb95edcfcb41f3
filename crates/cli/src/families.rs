//! Which families to work on.

use rulegen_kernel::iptables::{Variant, is_installed};
use rulegen_net::IpFamily;

use crate::args::FamilyChoice;
use crate::problems::say;

/// The families a choice stands for.
pub(crate) fn chosen(choice: FamilyChoice) -> &'static [IpFamily] {
    match choice {
        FamilyChoice::Ipv4 => &[IpFamily::Ipv4],
        FamilyChoice::Ipv6 => &[IpFamily::Ipv6],
        FamilyChoice::Dual => &IpFamily::BOTH,
    }
}

/// The same on this host in nftables mode: where none is asked for, those that it has.
pub(crate) fn of_nftables(choice: Option<FamilyChoice>) -> &'static [IpFamily] {
    match choice {
        Some(choice) => chosen(choice),
        None if rulegen_kernel::host::has_ipv6() => chosen(FamilyChoice::Dual),
        None => only_ipv4("IPv6 is not there or switched off"),
    }
}

/// The same in iptables mode.
pub(crate) fn on_this_host(choice: Option<FamilyChoice>, variant: Variant) -> &'static [IpFamily] {
    if let Some(choice) = choice {
        return chosen(choice);
    }
    let missing = match (rulegen_kernel::host::has_ipv6(), is_installed(IpFamily::Ipv6, variant)) {
        (true, true) => return chosen(FamilyChoice::Dual),
        (false, _) => "IPv6 is not there or switched off",
        (true, false) => "ip6tables is not installed",
    };
    only_ipv4(missing)
}

fn only_ipv4(why: &str) -> &'static [IpFamily] {
    say(&format!("note: {why}: only IPv4 is worked on (--ip-family dual insists on both)"));
    chosen(FamilyChoice::Ipv4)
}
