//! What only the objects of a cluster show about a packet.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use rulegen_model::{
    KnownNodes, Node, NodeName, Objects, Service, Snapshot, UnavailableReason, Unproxied,
    unavailable_ports,
};
use rulegen_net::{IpFamily, ServicePortName, ServiceRef};

use super::explanation::{Explanation, ReachedFrontend, UnusedAddress};
use super::no_address::ServiceState;

/// What objects show about packets at one node, and rules do not. Made once, for any number of packets.
pub struct ObjectFacts {
    /// The addresses of the node's pods, as far as Pods and EndpointSlices tell.
    pods: HashSet<IpAddr>,
    node_name: NodeName,
    unavailable: HashMap<(ServicePortName, IpFamily), UnavailableReason>,
    /// By namespace and name of the Service.
    unused: HashMap<(String, String), Vec<UnusedAddress>>,
    unused_by_address: HashMap<IpAddr, UnusedAddress>,
}

impl ObjectFacts {
    /// `snapshot` is that of the objects. `host_addresses` are those of this host; empty if the node is
    /// another host.
    pub fn of(
        objects: &Objects,
        snapshot: &Snapshot,
        known: KnownNodes,
        host_addresses: &[IpAddr],
    ) -> Self {
        let unavailable = unavailable_ports(snapshot, objects).into_iter();
        let (mut unused, mut unused_by_address) = (HashMap::new(), HashMap::new());
        for one in unused_addresses(objects) {
            unused_by_address.entry(one.address).or_insert_with(|| one.clone());
            let service = (one.service.namespace.clone(), one.service.name.clone());
            unused.entry(service).or_insert_with(Vec::new).push(one);
        }
        Self {
            pods: pods_of_node(objects, &snapshot.node.name),
            node_name: NodeName::find(&snapshot.node.name, objects, known, host_addresses),
            unavailable: unavailable.map(|of| ((of.port, of.family), of.why)).collect(),
            unused,
            unused_by_address,
        }
    }

    /// Whether a pod with this address runs on the node.
    pub fn is_pod_of_node(&self, ip: IpAddr, node: &Node) -> bool {
        let network = node.addresses(IpFamily::of(ip)).pod_cidr;
        network.is_some_and(|network| network.contains(&ip)) || self.pods.contains(&ip)
    }
}

fn pods_of_node(objects: &Objects, node: &str) -> HashSet<IpAddr> {
    let pods = objects.details.iter().flat_map(|details| details.pods.values());
    let pods = pods.filter(|pod| pod.node.as_deref() == Some(node));
    let slices = objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
    let endpoints = slices.filter(|of| of.node_name.as_deref() == Some(node));
    let addresses = endpoints.flat_map(|of| &of.addresses).filter_map(|text| text.parse().ok());
    pods.flat_map(|pod| pod.addresses.iter().copied()).chain(addresses).collect()
}

impl Explanation {
    /// Adds what rules do not show: why endpoints are missing, and which addresses are not used.
    pub fn add_objects(&mut self, facts: &ObjectFacts, family: IpFamily) {
        self.refused_because(|name| facts.unavailable.get(&(name.clone(), family)).cloned());
        self.at_misnamed_node(&facts.node_name);
        let of_service = self.frontend.as_ref().and_then(|ReachedFrontend { service, .. }| {
            facts.unused.get(&(service.namespace.to_string(), service.service.to_string()))
        });
        let at_address = facts.unused_by_address.get(&self.packet.to.ip());
        let unused = match &self.frontend {
            Some(_) => of_service.map(Vec::as_slice),
            None => at_address.map(std::slice::from_ref),
        };
        self.unused_addresses(unused.unwrap_or_default());
    }
}

/// The state of a Service without a cluster IP of the packet's family.
pub fn service_state(of: &ServiceRef, objects: &Objects, snapshot: &Snapshot) -> ServiceState {
    let is_named = |service: &Service| {
        service.metadata.namespace() == of.namespace && service.metadata.name == of.name
    };
    let mut services = objects.services.iter().map(|service| &service.object);
    let Some(service) = services.find(|service| is_named(service)) else {
        return ServiceState::Unknown;
    };
    if let Some(unproxied) = Unproxied::of(service) {
        return ServiceState::Unproxied(unproxied);
    }
    let mut ports = snapshot.ipv4.iter().chain(&snapshot.ipv6);
    match ports.any(|port| of.is_service_of(&port.name)) {
        true => ServiceState::OtherFamily,
        false => ServiceState::Unusable,
    }
}

/// The addresses of endpoints in EndpointSlices that Services do not use.
fn unused_addresses(objects: &Objects) -> Vec<UnusedAddress> {
    let mut unused = Vec::new();
    for slice in objects.slices.iter().map(|slice| &slice.object) {
        let Some(name) = slice.metadata.labels.service_name.as_deref() else { continue };
        for endpoint in &slice.endpoints {
            let Some(first) = endpoint.address() else { continue };
            let addresses = endpoint.unused_addresses().iter().filter_map(|ip| ip.parse().ok());
            unused.extend(addresses.map(|address| {
                let (namespace, name) = (slice.metadata.namespace().to_owned(), name.to_owned());
                let service = ServiceRef { namespace, name, port: None, protocol: None };
                UnusedAddress { service, address, first: first.to_owned() }
            }));
        }
    }
    unused
}
