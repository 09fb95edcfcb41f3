//! Parts of objects that do not affect rules. They are read only for commands that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rulegen_net::parse_address;
use serde::Deserialize;

use crate::object::{Metadata, object, objects, or_default};
use crate::object_key::ObjectKey;

/// Parts of objects that do not affect rules.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// All labels of the Services.
    pub service_labels: BTreeMap<ObjectKey, ServiceLabels>,
    /// The pods that stand behind endpoints, by namespace and name.
    pub pods: BTreeMap<ObjectKey, PodDetails>,
}

/// All labels of a Service. A label without a value has the empty string.
pub type ServiceLabels = BTreeMap<String, String>;

/// A Pod, as far as it can send packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDetails {
    /// Its addresses. A Pod that has ended has none: another may have its address.
    pub addresses: BTreeSet<IpAddr>,
    /// All its labels. A label without a value has the empty string.
    pub labels: BTreeMap<String, String>,
    /// The node that it runs on (`spec.nodeName`).
    pub node: Option<String>,
}

impl Details {
    /// Adds others. The first object of a name counts, as for rules.
    pub(crate) fn append(&mut self, other: Self) {
        for (key, labels) in other.service_labels {
            self.service_labels.entry(key).or_insert(labels);
        }
        for (key, pod) in other.pods {
            self.pods.entry(key).or_insert(pod);
        }
    }
}

/// The labels of a valid object in JSON.
pub fn read_labels(json: &str) -> ServiceLabels {
    serde_json::from_str::<Labelled>(json).unwrap_or_default().labels()
}

/// An object of which only the labels are read.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Labelled {
    #[serde(deserialize_with = "object")]
    metadata: LabelledMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelledMetadata {
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, Option<String>>,
}

impl Labelled {
    pub(crate) fn labels(self) -> ServiceLabels {
        let labels = self.metadata.labels.into_iter();
        labels.map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }
}

/// A core/v1 Pod.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    #[serde(deserialize_with = "object")]
    pub(crate) metadata: Metadata,
    #[serde(deserialize_with = "object")]
    spec: PodSpec,
    #[serde(deserialize_with = "object")]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs", deserialize_with = "objects")]
    pod_ips: Vec<PodIp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodIp {
    #[serde(deserialize_with = "or_default")]
    ip: String,
}

impl Pod {
    /// The Pod with these labels.
    pub(crate) fn details(self, labels: BTreeMap<String, String>) -> PodDetails {
        let addresses = self.addresses();
        PodDetails { addresses, labels, node: self.spec.node_name.filter(|name| !name.is_empty()) }
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let status = &self.status;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return BTreeSet::new();
        }
        let all = status.pod_ips.iter().map(|pod_ip| &pod_ip.ip).chain(&status.pod_ip);
        all.filter_map(|ip| parse_address(ip)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Objects, read_manifest};

    #[test]
    fn pods_are_kept_with_their_addresses_only_if_asked_for() {
        let pod = |name: &str, status: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "n"}}, "status": {status}}}"#
            )
        };
        let pods = [
            pod(
                "a",
                r#"{"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}"#,
            ),
            pod("single", r#"{"podIP": "10.0.0.2"}"#),
            pod("ended", r#"{"phase": "Succeeded", "podIP": "10.0.0.3"}"#),
            pod("pending", r#"{"phase": "Pending", "podIPs": null}"#),
            pod("wrong", r#"{"podIPs": [{"ip": "x"}, {}]}"#),
        ];
        let list =
            format!(r#"{{"apiVersion": "v1", "kind": "PodList", "items": [{}]}}"#, pods.join(","));
        let events = format!(
            r#"{{"type": "ADDED", "object": {0}}} {{"type": "MODIFIED", "object": {1}}} {{"type": "ADDED", "object": {2}}} {{"type": "DELETED", "object": {2}}}"#,
            pod("b", r#"{"podIP": "10.0.0.4"}"#),
            pod("b", r#"{"podIP": "10.0.0.5"}"#),
            pod("gone", r#"{"podIP": "10.0.0.6"}"#),
        );
        let mut objects = Objects::with_details();
        let mut without = Objects::default();
        for text in [&list, &events] {
            assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
            assert_eq!(read_manifest("test", text.as_bytes(), &mut without), []);
        }
        let addresses = |name: &str| {
            let addresses = objects.pod_addresses("n", name).into_iter();
            addresses.map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(addresses("a"), ["10.0.0.1", "fd00::1"]);
        assert_eq!(addresses("single"), ["10.0.0.2"]);
        assert_eq!(addresses("b"), ["10.0.0.5"], "the last event counts");
        for name in ["ended", "pending", "wrong", "gone"] {
            assert!(addresses(name).is_empty(), "{name}");
        }
        assert!(objects.ignored.is_empty());
        assert!(without.pod_addresses("n", "a").is_empty());
        assert_eq!(without.ignored["Pod"], 9);
    }

    #[test]
    fn pods_are_kept_with_their_labels_and_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web, empty: }}\nspec: {nodeName: node-1}\nstatus: {podIP: 10.0.0.1}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {nodeName: ''}";
        let mut objects = Objects::with_details();
        assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
        let pods = objects.details.unwrap().pods;
        let labels = [("app", "web"), ("empty", "")].map(|(key, value)| (key.into(), value.into()));
        let a = PodDetails {
            addresses: ["10.0.0.1".parse().unwrap()].into(),
            labels: labels.into(),
            node: Some("node-1".to_owned()),
        };
        assert_eq!(pods[&ObjectKey::new("default", "a")], a);
        assert_eq!(pods[&ObjectKey::new("default", "b")], PodDetails::default());
    }

    /// From YAML and from the items of a JSON list. The first of two objects with one name counts.
    #[test]
    fn labels_of_services_are_kept_only_if_asked_for() {
        let texts = [
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {app: web, empty: }}",
            r#"{"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "c", "labels": null}},
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"app": "other"}}}]}"#,
            r#"{"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d", "labels": {"x": "y"}}}}"#,
        ];
        let mut objects = Objects::with_details();
        let mut without = Objects::default();
        for text in texts {
            assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
            assert_eq!(read_manifest("test", text.as_bytes(), &mut without), []);
        }
        assert!(without.details.is_none());
        let labels = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect::<ServiceLabels>()
        };
        let expected = [
            (ObjectKey::new("c", "b"), labels(&[])),
            (ObjectKey::new("default", "a"), labels(&[("app", "web"), ("empty", "")])),
            (ObjectKey::new("default", "d"), labels(&[("x", "y")])),
        ];
        assert_eq!(objects.details.unwrap().service_labels, expected.into());
        let json = r#"{"kind": "Service", "metadata": {"labels": {"a": "b"}}, "spec": {}}"#;
        assert_eq!(read_labels(json), labels(&[("a", "b")]));
    }
}
