//! Addresses in place of the cluster IPs that the API server would assign, so that Services that were
//! never applied are checked too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rulegen_model::{Objects, Service};
use rulegen_net::IpFamily;

/// Addresses that no Service has: IPv4's reserved 240.0.0.0/4, and IPv6's discard prefix 100::/64.
fn placeholder(family: IpFamily, number: u32) -> IpAddr {
    match family {
        IpFamily::Ipv4 => Ipv4Addr::from_bits(0xf000_0000 | (number & 0x0fff_ffff)).into(),
        IpFamily::Ipv6 => {
            let prefix = u128::from(0x0100_u16) << 112;
            Ipv6Addr::from_bits(prefix | u128::from(number)).into()
        }
    }
}

/// Whether the API server would assign a cluster IP.
pub(crate) fn is_unassigned(service: &Service) -> bool {
    let spec = &service.spec;
    let given = [&spec.cluster_ip].into_iter().flatten().chain(&spec.cluster_ips);
    spec.kind.as_deref() != Some("ExternalName") && given.into_iter().all(|ip| ip.is_empty())
}

/// Fills in missing cluster IPs.
pub(crate) fn assign(objects: &mut Objects) {
    let slices = &objects.slices;
    let is_ipv6 = !slices.is_empty() && slices.iter().all(|of| of.object.address_type == "IPv6");
    let default = if is_ipv6 { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
    let services = objects.services.iter_mut().map(|service| &mut service.object);
    for (number, service) in (0..).zip(services.filter(|service| is_unassigned(service))) {
        let named = |family: &IpFamily| {
            service.spec.ip_families.iter().any(|name| name == family.api_name())
        };
        let mut families: Vec<IpFamily> = IpFamily::BOTH.into_iter().filter(named).collect();
        if families.is_empty() {
            families.push(default);
        }
        let first = service.spec.ip_families.first().map(String::as_str);
        families.sort_by_key(|family| Some(family.api_name()) != first);
        let addresses = families.into_iter().map(|family| placeholder(family, number).to_string());
        service.spec.cluster_ips = addresses.collect();
        service.spec.cluster_ip = service.spec.cluster_ips.first().cloned();
    }
}
