//! Objects in protobuf: what a real API server sent, all fields that are read, and bad bytes.
//!
//! `recordings/` holds the answers of kube-apiserver 1.36 to the same requests for protobuf and for
//! JSON, see its README.md.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
#![allow(clippy::cast_possible_truncation, reason = "the encoder is for tests")]

#[path = "../../../tests/agent/api_server/protobuf.rs"]
#[allow(dead_code, reason = "the test API server uses the rest")]
mod encoder;

use std::path::PathBuf;

use prost::bytes::Bytes;
use rulegen_model::protobuf::{
    FRAME_PREFIX, ProtobufError, event, frame_length, labels, list, object, status, typed,
};
use rulegen_model::{Kind, Object, read_labels, read_object};
use serde_json::{Value, json};

fn recorded(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    std::fs::read(folder.join(name)).unwrap()
}

fn recorded_json(name: &str) -> Value {
    serde_json::from_slice(&recorded(name)).unwrap()
}

const LISTS: [(&str, Kind); 4] = [
    ("services", Kind::Service),
    ("endpointslices", Kind::EndpointSlice),
    ("nodes", Kind::Node),
    ("servicecidrs", Kind::ServiceCidr),
];

fn of_json(kind: Kind, json: &Value) -> Object {
    read_object(kind, &json.to_string()).unwrap()
}

#[test]
fn recorded_lists_give_the_same_objects_in_protobuf_and_json() {
    for (name, kind) in LISTS {
        let json = recorded_json(&format!("{name}.list.json"));
        let bytes = typed(&recorded(&format!("{name}.list.pb")).into()).unwrap();
        assert_eq!(
            (json["kind"].as_str(), json["apiVersion"].as_str()),
            (Some(&*bytes.kind), Some(&*bytes.api_version))
        );
        let read = list(&bytes.raw).unwrap();
        assert_eq!(json["metadata"]["resourceVersion"], *read.resource_version);
        assert!(read.has_metadata && read.next.is_empty());
        let items = json["items"].as_array().unwrap();
        assert!(!items.is_empty() && items.len() == read.items.len(), "{name}");
        for (json, raw) in items.iter().zip(&read.items) {
            let of = object(kind, raw);
            assert_eq!(json["metadata"]["name"], *of.name);
            assert_eq!(json["metadata"]["resourceVersion"], *of.resource_version);
            assert_eq!(of.object.unwrap(), of_json(kind, json));
            assert_eq!(labels(raw), read_labels(&json.to_string()));
        }
    }
}

#[test]
fn recorded_page_has_a_continue_token() {
    let bytes = typed(&recorded("endpointslices.page1.pb").into()).unwrap();
    let page = list(&bytes.raw).unwrap();
    assert_eq!(page.items.len(), 5);
    assert!(page.next.starts_with("eyJ2Ijoi"), "{}", page.next);
    assert_eq!(page.resource_version, "103");
}

/// The events of a watch.
fn events(mut bytes: Bytes) -> Vec<(String, Bytes)> {
    let mut events = Vec::new();
    while let Some(length) = frame_length(&bytes) {
        let mut frame = bytes.split_to(FRAME_PREFIX + length);
        let of = event(&frame.split_off(FRAME_PREFIX)).unwrap();
        events.push((of.event, of.object));
    }
    assert!(bytes.is_empty());
    events
}

#[test]
fn recorded_watch_gives_the_same_events_in_protobuf_and_json() {
    let json = String::from_utf8(recorded("endpointslices.watch.json")).unwrap();
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let read = events(recorded("endpointslices.watch.pb").into());
    assert_eq!(read.len(), json.len());
    for ((kind, bytes), json) in read.into_iter().zip(json) {
        assert_eq!(json["type"], *kind);
        let bytes = typed(&bytes).unwrap();
        let json = &json["object"];
        assert_eq!((&*bytes.kind, &*bytes.api_version), ("EndpointSlice", "discovery.k8s.io/v1"));
        let of = object(Kind::EndpointSlice, &bytes.raw);
        assert_eq!(json["metadata"]["resourceVersion"], *of.resource_version);
        assert_eq!(of.object.unwrap(), of_json(Kind::EndpointSlice, json));
    }
}

#[test]
fn recorded_refusal_of_a_streaming_list_is_a_status() {
    let read = events(recorded("services.watchlist.pb").into());
    let [(kind, bytes)] = read.as_slice() else { panic!("{read:?}") };
    let bytes = typed(bytes).unwrap();
    assert_eq!((&**kind, &*bytes.kind, &*bytes.api_version), ("ERROR", "Status", "v1"));
    let status = status(&bytes.raw).unwrap();
    let json = recorded_json("services.watchlist.json");
    assert_eq!(json["object"]["message"], *status.message);
    assert_eq!((&*status.reason, status.code), ("InternalError", 500));
}

/// So the test API server sends what a real one would.
#[test]
fn encoder_of_the_tests_writes_the_recorded_bytes() {
    for (name, _) in LISTS {
        let json = recorded_json(&format!("{name}.list.json"));
        let bytes = recorded(&format!("{name}.list.pb"));
        assert!(encoder::object(&json) == bytes, "{name}");
    }
    let json = String::from_utf8(recorded("endpointslices.watch.json")).unwrap();
    let events = json.lines().flat_map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        encoder::event(event["type"].as_str().unwrap(), &event["object"])
    });
    assert!(events.collect::<Vec<u8>>() == recorded("endpointslices.watch.pb"));
    let json = recorded_json("services.watchlist.json");
    assert!(encoder::event("ERROR", &json["object"]) == recorded("services.watchlist.pb"));
}

/// A page of slices with five endpoints.
#[test]
fn page_in_protobuf_has_at_most_45_percent_of_the_bytes_of_json() {
    let slice = |n: usize| {
        let endpoint = |e: usize| {
            json!({
                "addresses": [format!("10.{e}.{}.{}", n / 250, n % 250)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", n % 100), "zone": "zone-a",
            })
        };
        json!({
            "metadata": {
                "name": format!("web-{n}-abcde"), "namespace": "shop",
                "uid": "d12380b9-d68d-42f9-8a60-d083adbbbcbf", "resourceVersion": n.to_string(),
                "generation": 1, "creationTimestamp": "2026-11-27T02:56:22Z",
                "labels": {"kubernetes.io/service-name": format!("web-{n}")},
            },
            "addressType": "IPv4", "endpoints": (0..5).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        })
    };
    let page = json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"resourceVersion": "7"}, "items": (0..500).map(slice).collect::<Vec<_>>(),
    });
    let (protobuf, json) = (encoder::object(&page).len(), page.to_string().len());
    assert!(protobuf * 100 <= json * 45, "{protobuf} of {json} bytes");
}

/// Values for all fields that are read.
fn full(kind: Kind) -> Value {
    let metadata = json!({
        "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
        "creationTimestamp": "2026-11-27T02:56:22Z", "deletionTimestamp": "2027-02-28T23:59:59Z",
        "labels": {
            "kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "",
            "service.kubernetes.io/service-proxy-name": "p", "topology.kubernetes.io/zone": "z",
            "app": "b",
        },
        "annotations": {
            "rulegen/load-balancing": "source-hash",
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-11-27T11:59:58.5Z",
            "other": "o",
        },
    });
    match kind {
        Kind::Service => json!({
            "kind": "Service", "apiVersion": "v1", "metadata": metadata,
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.10",
                "clusterIPs": ["10.96.0.10", "fd00::10"], "ipFamilies": ["IPv4", "IPv6"],
                "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": ["198.51.100.0/24"],
                "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
                "healthCheckNodePort": 31000, "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
                "selector": {"app": "web"}, "loadBalancerClass": "c",
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080,
                     "targetPort": "web", "appProtocol": "h2c"},
                    {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
                ],
            },
            "status": {"loadBalancer": {"ingress": [
                {"ip": "203.0.113.1", "ipMode": "Proxy"}, {"hostname": "h"},
            ]}},
        }),
        Kind::EndpointSlice => json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": ["10.244.1.5", "10.244.1.6"], "nodeName": "node-1", "zone": "z",
                    "hostname": "h", "conditions": {"ready": true, "serving": false},
                    "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n"}]},
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u"},
                },
                {"addresses": ["10.244.1.7"], "conditions": {"terminating": true}},
                {"addresses": ["10.244.1.8"], "conditions": {}, "hints": {}},
            ],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": ""}],
        }),
        Kind::Node => json!({
            "kind": "Node", "apiVersion": "v1", "metadata": metadata,
            "spec": {
                "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"],
                "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
            },
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.10"}]},
        }),
        Kind::ServiceCidr => json!({
            "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": metadata,
            "spec": {"cidrs": ["10.96.0.0/12", "fd00::/112"]},
        }),
    }
}

/// All values within a JSON value, by their paths.
fn paths(value: &Value, path: &str, all: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let path = format!("{path}/{name}");
        paths(child, &path, all);
        all.push(path);
    }
}

fn remove(value: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.remove(&name.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        _ => unreachable!(),
    }
}

/// With all fields, and without each of them.
#[test]
fn object_fields_in_protobuf_are_those_in_json() {
    for kind in Kind::ALL {
        let full = full(kind);
        let mut all = Vec::new();
        paths(&full, "", &mut all);
        all.retain(|path| !["/kind", "/apiVersion"].contains(&path.as_str()));
        let without = all.iter().map(|path| {
            let mut object = full.clone();
            remove(&mut object, path);
            (path.as_str(), object)
        });
        for (path, json) in without.chain([("", full.clone())]) {
            let bytes = typed(&encoder::object(&json).into()).unwrap();
            let read = object(kind, &bytes.raw);
            assert_eq!(read.object.unwrap(), as_the_server_writes(kind, json), "without {path:?}");
        }
    }
}

/// The API server writes these fields also if they have no value.
fn as_the_server_writes(kind: Kind, mut json: Value) -> Object {
    let ports = json.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter(|port| port["port"].is_null()) {
        port["port"] = 0.into();
    }
    of_json(kind, &json)
}

/// Each damage, and what the error says.
#[test]
fn protobuf_that_is_damaged_is_an_error_with_kind_and_field() {
    let list_of = |items: &[u8]| [&encoder::piece(1, b"")[..], items].concat();
    let whole = encoder::object(&full(Kind::Service));
    let error = |bytes: &[u8]| typed(&Bytes::copy_from_slice(bytes)).unwrap_err().to_string();
    assert_eq!(error(b"<html>\x1b"), "does not start with \"k8s\\0\" but with \"<html>\\u{1b}\"");
    assert_eq!(error(b""), "does not start with \"k8s\\0\" but with \"\"");
    assert_eq!(error(b"k8s"), "does not start with \"k8s\\0\" but with \"k8s\"");
    assert_eq!(error(b"k8s\0\xff"), "invalid varint");
    let huge = [b"k8s\0\x12".to_vec(), encoder::varint(u64::MAX)].concat();
    assert_eq!(error(&huge), "raw: buffer underflow");
    let compressed = [&b"k8s\0"[..], &encoder::piece(3, b"gzip")].concat();
    assert_eq!(error(&compressed), "unsupported encoding \"gzip\" of the object");
    assert_eq!(error(&whole[..whole.len() / 2]), "raw: buffer underflow");

    let error = |bytes: Vec<u8>| list(&bytes.into()).unwrap_err().to_string();
    assert!(error(list_of(&[0x10, 1])).starts_with("items: invalid wire type"), "items");
    assert_eq!(
        error(encoder::piece(1, &encoder::piece(2, b"\xff"))),
        "metadata.resourceVersion: invalid string value: data is not UTF-8 encoded"
    );
    assert_eq!(error(list_of(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f])), "items: buffer underflow");

    // The name is known, so only this object is left out.
    let named = encoder::piece(1, &encoder::piece(1, b"a"));
    for (kind, field, expected) in [
        (
            Kind::Service,
            encoder::piece(2, &encoder::numeral(1, 1)),
            "Service default/a: spec.ports: invalid wire type",
        ),
        (
            Kind::Service,
            encoder::piece(2, &encoder::piece(1, &encoder::piece(3, b""))),
            "Service default/a: spec.ports.port: invalid wire type",
        ),
        (
            Kind::Service,
            encoder::piece(2, &encoder::piece(3, b"\xff")),
            "Service default/a: spec.clusterIP: invalid string value",
        ),
        (
            Kind::EndpointSlice,
            encoder::piece(2, b"\x0a\x7f"),
            "EndpointSlice default/a: endpoints.addresses: buffer underflow",
        ),
        (
            Kind::EndpointSlice,
            encoder::piece(3, b"\x18"),
            "EndpointSlice default/a: ports.port: invalid varint",
        ),
        (
            Kind::Node,
            encoder::piece(3, &encoder::numeral(5, 1)),
            "Node a: status.addresses: invalid wire type",
        ),
        (Kind::ServiceCidr, encoder::numeral(2, 1), "ServiceCIDR a: spec: invalid wire type"),
    ] {
        let read = object(kind, &[&named[..], &field].concat().into());
        assert_eq!(read.name, "a");
        let problem = read.object.unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{problem}");
    }
}

/// A field of a newer version, and another kind's object.
#[test]
fn protobuf_with_unknown_fields_is_read() {
    for kind in Kind::ALL {
        let bytes = typed(&encoder::object(&full(kind)).into()).unwrap();
        let unknown = [
            &bytes.raw[..],
            &encoder::numeral(15, 1),
            &encoder::piece(15, b"new"),
            &[0x79, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x7d, 1, 2, 3, 4],
            &[0x7b, 0x08, 1, 0x7c],
        ]
        .concat();
        let read = object(kind, &unknown.into());
        assert_eq!(read.object.unwrap(), of_json(kind, &full(kind)));
    }
}

/// No input panics: each recording cut at each place, and with each byte changed.
#[test]
fn protobuf_that_is_cut_or_changed_does_not_panic() {
    let read = |bytes: Vec<u8>, kind: Kind| {
        let Ok(bytes) = typed(&bytes.into()) else { return };
        let _ = status(&bytes.raw);
        let Ok(list) = list(&bytes.raw) else { return };
        for item in list.items {
            let _ = (object(kind, &item), labels(&item));
        }
    };
    for (name, kind) in LISTS {
        let whole = recorded(&format!("{name}.list.pb"));
        for at in 0..whole.len() {
            read(whole[..at].to_vec(), kind);
            for change in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                read(changed, kind);
            }
        }
    }
    assert_eq!(frame_length(b"\0\0\0"), None);
    assert_eq!(frame_length(b"\xff\xff\xff\xff"), Some(u32::MAX as usize));
    assert!(matches!(event(&Bytes::from_static(b"\x12\x05")), Err(ProtobufError::Field { .. })));
}
