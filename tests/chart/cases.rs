//! What a user can set: in a kustomization, and the same in the chart's values.

use serde_json::{Value, json};

/// A kustomization and the chart's values that must render the same objects.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) kustomization: String,
    /// Files beside the kustomization.
    pub(crate) files: Vec<(&'static str, &'static str)>,
    pub(crate) values: Value,
}

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
  - name: default
    cluster:
      certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
      server: https://192.0.2.1:6443
users:
  - name: default
    user:
      tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
contexts:
  - name: default
    context:
      cluster: default
      user: default
current-context: default
";

const CONFIG: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection:
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
clusterCIDR: 10.42.0.0/16,2001:db8:42::/56
detectLocalMode: ClusterCIDR
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: -997
conntrack:
  maxPerCore: 1048576
rulegen:
  externalIPs: [none]
";

pub(crate) fn cases() -> Vec<Case> {
    let component = |name, components: &[&str], values| {
        let lines = components.iter().map(|of| format!("  - ../deploy/components/{of}\n"));
        case(name, &format!("components:\n{}", lines.collect::<String>()), values)
    };
    let enabled = json!({ "enabled": true });
    let mut cases = vec![
        case("defaults", "", json!({})),
        component("iptables mode", &["iptables-mode"], json!({ "mode": "iptables" })),
        component("iptables programs", &["iptables-programs"], json!({ "iptablesPrograms": true })),
        component("labelled nodes", &["labelled-nodes"], json!({ "labelledNodes": true })),
        component("kube-proxy labels", &["kube-proxy-labels"], json!({ "kubeProxyLabels": true })),
        component("pod monitor", &["pod-monitor"], json!({ "podMonitor": enabled })),
        component("alerts", &["alerts"], json!({ "alerts": enabled })),
        component(
            "seccomp",
            &["seccomp"],
            json!({ "seccomp": { "localhostProfile": "rulegen.json" } }),
        ),
        component(
            "all components",
            &[
                "iptables-mode",
                "labelled-nodes",
                "kube-proxy-labels",
                "pod-monitor",
                "alerts",
                "seccomp",
            ],
            json!({
                "mode": "iptables",
                "labelledNodes": true,
                "kubeProxyLabels": true,
                "podMonitor": enabled,
                "alerts": enabled,
                "seccomp": { "localhostProfile": "rulegen.json" },
            }),
        ),
        case(
            "images",
            "images:\n  - {name: rulegen, newName: registry.test/rulegen, newTag: 1.2.3}\n",
            json!({ "image": { "repository": "registry.test/rulegen", "tag": "1.2.3" } }),
        ),
        case(
            "image digest",
            &format!("images:\n  - {{name: rulegen, digest: \"{DIGEST}\"}}\n"),
            json!({ "image": { "tag": "unused", "digest": DIGEST } }),
        ),
        case(
            "iptables images",
            "components: [../deploy/components/iptables-programs]\nimages:\n  \
             - {name: rulegen-iptables, newName: registry.test/other, newTag: 1.2.3}\n",
            json!({
                "iptablesPrograms": true,
                "iptablesImage": { "repository": "registry.test/other", "tag": "1.2.3" },
            }),
        ),
        case(
            "iptables image digest",
            &format!(
                "components: [../deploy/components/iptables-programs]\nimages:\n  \
                 - {{name: rulegen-iptables, digest: \"{DIGEST}\"}}\n"
            ),
            json!({ "iptablesPrograms": true, "iptablesImage": { "digest": DIGEST } }),
        ),
        case(
            "pull policy and secrets",
            &(patch("add", "initContainers/0/imagePullPolicy", "Always")
                + &patch("add", "containers/0/imagePullPolicy", "Always")
                + &patch("add", "imagePullSecrets", "[{name: registry}]")),
            json!({
                "image": { "pullPolicy": "Always" },
                "imagePullSecrets": [{ "name": "registry" }],
            }),
        ),
        case(
            "iptables pull policy",
            &("components: [../deploy/components/iptables-programs]\n".to_owned()
                + &patch("add", "initContainers/0/imagePullPolicy", "Never")
                + &patch("add", "containers/0/imagePullPolicy", "Never")),
            json!({ "iptablesPrograms": true, "iptablesImage": { "pullPolicy": "Never" } }),
        ),
        case(
            "flags",
            &(patch("add", "initContainers/0/args/-", "-v=4")
                + &patch("add", "containers/0/args/-", "-v=4")),
            json!({ "extraFlags": ["-v=4"] }),
        ),
        case(
            "scheduling",
            &(patch("replace", "tolerations", "[{key: a, operator: Exists}]")
                + &patch("replace", "priorityClassName", "important")
                + &patch("add", "nodeSelector/pool", "edge")
                + &patch("add", "affinity", &affinity().to_string())),
            json!({
                "tolerations": [{ "key": "a", "operator": "Exists" }],
                "priorityClassName": "important",
                "nodeSelector": { "pool": "edge" },
                "affinity": affinity(),
            }),
        ),
        case(
            "rollout",
            "patches:\n  - target: {kind: DaemonSet}\n    patch: |-\n      \
             - {op: replace, path: /spec/updateStrategy/rollingUpdate/maxUnavailable, value: 10%}\n",
            json!({ "maxUnavailable": "10%" }),
        ),
        case(
            "resources",
            &(patch("replace", "initContainers/0/resources/limits/memory", "1Gi")
                + &patch("replace", "containers/0/resources/limits/memory", "1Gi")),
            json!({ "resources": { "limits": { "memory": "1Gi" } } }),
        ),
        case(
            "configuration",
            "configMapGenerator:\n  - name: rulegen\n    namespace: kube-system\n    \
             behavior: merge\n    files: [config.conf, kubeconfig.conf]\n",
            json!({
                "apiServer": "https://192.0.2.1:6443",
                "clusterCIDR": "10.42.0.0/16,2001:db8:42::/56",
                "config": {
                    "conntrack": { "maxPerCore": 1_048_576 },
                    "rulegen": { "externalIPs": ["none"] },
                },
            }),
        ),
        case(
            "monitoring labels",
            "components: [../deploy/components/pod-monitor, ../deploy/components/alerts]\n\
             patches:\n  - target: {group: monitoring.coreos.com}\n    patch: |-\n      \
             - {op: add, path: /metadata/labels/release, value: prometheus}\n",
            json!({
                "podMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
                "alerts": { "enabled": true, "labels": { "release": "prometheus" } },
            }),
        ),
    ];
    let configuration = cases.iter_mut().find(|case| case.name == "configuration").unwrap();
    configuration.files = vec![("config.conf", CONFIG), ("kubeconfig.conf", KUBECONFIG)];
    cases.push(Case {
        kustomization: "resources: [../deploy/overlays/kubeadm]\n".to_owned(),
        ..case(
            "kubeadm",
            "",
            json!({ "kubeProxyConfigMap": "kube-proxy", "iptablesPrograms": true }),
        )
    });
    // kustomize changes the namespace of a binding's subject only if the subject is named "default".
    let namespace = "namespace: network\npatches:\n  - target: {kind: ClusterRoleBinding}\n    patch: |-\n      \
                     - {op: replace, path: /subjects/0/namespace, value: network}\n";
    cases.push(Case { namespace: "network", ..case("namespace", namespace, json!({})) });
    cases
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Changes of the kustomization of the whole project.
fn case(name: &'static str, changes: &str, values: Value) -> Case {
    // Several patches are one list.
    let (first, rest) = changes.split_once("patches:\n").unwrap_or((changes, ""));
    let patches = rest.replace("patches:\n", "");
    let heading = if patches.is_empty() { "" } else { "patches:\n" };
    Case {
        name,
        namespace: "kube-system",
        kustomization: format!("resources: [../deploy]\n{first}{heading}{patches}"),
        files: Vec::new(),
        values,
    }
}

/// A patch of a field of the pod.
fn patch(operation: &str, path: &str, value: &str) -> String {
    format!(
        "patches:\n  - target: {{kind: DaemonSet}}\n    patch: |-\n      \
         - {{op: {operation}, path: /spec/template/spec/{path}, value: {value}}}\n"
    )
}

fn affinity() -> Value {
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "gpu", "operator": "DoesNotExist" }] }],
    } } })
}
