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
pub(super) struct UnknownMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) typeMeta: Option<TypeMetaMessage>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) raw: Bytes,
    #[prost(string, tag = "3")]
    pub(super) contentEncoding: String,
    #[prost(string, tag = "4")]
    pub(super) contentType: String,
}

/// runtime.TypeMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeMetaMessage {
    #[prost(string, tag = "1")]
    pub(super) apiVersion: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

/// A list of any kind. Its items are read one by one, so that an invalid one does not affect others.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ListMetaMessage>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) items: Vec<Bytes>,
}

/// meta/v1 ListMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListMetaMessage {
    #[prost(string, tag = "2")]
    pub(super) resourceVersion: String,
    #[prost(string, tag = "3")]
    pub(super) r#continue: String,
}

/// meta/v1 WatchEvent
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEventMessage {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(message, optional, tag = "2")]
    pub(super) object: Option<RawExtensionMessage>,
}

/// runtime.RawExtension
#[derive(Clone, PartialEq, Message)]
pub(super) struct RawExtensionMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) raw: Bytes,
}

/// meta/v1 Status
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusMessage {
    #[prost(string, tag = "3")]
    pub(super) message: String,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
    #[prost(message, optional, tag = "5")]
    pub(super) details: Option<StatusDetailsMessage>,
    #[prost(int32, tag = "6")]
    pub(super) code: i32,
}

/// meta/v1 StatusDetails
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusDetailsMessage {
    #[prost(message, repeated, tag = "4")]
    pub(super) causes: Vec<StatusCauseMessage>,
}

/// meta/v1 StatusCause
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusCauseMessage {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(string, tag = "3")]
    pub(super) field: String,
}

/// The metadata of an object of any kind.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeadMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMetaMessage>,
}

/// meta/v1 ObjectMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMetaMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(string, tag = "6")]
    pub(super) resourceVersion: String,
    #[prost(message, optional, tag = "9")]
    pub(super) deletionTimestamp: Option<TimeMessage>,
    #[prost(message, repeated, tag = "11")]
    pub(super) labels: Vec<EntryMessage>,
    #[prost(message, repeated, tag = "12")]
    pub(super) annotations: Vec<EntryMessage>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// meta/v1 Time, in which nanos are always 0.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeMessage {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

/// core/v1 Service
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMetaMessage>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<ServiceSpecMessage>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<ServiceStatusMessage>,
}

/// core/v1 ServiceSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceSpecMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) ports: Vec<ServicePortMessage>,
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
    #[prost(bool, tag = "13")]
    pub(super) publishNotReadyAddresses: bool,
    #[prost(message, optional, tag = "14")]
    pub(super) sessionAffinityConfig: Option<SessionAffinityConfigMessage>,
    #[prost(string, repeated, tag = "18")]
    pub(super) clusterIPs: Vec<String>,
    #[prost(string, repeated, tag = "19")]
    pub(super) ipFamilies: Vec<String>,
    #[prost(string, optional, tag = "22")]
    pub(super) internalTrafficPolicy: Option<String>,
}

/// core/v1 ServicePort
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServicePortMessage {
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
pub(super) struct SessionAffinityConfigMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) clientIP: Option<ClientIpConfigMessage>,
}

/// core/v1 ClientIPConfig
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClientIpConfigMessage {
    #[prost(int32, optional, tag = "1")]
    pub(super) timeoutSeconds: Option<i32>,
}

/// core/v1 ServiceStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceStatusMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) loadBalancer: Option<LoadBalancerStatusMessage>,
}

/// core/v1 LoadBalancerStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadBalancerStatusMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) ingress: Vec<LoadBalancerIngressMessage>,
}

/// core/v1 LoadBalancerIngress
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadBalancerIngressMessage {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
    #[prost(string, optional, tag = "3")]
    pub(super) ipMode: Option<String>,
}

/// discovery.k8s.io/v1 EndpointSlice
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointSliceMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMetaMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(super) endpoints: Vec<EndpointMessage>,
    #[prost(message, repeated, tag = "3")]
    pub(super) ports: Vec<EndpointPortMessage>,
    #[prost(string, tag = "4")]
    pub(super) addressType: String,
}

/// discovery.k8s.io/v1 Endpoint
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointMessage {
    #[prost(string, repeated, tag = "1")]
    pub(super) addresses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) conditions: Option<EndpointConditionsMessage>,
    #[prost(message, optional, tag = "4")]
    pub(super) targetRef: Option<ObjectReferenceMessage>,
    #[prost(string, optional, tag = "6")]
    pub(super) nodeName: Option<String>,
    #[prost(message, optional, tag = "8")]
    pub(super) hints: Option<EndpointHintsMessage>,
}

/// discovery.k8s.io/v1 EndpointConditions
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointConditionsMessage {
    #[prost(bool, optional, tag = "1")]
    pub(super) ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub(super) terminating: Option<bool>,
}

/// core/v1 ObjectReference
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectReferenceMessage {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

/// discovery.k8s.io/v1 EndpointHints
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointHintsMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) forZones: Vec<HintedNameMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(super) forNodes: Vec<HintedNameMessage>,
}

/// discovery.k8s.io/v1 ForZone and ForNode
#[derive(Clone, PartialEq, Message)]
pub(super) struct HintedNameMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// discovery.k8s.io/v1 EndpointPort
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointPortMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, optional, tag = "2")]
    pub(super) protocol: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub(super) port: Option<i32>,
}

/// core/v1 Node
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeObjectMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMetaMessage>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<NodeSpecMessage>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<NodeStatusMessage>,
}

/// core/v1 NodeSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeSpecMessage {
    #[prost(string, tag = "1")]
    pub(super) podCIDR: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) taints: Vec<TaintMessage>,
    #[prost(string, repeated, tag = "7")]
    pub(super) podCIDRs: Vec<String>,
}

/// core/v1 Taint
#[derive(Clone, PartialEq, Message)]
pub(super) struct TaintMessage {
    #[prost(string, tag = "1")]
    pub(super) key: String,
}

/// core/v1 NodeStatus
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStatusMessage {
    #[prost(message, repeated, tag = "5")]
    pub(super) addresses: Vec<NodeAddressMessage>,
}

/// core/v1 NodeAddress
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeAddressMessage {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(string, tag = "2")]
    pub(super) address: String,
}

/// networking.k8s.io/v1 ServiceCIDR
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceCidrMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMetaMessage>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<ServiceCidrSpecMessage>,
}

/// networking.k8s.io/v1 ServiceCIDRSpec
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceCidrSpecMessage {
    #[prost(string, repeated, tag = "1")]
    pub(super) cidrs: Vec<String>,
}
