//! This node: its name, zone, addresses and pod networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::object::NodeObject;
use crate::problem::ProblemCollector;
use crate::problem_code::ProblemCode;
use rulegen_net::{IpFamily, parse_address, parse_network};

/// Facts of this host, used if there is no Node object.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The host name.
    pub name: String,
    /// The addresses of its interfaces, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// The node that rules are compiled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// Its zone, or empty.
    pub zone: String,
    /// Its IPv4 addresses.
    pub ipv4: FamilyAddresses,
    /// Its IPv6 addresses.
    pub ipv6: FamilyAddresses,
}

/// A node's addresses of one IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyAddresses {
    /// The node's address in the cluster, else the loopback address, as in kube-proxy.
    pub primary: IpAddr,
    /// All its addresses, including loopback, ordered.
    pub local: Vec<IpAddr>,
    /// Pod network of this node.
    pub pod_cidr: Option<IpNet>,
}

impl Node {
    /// Its addresses of a family.
    pub fn addresses(&self, family: IpFamily) -> &FamilyAddresses {
        match family {
            IpFamily::Ipv4 => &self.ipv4,
            IpFamily::Ipv6 => &self.ipv6,
        }
    }

    /// Whether the node has this address.
    pub fn has_address(&self, ip: IpAddr) -> bool {
        let of_family = self.addresses(IpFamily::of(ip));
        of_family.primary == ip || of_family.local.binary_search(&ip).is_ok()
    }

    /// The addresses that only one of two nodes has.
    pub(crate) fn other_addresses(&self, other: &Node) -> Vec<IpAddr> {
        self.all_addresses().symmetric_difference(&other.all_addresses()).copied().collect()
    }

    pub(crate) fn all_addresses(&self) -> BTreeSet<IpAddr> {
        let families = [&self.ipv4, &self.ipv6].into_iter();
        families.flat_map(|of| of.local.iter().chain([&of.primary])).copied().collect()
    }

    /// The node from facts of this host.
    pub(crate) fn of_host(name: &str, host: &Host) -> Self {
        let own = |ip: &&IpAddr| !ip.is_loopback() && !is_link_local(**ip);
        let global: Vec<IpAddr> = host.addresses.iter().filter(own).copied().collect();
        Self::with(name, String::new(), &global, &host.addresses, &[])
    }

    /// The node from its Node object.
    pub(crate) fn of_object(object: &NodeObject, report: &mut ProblemCollector<'_>) -> Self {
        let zone = object.metadata.labels.zone.as_deref().unwrap_or_default().to_owned();
        let addresses = node_addresses(object, report);
        let pod_cidrs = pod_cidrs(object, report);
        Self::with(&object.metadata.name, zone, &addresses, &addresses, &pod_cidrs)
    }

    fn with(
        name: &str,
        zone: String,
        by_preference: &[IpAddr],
        local: &[IpAddr],
        pod_cidrs: &[IpNet],
    ) -> Self {
        let family = |family: IpFamily| {
            let mut local: Vec<IpAddr> =
                local.iter().copied().filter(|ip| IpFamily::of(*ip) == family).collect();
            local.push(family.loopback());
            local.sort_unstable();
            local.dedup();
            let primary = by_preference.iter().copied().find(|ip| IpFamily::of(*ip) == family);
            FamilyAddresses {
                primary: primary.unwrap_or(family.loopback()),
                local,
                pod_cidr: pod_cidrs
                    .iter()
                    .copied()
                    .find(|net| IpFamily::of_network(*net) == family),
            }
        };
        Self {
            name: name.to_owned(),
            zone,
            ipv4: family(IpFamily::Ipv4),
            ipv6: family(IpFamily::Ipv6),
        }
    }

    /// Adds local addresses.
    pub(crate) fn with_local(mut self, addresses: &[IpAddr]) -> Self {
        for address in addresses {
            let of_family = match address {
                IpAddr::V4(_) => &mut self.ipv4,
                IpAddr::V6(_) => &mut self.ipv6,
            };
            if let Err(at) = of_family.local.binary_search(address) {
                of_family.local.insert(at, *address);
            }
        }
        self
    }

    /// Replaces the primary address, for `--bind-address`.
    pub(crate) fn with_primary(mut self, primary: IpAddr) -> Self {
        match primary {
            IpAddr::V4(_) => self.ipv4.primary = primary,
            IpAddr::V6(_) => self.ipv6.primary = primary,
        }
        self
    }
}

/// The node's addresses, internal IPs first. The first of a family is the primary address.
fn node_addresses(object: &NodeObject, report: &mut ProblemCollector<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        let all = object.status.addresses.iter().enumerate();
        for (n, entry) in all.filter(|(_, entry)| entry.kind == kind) {
            let field = format!("status.addresses[{n}].address");
            let message = format!("invalid IP address {:?}", entry.address);
            addresses.extend(report.need(
                parse_address(&entry.address),
                ProblemCode::InvalidAddress,
                field,
                message,
            ));
        }
    }
    addresses
}

fn pod_cidrs(object: &NodeObject, report: &mut ProblemCollector<'_>) -> Vec<IpNet> {
    let spec = &object.spec;
    let (texts, field) = match (spec.pod_cidrs.as_slice(), &spec.pod_cidr) {
        ([], Some(single)) => (std::slice::from_ref(single), "spec.podCIDR"),
        (list, _) => (list, "spec.podCIDRs"),
    };
    let given = texts.iter().filter(|text| !text.is_empty());
    given
        .filter_map(|text| {
            report.need(
                parse_network(text),
                ProblemCode::InvalidNetwork,
                field,
                format!("invalid CIDR {text:?} (for example 10.244.1.0/24)"),
            )
        })
        .collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
