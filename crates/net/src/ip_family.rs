use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

/// An IP family. The kernel has separate rules for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

impl IpFamily {
    /// Both families, IPv4 first.
    pub const BOTH: [IpFamily; 2] = [IpFamily::Ipv4, IpFamily::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => IpFamily::Ipv4,
            IpAddr::V6(_) => IpFamily::Ipv6,
        }
    }

    /// The family of a network.
    pub fn of_network(network: IpNet) -> Self {
        Self::of(network.addr())
    }

    /// The loopback address: 127.0.0.1 or ::1.
    pub fn loopback(self) -> IpAddr {
        match self {
            IpFamily::Ipv4 => Ipv4Addr::LOCALHOST.into(),
            IpFamily::Ipv6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// All loopback addresses: 127.0.0.0/8 or ::1/128.
    pub fn loopback_network(self) -> IpNet {
        const IPV4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        match self {
            IpFamily::Ipv4 => IPV4.into(),
            IpFamily::Ipv6 => IpNet::from(self.loopback()),
        }
    }

    /// The name in the Kubernetes API: `IPv4` or `IPv6`.
    pub fn api_name(self) -> &'static str {
        match self {
            IpFamily::Ipv4 => "IPv4",
            IpFamily::Ipv6 => "IPv6",
        }
    }

    /// The name in nft, for tables and for header fields: `ip` or `ip6`.
    pub fn nft_name(self) -> &'static str {
        match self {
            IpFamily::Ipv4 => "ip",
            IpFamily::Ipv6 => "ip6",
        }
    }
}
