//! Writes objects in protobuf, byte for byte as Go writes them.
//!
//! The tables are those of `generated.proto` in Kubernetes' `api` and `apimachinery` modules. They
//! have more fields than the agent reads, so that sizes are realistic.

use serde_json::Value;

/// Number, name in JSON, presence, shape.
struct Field(u8, &'static str, Presence, Shape);

/// When Go writes a field.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    /// Always: it is not a pointer.
    Always,
    /// If it is set.
    Pointer,
    /// For each element.
    List,
}

use Presence::{Always, List, Pointer};

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Number,
    Bool,
    /// A map of texts.
    Map,
    /// Seconds and nanoseconds; RFC 3339 in JSON.
    Time,
    /// `intstr.IntOrString`.
    NumberOrText,
    /// Any JSON, as text in the first field (`meta/v1 FieldsV1`).
    Json,
    Message(&'static [Field]),
}

use Shape::{Bool, Json, Map, Message, Number, NumberOrText, Text, Time};

const META: &[Field] = &[
    Field(1, "name", Always, Text),
    Field(2, "generateName", Always, Text),
    Field(3, "namespace", Always, Text),
    Field(4, "selfLink", Always, Text),
    Field(5, "uid", Always, Text),
    Field(6, "resourceVersion", Always, Text),
    Field(7, "generation", Always, Number),
    Field(8, "creationTimestamp", Always, Time),
    Field(9, "deletionTimestamp", Pointer, Time),
    Field(10, "deletionGracePeriodSeconds", Pointer, Number),
    Field(11, "labels", Pointer, Map),
    Field(12, "annotations", Pointer, Map),
    Field(13, "ownerReferences", List, Message(OWNER)),
    Field(14, "finalizers", List, Text),
    Field(17, "managedFields", List, Message(MANAGED)),
];

const OWNER: &[Field] = &[
    Field(1, "kind", Always, Text),
    Field(3, "name", Always, Text),
    Field(4, "uid", Always, Text),
    Field(5, "apiVersion", Always, Text),
    Field(6, "controller", Pointer, Bool),
    Field(7, "blockOwnerDeletion", Pointer, Bool),
];

const MANAGED: &[Field] = &[
    Field(1, "manager", Always, Text),
    Field(2, "operation", Always, Text),
    Field(3, "apiVersion", Always, Text),
    Field(4, "time", Pointer, Time),
    Field(6, "fieldsType", Always, Text),
    Field(7, "fieldsV1", Pointer, Json),
    Field(8, "subresource", Always, Text),
];

const LIST_META: &[Field] = &[
    Field(1, "selfLink", Always, Text),
    Field(2, "resourceVersion", Always, Text),
    Field(3, "continue", Always, Text),
    Field(4, "remainingItemCount", Pointer, Number),
];

const CONDITION: &[Field] = &[
    Field(1, "type", Always, Text),
    Field(2, "status", Always, Text),
    Field(3, "observedGeneration", Always, Number),
    Field(4, "lastTransitionTime", Always, Time),
    Field(5, "reason", Always, Text),
    Field(6, "message", Always, Text),
];

const STATUS: &[Field] = &[
    Field(1, "metadata", Always, Message(LIST_META)),
    Field(2, "status", Always, Text),
    Field(3, "message", Always, Text),
    Field(4, "reason", Always, Text),
    Field(5, "details", Pointer, Message(STATUS_DETAILS)),
    Field(6, "code", Always, Number),
];

const STATUS_DETAILS: &[Field] = &[
    Field(1, "name", Always, Text),
    Field(2, "group", Always, Text),
    Field(3, "kind", Always, Text),
    Field(4, "causes", List, Message(STATUS_CAUSE)),
    Field(5, "retryAfterSeconds", Always, Number),
    Field(6, "uid", Always, Text),
];

const STATUS_CAUSE: &[Field] = &[
    Field(1, "reason", Always, Text),
    Field(2, "message", Always, Text),
    Field(3, "field", Always, Text),
];

const SERVICE: &[Field] = &[
    Field(1, "metadata", Always, Message(META)),
    Field(2, "spec", Always, Message(SERVICE_SPEC)),
    Field(3, "status", Always, Message(SERVICE_STATUS)),
];

const SERVICE_SPEC: &[Field] = &[
    Field(1, "ports", List, Message(SERVICE_PORT)),
    Field(2, "selector", Pointer, Map),
    Field(3, "clusterIP", Always, Text),
    Field(4, "type", Always, Text),
    Field(5, "externalIPs", List, Text),
    Field(7, "sessionAffinity", Always, Text),
    Field(8, "loadBalancerIP", Always, Text),
    Field(9, "loadBalancerSourceRanges", List, Text),
    Field(10, "externalName", Always, Text),
    Field(11, "externalTrafficPolicy", Always, Text),
    Field(12, "healthCheckNodePort", Always, Number),
    Field(13, "publishNotReadyAddresses", Always, Bool),
    Field(14, "sessionAffinityConfig", Pointer, Message(AFFINITY)),
    Field(17, "ipFamilyPolicy", Pointer, Text),
    Field(18, "clusterIPs", List, Text),
    Field(19, "ipFamilies", List, Text),
    Field(20, "allocateLoadBalancerNodePorts", Pointer, Bool),
    Field(21, "loadBalancerClass", Pointer, Text),
    Field(22, "internalTrafficPolicy", Pointer, Text),
    Field(23, "trafficDistribution", Pointer, Text),
];

const SERVICE_PORT: &[Field] = &[
    Field(1, "name", Always, Text),
    Field(2, "protocol", Always, Text),
    Field(3, "port", Always, Number),
    Field(4, "targetPort", Always, NumberOrText),
    Field(5, "nodePort", Always, Number),
    Field(6, "appProtocol", Pointer, Text),
];

const AFFINITY: &[Field] =
    &[Field(1, "clientIP", Pointer, Message(&[Field(1, "timeoutSeconds", Pointer, Number)]))];

const SERVICE_STATUS: &[Field] = &[
    Field(1, "loadBalancer", Always, Message(&[Field(1, "ingress", List, Message(INGRESS))])),
    Field(2, "conditions", List, Message(CONDITION)),
];

const INGRESS: &[Field] = &[
    Field(1, "ip", Always, Text),
    Field(2, "hostname", Always, Text),
    Field(3, "ipMode", Pointer, Text),
];

const ENDPOINT_SLICE: &[Field] = &[
    Field(1, "metadata", Always, Message(META)),
    Field(2, "endpoints", List, Message(ENDPOINT)),
    Field(3, "ports", List, Message(ENDPOINT_PORT)),
    Field(4, "addressType", Always, Text),
];

const ENDPOINT: &[Field] = &[
    Field(1, "addresses", List, Text),
    Field(2, "conditions", Always, Message(ENDPOINT_CONDITIONS)),
    Field(3, "hostname", Pointer, Text),
    Field(4, "targetRef", Pointer, Message(REFERENCE)),
    Field(5, "deprecatedTopology", Pointer, Map),
    Field(6, "nodeName", Pointer, Text),
    Field(7, "zone", Pointer, Text),
    Field(8, "hints", Pointer, Message(HINTS)),
];

const ENDPOINT_CONDITIONS: &[Field] = &[
    Field(1, "ready", Pointer, Bool),
    Field(2, "serving", Pointer, Bool),
    Field(3, "terminating", Pointer, Bool),
];

const REFERENCE: &[Field] = &[
    Field(1, "kind", Always, Text),
    Field(2, "namespace", Always, Text),
    Field(3, "name", Always, Text),
    Field(4, "uid", Always, Text),
    Field(5, "apiVersion", Always, Text),
    Field(6, "resourceVersion", Always, Text),
    Field(7, "fieldPath", Always, Text),
];

const HINTS: &[Field] = &[
    Field(1, "forZones", List, Message(&[Field(1, "name", Always, Text)])),
    Field(2, "forNodes", List, Message(&[Field(1, "name", Always, Text)])),
];

const ENDPOINT_PORT: &[Field] = &[
    Field(1, "name", Pointer, Text),
    Field(2, "protocol", Pointer, Text),
    Field(3, "port", Pointer, Number),
    Field(4, "appProtocol", Pointer, Text),
];

const NODE: &[Field] = &[
    Field(1, "metadata", Always, Message(META)),
    Field(2, "spec", Always, Message(NODE_SPEC)),
    Field(3, "status", Always, Message(NODE_STATUS)),
];

const NODE_SPEC: &[Field] = &[
    Field(1, "podCIDR", Always, Text),
    Field(2, "externalID", Always, Text),
    Field(3, "providerID", Always, Text),
    Field(4, "unschedulable", Always, Bool),
    Field(5, "taints", List, Message(TAINT)),
    Field(7, "podCIDRs", List, Text),
];

const TAINT: &[Field] = &[
    Field(1, "key", Always, Text),
    Field(2, "value", Always, Text),
    Field(3, "effect", Always, Text),
    Field(4, "timeAdded", Pointer, Time),
];

const NODE_STATUS: &[Field] = &[
    Field(3, "phase", Always, Text),
    Field(4, "conditions", List, Message(NODE_CONDITION)),
    Field(
        5,
        "addresses",
        List,
        Message(&[Field(1, "type", Always, Text), Field(2, "address", Always, Text)]),
    ),
    Field(
        6,
        "daemonEndpoints",
        Always,
        Message(&[Field(
            1,
            "kubeletEndpoint",
            Always,
            Message(&[Field(1, "Port", Always, Number)]),
        )]),
    ),
    Field(7, "nodeInfo", Always, Message(NODE_INFO)),
];

const NODE_CONDITION: &[Field] = &[
    Field(1, "type", Always, Text),
    Field(2, "status", Always, Text),
    Field(3, "lastHeartbeatTime", Always, Time),
    Field(4, "lastTransitionTime", Always, Time),
    Field(5, "reason", Always, Text),
    Field(6, "message", Always, Text),
];

const NODE_INFO: &[Field] = &[
    Field(1, "machineID", Always, Text),
    Field(2, "systemUUID", Always, Text),
    Field(3, "bootID", Always, Text),
    Field(4, "kernelVersion", Always, Text),
    Field(5, "osImage", Always, Text),
    Field(6, "containerRuntimeVersion", Always, Text),
    Field(7, "kubeletVersion", Always, Text),
    Field(8, "kubeProxyVersion", Always, Text),
    Field(9, "operatingSystem", Always, Text),
    Field(10, "architecture", Always, Text),
];

const SERVICE_CIDR: &[Field] = &[
    Field(1, "metadata", Always, Message(META)),
    Field(2, "spec", Always, Message(&[Field(1, "cidrs", List, Text)])),
    Field(3, "status", Always, Message(&[Field(1, "conditions", List, Message(CONDITION))])),
];

/// The tables of a kind, and of its list.
fn tables(kind: &str) -> (&'static [Field], &'static [Field]) {
    macro_rules! of {
        ($items:ident) => {
            (
                $items,
                &[
                    Field(1, "metadata", Always, Message(LIST_META)),
                    Field(2, "items", List, Message($items)),
                ],
            )
        };
    }
    match kind {
        "Service" => of!(SERVICE),
        "EndpointSlice" => of!(ENDPOINT_SLICE),
        "Node" => of!(NODE),
        "ServiceCIDR" => of!(SERVICE_CIDR),
        "Status" => of!(STATUS),
        other => panic!("no table for {other}"),
    }
}

/// Whether there are tables of a kind.
pub(crate) fn is_known(kind: &str) -> bool {
    ["Service", "EndpointSlice", "Node", "ServiceCIDR", "Status"].contains(&kind)
}

/// A list or object with its kind.
pub(crate) fn object(object: &Value) -> Vec<u8> {
    let kind = object["kind"].as_str().unwrap();
    let fields = match kind.strip_suffix("List") {
        Some(item) => tables(item).1,
        None => tables(kind).0,
    };
    typed(object["apiVersion"].as_str().unwrap(), kind, &message(fields, object))
}

/// Any bytes as an object of a kind.
pub(crate) fn typed(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [piece(1, api_version.as_bytes()), piece(2, kind.as_bytes())].concat();
    [&b"k8s\0"[..], &piece(1, &meta), &piece(2, raw), &piece(3, b""), &piece(4, b"")].concat()
}

/// An event of a watch, with its length.
pub(crate) fn event(kind: &str, of: &Value) -> Vec<u8> {
    frame(kind, &object(of))
}

/// An event of a watch with any bytes as object.
pub(crate) fn frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let event = [piece(1, kind.as_bytes()), piece(2, &piece(1, object))].concat();
    [&u32::try_from(event.len()).unwrap().to_be_bytes()[..], &event].concat()
}

fn message(fields: &[Field], value: &Value) -> Vec<u8> {
    fields.iter().flat_map(|field| field.bytes(&value[field.1])).collect()
}

impl Field {
    fn bytes(&self, value: &Value) -> Vec<u8> {
        let Self(number, _, presence, shape) = self;
        let elements = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match presence {
            List => elements.iter().flat_map(|value| shape.bytes(*number, value)).collect(),
            Pointer if value.is_null() => Vec::new(),
            Always | Pointer => shape.bytes(*number, value),
        }
    }
}

impl Shape {
    fn bytes(self, number: u8, value: &Value) -> Vec<u8> {
        match self {
            Text => piece(number, value.as_str().unwrap_or_default().as_bytes()),
            Number => numeral(number, value.as_i64().unwrap_or_default()),
            Bool => numeral(number, value.as_bool().unwrap_or_default().into()),
            Map => {
                let entries = value.as_object().unwrap().iter();
                let text = |number, value: &str| piece(number, value.as_bytes());
                let entry = |(key, value): (&String, &Value)| {
                    piece(number, &[text(1, key), text(2, value.as_str().unwrap())].concat())
                };
                entries.flat_map(entry).collect()
            }
            Time => match value.as_str() {
                Some(time) => piece(number, &[numeral(1, seconds(time)), numeral(2, 0)].concat()),
                None => piece(number, b""),
            },
            NumberOrText => {
                let (kind, text) = (i64::from(value.is_string()), value.as_str());
                let (of, text) = (value.as_i64().unwrap_or_default(), text.unwrap_or_default());
                let parts = [numeral(1, kind), numeral(2, of), piece(3, text.as_bytes())];
                piece(number, &parts.concat())
            }
            Json => piece(number, &piece(1, value.to_string().as_bytes())),
            Message(fields) => piece(number, &message(fields, value)),
        }
    }
}

/// Seconds since 1970 of a time such as `2026-11-27T02:56:22Z`.
fn seconds(time: &str) -> i64 {
    let mut parts = time.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let mut next = || -> i64 { parts.next().unwrap_or(0) };
    let (year, month, day) = (next(), next(), next());
    let (hour, minute, second) = (next(), next(), next());
    // Years begin in March, so that a leap day is the last day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    (((days - 719_468) * 24 + hour) * 60 + minute) * 60 + second
}

/// A field of bytes.
pub(crate) fn piece(number: u8, bytes: &[u8]) -> Vec<u8> {
    [varint(u64::from(number) << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A field that is a number.
pub(crate) fn numeral(number: u8, value: i64) -> Vec<u8> {
    [varint(u64::from(number) << 3), varint(value.cast_unsigned())].concat()
}

/// A number in groups of seven bits, the lowest first.
pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
