//! The messages of `generated.proto` in Kubernetes' `api` and `apimachinery` modules, reduced to the
//! fields that are used. Other fields are skipped.
//!
//! Fields have the API's names, because errors contain them. Keys and values that are mostly not
//! used are `Bytes`, which are parts of the input and not copies.

#![expect(non_snake_case, reason = "errors contain the names, so they are the API's own")]

use prost::Message;
use prost::bytes::Bytes;

/// runtime.Unknown
#[derive(Clone, PartialEq, Message)]
pub(super) struct Unknown {
    #[prost(message, optional, tag = "1")]
    pub(super) typeMeta: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) raw: Bytes,
    #[prost(string, tag = "3")]
    pub(super) contentEncoding: String,
    #[prost(string, tag = "4")]
    pub(super) contentType: String,
}

/// runtime.TypeMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeMeta {
    #[prost(string, tag = "1")]
    pub(super) apiVersion: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

/// A list of any kind. Its items are read one by one, so that an invalid one does not affect others.
#[derive(Clone, PartialEq, Message)]
pub(super) struct List {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ListMeta>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) items: Vec<Bytes>,
}

/// meta/v1 ListMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListMeta {
    #[prost(string, tag = "2")]
    pub(super) resourceVersion: String,
    #[prost(string, tag = "3")]
    pub(super) r#continue: String,
}

/// meta/v1 WatchEvent
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEvent {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(message, optional, tag = "2")]
    pub(super) object: Option<RawExtension>,
}

/// runtime.RawExtension
#[derive(Clone, PartialEq, Message)]
pub(super) struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) raw: Bytes,
}

/// meta/v1 Status
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "3")]
    pub(super) message: String,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
    #[prost(message, optional, tag = "5")]
    pub(super) details: Option<StatusDetails>,
    #[prost(int32, tag = "6")]
    pub(super) code: i32,
}

/// meta/v1 StatusDetails
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusDetails {
    #[prost(message, repeated, tag = "4")]
    pub(super) causes: Vec<StatusCause>,
}

/// meta/v1 StatusCause
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusCause {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(string, tag = "3")]
    pub(super) field: String,
}

/// The metadata of an object of any kind.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
}

/// meta/v1 ObjectMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(string, tag = "6")]
    pub(super) resourceVersion: String,
    #[prost(message, optional, tag = "9")]
    pub(super) deletionTimestamp: Option<Time>,
    #[prost(message, repeated, tag = "11")]
    pub(super) labels: Vec<Entry>,
    #[prost(message, repeated, tag = "12")]
    pub(super) annotations: Vec<Entry>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// meta/v1 Time, in which nanos are always 0.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

/// core/v1 Service
#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<ServiceSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<ServiceStatus>,
}

/// core/v1 ServiceSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    pub(super) ports: Vec<ServicePort>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) selector: Vec<Bytes>,
    #[prost(string, tag = "3")]
    pub(super) clusterIP: String,
    #[prost(string, tag = "4")]
    pub(super) r#type: String,
    #[prost(string, repeated, tag = "5")]
    pub(super) externalIPs: Vec<String>,
    #[prost(string, tag = "7")]
    pub(super) sessionAffinity: String,
    #[prost(string, repeated, tag = "9")]
    pub(super) loadBalancerSourceRanges: Vec<String>,
    #[prost(string, tag = "11")]
    pub(super) externalTrafficPolicy: String,
    #[prost(int32, tag = "12")]
    pub(super) healthCheckNodePort: i32,
    #[prost(message, optional, tag = "14")]
    pub(super) sessionAffinityConfig: Option<SessionAffinityConfig>,
    #[prost(string, repeated, tag = "18")]
    pub(super) clusterIPs: Vec<String>,
    #[prost(string, repeated, tag = "19")]
    pub(super) ipFamilies: Vec<String>,
    #[prost(string, optional, tag = "22")]
    pub(super) internalTrafficPolicy: Option<String>,
}

/// core/v1 ServicePort
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServicePort {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) protocol: String,
    #[prost(int32, optional, tag = "3")]
    pub(super) port: Option<i32>,
    #[prost(int32, tag = "5")]
    pub(super) nodePort: i32,
}

/// core/v1 SessionAffinityConfig
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionAffinityConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) clientIP: Option<ClientIpConfig>,
}

/// core/v1 ClientIPConfig
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClientIpConfig {
    #[prost(int32, optional, tag = "1")]
    pub(super) timeoutSeconds: Option<i32>,
}

/// core/v1 ServiceStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) loadBalancer: Option<LoadBalancerStatus>,
}

/// core/v1 LoadBalancerStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadBalancerStatus {
    #[prost(message, repeated, tag = "1")]
    pub(super) ingress: Vec<LoadBalancerIngress>,
}

/// core/v1 LoadBalancerIngress
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadBalancerIngress {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
    #[prost(string, optional, tag = "3")]
    pub(super) ipMode: Option<String>,
}

/// discovery.k8s.io/v1 EndpointSlice
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointSlice {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, repeated, tag = "2")]
    pub(super) endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "3")]
    pub(super) ports: Vec<EndpointPort>,
    #[prost(string, tag = "4")]
    pub(super) addressType: String,
}

/// discovery.k8s.io/v1 Endpoint
#[derive(Clone, PartialEq, Message)]
pub(super) struct Endpoint {
    #[prost(string, repeated, tag = "1")]
    pub(super) addresses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) conditions: Option<EndpointConditions>,
    #[prost(message, optional, tag = "4")]
    pub(super) targetRef: Option<ObjectReference>,
    #[prost(string, optional, tag = "6")]
    pub(super) nodeName: Option<String>,
    #[prost(message, optional, tag = "8")]
    pub(super) hints: Option<EndpointHints>,
}

/// discovery.k8s.io/v1 EndpointConditions
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointConditions {
    #[prost(bool, optional, tag = "1")]
    pub(super) ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub(super) terminating: Option<bool>,
}

/// core/v1 ObjectReference
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectReference {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

/// discovery.k8s.io/v1 EndpointHints
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointHints {
    #[prost(message, repeated, tag = "1")]
    pub(super) forZones: Vec<HintedName>,
    #[prost(message, repeated, tag = "2")]
    pub(super) forNodes: Vec<HintedName>,
}

/// discovery.k8s.io/v1 ForZone and ForNode
#[derive(Clone, PartialEq, Message)]
pub(super) struct HintedName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// discovery.k8s.io/v1 EndpointPort
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointPort {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, optional, tag = "2")]
    pub(super) protocol: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(super) port: Option<i32>,
}

/// core/v1 Node
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeObject {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<NodeSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<NodeStatus>,
}

/// core/v1 NodeSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeSpec {
    #[prost(string, tag = "1")]
    pub(super) podCIDR: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) taints: Vec<Taint>,
    #[prost(string, repeated, tag = "7")]
    pub(super) podCIDRs: Vec<String>,
}

/// core/v1 Taint
#[derive(Clone, PartialEq, Message)]
pub(super) struct Taint {
    #[prost(string, tag = "1")]
    pub(super) key: String,
}

/// core/v1 NodeStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStatus {
    #[prost(message, repeated, tag = "5")]
    pub(super) addresses: Vec<NodeAddress>,
}

/// core/v1 NodeAddress
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeAddress {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(string, tag = "2")]
    pub(super) address: String,
}

/// networking.k8s.io/v1 ServiceCIDR
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceCidr {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<ServiceCidrSpec>,
}

/// networking.k8s.io/v1 ServiceCIDRSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceCidrSpec {
    #[prost(string, repeated, tag = "1")]
    pub(super) cidrs: Vec<String>,
}
