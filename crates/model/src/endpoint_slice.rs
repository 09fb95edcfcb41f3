//! Validates EndpointSlices and joins their endpoints with service ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::endpoint::{Endpoint, Hint};
use crate::node::Node;
use crate::object::{EndpointHints, EndpointSlice, HintedName, SliceEndpoint};
use crate::port::{known_protocol, port_number};
use crate::problem::ProblemCollector;
use crate::problem_code::ProblemCode;
use crate::service_port::ServicePort;
use rulegen_net::{IpFamily, Protocol, parse_address, special_use};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A validated EndpointSlice. It does not depend on the node.
pub(crate) struct Slice {
    family: IpFamily,
    ports: Box<[SlicePort]>,
    endpoints: Box<[CheckedEndpoint]>,
    /// `None` if it has none.
    unused: Option<Box<UnusedFields>>,
}

/// What a slice says about its endpoints without effect on rules.
struct UnusedFields {
    /// The names of the endpoints' Pods, each with a line feed behind it. One text takes half the
    /// memory of one for each.
    pods: Box<str>,
    /// The addresses after the first, with the index of their endpoint.
    addresses: Box<[(usize, IpAddr)]>,
}

/// What a slice says about an endpoint without effect on rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointDetails {
    /// The name of its Pod (`targetRef`).
    pub pod: Option<String>,
    /// Its addresses after the first, which no proxy uses.
    pub unused_addresses: Vec<IpAddr>,
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
    /// Name of its node, or empty.
    node: Arc<str>,
    /// Boxed because few endpoints have hints.
    hints: Option<Box<EndpointHints>>,
}

impl Slice {
    /// Validates a slice; `None` if it has no effect. `intern` deduplicates names.
    pub(crate) fn new(
        slice: &EndpointSlice,
        intern: &mut dyn FnMut(&str) -> Arc<str>,
        report: &mut ProblemCollector<'_>,
    ) -> Option<Self> {
        if slice.metadata.labels.headless.is_some() {
            return None;
        }
        report.need(
            slice.service_name(),
            ProblemCode::MissingServiceLabel,
            "metadata.labels",
            format!("missing label {SERVICE_NAME_LABEL}, slice skipped"),
        )?;
        if slice.metadata.name.is_empty() {
            report.warn(ProblemCode::InvalidName, "metadata.name", "missing, slice skipped");
            return None;
        }
        let family = family(&slice.address_type, report)?;
        let ports = ports(slice, intern, report).into();
        let (fields, endpoints): (Vec<&SliceEndpoint>, Vec<CheckedEndpoint>) =
            endpoints(slice, family, intern, report).into_iter().unzip();
        let unused = UnusedFields::of(&fields).map(Box::new);
        Some(Self { family, ports, endpoints: endpoints.into(), unused })
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

impl UnusedFields {
    fn of(endpoints: &[&SliceEndpoint]) -> Option<Self> {
        let pods: Vec<&str> = endpoints.iter().map(|endpoint| pod(endpoint)).collect();
        let addresses = endpoints.iter().enumerate().flat_map(|(n, endpoint)| {
            let unused = endpoint.unused_addresses().iter();
            unused.filter_map(move |ip| Some((n, parse_address(ip)?)))
        });
        let addresses: Box<[_]> = addresses.collect();
        let has_pods = pods.iter().any(|pod| !pod.is_empty());
        (has_pods || !addresses.is_empty())
            .then(|| Self { pods: pods.iter().flat_map(|pod| [*pod, "\n"]).collect(), addresses })
    }
}

/// The name of an endpoint's Pod; empty if it has none.
fn pod(endpoint: &SliceEndpoint) -> &str {
    let target = endpoint.target_ref.as_ref().filter(|target| *target.kind == *"Pod");
    let name = target.map_or("", |target| &target.name);
    if name.contains('\n') { "" } else { name }
}

/// Details of the endpoints with these addresses. Of two endpoints with one address, the one that is
/// not terminating counts, as in [`join`].
pub(crate) fn details<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    addresses: &BTreeSet<IpAddr>,
) -> BTreeMap<IpAddr, EndpointDetails> {
    let mut details = BTreeMap::new();
    for slice in slices {
        let Some(unused) = &slice.unused else { continue };
        let named = slice.endpoints.iter().zip(unused.pods.lines()).enumerate();
        for (n, (endpoint, pod)) in named.filter(|(_, (of, _))| addresses.contains(&of.address)) {
            let of_endpoint = unused.addresses.iter().filter(|(of, _)| *of == n);
            let of_endpoint = EndpointDetails {
                pod: Some(pod.to_owned()).filter(|pod| !pod.is_empty()),
                unused_addresses: of_endpoint.map(|(_, ip)| *ip).collect(),
            };
            if endpoint.terminating {
                details.entry(endpoint.address).or_insert(of_endpoint);
            } else {
                details.insert(endpoint.address, of_endpoint);
            }
        }
    }
    details
}

/// Adds the endpoints of a Service's slices to its ports, as seen from a node. Each `IP:port`
/// appears once. Endpoints are sorted by their text, as in kube-proxy, where the order decides the
/// probability of each rule.
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

/// The number of endpoints that [`join`] would add. An endpoint in two slices counts twice.
pub(crate) fn count<'a>(ports: &[ServicePort], slices: impl Iterator<Item = &'a Slice>) -> usize {
    let counts = matches(ports, slices).into_iter().map(|(_, slice, _)| slice.endpoints.len());
    counts.fold(0, usize::saturating_add)
}

/// Index of a port, a slice with endpoints for it, and the endpoints' port number. Uses a map because a
/// Service and a slice may both have 20,000 ports.
fn matches<'a>(
    ports: &[ServicePort],
    slices: impl Iterator<Item = &'a Slice>,
) -> Vec<(usize, &'a Slice, u16)> {
    let key = |port: &ServicePort| {
        (IpFamily::of(port.cluster_ip), port.name.port.clone(), port.name.protocol)
    };
    let indexes: HashMap<(IpFamily, Arc<str>, Protocol), usize> =
        ports.iter().enumerate().map(|(at, port)| (key(port), at)).collect();
    let index = |slice: &Slice, port: &SlicePort| {
        indexes.get(&(slice.family, port.name.clone(), port.protocol)).copied()
    };
    let mut matches = Vec::new();
    for slice in slices {
        let of_slice = slice.ports.iter();
        matches.extend(of_slice.filter_map(|p| Some((index(slice, p)?, slice, p.number))));
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
            has_node: !self.node.is_empty(),
            ready: self.ready,
            serving: self.serving,
            terminating: self.terminating,
            zone_hint: hint(hints.map(|hints| &hints.for_zones), &node.zone),
            node_hint: hint(hints.map(|hints| &hints.for_nodes), &node.name),
        }
    }
}

fn family(address_type: &str, report: &mut ProblemCollector<'_>) -> Option<IpFamily> {
    match address_type {
        "IPv4" => Some(IpFamily::Ipv4),
        "IPv6" => Some(IpFamily::Ipv6),
        "FQDN" => {
            report.note(
                ProblemCode::HostNameSlice,
                "skipped: slices with host names (addressType: FQDN) are not supported",
            );
            None
        }
        "" => {
            report.warn(
                ProblemCode::MissingField,
                "addressType",
                "missing (expected IPv4 or IPv6), slice skipped",
            );
            None
        }
        other => {
            report.warn(
                ProblemCode::UnsupportedValue,
                "addressType",
                format!("unsupported type {other:?} (expected IPv4 or IPv6), slice skipped"),
            );
            None
        }
    }
}

fn ports(
    slice: &EndpointSlice,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
    report: &mut ProblemCollector<'_>,
) -> Vec<SlicePort> {
    let mut ports = Vec::with_capacity(slice.ports.len());
    for (n, port) in slice.ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{n}].{name}");
        let Some(protocol) = known_protocol(port.protocol.as_deref(), field("protocol"), report)
        else {
            continue;
        };
        // In the API no number means "all ports", which no proxy supports.
        let Some(number) =
            report.need(port.port, ProblemCode::MissingField, field("port"), "missing")
        else {
            continue;
        };
        let Some(number) = port_number(number, field("port"), report) else { continue };
        ports.push(SlicePort { name: intern(&port.name), protocol, number: number.get() });
    }
    ports
}

fn endpoints<'a>(
    slice: &'a EndpointSlice,
    family: IpFamily,
    intern: &mut dyn FnMut(&str) -> Arc<str>,
    report: &mut ProblemCollector<'_>,
) -> Vec<(&'a SliceEndpoint, CheckedEndpoint)> {
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (n, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(text) = report.need(
            endpoint.address(),
            ProblemCode::MissingField,
            format!("endpoints[{n}].addresses"),
            "empty",
        ) else {
            continue;
        };
        match usable_address(text, family) {
            Ok(address) => endpoints.push((endpoint, endpoint_at(address, endpoint, intern))),
            Err(why) => report.warn(
                ProblemCode::InvalidAddress,
                format!("endpoints[{n}].addresses[0]"),
                why.to_string(),
            ),
        }
    }
    endpoints
}

/// Checks that an address can be an endpoint: it has the slice's family and is neither loopback nor
/// link-local (CVE-2021-25737).
fn usable_address(text: &str, family: IpFamily) -> Result<IpAddr, UnusableAddress<'_>> {
    let address = parse_address(text).ok_or(UnusableAddress::Invalid(text))?;
    if IpFamily::of(address) != family {
        return Err(UnusableAddress::OtherFamily(address, family));
    }
    match special_use(address) {
        Some(what) => Err(UnusableAddress::SpecialUse(address, what)),
        None => Ok(address),
    }
}

/// Why an address cannot be an endpoint.
#[derive(Debug, thiserror::Error)]
enum UnusableAddress<'a> {
    #[error("invalid IP address {0:?}")]
    Invalid(&'a str),
    /// Holds the family of the slice.
    #[error("{0} does not match the slice's addressType {family}", family = .1.api_name())]
    OtherFamily(IpAddr, IpFamily),
    /// Holds what [`special_use`] says.
    #[error("{0} cannot be an endpoint: it is {1}")]
    SpecialUse(IpAddr, &'static str),
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
