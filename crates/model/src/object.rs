//! The fields of Kubernetes objects that a proxy reads, as in JSON and YAML.
//!
//! The names and structure are those of the API (core/v1, discovery.k8s.io/v1), reduced to the
//! fields that affect rules. This keeps a cluster of 50,000 endpoints small in memory, and invalid
//! values of unused fields do no harm. Number types are wide on purpose: 70000 is then reported as
//! an invalid port of one field and not as a syntax error. `null` means absent, as in the API.

#![expect(missing_docs, reason = "the fields are the API's own; its reference documents them")]

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `metadata` of any object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Metadata {
    /// The object's name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Its namespace; absent means `default`, as in kubectl.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// The labels that decide something here; all others are left out.
    #[serde(deserialize_with = "object")]
    pub labels: Labels,
    /// The annotations that decide something here; all others are left out.
    #[serde(deserialize_with = "object")]
    pub annotations: Annotations,
    /// When deletion was requested.
    #[serde(rename = "deletionTimestamp")]
    pub deletion_timestamp: Option<String>,
}

/// The labels that rulegen uses; an empty string if the object has a label without a value. A map
/// of all labels would take more memory than the rest of an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels {
    /// `kubernetes.io/service-name`: the Service to which an EndpointSlice belongs.
    pub service_name: Option<Box<str>>,
    /// `service.kubernetes.io/headless`: set on slices of headless Services, which kube-proxy does
    /// not watch.
    pub headless: Option<Box<str>>,
    /// `service.kubernetes.io/service-proxy-name`: the proxy that handles a Service.
    pub service_proxy_name: Option<Box<str>>,
    /// `topology.kubernetes.io/zone`: the zone of a Node.
    pub zone: Option<Box<str>>,
}

impl Labels {
    pub(crate) fn slot(&mut self, key: &str) -> Option<&mut Option<Box<str>>> {
        match key {
            "kubernetes.io/service-name" => Some(&mut self.service_name),
            "service.kubernetes.io/headless" => Some(&mut self.headless),
            "service.kubernetes.io/service-proxy-name" => Some(&mut self.service_proxy_name),
            "topology.kubernetes.io/zone" => Some(&mut self.zone),
            _ => None,
        }
    }
}

/// Writes the labels that were kept.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { service_name, headless, service_proxy_name, zone } = self;
        let all = [
            ("kubernetes.io/service-name", service_name),
            ("service.kubernetes.io/headless", headless),
            ("service.kubernetes.io/service-proxy-name", service_proxy_name),
            ("topology.kubernetes.io/zone", zone),
        ];
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in all {
            if let Some(value) = value {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// Checks the values of other labels too: the API server would reject an object with a label that
/// is not a string.
impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<String>()? {
                    let value: Option<Box<str>> = map.next_value()?;
                    if let Some(slot) = labels.slot(&key) {
                        *slot = Some(value.unwrap_or_default());
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}

/// The annotation with the time of the change that an EndpointSlice describes.
pub(crate) const LAST_CHANGE_TRIGGER_TIME: &str =
    "endpoints.kubernetes.io/last-change-trigger-time";

/// The annotations that rulegen uses. Others, such as kubectl's copy of the whole object, are not
/// kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Annotations {
    /// Load balancing method.
    #[serde(rename = "rulegen/load-balancing")]
    pub load_balancing: Option<String>,
    /// When the change happened that an EndpointSlice describes, in RFC 3339.
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub last_change_trigger_time: Option<String>,
}

impl Metadata {
    /// The namespace, `default` if absent.
    pub fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

/// A core/v1 Service. Serialized, it has the fields that are read, so that it can be edited as JSON
/// and read again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Service {
    /// Name, namespace, labels.
    #[serde(deserialize_with = "object")]
    pub metadata: Metadata,
    /// Desired state.
    #[serde(deserialize_with = "object")]
    pub spec: ServiceSpec,
    /// State that a load balancer reported.
    #[serde(deserialize_with = "object")]
    pub status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "objects")]
    pub ports: Vec<ServicePortSpec>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub ip_families: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<String>,
    pub external_traffic_policy: Option<String>,
    pub internal_traffic_policy: Option<String>,
    pub health_check_node_port: Option<i64>,
    pub session_affinity: Option<Box<str>>,
    #[serde(deserialize_with = "object")]
    pub session_affinity_config: SessionAffinityConfig,
    /// Whether it has a selector. Endpoints of other Services are created manually.
    #[serde(rename = "selector", deserialize_with = "is_filled", serialize_with = "filled")]
    pub has_selector: bool,
    /// Whether endpoints count as ready before they are.
    #[serde(deserialize_with = "or_default")]
    pub publish_not_ready_addresses: bool,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePortSpec {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    pub protocol: Option<String>,
    pub port: Option<i64>,
    pub node_port: Option<i64>,
}

/// `spec.sessionAffinityConfig` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "object")]
    pub client_ip: ClientIpConfig,
}

/// `clientIP` of a session affinity.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<i64>,
}

/// `status` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    #[serde(deserialize_with = "object")]
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    #[serde(deserialize_with = "objects")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
    pub ip_mode: Option<String>,
}

/// A discovery.k8s.io/v1 EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    #[serde(deserialize_with = "object")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub address_type: String,
    #[serde(deserialize_with = "objects")]
    pub endpoints: Vec<SliceEndpoint>,
    #[serde(deserialize_with = "objects")]
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// Name of the Service to which it belongs.
    pub(crate) fn service_name(&self) -> Option<&str> {
        self.metadata.labels.service_name.as_deref().filter(|name| !name.is_empty())
    }
}

/// One entry of an EndpointSlice's `endpoints`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceEndpoint {
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    #[serde(deserialize_with = "object")]
    pub conditions: EndpointConditions,
    pub node_name: Option<String>,
    #[serde(deserialize_with = "object")]
    pub hints: EndpointHints,
    /// The object that has the address, usually a Pod.
    pub target_ref: Option<Box<TargetRef>>,
}

/// `targetRef` of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct TargetRef {
    #[serde(deserialize_with = "or_default")]
    pub kind: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub namespace: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub name: Box<str>,
}

impl SliceEndpoint {
    /// The address that traffic goes to: the API says to use the first.
    pub fn address(&self) -> Option<&str> {
        self.addresses.first().map(String::as_str)
    }

    /// The other addresses, which no proxy uses.
    pub fn unused_addresses(&self) -> &[String] {
        self.addresses.get(1..).unwrap_or_default()
    }
}

/// `conditions` of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointHints {
    #[serde(deserialize_with = "objects")]
    pub for_zones: Vec<HintedName>,
    #[serde(deserialize_with = "objects")]
    pub for_nodes: Vec<HintedName>,
}

/// A zone or node that a hint names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct HintedName {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// One entry of an EndpointSlice's `ports`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct EndpointPort {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    pub protocol: Option<String>,
    pub port: Option<i64>,
}

/// A core/v1 Endpoints object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    #[serde(deserialize_with = "object")]
    pub(crate) metadata: EndpointsMetadata,
    #[serde(deserialize_with = "objects")]
    pub(crate) subsets: Vec<EndpointSubset>,
}

/// `metadata` of Endpoints: the fields that affect mirroring.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointsMetadata {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "object")]
    pub(crate) labels: EndpointsLabels,
    #[serde(deserialize_with = "object")]
    pub(crate) annotations: EndpointsAnnotations,
}

/// Labels of Endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointsLabels {
    #[serde(rename = "endpointslice.kubernetes.io/skip-mirror")]
    pub(crate) skip_mirror: Option<String>,
    #[serde(rename = "service.kubernetes.io/headless")]
    pub(crate) headless: Option<Box<str>>,
}

/// Annotations of Endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointsAnnotations {
    /// Set if the object is a lock for leader election.
    #[serde(rename = "control-plane.alpha.kubernetes.io/leader")]
    pub(crate) leader: Option<String>,
}

/// One entry of `subsets` of Endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSubset {
    #[serde(deserialize_with = "objects")]
    pub(crate) addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "objects")]
    pub(crate) not_ready_addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "objects")]
    pub(crate) ports: Vec<EndpointPort>,
}

/// One address of a subset.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointAddress {
    #[serde(deserialize_with = "or_default")]
    pub(crate) ip: String,
    pub(crate) node_name: Option<String>,
}

/// A core/v1 Node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeObject {
    #[serde(deserialize_with = "object")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "object")]
    pub spec: NodeSpec,
    #[serde(deserialize_with = "object")]
    pub status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
    #[serde(deserialize_with = "objects")]
    pub taints: Vec<Taint>,
}

/// One entry of a Node's `spec.taints`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Taint {
    #[serde(deserialize_with = "or_default")]
    pub key: String,
}

/// A networking.k8s.io ServiceCIDR.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    #[serde(deserialize_with = "object")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "object")]
    pub spec: ServiceCidrSpec,
}

/// `spec` of a ServiceCIDR.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    #[serde(deserialize_with = "or_default")]
    pub cidrs: Vec<String>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "objects")]
    pub addresses: Vec<NodeAddress>,
}

/// One entry of a Node's `status.addresses`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub address: String,
}

pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let object = Option::<ObjectOnly<T>>::deserialize(deserializer)?;
    Ok(object.map(|ObjectOnly(object)| object).unwrap_or_default())
}

pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Option::<Vec<ObjectOnly<T>>>::deserialize(deserializer)?;
    Ok(objects.into_iter().flatten().map(|ObjectOnly(object)| object).collect())
}

/// Writes a map of which only the presence is known, so that [`is_filled`] reads the same.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn filled<S: Serializer>(is_filled: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    let entry = is_filled.then_some(("", ""));
    serializer.collect_map(entry)
}

/// Whether a map field is present and not empty.
fn is_filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let fields = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
    Ok(fields.is_some_and(|fields| !fields.is_empty()))
}

/// Reads a struct from an object only. serde would also accept a list and assign its items to
/// fields by position.
pub(crate) struct ObjectOnly<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOnly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(ObjectOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_written_as_json_is_read_as_the_same() {
        let full = r#"{"metadata": {"name": "a", "namespace": "n", "deletionTimestamp": "x",
            "labels": {"service.kubernetes.io/headless": "", "service.kubernetes.io/service-proxy-name": "p", "app": "b"},
            "annotations": {"rulegen/load-balancing": "random", "endpoints.kubernetes.io/last-change-trigger-time": "t", "o": "p"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ports": [{"name": "h", "protocol": "UDP", "port": 1, "nodePort": 2}], "externalIPs": ["1.1.1.1"],
            "loadBalancerSourceRanges": ["2.0.0.0/8"], "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
            "healthCheckNodePort": 3, "sessionAffinity": "ClientIP", "selector": {"a": "b"},
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 4}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "3.3.3.3", "ipMode": "Proxy"}]}}}"#;
        for text in [full, "{}", r#"{"spec": {"selector": {}}}"#] {
            let service: Service = serde_json::from_str(text).unwrap();
            let again = serde_json::to_string(&service).unwrap();
            assert_eq!(serde_json::from_str::<Service>(&again).unwrap(), service, "{again}");
        }
        let full: Service = serde_json::from_str(full).unwrap();
        assert!(full.spec.has_selector && full.metadata.annotations.load_balancing.is_some());
    }
}
