//! kube-proxy's command lines given to `rulegen agent`: flags are obeyed, or ignored with one warning.

use serde_json::Value;

use crate::common::{Scratch, root, rulegen, stderr, stdout};

/// Command lines of published installers. `agent --write-config-to` accepts the flags of a running
/// agent and exits.
const INSTALLERS: [(&str, &str); 21] = [
    (
        "k3s",
        "--cluster-cidr=10.42.0.0/16 --conntrack-max-per-core=0 \
         --conntrack-tcp-timeout-close-wait=0s --conntrack-tcp-timeout-established=0s \
         --healthz-bind-address=127.0.0.1 --hostname-override=node-1 --proxy-mode=iptables",
    ),
    (
        "GKE",
        "--master=https://203.0.113.1 --kubeconfig=/var/lib/kube-proxy/kubeconfig \
         --cluster-cidr=10.244.0.0/16 --oom-score-adj=-998 --v=2 \
         --feature-gates=ExperimentalCriticalPodAnnotation=true,RotateKubeletServerCertificate=true \
         --iptables-sync-period=1m --iptables-min-sync-period=10s --ipvs-sync-period=1m \
         --ipvs-min-sync-period=10s --detect-local-mode=NodeCIDR",
    ),
    (
        "AKS",
        "--conntrack-max-per-core=0 --metrics-bind-address=0.0.0.0:10249 \
         --cluster-cidr=10.244.0.0/16 --detect-local-mode=ClusterCIDR \
         --pod-interface-name-prefix= --v=3",
    ),
    (
        "kops",
        "--cluster-cidr=100.96.0.0/11 --conntrack-max-per-core=131072 --master=https://127.0.0.1 \
         --oom-score-adj=-998 --v=2 --logtostderr=false --alsologtostderr=true \
         --log-file=/var/log/kube-proxy.log",
    ),
    (
        "Talos",
        "--cluster-cidr=10.244.0.0/16 --conntrack-max-per-core=0 \
         --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s \
         --kubeconfig=/etc/kubernetes/kubeconfig --proxy-mode=nftables",
    ),
    (
        "the hard way",
        "--cluster-cidr=10.200.0.0/16 --proxy-mode=iptables --v=2 --kube-api-qps=100 \
         --kube-api-burst=200 --config-sync-period=15m --profiling=false --metrics-port=10249 \
         --healthz-port=10256",
    ),
    (
        "OpenShift",
        "--cluster-cidr=10.128.0.0/14 --proxy-mode=iptables --iptables-sync-period=1h \
         --iptables-min-sync-period=0 --logging-format=text --log-flush-frequency=5s \
         --vmodule=proxier=4",
    ),
    // The command lines below were published with manifests, units and issues.
    ("kubeadm", "--hostname-override=node-1 --v=2"),
    ("EKS", "--v=2 --hostname-override=node-1 --metrics-bind-address=0.0.0.0:10249"),
    (
        "GKE 1.33, a DaemonSet",
        "--cluster-cidr=192.168.0.0/16 --oom-score-adj=-998 --v=2 \
         --feature-gates=UnauthenticatedHTTP2DOSMitigation=true,KMSv1=true,\
         WatchCacheInitializationPostStartHook=true --iptables-sync-period=1m \
         --iptables-min-sync-period=10s --ipvs-sync-period=1m --ipvs-min-sync-period=10s \
         --detect-local-mode=NodeCIDR",
    ),
    (
        "GKE 1.34, a static pod",
        "--master=https://10.142.0.7 --kubeconfig=/var/lib/kube-proxy/kubeconfig \
         --cluster-cidr=10.44.0.0/14 --oom-score-adj=-998 --v=2 \
         --feature-gates=RotateKubeletServerCertificate=true,ExecProbeTimeout=false \
         --iptables-sync-period=1m --iptables-min-sync-period=10s --ipvs-sync-period=1m \
         --ipvs-min-sync-period=10s --detect-local-mode=NodeCIDR",
    ),
    (
        "bare metal, with --masquerade-all",
        "--masquerade-all --master=https://192.0.2.1:6443 --kubeconfig=/var/lib/kubelet/kubeconfig \
         --proxy-mode=iptables --v=2",
    ),
    (
        "puppet",
        "--alsologtostderr=true --log-file=/var/log/kube-proxy.log --hostname-override=node-1",
    ),
    (
        "a unit file, with the scheduler of IPVS",
        "--cluster-cidr 172.7.0.0/16 --hostname-override node-1 --proxy-mode=nftables \
         --ipvs-scheduler=nq --kubeconfig ./conf/kube-proxy.kubeconfig",
    ),
    (
        "underscores of a library for Jsonnet",
        "--cluster_cidr=192.168.64.0/19 --v=2 --conntrack_max_per_core=0 \
         --conntrack_tcp_timeout_close_wait=0 --conntrack_tcp_timeout_established=0",
    ),
    (
        "Kubernetes 1.2",
        "--bind-address=0.0.0.0 --conntrack-max=262144 --healthz-bind-address=127.0.0.1 \
         --healthz-port=10249 --kube-api-burst=10 --kube-api-qps=5 --log-flush-frequency=5s \
         --masquerade-all=false --oom-score-adj=-999 --proxy-port-range= \
         --udp-timeout=250ms",
    ),
    (
        "klog",
        "-v=2 --vmodule a=1 --log-dir /var/log --logtostderr --alsologtostderr=true \
         --stderrthreshold INFO --skip-headers=true --skip-log-headers --add-dir-header \
         --log-backtrace-at :0 --log-file-max-size 100 --one-output \
         --log-text-split-stream=true --log-json-info-buffer-size 0",
    ),
    (
        "the other flags of kube-proxy 1.36",
        "--kube-api-content-type=application/vnd.kubernetes.protobuf \
         --show-hidden-metrics-for-version=1.35 --ipvs-strict-arp --ipvs-tcp-timeout=1m \
         --ipvs-tcpfin-timeout=1m --ipvs-udp-timeout=1m --legacy-stderr-threshold-behavior=true \
         --log-json-split-stream --log-text-info-buffer-size=0 --conntrack-min=1 \
         --conntrack-udp-timeout=1m --conntrack-udp-timeout-stream=1m --conntrack-tcp-be-liberal \
         --iptables-localhost-nodeports=false --pod-bridge-interface=cni0",
    ),
    (
        "flags that kube-proxy had",
        "--cleanup-iptables --cleanup-ipvs=true --conntrack-max=1 --proxy-port-range=1-2 \
         --resource-container=/kube-proxy --udp-timeout=1s --profiling",
    ),
    (
        "underscores and bare flags",
        "--masquerade_all --cluster_cidr=10.244.0.0/16 --iptables_masquerade_bit=15 \
         --cleanup=false --init-only=false --version=false --bind-address-hard-fail",
    ),
    (
        "flags given twice, or empty",
        "--v=2 --v=4 --cluster-cidr=10.1.0.0/16 --cluster-cidr=10.244.0.0/16 --config= --master= \
         --kubeconfig= --hostname-override= --nodeport-addresses= \
         --ipvs-exclude-cidrs=10.1.0.0/16 --ipvs-exclude-cidrs=10.2.0.0/16",
    ),
];

#[test]
fn kube_proxy_flags_of_installers_are_accepted() {
    for (installer, flags) in INSTALLERS {
        let (_, said) = effective(flags);
        let warnings = said.matches("warning: ").count();
        let expected = usize::from(
            ["--ipvs", "--profiling", "--log"].iter().any(|ignored| flags.contains(ignored)),
        );
        assert_eq!(warnings, expected, "{installer}: {said}");
    }
}

/// The configuration in effect, and what is printed on standard error.
fn effective(flags: &str) -> (Value, String) {
    let scratch = Scratch::new(&format!("flags-{:x}", crc32c::crc32c(flags.as_bytes())));
    let path = scratch.0.join("effective.yaml");
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let write = ["agent", "--write-config-to", path.to_str().unwrap()];
    let output = rulegen(&scratch.0, &[&write[..], &flags].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{flags:?}: {said}");
    let text = std::fs::read_to_string(&path).unwrap();
    (serde_saphyr::from_str(&text).unwrap(), said)
}

#[test]
fn kube_proxy_flags_have_kube_proxy_s_meaning() {
    for (flags, pointer, value) in [
        ("--healthz-port=10300", "/healthzBindAddress", "0.0.0.0:10300"),
        ("--healthz-port=0", "/healthzBindAddress", "0.0.0.0:0"),
        ("--healthz-bind-address=10.0.0.1 --healthz-port=1", "/healthzBindAddress", "10.0.0.1:1"),
        ("--healthz-bind-address=10.0.0.1:2 --healthz-port=1", "/healthzBindAddress", "10.0.0.1:2"),
        ("--metrics-port=10300", "/metricsBindAddress", "127.0.0.1:10300"),
        ("--metrics-port=10300 --bind-address=::", "/metricsBindAddress", "[::1]:10300"),
        ("--metrics-bind-address=10.0.0.1", "/metricsBindAddress", "10.0.0.1:10249"),
        ("--cluster_cidr 10.1.0.0/16 --cluster-cidr 10.2.0.0/16", "/clusterCIDR", "10.2.0.0/16"),
        ("--feature-gates=AllowServiceExternalIPs=false", "/rulegen/externalIPs/0", "none"),
    ] {
        let (config, _) = effective(flags);
        assert_eq!(config.pointer(pointer).and_then(Value::as_str), Some(value), "{flags}");
    }
    let (config, said) = effective("--feature-gates=AllowServiceExternalIPs=false,Other=true");
    assert_eq!(config["featureGates"]["Other"], true);
    assert!(said.contains("--feature-gates Other"), "{said}");
    assert!(!said.contains("AllowServiceExternalIPs"), "{said}");
}

#[test]
fn kube_proxy_flags_without_effect_get_one_warning_in_each_command() {
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    for command in [
        &["--dry-run"][..],
        &["list", "--dry-run"],
        &["explain", "--from=192.0.2.1", "--to=10.96.0.99:80"],
    ] {
        let flags = ["--profiling", "--ipvs-scheduler", "rr", "--healthz-port=1", "--strict"];
        let output = rulegen(&root(), &[command, &["-f", good], &flags].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
        let warning = "warning: flags without effect in rulegen: --profiling, --ipvs-scheduler\n";
        assert!(said.contains(warning), "{command:?}: {said}");
        assert!(
            said.contains("note: flags used only by `rulegen agent`: --healthz-port"),
            "{said}"
        );
    }
}

#[test]
fn kube_proxy_flags_that_print_the_version() {
    let short = format!("rulegen {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [&["--version"][..], &["-V"], &["version"], &["agent", "--version=true"]] {
        assert_eq!(stdout(&rulegen(&root(), arguments)), short, "{arguments:?}");
    }
    let raw = [&["version", "-o", "json"][..], &["--version=raw"], &["agent", "--version=raw"]];
    for arguments in raw {
        let output = rulegen(&root(), arguments);
        let version: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"), "{arguments:?}");
        assert!(version["platform"].as_str().unwrap().starts_with("linux/"), "{arguments:?}");
        for library in ["libmnl", "libnftnl"] {
            let version = version["libraries"][library].as_str().unwrap();
            assert!(version.starts_with("1."), "{library} {version}");
        }
        assert_eq!(version["linking"], "dynamic", "{arguments:?}");
        assert_eq!(version.get("commit"), None, "only a release sets it");
    }
}

#[test]
fn kube_proxy_flags_with_a_typo_get_a_suggestion() {
    for (typo, suggestion) in [
        ("--cluster-cird=10.0.0.0/8", "'--cluster-cidr'"),
        ("--ipvs-shceduler=rr", "'--ipvs-scheduler'"),
        ("--masquerade_al", "'--masquerade-all'"),
    ] {
        let output = rulegen(&root(), &["agent", typo]);
        assert_eq!(output.status.code(), Some(2), "{typo}");
        let tip = format!("tip: a similar argument exists: {suggestion}");
        assert!(stderr(&output).contains(&tip), "{typo}: {}", stderr(&output));
    }
    let output = rulegen(&root(), &["--cleanup=false"]);
    assert_eq!(output.status.code(), Some(2), "nothing to apply: {}", stderr(&output));
}
