//! A test file as data. The schema is made from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::flexible::{ListOr, TextOr};

/// Tests of what a cluster's Services do with packets, for `rulegen test`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", expecting = "a map with inputs and cases")]
#[schemars(deny_unknown_fields)]
pub struct TestFile {
    /// The cluster and the node.
    pub inputs: InputFiles,
    /// The modes in which cases run, unless a case has its own.
    #[serde(default, skip_serializing_if = "Modes::is_default")]
    pub mode: Modes,
    /// The cases, at least one.
    #[schemars(extend("minItems" = 1))]
    pub cases: Vec<Case>,
}

/// The cluster and the node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct InputFiles {
    /// Manifests: files or folders, relative to the test file.
    pub manifests: Vec<String>,
    /// kube-proxy's configuration: a file, relative to the test file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// kube-proxy's configuration itself, in place of `config`. `apiVersion` and `kind` may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Map<String, Value>>,
    /// The node whose rules are tested. May be absent if the configuration has hostnameOverride, or
    /// if the manifests have at most one Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Modes of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Modes {
    /// iptables and nftables.
    #[default]
    Both,
    /// Only iptables.
    Iptables,
    /// Only nftables.
    Nftables,
}

impl Modes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A packet, and what must happen to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Case {
    /// The name, unique in the file.
    pub name: String,
    /// The modes in which the case runs, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Modes>,
    /// The node whose rules are tested, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The IP family. Without it, that of the addresses in the case, else the first in which the
    /// Service has a cluster IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<FamilyName>,
    /// Changes of the input before the packet is sent: one, or a list in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<ListOr<ClusterChange, ClusterChange>>,
    /// The sender: `outside` for a client outside the cluster, an IP address, NAMESPACE/NAME of a
    /// pod, or an object.
    pub from: TextOr<SenderFields>,
    /// The destination: NAMESPACE/NAME of a Service with its port (`default/web:80`, `:http`,
    /// `:53/udp`), IP:PORT with /udp or /sctp if not TCP, or an object.
    pub to: TextOr<ReceiverFields>,
    /// What must happen. At least one field.
    pub expect: Expectation,
}

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FamilyName {
    /// IPv4.
    #[serde(rename = "IPv4")]
    Ipv4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// A sender. Exactly one of `address`, `pod`, `pods` and `node`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SenderFields {
    /// An IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The input interface of the packet, for the detect-local modes that use interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// A pod, NAMESPACE/NAME, if a Pod or an EndpointSlice (targetRef) has its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// All pods with these labels. The case must hold from each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<BTreeMap<String, String>>,
    /// The namespace of `pods`; without it, all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A destination that is not a name or an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ReceiverFields {
    /// A node port, at the primary address of the node whose rules are tested.
    pub node_port: u16,
    /// The protocol, TCP by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Transport>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A change of the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClusterChange {
    /// Endpoints are not ready: an IP address, IP:PORT or NAMESPACE/NAME of a pod, or all of a node
    /// or zone.
    EndpointNotReady(TextOr<EndpointSet>),
    /// A node is gone, with its pods and endpoints.
    NodeGone(String),
    /// A zone is gone, with its nodes, pods and endpoints. Zones are labels of Nodes.
    ZoneGone(String),
    /// A Service is edited.
    Patch(ServicePatch),
}

/// An edit of a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ServicePatch {
    /// NAMESPACE/NAME of the Service.
    pub service: String,
    /// A JSON merge patch (RFC 7396), as for `kubectl patch --type=merge`.
    pub merge: Map<String, Value>,
}

/// Endpoints by their place. Exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct EndpointSet {
    /// All endpoints on a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// All endpoints on the nodes of a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What must happen. At least one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Expectation {
    /// The outcome, in all cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ExpectedOutcome>,
    /// The endpoints that the packet can reach: a list of all of them, or an object. An endpoint is an
    /// IP address, IP:PORT, or NAMESPACE/NAME of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<ListOr<TextOr<EndpointSet>, ExpectedEndpoints>>,
    /// The probabilities of endpoints: a list, or an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub chances: Option<ListOr<ExpectedChance, ExpectedChances>>,
    /// Whether the packet is masqueraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masqueraded: Option<bool>,
    /// The source address that the receiver sees: `client`, `node`, or an IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_seen: Option<String>,
    /// Whether the next connection of the same client reaches the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_endpoint_again: Option<bool>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpectedOutcome {
    /// It goes to an endpoint.
    Endpoint,
    /// No Service matches. It goes on to its destination.
    Passes,
    /// It is rejected with "port unreachable".
    Rejected,
    /// It is dropped.
    Dropped,
    /// It is rejected or dropped.
    Refused,
}

/// Conditions on the endpoints that the packet can reach. All must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ExpectedEndpoints {
    /// All ready endpoints of the Service port are reached, on whichever node they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// No other endpoints than these are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<TextOr<EndpointSet>>>,
    /// At least this number of endpoints is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub at_least: Option<usize>,
}

/// A probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ExpectedChance {
    /// The endpoint. For several endpoints, the sum of their probabilities counts.
    pub endpoint: TextOr<EndpointSet>,
    /// The probability: a fraction such as `1/3`, or a number such as `0.25`.
    pub chance: ProbabilityValue,
    /// The largest difference. Without it, the resolution of the kernel's random numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub within: Option<f64>,
}

/// A probability as people write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProbabilityValue {
    /// From 0 to 1.
    Number(#[schemars(range(min = 0.0, max = 1.0))] f64),
    /// A fraction: `1/3`, or `1 in 3`.
    Fraction(String),
}

/// Conditions on the probabilities of all endpoints that are reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ExpectedChances {
    /// Whether all are equal.
    pub equal: bool,
    /// The largest difference. Without it, the resolution of the kernel's random numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub within: Option<f64>,
}
