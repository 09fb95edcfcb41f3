//! Builds a [`Snapshot`], the ordered and immutable input of one compilation, from objects.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use ipnet::IpNet;
use rayon::prelude::*;

use crate::budget::{ServiceSize, TooLarge};
use crate::endpoint_slice::{Slice, join};
use crate::external_ips::ExternalIps;
use crate::kind::Object;
use crate::node::{Host, Node};
use crate::object::{EndpointSlice, Metadata, NodeObject, Service, ServiceCidr};
use crate::object_key::ObjectKey;
use crate::objects::{Objects, Sourced};
use crate::options::SnapshotOptions;
use crate::ownership::{ClaimFacts, ServicesByIp};
use crate::problem::{ObjectName, Problem, ProblemCollector, Source};
use crate::problem_code::ProblemCode;
use crate::service::{CheckedService, checked_service};
use crate::service_port::ServicePort;
use rulegen_net::{IpFamily, ServicePortName, parse_network};

/// The input of one compilation. Equal objects give equal snapshots, independent of their order and
/// files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The node that rules are compiled for.
    pub node: Node,
    /// Networks of cluster IPs, of both families, ordered and without overlaps.
    pub service_cidrs: Vec<IpNet>,
    /// Service ports of IPv4, ordered by name.
    pub ipv4: Vec<ServicePort>,
    /// Service ports of IPv6, ordered by name.
    pub ipv6: Vec<ServicePort>,
    /// Services that were skipped because they are too large. Their ports are not in `ipv4` and `ipv6`.
    pub too_large: BTreeMap<ObjectKey, TooLarge>,
}

impl Snapshot {
    /// The service ports of a family, ordered by name.
    pub fn service_ports(&self, family: IpFamily) -> &[ServicePort] {
        match family {
            IpFamily::Ipv4 => &self.ipv4,
            IpFamily::Ipv6 => &self.ipv6,
        }
    }

    /// The service port of a family with this name.
    pub fn service_port(&self, name: &ServicePortName, family: IpFamily) -> Option<&ServicePort> {
        let ports = self.service_ports(family);
        ports.get(ports.binary_search_by(|port| port.name.cmp(name)).ok()?)
    }

    /// The service ports of a family that belong to a Service, ordered by name.
    pub fn ports_of_service(
        &self,
        namespace: &str,
        name: &str,
        family: IpFamily,
    ) -> impl Iterator<Item = &ServicePort> {
        let of = |port: &ServicePort| {
            (&*port.name.namespace, &*port.name.service).cmp(&(namespace, name))
        };
        let ports = self.service_ports(family);
        let start = ports.partition_point(|port| of(port).is_lt());
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let is_it = move |port: &&ServicePort| {
            *port.name.namespace == *namespace && *port.name.service == *name
        };
        ports.get(start..).unwrap_or_default().iter().take_while(is_it)
    }
}

/// Objects and the snapshot that was built from them.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// All objects from which it was made.
    pub objects: Objects,
    /// Their snapshot for one node.
    pub snapshot: Snapshot,
}

/// Builds the snapshot for the node named in the options, or for this host.
pub fn snapshot(
    objects: &Objects,
    options: &SnapshotOptions,
    host: &Host,
) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let node = node(&objects.nodes, options, host, &mut problems);
    let slices = slices(objects, &mut problems);
    let service_cidrs = service_cidrs(&objects.service_cidrs, &mut problems);
    let mut snapshot = Snapshot {
        node,
        service_cidrs,
        ipv4: Vec::new(),
        ipv6: Vec::new(),
        too_large: BTreeMap::new(),
    };

    let services =
        distinct(&objects.services, "Service", |s| namespaced(&s.metadata), &mut problems);
    let checked: Vec<(CheckedService, Vec<Problem>)> = services
        .par_iter()
        .map(|service| checked_ports(&service.object, &options.external_ips, Some(&service.source)))
        .collect();
    let mut owners = ServicesByIp::default();
    for (service, (checked, _)) in services.iter().zip(&checked) {
        let key = ObjectKey::of(&service.object.metadata);
        checked.cluster_ips.iter().for_each(|ip| owners.insert(*ip, &key));
    }
    let cluster = ClusterFacts { slices: &slices, snapshot: &snapshot, owners: &owners, options };
    type PortsOrTooLarge = (Result<Vec<ServicePort>, TooLarge>, Vec<Problem>);
    let of_services: Vec<PortsOrTooLarge> = services
        .par_iter()
        .zip(checked)
        .map(|(service, (checked, problems))| cluster.joined_ports(service, checked, problems))
        .collect();
    for ((ports, of_service), service) in of_services.into_iter().zip(services) {
        problems.extend(of_service);
        if let Err(too_large) = ports {
            let (namespace, name) = namespaced(&service.object.metadata);
            let key = ObjectKey::new(namespace, name);
            problems.push(too_large.problem(&key).at(&service.source));
            snapshot.too_large.insert(key, too_large);
        }
        for port in ports.into_iter().flatten() {
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

/// The objects without duplicates, for a [`Store`](crate::Store). Of objects with the same name, uses
/// the same one as [`snapshot`].
pub fn single_objects(objects: &Objects) -> (Vec<Object>, Vec<Problem>) {
    let problems = &mut Vec::new();
    let services = distinct(&objects.services, "Service", |s| namespaced(&s.metadata), problems);
    let slices = distinct(&objects.slices, "EndpointSlice", |s| namespaced(&s.metadata), problems);
    let nodes = distinct(&objects.nodes, "Node", |n| n.metadata.name.as_str(), problems);
    let cidrs =
        distinct(&objects.service_cidrs, "ServiceCIDR", |c| c.metadata.name.as_str(), problems);
    let services = services.into_iter().map(|s| Object::Service(s.object.clone()));
    let slices = slices.into_iter().map(|s| Object::EndpointSlice(s.object.clone()));
    let nodes = nodes.into_iter().map(|node| Object::Node(node.object.clone()));
    let cidrs = cidrs.into_iter().map(|cidr| Object::ServiceCidr(cidr.object.clone()));
    let all = services.chain(slices).chain(nodes).chain(cidrs).collect();
    (all, std::mem::take(problems))
}

/// Cluster state that the ports of a Service depend on.
struct ClusterFacts<'a> {
    slices: &'a HashMap<NamespacedName<'a>, Vec<Slice>>,
    /// Has the node and the ServiceCIDRs, but no service ports yet.
    snapshot: &'a Snapshot,
    owners: &'a ServicesByIp,
    options: &'a SnapshotOptions,
}

impl ClusterFacts<'_> {
    /// A Service's ports with their addresses and endpoints.
    fn joined_ports(
        &self,
        service: &Sourced<Service>,
        checked: CheckedService,
        mut problems: Vec<Problem>,
    ) -> (Result<Vec<ServicePort>, TooLarge>, Vec<Problem>) {
        let metadata = &service.object.metadata;
        let CheckedService { mut ports, claimed, .. } = checked;
        let Snapshot { node, service_cidrs, .. } = self.snapshot;
        let admission = ClaimFacts {
            owners: self.owners,
            service_cidrs,
            refused_node: Some(node).filter(|_| self.options.refuse_node_addresses),
        };
        let object = object_name("Service", metadata.namespace(), metadata);
        let source = Some(&*service.source);
        let mut report = ProblemCollector { source, object: &object, problems: &mut problems };
        let admitted = admission.admitted(&ObjectKey::of(metadata), &claimed, &mut report);
        let slices = self.slices.get(&namespaced(metadata)).map(Vec::as_slice).unwrap_or_default();
        let size = ServiceSize::of(&ports, &admitted, slices.iter(), self.options);
        let joined = size.check(self.options).map(|()| {
            admitted.add_to(&mut ports);
            join(&mut ports, slices.iter(), node);
            ports
        });
        (joined, problems)
    }
}

/// Validates one Service on its own.
pub(crate) fn checked_ports(
    service: &Service,
    allowed: &ExternalIps,
    source: Option<&Source>,
) -> (CheckedService, Vec<Problem>) {
    let mut problems = Vec::new();
    let object = object_name("Service", service.metadata.namespace(), &service.metadata);
    let mut report = ProblemCollector { source, object: &object, problems: &mut problems };
    let checked = checked_service(service, allowed, &mut report);
    (checked, problems)
}

/// Validates one slice; `None` if it has no effect.
pub(crate) fn checked_slice(
    slice: &EndpointSlice,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
    source: Option<&Source>,
) -> (Option<Slice>, Vec<Problem>) {
    let mut problems = Vec::new();
    let object = object_name("EndpointSlice", slice.metadata.namespace(), &slice.metadata);
    let mut report = ProblemCollector { source, object: &object, problems: &mut problems };
    let slice = Slice::new(slice, intern, &mut report);
    (slice, problems)
}

/// The name of the node that rules are compiled for.
pub fn node_name(options: &SnapshotOptions, host: &Host) -> String {
    options.hostname_override.as_deref().unwrap_or(&host.name).trim().to_lowercase()
}

/// This node, from its Node object if there is one, else from facts of the host.
pub(crate) fn this_node(
    object: Option<&NodeObject>,
    options: &SnapshotOptions,
    host: &Host,
    source: Option<&Source>,
) -> (Node, Vec<Problem>) {
    let mut problems = Vec::new();
    let node = match object {
        None => Node::of_host(&node_name(options, host), host),
        Some(object) => {
            let name = object_name("Node", "", &object.metadata);
            let mut report = ProblemCollector { source, object: &name, problems: &mut problems };
            Node::of_object(object, &mut report)
        }
    };
    let node = match options.bind_address.filter(|address| !address.is_unspecified()) {
        Some(address) => node.with_primary(address),
        None => node,
    };
    (node, problems)
}

/// The problems of a Node's addresses and pod networks.
pub fn node_problems(node: &Sourced<NodeObject>) -> Vec<Problem> {
    this_node(Some(&node.object), &SnapshotOptions::default(), &Host::default(), Some(&node.source))
        .1
}

/// The networks of a ServiceCIDR.
pub(crate) fn networks(cidr: &ServiceCidr, source: Option<&Source>) -> (Vec<IpNet>, Vec<Problem>) {
    let mut problems = Vec::new();
    let object = object_name("ServiceCIDR", "", &cidr.metadata);
    let mut report = ProblemCollector { source, object: &object, problems: &mut problems };
    let mut networks = Vec::new();
    for (n, text) in cidr.spec.cidrs.iter().enumerate() {
        let message = format!("invalid CIDR {text:?} (for example 10.96.0.0/16)");
        networks.extend(report.need(
            parse_network(text),
            ProblemCode::InvalidNetwork,
            format!("spec.cidrs[{n}]"),
            message,
        ));
    }
    (networks, problems)
}

fn node(
    nodes: &[Sourced<NodeObject>],
    options: &SnapshotOptions,
    host: &Host,
    problems: &mut Vec<Problem>,
) -> Node {
    let name = node_name(options, host);
    let distinct = distinct(nodes, "Node", |node| node.metadata.name.as_str(), problems);
    let found = distinct.into_iter().find(|node| node.object.metadata.name == name);
    let source = found.map(|node| &*node.source);
    let (node, of_node) = this_node(found.map(|node| &node.object), options, host, source);
    problems.extend(of_node);
    node
}

fn service_cidrs(objects: &[Sourced<ServiceCidr>], problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut all = Vec::new();
    for cidr in distinct(objects, "ServiceCIDR", |cidr| cidr.metadata.name.as_str(), problems) {
        let (of_cidr, cidr_problems) = networks(&cidr.object, Some(&cidr.source));
        all.extend(of_cidr);
        problems.extend(cidr_problems);
    }
    ordered_networks(all)
}

/// Sorts networks and merges overlaps.
pub(crate) fn ordered_networks(networks: Vec<IpNet>) -> Vec<IpNet> {
    let mut networks = IpNet::aggregate(&networks);
    networks.sort_unstable();
    networks
}

type NamespacedName<'a> = (&'a str, &'a str);

/// The slices of each Service.
fn slices<'a>(
    objects: &'a Objects,
    problems: &mut Vec<Problem>,
) -> HashMap<NamespacedName<'a>, Vec<Slice>> {
    let mut by_service: HashMap<NamespacedName<'_>, Vec<Slice>> = HashMap::new();
    let distinct =
        distinct(&objects.slices, "EndpointSlice", |s| namespaced(&s.metadata), problems);
    let all: Vec<(Option<Slice>, Vec<Problem>)> = distinct
        .par_iter()
        .map(|slice| checked_slice(&slice.object, &mut |name| name.into(), Some(&slice.source)))
        .collect();
    for ((slice, of_slice), Sourced { object, .. }) in all.into_iter().zip(distinct) {
        problems.extend(of_slice);
        if let (Some(slice), Some(service)) = (slice, object.service_name()) {
            by_service.entry((object.metadata.namespace(), service)).or_default().push(slice);
        }
    }
    by_service
}

/// Removes duplicates. Of objects with the same name, the choice depends only on their content, not on
/// the order in which files were read.
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
            // Validation reports the missing name.
            distinct.push(object);
            continue;
        }
        let Some(first) = at.get(&key(&object.object)).and_then(|at| distinct.get_mut(*at)) else {
            at.insert(key(&object.object), distinct.len());
            distinct.push(object);
            continue;
        };
        let content = |object: &Sourced<T>| format!("{:?}", object.object);
        let (used, unused) =
            if content(object) < content(first) { (object, *first) } else { (*first, object) };
        *first = used;
        let metadata = unused.object.metadata();
        let namespace =
            if matches!(kind, "Node" | "ServiceCIDR") { "" } else { metadata.namespace() };
        let message = format!("duplicate object, using the one from {}", used.source);
        let object = object_name(kind, namespace, metadata);
        let problem = Problem::warning("metadata.name", message).code(ProblemCode::DuplicateObject);
        problems.push(problem.of(&unused.source, &object));
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

pub(crate) fn object_name(kind: &'static str, namespace: &str, metadata: &Metadata) -> ObjectName {
    ObjectName { kind, namespace: namespace.to_owned(), name: metadata.name.clone() }
}
