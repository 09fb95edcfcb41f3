//! EndpointSlices to endpoints, and their join with a service port.

use std::net::{IpAddr, SocketAddr};

use crate::address::{IpFamily, parse_address};
use crate::node::Node;
use crate::object::{EndpointSlice, HintedName, SliceEndpoint};
use crate::port::{Protocol, known_protocol, port_number};
use crate::problem::Report;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Whether a topology hint points to where this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// It names this node or its zone.
    Here,
    /// It names others only.
    Elsewhere,
    /// There is none.
    Absent,
}

/// `IP:port` behind a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where the traffic goes.
    pub address: SocketAddr,
    /// Whether it runs on this node.
    pub local: bool,
    /// Whether new connections should go to it.
    pub ready: bool,
    /// Whether it would answer, ready or not.
    pub serving: bool,
    /// Whether it is shutting down.
    pub terminating: bool,
    /// `hints.forZones` against this node's zone.
    pub zone_hint: Hint,
    /// `hints.forNodes` against this node.
    pub node_hint: Hint,
}

impl Endpoint {
    /// Which of two entries of one `IP:port` counts; the least one does. An address that was
    /// given to a new pod while the old one is still terminating belongs to the new one
    /// (kubernetes#135593); the rest of the order only makes the choice independent of the
    /// order in which slices come.
    fn precedence(&self) -> impl Ord + use<> {
        (self.terminating, !self.local, !self.ready, !self.serving, self.zone_hint, self.node_hint)
    }
}

/// An EndpointSlice, checked and ready to be joined.
pub(crate) struct Slice<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) service: &'a str,
    family: IpFamily,
    ports: Vec<SlicePort<'a>>,
    /// Their ports are 0 until the join.
    endpoints: Vec<Endpoint>,
}

struct SlicePort<'a> {
    name: &'a str,
    protocol: Protocol,
    number: u16,
}

impl<'a> Slice<'a> {
    /// The slice, if a proxy looks at it at all.
    pub(crate) fn new(
        slice: &'a EndpointSlice,
        node: &Node,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        if slice.metadata.labels.headless.is_some() {
            return None;
        }
        let service = slice.service_name();
        let service = report.need(
            service,
            "metadata.labels",
            format!("lack {SERVICE_NAME_LABEL}, which says whose slice it is"),
        )?;
        if slice.metadata.name.is_empty() {
            report.warn("metadata.name", "is missing");
            return None;
        }
        let family = family(&slice.address_type, report)?;
        Some(Self {
            namespace: slice.metadata.namespace(),
            service,
            family,
            ports: ports(slice, report),
            endpoints: endpoints(slice, family, node, report),
        })
    }

    pub(crate) fn family(&self) -> IpFamily {
        self.family
    }
}

/// All endpoints that slices of one family have for a service port, each `IP:port` once,
/// ordered by its text: kube-proxy's order, which decides which rule has which probability.
pub(crate) fn join<'a>(
    slices: impl Iterator<Item = &'a Slice<'a>>,
    port_name: &str,
    protocol: Protocol,
) -> Vec<Endpoint> {
    let mut joined: Vec<Endpoint> = Vec::new();
    for slice in slices {
        let named = |port: &&SlicePort<'_>| port.protocol == protocol && port.name == port_name;
        for port in slice.ports.iter().filter(named) {
            joined.extend(slice.endpoints.iter().map(|endpoint| {
                let address = SocketAddr::new(endpoint.address.ip(), port.number);
                Endpoint { address, ..*endpoint }
            }));
        }
    }
    if joined.len() > 1 {
        joined.sort_by_cached_key(|endpoint| (endpoint.address.to_string(), endpoint.precedence()));
        joined.dedup_by_key(|endpoint| endpoint.address);
    }
    joined
}

fn family(address_type: &str, report: &mut Report<'_>) -> Option<IpFamily> {
    match address_type {
        "IPv4" => Some(IpFamily::Ipv4),
        "IPv6" => Some(IpFamily::Ipv6),
        "FQDN" => {
            report
                .note("holds host names (addressType: FQDN), which a proxy cannot send packets to");
            None
        }
        "" => {
            report.warn("addressType", "is missing: IPv4 or IPv6 is needed");
            None
        }
        other => {
            report.warn("addressType", format!("{other:?} is none of IPv4, IPv6, FQDN"));
            None
        }
    }
}

fn ports<'a>(slice: &'a EndpointSlice, report: &mut Report<'_>) -> Vec<SlicePort<'a>> {
    let mut ports = Vec::with_capacity(slice.ports.len());
    for (n, port) in slice.ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{n}].{name}");
        let Some(protocol) = known_protocol(port.protocol.as_deref(), field("protocol"), report)
        else {
            continue;
        };
        // The API takes a port without a number for "all ports", which no proxy supports.
        let Some(number) = report.need(port.port, field("port"), "is missing") else { continue };
        let Some(number) = port_number(number, field("port"), report) else { continue };
        ports.push(SlicePort { name: &port.name, protocol, number: number.get() });
    }
    ports
}

fn endpoints(
    slice: &EndpointSlice,
    family: IpFamily,
    node: &Node,
    report: &mut Report<'_>,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (n, endpoint) in slice.endpoints.iter().enumerate() {
        // The API promises that the addresses of one endpoint are interchangeable and has
        // consumers take the first.
        let text = endpoint.addresses.first().map(String::as_str);
        let Some(text) = report.need(text, format!("endpoints[{n}].addresses"), "is empty") else {
            continue;
        };
        match usable_address(text, family) {
            Ok(address) => endpoints.push(endpoint_at(address, endpoint, node)),
            Err(why) => report.warn(format!("endpoints[{n}].addresses[0]"), why),
        }
    }
    endpoints
}

/// An address that may be an endpoint: of the slice's family, and neither this host's own
/// loopback nor bound to a link (CVE-2021-25737).
fn usable_address(text: &str, family: IpFamily) -> Result<IpAddr, String> {
    let address = parse_address(text).ok_or_else(|| format!("{text:?} is no IP address"))?;
    if IpFamily::of(address) != family {
        return Err(format!("{address} is not of the slice's addressType {}", family.api_name()));
    }
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local {
        return Err(format!(
            "{address} may not be an endpoint: it is loopback, link-local, multicast or unspecified"
        ));
    }
    Ok(address)
}

fn endpoint_at(address: IpAddr, endpoint: &SliceEndpoint, node: &Node) -> Endpoint {
    let conditions = &endpoint.conditions;
    let ready = conditions.ready.unwrap_or(true);
    Endpoint {
        address: SocketAddr::new(address, 0),
        local: endpoint
            .node_name
            .as_deref()
            .is_some_and(|name| !name.is_empty() && name == node.name),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        zone_hint: hint(&endpoint.hints.for_zones, &node.zone),
        node_hint: hint(&endpoint.hints.for_nodes, &node.name),
    }
}

fn hint(names: &[HintedName], here: &str) -> Hint {
    match names {
        [] => Hint::Absent,
        names if names.iter().any(|named| named.name == here) => Hint::Here,
        _ => Hint::Elsewhere,
    }
}
