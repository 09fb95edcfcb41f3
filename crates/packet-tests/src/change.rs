//! Changes of the input before a packet is sent.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rulegen_model::{Kind, NodeObject, Object, Objects, Service, SliceEndpoint, read_object};
use rulegen_net::ServiceRef;
use serde_json::{Map, Value};

use crate::file::{ClusterChange, EndpointSet, ServicePatch};
use crate::flexible::TextOr;
use crate::nearest::nearest;
use crate::problem::FileProblem;

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
) -> Result<(), FileProblem> {
    let (name, done) = match change {
        ClusterChange::EndpointNotReady(of) => ("endpointNotReady", not_ready(of, objects)),
        ClusterChange::NodeGone(node) => ("nodeGone", node_gone(node, objects)),
        ClusterChange::ZoneGone(zone) => ("zoneGone", zone_gone(zone, objects)),
        ClusterChange::Patch(patch) => ("patch", patched(patch, objects)),
    };
    done.map_err(|message| FileProblem::of(format!("{field}.{name}"), message))
}

fn not_ready(of: &TextOr<EndpointSet>, objects: &mut Objects) -> Result<(), String> {
    let named = EndpointMatcher::find(of, objects)?;
    let mut found = false;
    for slice in &mut objects.slices {
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
                endpoint.conditions.ready = Some(false);
                endpoint.conditions.serving = Some(false);
            }
        }
    }
    if found { Ok(()) } else { Err("no endpoint in the input has this address".to_owned()) }
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

fn patched(patch: &ServicePatch, objects: &mut Objects) -> Result<(), String> {
    let wanted: ServiceRef =
        patch.service.parse().map_err(|_| format!("{:?} is not NAMESPACE/NAME", patch.service))?;
    let mut services = objects.services.iter_mut().map(|service| &mut service.object);
    let service = services.find(|service| {
        service.metadata.namespace() == wanted.namespace && service.metadata.name == wanted.name
    });
    let service = service.ok_or_else(|| format!("no Service {wanted} in the input"))?;
    let mut value = serde_json::to_value(&*service).map_err(|error| error.to_string())?;
    merge(&mut value, &patch.merge);
    let edited =
        read_object(Kind::Service, &value.to_string()).map_err(|problem| problem.to_string())?;
    let Object::Service(mut edited) = edited else { return Ok(()) };
    drop_fields_of_old_type(service, &mut edited);
    if edited == *service {
        return Err(format!("changes nothing of Service {wanted} that affects rules"));
    }
    *service = edited;
    Ok(())
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
