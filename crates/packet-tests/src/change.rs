//! Changes of the input before a packet is sent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use rulegen_config::ProxyConfig;
use rulegen_lint::{FindingSeverity, LintFile, LintFinding, lint};
use rulegen_model::{
    Kind, NodeObject, Object, Objects, ProblemCode, Service, ServicePortSpec, SliceEndpoint,
    Sourced, nearest, read_object,
};
use rulegen_net::ServiceRef;
use serde_json::{Map, Value};

use crate::file::{ClusterChange, EndpointSet, ServicePatch};
use crate::flexible::TextOr;
use crate::problem::FileProblem;

/// The message for an address that no endpoint has.
pub(crate) const NO_ENDPOINT: &str = "no endpoint in the input has this address";

/// Endpoints, as a test names them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EndpointMatcher {
    /// An address with this port, or all its ports.
    At(IpAddr, Option<u16>),
    /// All with one of these addresses.
    Any(BTreeSet<IpAddr>),
}

impl EndpointMatcher {
    /// Finds the endpoints in the objects.
    pub(crate) fn find(of: &TextOr<EndpointSet>, objects: &Objects) -> Result<Self, String> {
        match of {
            TextOr::Text(text) => by_text(text, objects),
            TextOr::Fields(EndpointSet { node: Some(node), zone: None }) => {
                on_nodes(objects, &BTreeSet::from([node.as_str()]), &format!("node {node:?}"))
            }
            TextOr::Fields(EndpointSet { node: None, zone: Some(zone) }) => {
                on_nodes(objects, &nodes_in(objects, zone)?, &format!("zone {zone:?}"))
            }
            TextOr::Fields(_) => Err("give either node or zone".to_owned()),
        }
    }

    /// Whether an endpoint of the objects is one of them.
    pub(crate) fn is_in(&self, objects: &Objects) -> bool {
        let slices = objects.slices.iter().map(|slice| &slice.object);
        let mut addresses = slices.flat_map(|slice| &slice.endpoints).flat_map(|of| &of.addresses);
        addresses.any(|text| text.parse().is_ok_and(|ip| self.has(ip, None)))
    }

    /// Whether an endpoint is one of them.
    pub(crate) fn has(&self, ip: IpAddr, port: Option<u16>) -> bool {
        match self {
            Self::At(of, None) => *of == ip,
            Self::At(of, wanted) => *of == ip && port.is_none_or(|port| *wanted == Some(port)),
            Self::Any(all) => all.contains(&ip),
        }
    }
}

fn by_text(text: &str, objects: &Objects) -> Result<EndpointMatcher, String> {
    if let Ok(ip) = text.parse() {
        return Ok(EndpointMatcher::At(ip, None));
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Ok(EndpointMatcher::At(socket.ip(), Some(socket.port())));
    }
    let (namespace, name) = text.split_once('/').ok_or_else(|| {
        format!("{text:?} is not an IP address, IP:PORT or NAMESPACE/NAME of a pod")
    })?;
    let addresses = objects.pod_addresses(namespace, name);
    match addresses.is_empty() {
        true => Err(format!(
            "no Pod or EndpointSlice (targetRef) in the input has an address of pod {text:?}"
        )),
        false => Ok(EndpointMatcher::Any(addresses)),
    }
}

fn on_nodes(
    objects: &Objects,
    nodes: &BTreeSet<&str>,
    what: &str,
) -> Result<EndpointMatcher, String> {
    let slices = objects.slices.iter().map(|slice| &slice.object);
    let endpoints = slices.flat_map(|slice| &slice.endpoints).filter(|of| is_on(of, nodes));
    let addresses: BTreeSet<IpAddr> =
        endpoints.filter_map(|of| of.address()?.parse().ok()).collect();
    match addresses.is_empty() {
        true => Err(format!("no endpoint in the input is on {what}")),
        false => Ok(EndpointMatcher::Any(addresses)),
    }
}

fn is_on(endpoint: &SliceEndpoint, nodes: &BTreeSet<&str>) -> bool {
    endpoint.node_name.as_deref().is_some_and(|node| nodes.contains(node))
}

fn zone(node: &NodeObject) -> Option<&str> {
    node.metadata.labels.zone.as_deref()
}

fn nodes_in<'a>(objects: &'a Objects, wanted: &str) -> Result<BTreeSet<&'a str>, String> {
    let all = || objects.nodes.iter().map(|node| &node.object);
    let inside = all().filter(|node| zone(node) == Some(wanted));
    let names: BTreeSet<&str> = inside.map(|node| node.metadata.name.as_str()).collect();
    if !names.is_empty() {
        return Ok(names);
    }
    let hint = nearest(wanted, all().filter_map(zone)).map(|of| format!(", did you mean {of:?}?"));
    Err(format!("no Node in the input is in zone {wanted:?}{}", hint.unwrap_or_default()))
}

/// Applies a change. `field` is its path in the case.
pub(crate) fn apply(
    change: &ClusterChange,
    field: &str,
    objects: &mut Objects,
    config: &ProxyConfig,
) -> Result<(), FileProblem> {
    let (name, done) = match change {
        ClusterChange::EndpointNotReady(of) => ("endpointNotReady", not_ready(of, objects)),
        ClusterChange::NodeGone(node) => ("nodeGone", node_gone(node, objects)),
        ClusterChange::ZoneGone(zone) => ("zoneGone", zone_gone(zone, objects)),
        ClusterChange::Patch(patch) => ("patch", patched(patch, objects, config)),
    };
    done.map_err(|message| FileProblem::of(format!("{field}.{name}"), message))
}

fn not_ready(of: &TextOr<EndpointSet>, objects: &mut Objects) -> Result<(), String> {
    let named = EndpointMatcher::find(of, objects)?;
    let mut found = false;
    let publishing = publishing_services(objects);
    for slice in &mut objects.slices {
        // The EndpointSlice controller keeps these ready.
        let metadata = &slice.object.metadata;
        let service = metadata.labels.service_name.as_deref().unwrap_or_default();
        let stays_ready =
            publishing.contains(&(metadata.namespace().to_owned(), service.to_owned()));
        let ports: Vec<Option<i64>> = slice.object.ports.iter().map(|port| port.port).collect();
        let has_port = |ip| match named {
            EndpointMatcher::At(_, Some(port)) => {
                ports.contains(&Some(port.into())) && named.has(ip, None)
            }
            _ => named.has(ip, None),
        };
        for endpoint in &mut slice.object.endpoints {
            let ip = endpoint.address().and_then(|ip| ip.parse().ok());
            if ip.is_some_and(has_port) {
                found = true;
                endpoint.conditions.ready = Some(stays_ready);
                endpoint.conditions.serving = Some(false);
            }
        }
    }
    if found { Ok(()) } else { Err(NO_ENDPOINT.to_owned()) }
}

/// Namespaces and names of the Services with `publishNotReadyAddresses`.
fn publishing_services(objects: &Objects) -> BTreeSet<(String, String)> {
    let services = objects.services.iter().map(|service| &service.object);
    let publishing = services.filter(|service| service.spec.publish_not_ready_addresses);
    let name = |of: &Service| (of.metadata.namespace().to_owned(), of.metadata.name.clone());
    publishing.map(name).collect()
}

fn node_gone(node: &str, objects: &mut Objects) -> Result<(), String> {
    let nodes = BTreeSet::from([node]);
    let is_known = objects.nodes.iter().any(|of| of.object.metadata.name == node)
        || objects
            .slices
            .iter()
            .any(|slice| slice.object.endpoints.iter().any(|of| is_on(of, &nodes)));
    if !is_known {
        let names = objects.nodes.iter().map(|of| of.object.metadata.name.as_str());
        let hint = nearest(node, names).map(|of| format!(", did you mean {of:?}?"));
        return Err(format!(
            "no Node or endpoint in the input is of node {node:?}{}",
            hint.unwrap_or_default()
        ));
    }
    remove_nodes(&nodes, objects);
    Ok(())
}

fn zone_gone(zone: &str, objects: &mut Objects) -> Result<(), String> {
    let nodes: BTreeSet<String> = nodes_in(objects, zone)?.into_iter().map(str::to_owned).collect();
    remove_nodes(&nodes.iter().map(String::as_str).collect(), objects);
    Ok(())
}

fn remove_nodes(nodes: &BTreeSet<&str>, objects: &mut Objects) {
    objects.nodes.retain(|node| !nodes.contains(node.object.metadata.name.as_str()));
    for slice in &mut objects.slices {
        slice.object.endpoints.retain(|endpoint| !is_on(endpoint, nodes));
    }
    if let Some(details) = &mut objects.details {
        details.pods.retain(|_, pod| pod.node.as_deref().is_none_or(|node| !nodes.contains(node)));
    }
}

fn patched(
    patch: &ServicePatch,
    objects: &mut Objects,
    config: &ProxyConfig,
) -> Result<(), String> {
    let wanted: ServiceRef =
        patch.service.parse().map_err(|_| format!("{:?} is not NAMESPACE/NAME", patch.service))?;
    let mut services = objects.services.iter_mut().map(|service| &mut service.object);
    let service = services.find(|service| {
        service.metadata.namespace() == wanted.namespace && service.metadata.name == wanted.name
    });
    let service = service.ok_or_else(|| format!("no Service {wanted} in the input"))?;
    let value =
        |service: &Service| serde_json::to_value(service).map_err(|error| error.to_string());
    let before = value(service)?;
    let mut merged = before.clone();
    merge(&mut merged, &patch.merge);
    if let Some(field) = immutable_field(&before, &merged) {
        return Err(format!("changes {field}, which the API server does not allow"));
    }
    let rejected = rejections(&before, &merged, config);
    let of_patch = rejected.into_iter().filter(|(code, _)| is_of_patch(*code));
    refuse(of_patch.map(|(_, message)| message).collect())?;
    let edited =
        read_object(Kind::Service, &merged.to_string()).map_err(|problem| problem.to_string())?;
    let Object::Service(mut edited) = edited else { return Ok(()) };
    drop_fields_of_old_type(service, &mut edited);
    keep_allocated(service, &mut edited);
    if edited == *service {
        return Err(format!("changes nothing of Service {wanted} that affects rules"));
    }
    let mut after = value(&edited)?;
    // Rules do not need it, so the type of Services does not have it.
    if let Some(name) = merged.pointer("/spec/externalName")
        && let Some(spec) = after.pointer_mut("/spec").and_then(Value::as_object_mut)
    {
        spec.insert("externalName".to_owned(), name.clone());
    }
    let rejected = rejections(&before, &after, config);
    refuse(rejected.into_iter().map(|(_, message)| message).collect())?;
    let had: HashSet<i64> = service.spec.ports.iter().filter_map(node_port).collect();
    *service = edited;
    refuse(taken_node_ports(&wanted, &had, &objects.services))
}

fn node_port(port: &ServicePortSpec) -> Option<i64> {
    port.node_port.filter(|number| *number != 0)
}

/// The new node ports of a Service that another one has. The API server allocates them by number, for
/// all protocols.
fn taken_node_ports(
    of: &ServiceRef,
    had: &HashSet<i64>,
    services: &[Sourced<Service>],
) -> Vec<String> {
    let is_it = |service: &Service| {
        service.metadata.namespace() == of.namespace && service.metadata.name == of.name
    };
    let (own, others): (Vec<&Service>, Vec<&Service>) =
        services.iter().map(|service| &service.object).partition(|service| is_it(service));
    let mut taken = HashMap::new();
    for other in others {
        taken.extend(other.spec.ports.iter().filter_map(node_port).map(|number| (number, other)));
    }
    let ports = own.into_iter().flat_map(|service| service.spec.ports.iter().enumerate());
    let message = |(n, port): (usize, &ServicePortSpec)| {
        let number = node_port(port).filter(|number| !had.contains(number))?;
        let metadata = &taken.get(&number)?.metadata;
        let (namespace, name) = (metadata.namespace(), &metadata.name);
        Some(format!(
            "spec.ports[{n}].nodePort: Service {namespace}/{name} has the node port {number}"
        ))
    };
    ports.filter_map(message).collect()
}

fn refuse(problems: Vec<String>) -> Result<(), String> {
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// The field that no update may change, if a patch changes one.
fn immutable_field(before: &Value, after: &Value) -> Option<&'static str> {
    let has_changed = |path: &str| before.pointer(path) != after.pointer(path);
    let is_alias = |of: &Value| of.pointer("/spec/type").is_some_and(|of| of == "ExternalName");
    match () {
        () if has_changed("/metadata/name") => Some("metadata.name"),
        () if has_changed("/metadata/namespace") => Some("metadata.namespace"),
        () if !after.get("spec").is_some_and(Value::is_object) => Some("the whole spec"),
        // A Service of type ExternalName has no cluster IPs.
        () if is_alias(before) || is_alias(after) => None,
        () if changes_cluster_ip(before, after, "/spec/clusterIP") => Some("spec.clusterIP"),
        () if changes_cluster_ip(before, after, "/spec/clusterIPs/0") => Some("spec.clusterIPs[0]"),
        () => None,
    }
}

/// Whether a field has another first cluster IP than before. The API server fills empty ones.
fn changes_cluster_ip(before: &Value, after: &Value, path: &str) -> bool {
    let ip = |of: &Value, path: &str| {
        of.pointer(path).and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(str::to_owned)
    };
    let known = ip(before, "/spec/clusterIP").or_else(|| ip(before, "/spec/clusterIPs/0"));
    known.is_some_and(|known| ip(after, path).is_some_and(|ip| ip != known))
}

/// The codes of findings about the patch as it is written. The other findings are about what is left
/// after the API server has dropped the fields of the old type.
fn is_of_patch(code: ProblemCode) -> bool {
    matches!(code, ProblemCode::UnknownField | ProblemCode::InvalidObject)
}

/// What the API server rejects of a changed Service, and not of the unchanged one.
fn rejections(before: &Value, after: &Value, config: &ProxyConfig) -> Vec<(ProblemCode, String)> {
    let known = findings(before, config);
    let is_new = |finding: &LintFinding| {
        let is_same = |of: &LintFinding| {
            (of.code, &of.field, &of.what) == (finding.code, &finding.field, &finding.what)
        };
        !known.iter().any(is_same)
    };
    let new = findings(after, config).into_iter().filter(is_new);
    let is_rejected = |finding: &LintFinding| {
        finding.severity == FindingSeverity::Error || finding.code == ProblemCode::UnknownField
    };
    let text = |LintFinding { code, field, what, .. }: LintFinding| match field {
        Some(field) => (code, format!("{field}: {what}")),
        None => (code, what),
    };
    new.filter(is_rejected).map(text).collect()
}

/// Removes what the object does not have: our type writes null and empty objects for it.
fn remove_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_empty);
            let is_empty = |of: &Value| of.is_null() || of.as_object().is_some_and(Map::is_empty);
            fields.retain(|_, value| !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(remove_empty),
        _ => {}
    }
}

/// The findings about one Service.
fn findings(service: &Value, config: &ProxyConfig) -> Vec<LintFinding> {
    let mut service = service.clone();
    remove_empty(&mut service);
    if let Some(fields) = service.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "v1".into());
        fields.insert("kind".to_owned(), "Service".into());
    }
    let content = Ok(service.to_string().into_bytes());
    lint(&[LintFile { name: "patch".to_owned(), content }], config).findings
}

/// Drops what the new type of a Service does not have and the patch left as it was, as the API server
/// does (`dropTypeDependentFields` and `PrepareForUpdate` of its Service strategy).
fn drop_fields_of_old_type(before: &Service, after: &mut Service) {
    let kind = after.spec.kind.as_deref().unwrap_or("ClusterIP").to_owned();
    let (old, new) = (&before.spec, &mut after.spec);
    let has_node_ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let old_ports = old.ports.iter().map(|port| port.node_port);
    if !has_node_ports && old_ports.eq(new.ports.iter().map(|port| port.node_port)) {
        new.ports.iter_mut().for_each(|port| port.node_port = None);
    }
    let is_outside = has_node_ports || (kind == "ClusterIP" && !new.external_ips.is_empty());
    if !is_outside && old.external_traffic_policy == new.external_traffic_policy {
        new.external_traffic_policy = None;
    }
    let has_health_check =
        kind == "LoadBalancer" && new.external_traffic_policy.as_deref() == Some("Local");
    if !has_health_check && old.health_check_node_port == new.health_check_node_port {
        new.health_check_node_port = None;
    }
    if kind == "ExternalName" && old.cluster_ips == new.cluster_ips {
        (new.cluster_ip, new.cluster_ips, new.ip_families) = (None, Vec::new(), Vec::new());
    }
    if kind != "LoadBalancer" {
        after.status.load_balancer.ingress.clear();
    }
}

/// Keeps what the API server allocated and an update leaves out: cluster IPs, and the node port of each
/// port with the same protocol and number.
fn keep_allocated(before: &Service, after: &mut Service) {
    let has_cluster_ip = |of: &Service| of.spec.kind.as_deref() != Some("ExternalName");
    let has_node_ports = |of: &Service| {
        of.spec.kind.as_deref().is_some_and(|kind| matches!(kind, "NodePort" | "LoadBalancer"))
    };
    let keeps_cluster_ips = has_cluster_ip(before) && has_cluster_ip(after);
    let keeps_node_ports = has_node_ports(before) && has_node_ports(after);
    let (old, new) = (&before.spec, &mut after.spec);
    if keeps_cluster_ips {
        if new.cluster_ip.as_deref().unwrap_or_default().is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if !keeps_node_ports {
        return;
    }
    let key = |port: &ServicePortSpec| {
        (port.port, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))
    };
    let allocated: HashMap<_, i64> =
        old.ports.iter().filter_map(|port| Some((key(port), node_port(port)?))).collect();
    let mut used: HashSet<i64> = new.ports.iter().filter_map(node_port).collect();
    for port in new.ports.iter_mut().filter(|port| node_port(port).is_none()) {
        let known = allocated.get(&key(port)).copied();
        port.node_port = known.filter(|number| used.insert(*number)).or(port.node_port);
    }
    if new.health_check_node_port.is_none_or(|port| port == 0)
        && new.kind.as_deref() == Some("LoadBalancer")
        && new.external_traffic_policy.as_deref() == Some("Local")
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Applies a merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (key, value) in patch {
        match value {
            Value::Null => _ = fields.remove(key),
            Value::Object(patch) => merge(fields.entry(key).or_insert(Value::Null), patch),
            other => _ = fields.insert(key.clone(), other.clone()),
        }
    }
}
