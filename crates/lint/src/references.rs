//! References between objects: slices to Services and Nodes, cluster IPs to ServiceCIDRs.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use rulegen_model::{Kind, Metadata, ObjectName, Objects, ProblemCode, Sourced};
use rulegen_net::{IpFamily, parse_address};

use crate::finding::LintFinding;

/// The name of an object of a kind with namespaces.
pub(crate) fn object_name(kind: Kind, metadata: &Metadata) -> ObjectName {
    let (namespace, name) = (metadata.namespace().to_owned(), metadata.name.clone());
    ObjectName { kind: kind.name(), namespace, name }
}

fn finding<T>(
    code: ProblemCode,
    object: &Sourced<T>,
    name: &ObjectName,
    field: &str,
    what: String,
) -> LintFinding {
    LintFinding::new(code, what).about(name).field(field).at(Some(&object.source))
}

/// Slices of Services that do not exist. Nothing is known about an input without Services.
pub(crate) fn unknown_services(objects: &Objects) -> Vec<LintFinding> {
    let metadata = |metadata: &Metadata| (metadata.namespace().to_owned(), metadata.name.clone());
    let services: HashSet<(String, String)> =
        objects.services.iter().map(|service| metadata(&service.object.metadata)).collect();
    if services.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for slice in &objects.slices {
        let of_slice = &slice.object.metadata;
        let labels = &of_slice.labels;
        let Some(service) = labels.service_name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        let namespace = of_slice.namespace();
        if labels.headless.is_some()
            || services.contains(&(namespace.to_owned(), service.to_owned()))
        {
            continue;
        }
        findings.push(finding(
            ProblemCode::UnknownService,
            slice,
            &object_name(Kind::EndpointSlice, of_slice),
            "metadata.labels[kubernetes.io/service-name]",
            format!("the input has no Service {namespace}/{service}, so the slice has no effect"),
        ));
    }
    findings
}

/// Endpoints on Nodes that do not exist, each Node once per slice. Nothing is known about an input
/// without Nodes.
pub(crate) fn unknown_nodes(objects: &Objects) -> Vec<LintFinding> {
    let nodes: HashSet<&str> =
        objects.nodes.iter().map(|node| node.object.metadata.name.as_str()).collect();
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for slice in &objects.slices {
        let mut seen = BTreeSet::new();
        for (n, endpoint) in slice.object.endpoints.iter().enumerate() {
            let node = endpoint.node_name.as_deref().unwrap_or_default();
            if node.is_empty() || nodes.contains(node) || !seen.insert(node) {
                continue;
            }
            findings.push(finding(
                ProblemCode::UnknownNode,
                slice,
                &object_name(Kind::EndpointSlice, &slice.object.metadata),
                &format!("endpoints[{n}].nodeName"),
                format!("the input has no Node {node:?}, so the endpoint is local to no node"),
            ));
        }
    }
    findings
}

/// Cluster IPs in no ServiceCIDR, if there are any of their family. The networks are ordered and do
/// not overlap.
pub(crate) fn cluster_ips_outside(objects: &Objects, networks: &[IpNet]) -> Vec<LintFinding> {
    let families: Vec<IpFamily> = networks.iter().map(|net| IpFamily::of_network(*net)).collect();
    let families: BTreeSet<IpFamily> = families.into_iter().collect();
    let mut findings = Vec::new();
    for service in &objects.services {
        let spec = &service.object.spec;
        let mut ips: Vec<(String, &String)> = Vec::new();
        for (n, ip) in spec.cluster_ips.iter().enumerate() {
            ips.push((format!("spec.clusterIPs[{n}]"), ip));
        }
        if ips.is_empty() {
            ips.extend(spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), ip)));
        }
        for (field, ip) in ips {
            let Some(ip) = parse_address(ip) else { continue };
            if !families.contains(&IpFamily::of(ip)) || is_inside(ip, networks) {
                continue;
            }
            findings.push(finding(
                ProblemCode::ClusterIpOutsideCidrs,
                service,
                &object_name(Kind::Service, &service.object.metadata),
                &field,
                format!("{ip} is in no ServiceCIDR"),
            ));
        }
    }
    findings
}

fn is_inside(ip: IpAddr, networks: &[IpNet]) -> bool {
    let count = networks.partition_point(|network| network.network() <= ip);
    let last = count.checked_sub(1).and_then(|last| networks.get(last));
    last.is_some_and(|network| network.contains(&ip))
}
