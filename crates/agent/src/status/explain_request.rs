//! A request to `/explain`, and the objects that its answer depends on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{
    Destination, Explanation, InvalidDestination, NoPort, ServiceState, UnresolvedService,
    by_ruleset, by_table, resolve, resolve_ip,
};
use rulegen_kernel::interfaces::Interfaces;
use rulegen_kernel::routes::Routes;
use rulegen_model::{ObjectKey, ServicePort, Snapshot, Store, UnavailableReason, Unproxied};
use rulegen_net::{IpFamily, Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::nftables::Name;
use rulegen_ruleset::{Origin, Packet};

use crate::configured_store::ConfiguredStore;

/// The parsed parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExplainQuery {
    from: IpAddr,
    /// The input interface, if it is given.
    interface: Option<String>,
    to: Destination,
}

/// A packet, with a copy of the objects that its explanation depends on. Compiling and following
/// rules takes too long to keep the store locked: a waiting writer would block all other readers.
pub(super) struct ExplainRequest {
    packet: Packet,
    /// Why the destination has no port, if so.
    no_port: Option<NoPort>,
    /// With only those Services that matter for the packet.
    snapshot: Snapshot,
    config: ProxyConfig,
    /// The service ports without an available endpoint, and why.
    unavailable_ports: Vec<(ServicePortName, UnavailableReason)>,
}

/// Why a packet cannot be explained.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExplainRequestError {
    #[error("{0:?} is not an IP address (required: the packet's source address)")]
    Source(String),
    #[error(transparent)]
    Destination(#[from] InvalidDestination),
    #[error("{0} is a pod: give its IP address and port")]
    Pod(ServiceRef),
    #[error(transparent)]
    Service(#[from] UnresolvedService),
    #[error("source and destination have different IP families")]
    Families,
    #[error(
        "interface {interface} does not apply to packets from {from}: it is an address of this \
         node, which sends them itself"
    )]
    SentByNode { interface: String, from: IpAddr },
    #[error("cannot ask the kernel for interface {interface}: {source}")]
    Kernel { interface: String, source: std::io::Error },
    #[error("this node has no interface {0}: see `ip link`")]
    NoInterface(String),
}

impl ExplainQuery {
    pub(super) fn parse(
        from: &str,
        interface: &str,
        to: &str,
    ) -> Result<Self, ExplainRequestError> {
        let from = from.parse().map_err(|_| ExplainRequestError::Source(from.to_owned()))?;
        let interface = Some(interface.to_owned()).filter(|name| !name.is_empty());
        Ok(Self { from, interface, to: Destination::parse(to)? })
    }
}

/// Resolves a destination to an address.
fn resolved(
    destination: &Destination,
    store: &Store,
    family: IpFamily,
) -> Result<(SocketAddr, Protocol), ExplainRequestError> {
    let service = match destination {
        Destination::Address(address, protocol) => return Ok((*address, *protocol)),
        Destination::WithoutPort(ip, _) => return Ok(Destination::stand_in(*ip)),
        Destination::Service(service) | Destination::Ping(service) => service,
        Destination::Pod(pod) => {
            return Err(ExplainRequestError::Pod(pod.clone()));
        }
    };
    let key = ObjectKey::new(&service.namespace, &service.name);
    let ports = store.service(&key);
    let cluster_ip = |port: &ServicePort| SocketAddr::new(port.cluster_ip, port.port);
    let cluster_ips = ports.unwrap_or_default().iter().map(|of| (&of.name, cluster_ip(of)));
    let state = || state(ports, store.unproxied(&key));
    Ok(match destination {
        Destination::Ping(_) => {
            resolve_ip(service, family, cluster_ips, state).map(Destination::stand_in)?
        }
        _ => resolve(service, family, cluster_ips, state)?,
    })
}

/// What is known of a Service without a cluster IP of a family.
fn state(ports: Option<&[ServicePort]>, unproxied: Option<Unproxied>) -> ServiceState {
    match (ports, unproxied) {
        (None, _) => ServiceState::Unknown,
        (_, Some(unproxied)) => ServiceState::Unproxied(unproxied),
        (Some([]), None) => ServiceState::Unusable,
        (Some(_), None) => ServiceState::OtherFamily,
    }
}

impl ExplainRequest {
    pub(super) fn of(
        store: &ConfiguredStore,
        query: &ExplainQuery,
    ) -> Result<Self, ExplainRequestError> {
        let of_family = IpFamily::of(query.from);
        let (destination, protocol) = resolved(&query.to, store, of_family)?;
        if IpFamily::of(destination.ip()) != of_family {
            return Err(ExplainRequestError::Families);
        }
        let snapshot = relevant_services(store, destination, of_family);
        let local = &snapshot.node.addresses(of_family).local;
        let is_own = query.from.is_loopback() || local.contains(&query.from);
        let origin = match &query.interface {
            Some(interface) if is_own && interface != "lo" => {
                let (interface, from) = (interface.clone(), query.from);
                return Err(ExplainRequestError::SentByNode { interface, from });
            }
            _ if is_own => Origin::Host,
            Some(interface) => Origin::Interface(input(interface)?),
            None => origin_by_route(query.from, destination.ip()),
        };
        let packet = Packet { origin, source: query.from, destination, protocol };
        let ports = snapshot.service_ports(of_family).iter();
        let unavailable =
            |name: &ServicePortName| Some((name.clone(), store.unavailability(name, of_family)?));
        let unavailable_ports = ports.filter_map(|port| unavailable(&port.name)).collect();
        let no_port = query.to.no_port();
        Ok(Self { packet, no_port, snapshot, config: store.config().clone(), unavailable_ports })
    }

    /// Explains what the desired rules do with the packet.
    pub(super) fn explained(&self) -> Explanation {
        let mut explanation = self.followed();
        if let Some(no_port) = self.no_port {
            explanation.without_port(no_port);
        }
        // Rules show that there is no endpoint; only objects show why.
        explanation.refused_because(|name| {
            let port = self.unavailable_ports.iter().find(|(of, _)| of == name);
            port.map(|(_, why)| why.clone())
        });
        explanation
    }

    fn followed(&self) -> Explanation {
        let of_family = IpFamily::of(self.packet.source);
        let local = &self.snapshot.node.addresses(of_family).local;
        let plan = plan(&self.snapshot, &self.config, of_family);
        match self.config.mode {
            ProxyMode::Iptables => {
                by_ruleset(&iptables::ruleset(&plan), local, &self.packet, Some(&plan))
            }
            ProxyMode::Nftables => {
                let table = nftables::table(&plan, &Name::from("rulegen"));
                by_table(&table, local, &self.packet, Some(&plan))
            }
        }
    }
}

/// The interface through which packets of a named one come in.
fn input(name: &str) -> Result<String, ExplainRequestError> {
    let found = Interfaces::open().and_then(|mut interfaces| interfaces.input(name));
    let interface = name.to_owned();
    match found {
        Ok(Some(input)) => Ok(input),
        Ok(None) => Err(ExplainRequestError::NoInterface(interface)),
        Err(source) => Err(ExplainRequestError::Kernel { interface, source }),
    }
}

/// Where a packet enters this node.
fn origin_by_route(source: IpAddr, destination: IpAddr) -> Origin {
    let routes = Routes::open();
    routes.map_or(Origin::UnknownInterface, |mut routes| routes.origin(source, destination))
}

/// The Services that have the destination as a frontend or an endpoint. Others do not matter.
fn relevant_services(store: &Store, to: SocketAddr, of_family: IpFamily) -> Snapshot {
    let has = |port: &&ServicePort| {
        let addresses = port.external_ips.iter().chain(&port.load_balancer_ips);
        let mut addresses = std::iter::once(&port.cluster_ip).chain(addresses);
        let node_port = port.node_port.map(NonZeroU16::get);
        port.family() == of_family
            && (addresses.any(|ip| *ip == to.ip())
                || node_port == Some(to.port())
                || port.endpoints.iter().any(|endpoint| endpoint.address == to))
    };
    let mut ports: Vec<ServicePort> = store.service_ports().filter(has).cloned().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let (ipv4, ipv6) = match of_family {
        IpFamily::Ipv4 => (ports, Vec::new()),
        IpFamily::Ipv6 => (Vec::new(), ports),
    };
    let service_cidrs = store.service_cidrs(of_family);
    Snapshot { node: store.node().clone(), service_cidrs, ipv4, ipv6, too_large: BTreeMap::new() }
}
