//! Renders the chart and kustomizations, and compares and checks the objects.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cases::Case;
use crate::common::{Scratch, root, stderr, stdout};
use crate::monitoring::{PodMonitor, PrometheusRule};

/// A chart's folder or package.
pub(crate) struct Chart(pub(crate) PathBuf);

impl Chart {
    pub(crate) fn of_project() -> Self {
        Self(root().join("deploy/chart"))
    }

    /// The rendered objects, in the same order as those of [`kustomize`].
    pub(crate) fn objects(&self, namespace: &str, values: &Value) -> Vec<Value> {
        let templates = self.templates(namespace, values);
        let manifests = templates.iter().filter(|(name, _)| !name.ends_with("NOTES.txt"));
        sorted(manifests.flat_map(|(_, text)| documents(text.as_str().unwrap())).collect())
    }

    pub(crate) fn notes(&self, values: &Value) -> String {
        let templates = self.templates("kube-system", values);
        templates["rulegen/templates/NOTES.txt"].as_str().unwrap().to_owned()
    }

    fn templates(&self, namespace: &str, values: &Value) -> serde_json::Map<String, Value> {
        let request = json!({ "command": "template", "namespace": namespace });
        self.helm(request, values).unwrap().as_object().unwrap().clone()
    }

    pub(crate) fn lint(&self, values: &Value) -> Value {
        self.helm(json!({ "command": "lint" }), values).unwrap()
    }

    /// Why Helm rejects the values.
    pub(crate) fn rejection(&self, values: &Value) -> Option<String> {
        let request = json!({ "command": "template", "namespace": "kube-system" });
        self.helm(request, values).err()
    }

    pub(crate) fn package(&self, destination: &Path) -> PathBuf {
        let request = json!({ "command": "package", "destination": destination });
        PathBuf::from(self.helm(request, &json!({})).unwrap().as_str().unwrap())
    }

    fn helm(&self, mut request: Value, values: &Value) -> Result<Value, String> {
        request["chart"] = json!(self.0);
        request["values"] = values.clone();
        let mut helm = Command::new(tool("python"))
            .arg(root().join("tests/chart/helm.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        helm.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        let output = helm.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(stderr(&output)),
        }
    }
}

/// A copy of `deploy` with the case's kustomization beside it; the folder of the latter.
pub(crate) fn kustomization(scratch: &Scratch, case: &Case) -> PathBuf {
    let folder = scratch.0.join(case.name.replace(' ', "-"));
    fs::create_dir(&folder).unwrap();
    // kubectl does not read files outside of a kustomization's folder, but it reads other kustomizations.
    let copy = scratch.0.join("deploy");
    if !copy.exists() {
        let copied = Command::new("cp").arg("-r").arg(root().join("deploy")).arg(&copy).status();
        assert!(copied.unwrap().success());
    }
    for (name, text) in &case.files {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("kustomization.yaml"), &case.kustomization).unwrap();
    folder
}

/// The objects of a kustomization.
pub(crate) fn kustomize(folder: &Path) -> Vec<Value> {
    let output = Command::new(tool("kubectl")).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}: {}", folder.display(), stderr(&output));
    sorted(documents(&stdout(&output)))
}

pub(crate) fn tool(name: &str) -> PathBuf {
    let path = root().join("target/tools/deploy/bin").join(name);
    assert!(path.exists(), "{} is missing: ci/check-deploy installs it", path.display());
    path
}

fn documents(text: &str) -> Vec<Value> {
    let text = format!("\n{text}");
    let documents = text.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects
        .sort_by_key(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()));
    objects
}

/// What differs between two lists of objects, apart from the hash in the ConfigMap's name, comments
/// in its files, and the order of volumes. Empty if nothing does.
pub(crate) fn difference(wanted: &[Value], found: &[Value]) -> String {
    let text = |objects: &[Value]| {
        let comparable: Vec<Value> = objects.iter().map(comparable).collect();
        serde_json::to_string_pretty(&comparable).unwrap()
    };
    let (wanted, found) = (text(wanted), text(found));
    if wanted == found { String::new() } else { crate::common::difference(&wanted, &found) }
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "ConfigMap" {
        without_hash(&mut object["metadata"]["name"]);
        for file in object["data"].as_object_mut().unwrap().values_mut() {
            *file = serde_saphyr::from_str(file.as_str().unwrap()).unwrap();
        }
    }
    if object["kind"] == "DaemonSet" {
        let volumes = object["spec"]["template"]["spec"]["volumes"].as_array_mut().unwrap();
        // They are found by name.
        volumes.sort_by_key(|volume| volume["name"].to_string());
        let mut maps = volumes.iter_mut().filter_map(|volume| volume.get_mut("configMap"));
        without_hash(&mut maps.next().unwrap()["name"]);
    }
    object
}

/// kustomize and Helm compute it differently.
fn without_hash(name: &mut Value) {
    if let Some(hash) = name.as_str().unwrap().strip_prefix("rulegen-") {
        assert_eq!(hash.len(), 10, "{name}");
        *name = json!("rulegen-HASH");
    }
}

/// What the types of Kubernetes and the Prometheus operator do not know of an object, or have in addition; empty if nothing.
pub(crate) fn schema_problems(object: &Value) -> String {
    let version_and_kind =
        (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let read = match version_and_kind {
        ("apps/v1", "DaemonSet") => read_as::<DaemonSet>,
        ("v1", "ConfigMap") => read_as::<ConfigMap>,
        ("v1", "ServiceAccount") => read_as::<ServiceAccount>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => read_as::<ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => read_as::<ClusterRoleBinding>,
        ("monitoring.coreos.com/v1", "PodMonitor") => read_as::<PodMonitor>,
        ("monitoring.coreos.com/v1", "PrometheusRule") => read_as::<PrometheusRule>,
        other => panic!("no schema for {other:?}"),
    };
    let known = read(object);
    if known == *object {
        return String::new();
    }
    let text = |of: &Value| serde_json::to_string_pretty(of).unwrap();
    crate::common::difference(&text(object), &text(&known))
}

/// Unknown fields get lost, and missing required ones appear.
fn read_as<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object}"));
    serde_json::to_value(typed).unwrap()
}
