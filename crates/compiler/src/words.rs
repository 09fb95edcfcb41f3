//! The dataplane's words for the model's.

use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_model::{IpFamily, Protocol};
use rulegen_ruleset as ruleset;

/// The dataplane's word for a family.
pub fn family(family: IpFamily) -> ruleset::Family {
    match family {
        IpFamily::Ipv4 => ruleset::Family::Ipv4,
        IpFamily::Ipv6 => ruleset::Family::Ipv6,
    }
}

pub(crate) fn protocol(protocol: Protocol) -> ruleset::Protocol {
    match protocol {
        Protocol::Tcp => ruleset::Protocol::Tcp,
        Protocol::Udp => ruleset::Protocol::Udp,
        Protocol::Sctp => ruleset::Protocol::Sctp,
    }
}

/// All loopback addresses of a family.
pub(crate) fn loopback_network(family: IpFamily) -> IpNet {
    let loopback = IpNet::from(family.loopback());
    match family {
        IpFamily::Ipv4 => IpNet::new(IpAddr::from([127, 0, 0, 0]), 8).unwrap_or(loopback),
        IpFamily::Ipv6 => loopback,
    }
}
