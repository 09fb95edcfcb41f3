//! Which families to work on.

use rulegen_model::IpFamily;

use crate::args::FamilyChoice;

/// The families a choice stands for.
pub(crate) fn chosen(choice: FamilyChoice) -> &'static [IpFamily] {
    match choice {
        FamilyChoice::Ipv4 => &[IpFamily::Ipv4],
        FamilyChoice::Ipv6 => &[IpFamily::Ipv6],
        FamilyChoice::Dual => &IpFamily::BOTH,
    }
}

/// The same on this host: both, by default or by choice, means those that it has.
pub(crate) fn on_this_host(choice: Option<FamilyChoice>) -> &'static [IpFamily] {
    match choice.unwrap_or(FamilyChoice::Dual) {
        FamilyChoice::Dual if !rulegen_kernel::host::has_ipv6() => {
            tracing::info!("IPv6 is not there or switched off: only IPv4 is worked on");
            chosen(FamilyChoice::Ipv4)
        }
        choice => chosen(choice),
    }
}
