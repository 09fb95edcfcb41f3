//! Addresses in place of the cluster IPs that the API server would assign, so that Services that were
//! never applied are checked too.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rulegen_model::{Kind, ObjectName, Objects, Service, Source, Sourced};
use rulegen_net::IpFamily;
use serde_json::Value;

use crate::documents::LintDocument;
use crate::references::object_name;
use crate::written::{self, WrittenObject, WrittenValue};

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

/// Fills in missing cluster IPs: of the families that a Service names, or else of the family of the
/// EndpointSlices.
pub(crate) fn assign(objects: &mut Objects, dual_stack: &HashSet<(Source, ObjectName)>) {
    let slices = &objects.slices;
    let is_ipv6 = !slices.is_empty() && slices.iter().all(|of| of.object.address_type == "IPv6");
    let default = if is_ipv6 { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
    let unassigned = objects.services.iter_mut().filter(|service| is_unassigned(&service.object));
    for (number, Sourced { source, object: service }) in (0..).zip(unassigned) {
        let name = object_name(Kind::Service, &service.metadata);
        let is_dual = dual_stack.contains(&(Source::clone(source), name));
        let named = |family: &IpFamily| {
            service.spec.ip_families.iter().any(|name| name == family.api_name())
        };
        let mut families: Vec<IpFamily> =
            IpFamily::BOTH.into_iter().filter(|family| is_dual || named(family)).collect();
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

/// The Services that get cluster IPs of both families, whatever `spec.ipFamilies` says.
pub(crate) fn dual_stack(documents: &[LintDocument]) -> HashSet<(Source, ObjectName)> {
    const POLICY: &str = "RequireDualStack";
    let mut found = HashSet::new();
    for LintDocument { source, text, .. } in documents.iter().filter(|of| of.text.contains(POLICY))
    {
        for value in written::values(text) {
            let requires = |of: &WrittenObject<'_, Value>| {
                of.value.field("spec").and_then(|spec| spec.text("ipFamilyPolicy")) == Some(POLICY)
            };
            let objects = written::objects(&value).into_iter().filter(requires);
            found.extend(objects.map(|object| (source.clone(), object.name)));
        }
    }
    found
}
