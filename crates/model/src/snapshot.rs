//! Objects to a [`Snapshot`], the ordered and immutable input of one compile.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use ipnet::IpNet;
use rayon::prelude::*;

use crate::address::{IpFamily, parse_network};
use crate::config::ProxyConfig;
use crate::endpoint::{Slice, join};
use crate::manifest::{Objects, Sourced};
use crate::node::{Host, Node};
use crate::object::{EndpointSlice, Metadata, NodeObject, Service, ServiceCidr};
use crate::problem::{ObjectName, Problem, Report};
use crate::service::{ServicePort, service_ports};

/// Everything one compile reads. Equal objects give equal snapshots, in whatever order and
/// from however many files they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The node that rules are made for.
    pub node: Node,
    /// Networks that cluster IPs are taken from, of both families, ordered; none overlaps another.
    pub service_cidrs: Vec<IpNet>,
    /// Service ports of IPv4, ordered by name.
    pub ipv4: Vec<ServicePort>,
    /// Service ports of IPv6, ordered by name.
    pub ipv6: Vec<ServicePort>,
}

impl Snapshot {
    /// The service ports of a family, ordered by name.
    pub fn service_ports(&self, family: IpFamily) -> &[ServicePort] {
        match family {
            IpFamily::Ipv4 => &self.ipv4,
            IpFamily::Ipv6 => &self.ipv6,
        }
    }
}

/// Makes the snapshot for the node that the configuration names, or for this host.
pub fn snapshot(objects: &Objects, config: &ProxyConfig, host: &Host) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let node = node(&objects.nodes, config, host, &mut problems);
    let slices = slices(objects, &node, &mut problems);
    let service_cidrs = service_cidrs(&objects.service_cidrs, &mut problems);
    let mut snapshot = Snapshot { node, service_cidrs, ipv4: Vec::new(), ipv6: Vec::new() };

    let services =
        distinct(&objects.services, "Service", |s| namespaced(&s.metadata), &mut problems);
    let of_services: Vec<(Vec<ServicePort>, Vec<Problem>)> =
        services.par_iter().map(|service| joined_ports(service, &slices)).collect();
    for (ports, of_service) in of_services {
        problems.extend(of_service);
        for port in ports {
            match IpFamily::of(port.cluster_ip) {
                IpFamily::Ipv4 => snapshot.ipv4.push(port),
                IpFamily::Ipv6 => snapshot.ipv6.push(port),
            }
        }
    }
    snapshot.ipv4.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.ipv6.sort_by(|a, b| a.name.cmp(&b.name));
    (snapshot, problems)
}

/// A Service's ports with their endpoints.
fn joined_ports(
    service: &Sourced<Service>,
    slices: &HashMap<NamespacedName<'_>, Vec<Slice<'_>>>,
) -> (Vec<ServicePort>, Vec<Problem>) {
    let mut problems = Vec::new();
    let metadata = &service.object.metadata;
    let object = object_name("Service", metadata.namespace(), metadata);
    let mut report = Report { source: &service.source, object: &object, problems: &mut problems };
    let mut ports = service_ports(&service.object, &mut report);
    let of_service = slices.get(&namespaced(metadata)).map(Vec::as_slice).unwrap_or_default();
    for port in &mut ports {
        let family = IpFamily::of(port.cluster_ip);
        let of_family = of_service.iter().filter(|slice| slice.family() == family);
        port.endpoints = join(of_family, &port.name.port, port.name.protocol);
    }
    (ports, problems)
}

fn node(
    nodes: &[Sourced<NodeObject>],
    config: &ProxyConfig,
    host: &Host,
    problems: &mut Vec<Problem>,
) -> Node {
    let name = config.hostname_override.as_deref().unwrap_or(&host.name).trim().to_lowercase();
    let distinct = distinct(nodes, "Node", |node| node.metadata.name.as_str(), problems);
    let node = match distinct.into_iter().find(|node| node.object.metadata.name == name) {
        None => Node::of_host(&name, host),
        Some(node) => {
            let object = object_name("Node", "", &node.object.metadata);
            let mut report = Report { source: &node.source, object: &object, problems };
            Node::of_object(&node.object, &mut report)
        }
    };
    match config.bind_address.filter(|address| !address.is_unspecified()) {
        Some(address) => node.with_primary(address),
        None => node,
    }
}

fn service_cidrs(objects: &[Sourced<ServiceCidr>], problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for cidr in distinct(objects, "ServiceCIDR", |cidr| cidr.metadata.name.as_str(), problems) {
        let object = object_name("ServiceCIDR", "", &cidr.object.metadata);
        let mut report = Report { source: &cidr.source, object: &object, problems };
        for (n, text) in cidr.object.spec.cidrs.iter().enumerate() {
            let message = format!("{text:?} is no CIDR such as 10.96.0.0/16");
            networks.extend(report.need(parse_network(text), format!("spec.cidrs[{n}]"), message));
        }
    }
    IpNet::aggregate(&networks)
}

/// A namespace and a name in it.
type NamespacedName<'a> = (&'a str, &'a str);

/// The slices of each Service.
fn slices<'a>(
    objects: &'a Objects,
    node: &Node,
    problems: &mut Vec<Problem>,
) -> HashMap<NamespacedName<'a>, Vec<Slice<'a>>> {
    let mut by_service: HashMap<NamespacedName<'_>, Vec<Slice<'_>>> = HashMap::new();
    let distinct =
        distinct(&objects.slices, "EndpointSlice", |s| namespaced(&s.metadata), problems);
    let read = |slice: &&'a Sourced<EndpointSlice>| {
        let mut problems = Vec::new();
        let metadata = &slice.object.metadata;
        let object = object_name("EndpointSlice", metadata.namespace(), metadata);
        let mut report = Report { source: &slice.source, object: &object, problems: &mut problems };
        let slice = Slice::new(&slice.object, node, &mut report);
        (slice, problems)
    };
    let all: Vec<(Option<Slice<'a>>, Vec<Problem>)> = distinct.par_iter().map(read).collect();
    for (slice, of_slice) in all {
        problems.extend(of_slice);
        if let Some(slice) = slice {
            by_service.entry((slice.namespace, slice.service)).or_default().push(slice);
        }
    }
    by_service
}

/// Each object once. Of several under one name the choice is by content, so that it does not
/// hang on the order in which files were read.
fn distinct<'a, T, K>(
    objects: &'a [Sourced<T>],
    kind: &'static str,
    key: impl Fn(&'a T) -> K,
    problems: &mut Vec<Problem>,
) -> Vec<&'a Sourced<T>>
where
    T: Debug + HasMetadata,
    K: Hash + Eq,
{
    let mut at: HashMap<K, usize> = HashMap::with_capacity(objects.len());
    let mut distinct: Vec<&Sourced<T>> = Vec::with_capacity(objects.len());
    for object in objects {
        if object.object.metadata().name.is_empty() {
            // That it has no name is told where it is read.
            distinct.push(object);
            continue;
        }
        let Some(first) = at.get(&key(&object.object)).and_then(|at| distinct.get_mut(*at)) else {
            at.insert(key(&object.object), distinct.len());
            distinct.push(object);
            continue;
        };
        let content = |object: &Sourced<T>| format!("{:?}", object.object);
        let (used, left) =
            if content(object) < content(first) { (object, *first) } else { (*first, object) };
        *first = used;
        let metadata = left.object.metadata();
        let namespace =
            if matches!(kind, "Node" | "ServiceCIDR") { "" } else { metadata.namespace() };
        let message = format!("is given twice; the one of {} is used", used.source);
        let object = object_name(kind, namespace, metadata);
        problems.push(Problem::warning("metadata.name", message).of(&left.source, &object));
    }
    distinct
}

trait HasMetadata {
    fn metadata(&self) -> &Metadata;
}

impl HasMetadata for Service {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl HasMetadata for EndpointSlice {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl HasMetadata for ServiceCidr {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl HasMetadata for NodeObject {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

fn namespaced(metadata: &Metadata) -> NamespacedName<'_> {
    (metadata.namespace(), &metadata.name)
}

fn object_name(kind: &'static str, namespace: &str, metadata: &Metadata) -> ObjectName {
    ObjectName { kind, namespace: namespace.to_owned(), name: metadata.name.clone() }
}
