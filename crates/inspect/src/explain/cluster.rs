//! What only the objects of a cluster show about a packet.

use rulegen_model::{Objects, Service, Snapshot, Unproxied, unavailability};
use rulegen_net::{IpFamily, ServiceRef};

use super::explanation::{Explanation, UnusedAddress};
use super::no_address::ServiceState;

impl Explanation {
    /// Adds what rules do not show: why endpoints are missing, and which addresses are not used.
    pub fn add_objects(&mut self, objects: &Objects, snapshot: &Snapshot, family: IpFamily) {
        self.refused_because(|name| {
            let mut ports = snapshot.service_ports(family).iter();
            unavailability(ports.find(|port| port.name == *name)?, objects)
        });
        self.unused_addresses(&unused_addresses(objects));
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
fn unused_addresses(objects: &Objects) -> Vec<UnusedAddress<'_>> {
    let mut unused = Vec::new();
    for slice in objects.slices.iter().map(|slice| &slice.object) {
        let Some(name) = slice.metadata.labels.service_name.as_deref() else { continue };
        for endpoint in &slice.endpoints {
            let Some(first) = endpoint.address() else { continue };
            let addresses = endpoint.unused_addresses().iter().filter_map(|ip| ip.parse().ok());
            unused.extend(addresses.map(|address| {
                let (namespace, name) = (slice.metadata.namespace().to_owned(), name.to_owned());
                let service = ServiceRef { namespace, name, port: None, protocol: None };
                UnusedAddress { service, address, first }
            }));
        }
    }
    unused
}
