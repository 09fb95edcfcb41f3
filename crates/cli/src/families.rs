//! The IP families to use.

use rulegen_kernel::iptables::{Access, Variant, is_accessible};
use rulegen_net::IpFamily;

use crate::args::FamilyChoice;
use crate::problems::say;

/// The families of a choice.
pub(crate) fn chosen(choice: FamilyChoice) -> &'static [IpFamily] {
    match choice {
        FamilyChoice::Ipv4 => &[IpFamily::Ipv4],
        FamilyChoice::Ipv6 => &[IpFamily::Ipv6],
        FamilyChoice::Dual => &IpFamily::BOTH,
    }
}

/// The families in nftables mode: the chosen ones, else those of this host.
pub(crate) fn of_nftables(choice: Option<FamilyChoice>) -> &'static [IpFamily] {
    match choice {
        Some(choice) => chosen(choice),
        None if rulegen_os::host::has_ipv6() => chosen(FamilyChoice::Dual),
        None => only_ipv4("IPv6 is unavailable or disabled"),
    }
}

/// The families in iptables mode: the chosen ones, else those of this host.
pub(crate) fn on_this_host(
    choice: Option<FamilyChoice>,
    variant: Variant,
    access: Access,
) -> &'static [IpFamily] {
    if let Some(choice) = choice {
        return chosen(choice);
    }
    let is_accessible = is_accessible(IpFamily::Ipv6, variant, access);
    let missing = match (rulegen_os::host::has_ipv6(), is_accessible) {
        (true, true) => return chosen(FamilyChoice::Dual),
        (false, _) => "IPv6 is unavailable or disabled",
        (true, false) => "ip6tables is not installed",
    };
    only_ipv4(missing)
}

fn only_ipv4(why: &str) -> &'static [IpFamily] {
    say(&format!("note: {why}: using IPv4 only (set --ip-family dual to use both)"));
    chosen(FamilyChoice::Ipv4)
}
