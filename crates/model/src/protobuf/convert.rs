//! Converts messages to the types that are also read from JSON.
//!
//! Go writes an empty string or 0 for a field that is not set and has no pointer type. JSON leaves
//! out such a field (`omitempty`), so it is `None` here too.

use prost::Message;
use prost::bytes::Bytes;

use super::messages::{
    EndpointMessage, EndpointPortMessage, EndpointSliceMessage, EntryMessage, HintedNameMessage,
    NodeObjectMessage, ObjectMetaMessage, ServiceCidrMessage, ServiceMessage, ServicePortMessage,
    ServiceSpecMessage, ServiceStatusMessage,
};
use crate::kind::Object;
use crate::{load_balancing, object};

/// An object that is the top of a message.
pub(super) trait ApiMessage: Message + Default {
    /// Takes the metadata out of the message.
    fn take_metadata(&mut self) -> ObjectMetaMessage;

    /// The object with this metadata.
    fn into_object(self, metadata: &ObjectMetaMessage) -> Object;
}

impl ApiMessage for ServiceMessage {
    fn take_metadata(&mut self) -> ObjectMetaMessage {
        self.metadata.take().unwrap_or_default()
    }

    fn into_object(self, metadata: &ObjectMetaMessage) -> Object {
        Object::Service(object::Service {
            metadata: metadata.read(),
            spec: service_spec(self.spec.unwrap_or_default()),
            status: service_status(self.status.unwrap_or_default()),
        })
    }
}

impl ApiMessage for EndpointSliceMessage {
    fn take_metadata(&mut self) -> ObjectMetaMessage {
        self.metadata.take().unwrap_or_default()
    }

    fn into_object(self, metadata: &ObjectMetaMessage) -> Object {
        Object::EndpointSlice(object::EndpointSlice {
            metadata: metadata.read(),
            address_type: self.addressType,
            endpoints: self.endpoints.into_iter().map(endpoint).collect(),
            ports: self.ports.into_iter().map(endpoint_port).collect(),
        })
    }
}

impl ApiMessage for NodeObjectMessage {
    fn take_metadata(&mut self) -> ObjectMetaMessage {
        self.metadata.take().unwrap_or_default()
    }

    fn into_object(self, metadata: &ObjectMetaMessage) -> Object {
        let (spec, status) = (self.spec.unwrap_or_default(), self.status.unwrap_or_default());
        let taints = spec.taints.into_iter().map(|taint| object::Taint { key: taint.key });
        let addresses = status.addresses.into_iter();
        let addresses =
            addresses.map(|of| object::NodeAddress { kind: of.r#type, address: of.address });
        Object::Node(object::NodeObject {
            metadata: metadata.read(),
            spec: object::NodeSpec {
                pod_cidr: filled(spec.podCIDR),
                pod_cidrs: spec.podCIDRs,
                taints: taints.collect(),
            },
            status: object::NodeStatus { addresses: addresses.collect() },
        })
    }
}

impl ApiMessage for ServiceCidrMessage {
    fn take_metadata(&mut self) -> ObjectMetaMessage {
        self.metadata.take().unwrap_or_default()
    }

    fn into_object(self, metadata: &ObjectMetaMessage) -> Object {
        let spec = object::ServiceCidrSpec { cidrs: self.spec.unwrap_or_default().cidrs };
        Object::ServiceCidr(object::ServiceCidr { metadata: metadata.read(), spec })
    }
}

impl ObjectMetaMessage {
    fn read(&self) -> object::Metadata {
        let mut labels = object::Labels::default();
        for EntryMessage { key, value } in &self.labels {
            if let Some(slot) = std::str::from_utf8(key).ok().and_then(|key| labels.slot(key)) {
                *slot = Some(text(value).into());
            }
        }
        let deleted = self.deletionTimestamp.as_ref().and_then(|time| {
            jiff::Timestamp::from_second(time.seconds).ok().map(|time| time.to_string())
        });
        object::Metadata {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            labels,
            annotations: object::Annotations {
                load_balancing: self.annotation(load_balancing::ANNOTATION),
                last_change_trigger_time: self.annotation(object::LAST_CHANGE_TRIGGER_TIME),
            },
            deletion_timestamp: deleted,
        }
    }

    /// The value of an annotation.
    pub(super) fn annotation(&self, name: &str) -> Option<String> {
        let entry = self.annotations.iter().rfind(|entry| entry.key == name.as_bytes());
        entry.map(|entry| text(&entry.value))
    }
}

fn service_spec(spec: ServiceSpecMessage) -> object::ServiceSpec {
    let config = spec.sessionAffinityConfig.unwrap_or_default();
    let timeout = config.clientIP.and_then(|config| config.timeoutSeconds);
    object::ServiceSpec {
        kind: filled(spec.r#type),
        ports: spec.ports.into_iter().map(service_port).collect(),
        cluster_ip: filled(spec.clusterIP),
        cluster_ips: spec.clusterIPs,
        ip_families: spec.ipFamilies,
        external_ips: spec.externalIPs,
        load_balancer_source_ranges: spec.loadBalancerSourceRanges,
        external_traffic_policy: filled(spec.externalTrafficPolicy),
        internal_traffic_policy: spec.internalTrafficPolicy,
        health_check_node_port: not_zero(spec.healthCheckNodePort),
        session_affinity: filled(spec.sessionAffinity).map(Into::into),
        session_affinity_config: object::SessionAffinityConfig {
            client_ip: object::ClientIpConfig { timeout_seconds: timeout.map(i64::from) },
        },
        has_selector: !spec.selector.is_empty(),
        publish_not_ready_addresses: spec.publishNotReadyAddresses,
    }
}

fn service_port(port: ServicePortMessage) -> object::ServicePortSpec {
    object::ServicePortSpec {
        name: port.name,
        protocol: filled(port.protocol),
        port: port.port.map(i64::from),
        node_port: not_zero(port.nodePort),
    }
}

fn service_status(status: ServiceStatusMessage) -> object::ServiceStatus {
    let ingress = status.loadBalancer.unwrap_or_default().ingress.into_iter();
    let ingress =
        ingress.map(|of| object::LoadBalancerIngress { ip: of.ip, ip_mode: of.ipMode }).collect();
    object::ServiceStatus { load_balancer: object::LoadBalancerStatus { ingress } }
}

fn endpoint(endpoint: EndpointMessage) -> object::SliceEndpoint {
    let conditions = endpoint.conditions.unwrap_or_default();
    let hints = endpoint.hints.unwrap_or_default();
    let target = endpoint.targetRef.map(|target| {
        Box::new(object::TargetRef {
            kind: target.kind.into(),
            namespace: target.namespace.into(),
            name: target.name.into(),
        })
    });
    object::SliceEndpoint {
        addresses: endpoint.addresses,
        conditions: object::EndpointConditions {
            ready: conditions.ready,
            serving: conditions.serving,
            terminating: conditions.terminating,
        },
        node_name: endpoint.nodeName,
        hints: object::EndpointHints {
            for_zones: hinted(hints.forZones),
            for_nodes: hinted(hints.forNodes),
        },
        target_ref: target,
    }
}

fn hinted(names: Vec<HintedNameMessage>) -> Vec<object::HintedName> {
    names.into_iter().map(|hint| object::HintedName { name: hint.name }).collect()
}

fn endpoint_port(port: EndpointPortMessage) -> object::EndpointPort {
    let EndpointPortMessage { name, protocol, port } = port;
    object::EndpointPort { name, protocol, port: port.map(i64::from) }
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn not_zero(number: i32) -> Option<i64> {
    Some(i64::from(number)).filter(|number| *number != 0)
}

/// Go does not write text that is not UTF-8. Like its JSON encoder, this replaces invalid bytes.
fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
