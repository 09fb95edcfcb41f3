//! `deploy/kube-proxy-patch.yaml`, applied by kubectl to DaemonSets of kube-proxy.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, PodSpec};
use serde_json::{Value, json};

use crate::common::{Scratch, root, stderr, stdout};
use crate::render::{schema_problems, tool};

/// What decides about scheduling in the DaemonSet that kubeadm 1.36 makes.
fn of_kubeadm() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "kube-proxy", "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": { "k8s-app": "kube-proxy" } },
            "updateStrategy": { "type": "RollingUpdate" },
            "template": {
                "metadata": { "labels": { "k8s-app": "kube-proxy" } },
                "spec": {
                    "containers": [{ "name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.0" }],
                    "hostNetwork": true,
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": "kube-proxy",
                    "tolerations": [{ "operator": "Exists" }],
                },
            },
        },
    })
}

/// As the comment of the patch says, without a cluster.
fn patched(daemonset: &Value) -> Value {
    let scratch = Scratch::new("kube-proxy-patch");
    let file = scratch.write("daemonset.json", daemonset.to_string());
    let patch = root().join("deploy/kube-proxy-patch.yaml");
    let output = Command::new(tool("kubectl"))
        .args(["patch", "--local", "-o", "json", "-f", &file, "--patch-file"])
        .arg(patch)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn runs_on(daemonset: &Value, labels: &[(&str, &str)]) -> bool {
    let daemonset: DaemonSet = serde_json::from_value(daemonset.clone()).unwrap();
    let pod: PodSpec = daemonset.spec.unwrap().template.spec.unwrap();
    let labels: BTreeMap<&str, &str> =
        [("kubernetes.io/os", "linux")].iter().chain(labels).copied().collect();
    let selected = pod.node_selector.unwrap_or_default();
    let is_selected =
        selected.iter().all(|(label, value)| labels.get(label.as_str()) == Some(&value.as_str()));
    let affinity = pod.affinity.and_then(|affinity| affinity.node_affinity);
    let required = affinity.and_then(|of| of.required_during_scheduling_ignored_during_execution);
    let terms = required.map(|required| required.node_selector_terms).unwrap_or_default();
    let matches = |of: &NodeSelectorRequirement| {
        let value = labels.get(of.key.as_str()).copied();
        let is_listed = of.values.iter().flatten().any(|listed| Some(listed.as_str()) == value);
        match of.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            other => panic!("{other}"),
        }
    };
    let is_allowed = terms.iter().any(|term| term.match_expressions.iter().flatten().all(matches));
    is_selected && (terms.is_empty() || is_allowed)
}

#[test]
fn kube_proxy_patch_keeps_kubeadm_s_kube_proxy_from_labelled_nodes_only() {
    let before = of_kubeadm();
    let after = patched(&before);
    assert_eq!(schema_problems(&after), "");
    for (labels, expected) in [
        (&[][..], true),
        (&[("service-proxy", "rulegen")], false),
        (&[("service-proxy", "other")], true),
        (&[("kubernetes.io/os", "windows")], false),
    ] {
        assert_eq!(runs_on(&after, labels), expected, "{labels:?}");
    }
    assert!(runs_on(&before, &[("service-proxy", "rulegen")]));
    let mut rest = after;
    rest["spec"]["template"]["spec"].as_object_mut().unwrap().remove("affinity");
    assert_eq!(rest, before, "nothing else changes");
}

/// The comment of the patch says so: Kubernetes replaces the list of terms.
#[test]
fn kube_proxy_patch_replaces_a_node_affinity() {
    let mut of_provider = of_kubeadm();
    of_provider["spec"]["template"]["spec"]["affinity"] = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "virtual", "operator": "NotIn", "values": ["yes"] }] },
        ] },
    } });
    assert!(!runs_on(&of_provider, &[("virtual", "yes")]));
    assert!(runs_on(&patched(&of_provider), &[("virtual", "yes")]));
    let patch = std::fs::read_to_string(root().join("deploy/kube-proxy-patch.yaml")).unwrap();
    assert!(patch.contains("replaces a node affinity"), "{patch}");
}
