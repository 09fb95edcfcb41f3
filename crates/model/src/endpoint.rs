//! EndpointSlices to endpoints, and their join with a service port.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::node::Node;
use crate::object::{EndpointHints, EndpointSlice, HintedName, SliceEndpoint};
use crate::port::{known_protocol, port_number};
use crate::problem::Report;
use crate::service::ServicePort;
use rulegen_net::{IpFamily, Protocol, parse_address, special_use};

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
    /// Whether traffic may go to it, if its policy and topology allow.
    pub fn is_usable(&self) -> bool {
        self.ready || self.is_draining()
    }

    /// Whether it is terminating and still serves. It gets traffic only if none is ready (KEP-1669).
    pub fn is_draining(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }

    /// Which of two entries of one `IP:port` counts; the least one does. An address that was
    /// given to a new pod while the old one is still terminating belongs to the new one
    /// (kubernetes#135593); the rest of the order only makes the choice independent of the
    /// order in which slices come.
    fn precedence(&self) -> impl Ord + use<> {
        (self.terminating, !self.local, !self.ready, !self.serving, self.zone_hint, self.node_hint)
    }
}

/// An EndpointSlice, checked and ready to be joined; the same seen from any node.
pub(crate) struct Slice {
    family: IpFamily,
    ports: Box<[SlicePort]>,
    endpoints: Box<[CheckedEndpoint]>,
}

struct SlicePort {
    name: Arc<str>,
    protocol: Protocol,
    number: u16,
}

struct CheckedEndpoint {
    address: IpAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    /// Empty if it is on no node.
    node: Arc<str>,
    /// Few have any.
    hints: Option<Box<EndpointHints>>,
}

impl Slice {
    /// The slice, if a proxy looks at it at all. Names that many share are kept once by `intern`.
    pub(crate) fn new(
        slice: &EndpointSlice,
        intern: &mut dyn FnMut(&str) -> Arc<str>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        if slice.metadata.labels.headless.is_some() {
            return None;
        }
        report.need(
            slice.service_name(),
            "metadata.labels",
            format!("lack {SERVICE_NAME_LABEL}, which says whose slice it is"),
        )?;
        if slice.metadata.name.is_empty() {
            report.warn("metadata.name", "is missing");
            return None;
        }
        let family = family(&slice.address_type, report)?;
        Some(Self {
            family,
            ports: ports(slice, intern, report).into(),
            endpoints: endpoints(slice, family, intern, report).into(),
        })
    }

    pub(crate) fn family(&self) -> IpFamily {
        self.family
    }

    /// Whether it has no endpoint.
    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Names and protocols of its ports.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (&str, Protocol)> {
        self.ports.iter().map(|port| (&*port.name, port.protocol))
    }
}

/// Gives ports of one Service the endpoints that its slices have for them, as they are seen from a
/// node: each `IP:port` once, ordered by its text, which is kube-proxy's order and decides which
/// rule has which probability.
pub(crate) fn join<'a>(
    ports: &mut [ServicePort],
    slices: impl Iterator<Item = &'a Slice>,
    node: &Node,
) {
    for (at, slice, number) in matches(ports, slices) {
        if let Some(port) = ports.get_mut(at) {
            port.endpoints.extend(slice.endpoints.iter().map(|e| e.seen(number, node)));
        }
    }
    for endpoints in ports.iter_mut().map(|port| &mut port.endpoints) {
        if endpoints.len() > 1 {
            endpoints.sort_by_cached_key(|e| (e.address.to_string(), e.precedence()));
            endpoints.dedup_by_key(|endpoint| endpoint.address);
        }
    }
}

/// How many endpoints [`join`] would make, counting one that is in two slices twice.
pub(crate) fn count<'a>(ports: &[ServicePort], slices: impl Iterator<Item = &'a Slice>) -> usize {
    let counts = matches(ports, slices).into_iter().map(|(_, slice, _)| slice.endpoints.len());
    counts.fold(0, usize::saturating_add)
}

/// Which slices have endpoints for which of the ports, and at which number. Both a Service and a
/// slice may have 20,000 ports, so ports are looked up by name.
fn matches<'a>(
    ports: &[ServicePort],
    slices: impl Iterator<Item = &'a Slice>,
) -> Vec<(usize, &'a Slice, u16)> {
    let key = |port: &ServicePort| {
        (IpFamily::of(port.cluster_ip), port.name.port.clone(), port.name.protocol)
    };
    let places: HashMap<(IpFamily, Arc<str>, Protocol), usize> =
        ports.iter().enumerate().map(|(at, port)| (key(port), at)).collect();
    let place = |slice: &Slice, port: &SlicePort| {
        places.get(&(slice.family, port.name.clone(), port.protocol)).copied()
    };
    let mut matches = Vec::new();
    for slice in slices {
        let of_slice = slice.ports.iter();
        matches.extend(of_slice.filter_map(|p| Some((place(slice, p)?, slice, p.number))));
    }
    matches
}

impl CheckedEndpoint {
    fn seen(&self, port: u16, node: &Node) -> Endpoint {
        let hints = self.hints.as_deref();
        let hint = |names: Option<&Vec<HintedName>>, here: &str| {
            hint(names.map(Vec::as_slice).unwrap_or_default(), here)
        };
        Endpoint {
            address: SocketAddr::new(self.address, port),
            local: !self.node.is_empty() && *self.node == *node.name,
            ready: self.ready,
            serving: self.serving,
            terminating: self.terminating,
            zone_hint: hint(hints.map(|hints| &hints.for_zones), &node.zone),
            node_hint: hint(hints.map(|hints| &hints.for_nodes), &node.name),
        }
    }
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

fn ports(
    slice: &EndpointSlice,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
    report: &mut Report<'_>,
) -> Vec<SlicePort> {
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
        ports.push(SlicePort { name: intern(&port.name), protocol, number: number.get() });
    }
    ports
}

fn endpoints(
    slice: &EndpointSlice,
    family: IpFamily,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
    report: &mut Report<'_>,
) -> Vec<CheckedEndpoint> {
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (n, endpoint) in slice.endpoints.iter().enumerate() {
        // The API promises that the addresses of one endpoint are interchangeable and has
        // consumers take the first.
        let text = endpoint.addresses.first().map(String::as_str);
        let Some(text) = report.need(text, format!("endpoints[{n}].addresses"), "is empty") else {
            continue;
        };
        match usable_address(text, family) {
            Ok(address) => endpoints.push(endpoint_at(address, endpoint, intern)),
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
    match special_use(address) {
        Some(what) => Err(format!("{address} may not be an endpoint: it is {what}")),
        None => Ok(address),
    }
}

fn endpoint_at(
    address: IpAddr,
    endpoint: &SliceEndpoint,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
) -> CheckedEndpoint {
    let conditions = &endpoint.conditions;
    let ready = conditions.ready.unwrap_or(true);
    let hints = &endpoint.hints;
    let has_hints = !hints.for_zones.is_empty() || !hints.for_nodes.is_empty();
    CheckedEndpoint {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: intern(endpoint.node_name.as_deref().unwrap_or_default()),
        hints: has_hints.then(|| Box::new(hints.clone())),
    }
}

fn hint(names: &[HintedName], here: &str) -> Hint {
    match names {
        [] => Hint::Absent,
        names if names.iter().any(|named| named.name == here) => Hint::Here,
        _ => Hint::Elsewhere,
    }
}
