//! Source ranges of load balancers that allow nobody, or more clients than they seem to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_model::{Kind, ProblemCode, Service, Sourced};
use rulegen_net::{IpFamily, parse_address, parse_network, special_use};

use crate::finding::LintFinding;
use crate::references::object_name;

const FIELD: &str = "spec.loadBalancerSourceRanges";

/// The findings about all Services.
pub(crate) fn of_services(services: &[Sourced<Service>]) -> Vec<LintFinding> {
    let of_service = |Sourced { source, object }: &Sourced<Service>| {
        let name = object_name(Kind::Service, &object.metadata);
        let source = Arc::clone(source);
        check(object).into_iter().map(move |of| of.about(&name).at(Some(&source)))
    };
    services.iter().flat_map(of_service).collect()
}

/// The findings about one Service.
fn check(service: &Service) -> Vec<LintFinding> {
    let spec = &service.spec;
    if spec.kind.as_deref() != Some("LoadBalancer") {
        return Vec::new();
    }
    let texts = spec.load_balancer_source_ranges.iter();
    let ranges: Vec<IpNet> = texts.filter_map(|text| parse_network(text.trim())).collect();
    if ranges.is_empty() {
        return Vec::new();
    }
    let ips = spec.cluster_ips.iter().chain(&spec.cluster_ip);
    let families: BTreeSet<IpFamily> =
        ips.filter_map(|ip| parse_address(ip)).map(IpFamily::of).collect();
    families.into_iter().filter_map(|family| of_family(&ranges, family)).collect()
}

fn of_family(ranges: &[IpNet], family: IpFamily) -> Option<LintFinding> {
    let of_family = || ranges.iter().filter(|range| IpFamily::of_network(**range) == family);
    let name = family.api_name();
    let is_open = of_family().any(|range| range.prefix_len() == 0);
    let (code, what) = if of_family().next().is_none() {
        let what = format!(
            "no range is an {name} network, so all {name} clients may use the load balancer"
        );
        (ProblemCode::SourceRangesOfOneFamily, what)
    } else if of_family().all(is_without_clients) {
        let what = format!("no {name} client can have an address in these ranges: all are dropped");
        (ProblemCode::SourceRangesExcludeAll, what)
    } else if is_open && of_family().count() > 1 {
        let what =
            format!("a range allows all {name} clients, so the other {name} ranges have no effect");
        let code = ProblemCode::FieldWithoutEffect;
        // Not to remove the field: then all clients of the other family would be allowed too.
        let remedy = format!(
            "remove the range of all {name} addresses to restrict clients, or the other {name} \
             ranges"
        );
        return Some(LintFinding::new(code, what).remedy(remedy).field(FIELD));
    } else {
        return None;
    };
    Some(LintFinding::new(code, what).field(FIELD))
}

/// Whether all addresses are unspecified, loopback, link-local, multicast or broadcast addresses.
fn is_without_clients(range: &IpNet) -> bool {
    // Multicast is the largest such network.
    let largest = if range.addr().is_ipv4() { 4 } else { 8 };
    let ends: [IpAddr; 2] = [range.network(), range.broadcast()];
    range.prefix_len() >= largest && ends.into_iter().all(|ip| special_use(ip).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ranges_without_clients_are_special_addresses_only() {
        for (range, expected) in [
            ("0.0.0.0/32", true),
            ("127.0.0.0/8", true),
            ("224.0.0.0/4", true),
            ("255.255.255.255/32", true),
            ("fe80::/10", true),
            ("0.0.0.0/0", false),
            ("0.0.0.0/1", false),
            ("0.0.0.0/8", false),
            ("10.0.0.0/8", false),
            ("::/0", false),
            ("::/8", false),
        ] {
            assert_eq!(is_without_clients(&range.parse().unwrap()), expected, "{range}");
        }
    }
}
