//! Tests of files, flags and /configz together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rulegen_model::{ExternalIps, LoadBalancing, Problem, Severity};
use rulegen_net::parse_network;
use serde_json::{Value, json};

use super::*;

const TYPE: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn read_text(text: &str) -> (KubeProxyConfiguration, Vec<Problem>) {
    read_config("file", format!("{TYPE}{text}").as_bytes())
}

fn fields(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.field.as_deref().unwrap_or_default()).collect()
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn networks() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    let texts = vec!["10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0", "fd00::/48", "::/0"];
    vec(select(texts).prop_map(|text| parse_network(text).unwrap()), 1..4)
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0), 0..=i64::MAX as u64].prop_map(Duration::from_nanos)
}

fn bind_address() -> impl Strategy<Value = BindAddress> {
    let at = (address(), 1..=u16::MAX).prop_map(|(ip, port)| BindAddress::At((ip, port).into()));
    prop_oneof![Just(BindAddress::Off), at]
}

fn interface() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_][a-zA-Z0-9._@-]{0,13}"
}

prop_compose! {
    fn flags_of_rules()(
        proxy_mode in option::of(select(ProxyMode::ALL)),
        // Not every string: JSON may contain control characters that YAML does not allow.
        hostname_override in option::of("[a-zA-Z0-9. \"\\\\äß-]{0,20}"),
        bind_address in option::of(address()),
        cluster_cidr in option::of(select(vec!["", "10.0.0.0/8", "fd00::/48,10.0.0.0/8"])),
        detect_local_mode in option::of(select(DetectLocalMode::ALL)),
        pod_bridge_interface in option::of(interface()),
        pod_interface_name_prefix in option::of(interface()),
        iptables_masquerade_bit in option::of(0..32_u8),
        [masquerade_all, iptables_localhost_nodeports, conntrack_tcp_be_liberal] in any::<[Option<bool>; 3]>(),
        [refuse_node_addresses, nftables_counters] in any::<[Option<bool>; 2]>(),
        nodeport_addresses in option::of(prop_oneof![
            select(vec![NodePortAddresses::Unset, NodePortAddresses::Primary]),
            networks().prop_map(NodePortAddresses::Networks),
        ]),
        external_ips in option::of(prop_oneof![
            select(vec![ExternalIps::All, ExternalIps::None]),
            networks().prop_map(ExternalIps::Within),
        ]),
        max_service_size in option::of(1..=usize::MAX / 2),
        load_balancing in option::of(select(LoadBalancing::ALL.to_vec())),
    ) -> Overrides {
        Overrides {
            proxy_mode, hostname_override, bind_address, detect_local_mode, pod_bridge_interface,
            pod_interface_name_prefix, iptables_masquerade_bit, masquerade_all,
            iptables_localhost_nodeports, conntrack_tcp_be_liberal, refuse_node_addresses,
            nftables_counters, nodeport_addresses, external_ips, max_service_size, load_balancing,
            cluster_cidr: cluster_cidr.map(|text| parse_cluster_cidrs(text).unwrap()),
            ..Overrides::default()
        }
    }
}

prop_compose! {
    fn flags()(
        of_rules in flags_of_rules().boxed(),
        kubeconfig in option::of("[a-z/.]{0,20}"),
        [healthz_bind_address, metrics_bind_address] in [option::of(bind_address()), option::of(bind_address())],
        [bind_address_hard_fail, conntrack_tcp_reset_removed] in any::<[Option<bool>; 2]>(),
        oom_score_adj in option::of(-1000..=1000_i16),
        [conntrack_max_per_core, conntrack_min] in [option::of(0..=i32::MAX as u32), option::of(0..=i32::MAX as u32)],
        periods in [option::of(duration()), option::of(duration())],
        timeouts in [option::of(duration()), option::of(duration()), option::of(duration()), option::of(duration())],
    ) -> Overrides {
        Overrides {
            healthz_bind_address, metrics_bind_address, bind_address_hard_fail, oom_score_adj,
            conntrack_max_per_core, conntrack_min, conntrack_tcp_reset_removed,
            kubeconfig: kubeconfig.map(Into::into),
            min_sync_period: periods[0],
            sync_period: periods[1],
            conntrack_tcp_timeout_established: timeouts[0],
            conntrack_tcp_timeout_close_wait: timeouts[1],
            conntrack_udp_timeout: timeouts[2],
            conntrack_udp_timeout_stream: timeouts[3],
            ..of_rules
        }
    }
}

prop_compose! {
    /// A configuration with values that flags can set, and values that only a file can set.
    fn configuration()(
        flags in flags().boxed(),
        feature_gates in btree_map("[A-Za-z]{1,10}|AllowServiceExternalIPs", any::<bool>(), 0..3),
        masquerade_all in any::<bool>(),
        masquerade_bit in 0..32_u8,
        [min_sync_period, sync_period] in [option::of(1..100_u64), option::of(1..100_u64)],
    ) -> KubeProxyConfiguration {
        let nftables = NftablesConfiguration {
            masquerade_all,
            masquerade_bit,
            min_sync_period: min_sync_period.map(Duration::from_secs),
            sync_period: sync_period.map(Duration::from_secs),
            ..NftablesConfiguration::default()
        };
        let mut file = KubeProxyConfiguration::default();
        (file.feature_gates, file.nftables) = (feature_gates, nftables);
        merge(file, &flags)
    }
}

proptest! {
    #[test]
    fn configz_round_trips_to_the_same_configuration(config in configuration().boxed()) {
        let text = to_configz(&config).to_string();
        let (read, problems) = read_config("file", text.as_bytes());
        prop_assert_eq!(problems, [], "{}", text);
        prop_assert_eq!(&read, &config, "{}", text);
        // No field is left to a default.
        prop_assert_eq!(merge(read, &Overrides::default()), config);
    }

    #[test]
    fn flags_override_config_file(file in configuration().boxed(), flags in flags().boxed()) {
        let by_flags = merge(KubeProxyConfiguration::default(), &flags);
        let merged = merge(merge(file, &flags), &Overrides::default());
        let [merged, by_flags] = [&merged, &by_flags].map(|config| flag_values(config, &flags));
        prop_assert_eq!(merged, by_flags);
    }
}

/// The fields that these flags set.
fn flag_values(config: &KubeProxyConfiguration, flags: &Overrides) -> Vec<Value> {
    let shown = to_configz(config);
    let set = [
        ("/mode", flags.proxy_mode.is_some()),
        ("/hostnameOverride", flags.hostname_override.is_some()),
        ("/bindAddress", flags.bind_address.is_some()),
        ("/clusterCIDR", flags.cluster_cidr.is_some()),
        ("/detectLocalMode", flags.detect_local_mode.is_some()),
        ("/detectLocal/bridgeInterface", flags.pod_bridge_interface.is_some()),
        ("/detectLocal/interfaceNamePrefix", flags.pod_interface_name_prefix.is_some()),
        ("/iptables/masqueradeAll", flags.masquerade_all.is_some()),
        ("/nftables/masqueradeAll", flags.masquerade_all.is_some()),
        ("/iptables/masqueradeBit", flags.iptables_masquerade_bit.is_some()),
        ("/iptables/localhostNodePorts", flags.iptables_localhost_nodeports.is_some()),
        ("/nodePortAddresses", flags.nodeport_addresses.is_some()),
        ("/conntrack/tcpBeLiberal", flags.conntrack_tcp_be_liberal.is_some()),
        ("/rulegen/externalIPs", flags.external_ips.is_some()),
        ("/rulegen/refuseNodeAddresses", flags.refuse_node_addresses.is_some()),
        ("/rulegen/maxServiceSize", flags.max_service_size.is_some()),
        ("/nftables/counters", flags.nftables_counters.is_some()),
        ("/nftables/loadBalancing", flags.load_balancing.is_some()),
        ("/clientConnection/kubeconfig", flags.kubeconfig.is_some()),
        ("/healthzBindAddress", flags.healthz_bind_address.is_some()),
        ("/metricsBindAddress", flags.metrics_bind_address.is_some()),
        ("/bindAddressHardFail", flags.bind_address_hard_fail.is_some()),
        ("/iptables/minSyncPeriod", flags.min_sync_period.is_some()),
        ("/nftables/minSyncPeriod", flags.min_sync_period.is_some()),
        ("/iptables/syncPeriod", flags.sync_period.is_some_and(|period| !period.is_zero())),
        ("/oomScoreAdj", flags.oom_score_adj.is_some()),
        ("/conntrack/maxPerCore", flags.conntrack_max_per_core.is_some()),
        ("/conntrack/min", flags.conntrack_min.is_some()),
        ("/conntrack/tcpEstablishedTimeout", flags.conntrack_tcp_timeout_established.is_some()),
        ("/conntrack/tcpCloseWaitTimeout", flags.conntrack_tcp_timeout_close_wait.is_some()),
        ("/conntrack/udpTimeout", flags.conntrack_udp_timeout.is_some()),
        ("/conntrack/udpStreamTimeout", flags.conntrack_udp_timeout_stream.is_some()),
        ("/rulegen/conntrackTCPResetRemoved", flags.conntrack_tcp_reset_removed.is_some()),
    ];
    set.into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(field, _)| shown.pointer(field).unwrap_or_else(|| panic!("no {field}")).clone())
        .collect()
}

/// The defaults are those of kube-proxy 1.36 (k8s.io/kube-proxy config/v1alpha1 and
/// pkg/proxy/apis/config/v1alpha1/defaults.go), except for minSyncPeriod and the fields that
/// kube-proxy does not have.
#[test]
fn configz_shows_all_defaults_in_kube_proxy_form() {
    let config = merge(KubeProxyConfiguration::default(), &Overrides::default());
    let expected = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "",
            "contentType": "application/vnd.kubernetes.protobuf",
            "kubeconfig": "",
        },
        "clusterCIDR": "",
        "conntrack": {
            "maxPerCore": 32768,
            "min": 131_072,
            "tcpBeLiberal": false,
            "tcpCloseWaitTimeout": "1h0m0s",
            "tcpEstablishedTimeout": "24h0m0s",
            "udpStreamTimeout": "0s",
            "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "ClusterCIDR",
        "featureGates": {},
        "healthzBindAddress": "0.0.0.0:10256",
        "hostnameOverride": "",
        "iptables": {
            "localhostNodePorts": true,
            "masqueradeAll": false,
            "masqueradeBit": 14,
            "minSyncPeriod": "100ms",
            "syncPeriod": "30s",
        },
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "iptables",
        "nftables": {
            "counters": false,
            "loadBalancing": "random",
            "masqueradeAll": false,
            "masqueradeBit": 14,
            "minSyncPeriod": "1ms",
            "syncPeriod": "30s",
        },
        "nodePortAddresses": [],
        "oomScoreAdj": -999,
        "rulegen": {
            "conntrackTCPResetRemoved": false,
            "externalIPs": ["all"],
            "maxServiceSize": 100_000,
            "refuseNodeAddresses": false,
        },
    });
    assert_eq!(to_configz(&config), expected);
}

#[test]
fn bind_address_of_ipv6_makes_default_bind_addresses_ipv6() {
    let (config, problems) = read_text("bindAddress: '::'\nmode: nftables\n");
    assert_eq!(problems, []);
    let running = RunningConfig::from(&config);
    assert_eq!(running.healthz_bind_address.to_string(), "[::]:10256");
    assert_eq!(running.metrics_bind_address.to_string(), "[::1]:10249");
    let shown = to_configz(&config.with_defaults());
    assert_eq!(shown["rulegen"]["maxServiceSize"], 300_000, "default of nftables mode");
}

#[test]
fn configuration_file_sets_running_config() {
    let (config, problems) = read_text(
        "clientConnection: {kubeconfig: /etc/kubeconfig, qps: 5, burst: 10, contentType: application/json}\n\
         healthzBindAddress: ''\nmetricsBindAddress: 0.0.0.0\noomScoreAdj: -500\nmode: nftables\n\
         nftables: {minSyncPeriod: 2s, syncPeriod: 0s}\niptables: {minSyncPeriod: 1s}\n\
         conntrack: {maxPerCore: 0, udpTimeout: 10s}\nipvs: {strictARP: true}\nlogging: null\n\
         configSyncPeriod: 15m0s\nrulegen: {conntrackTCPResetRemoved: true}\n",
    );
    assert_eq!(problems, []);
    let expected = RunningConfig {
        kubeconfig: Some("/etc/kubeconfig".into()),
        content_types: vec![ContentType::Json],
        healthz_bind_address: BindAddress::At("0.0.0.0:10256".parse().unwrap()),
        metrics_bind_address: BindAddress::At("0.0.0.0:10249".parse().unwrap()),
        bind_address_hard_fail: false,
        oom_score_adj: -500,
        min_sync_period: Duration::from_secs(2),
        sync_period: Duration::from_secs(30),
        conntrack: ConntrackConfig {
            max_per_core: 0,
            min: 131_072,
            tcp_be_liberal: false,
            tcp_established_timeout: Duration::from_secs(86_400),
            tcp_close_wait_timeout: Duration::from_secs(3600),
            udp_timeout: Duration::from_secs(10),
            udp_stream_timeout: Duration::ZERO,
            tcp_reset_removed: true,
        },
    };
    assert_eq!(RunningConfig::from(&config), expected);
}

#[test]
fn external_ips_policy_overrides_feature_gate() {
    let policy = |text: &str| {
        let (config, problems) = read_text(text);
        assert_eq!(problems, []);
        config.with_defaults().rulegen.external_ips.unwrap()
    };
    assert_eq!(policy(""), ExternalIps::All);
    assert_eq!(policy("featureGates: {AllowServiceExternalIPs: false}"), ExternalIps::None);
    assert_eq!(
        policy("featureGates: {AllowServiceExternalIPs: false}\nrulegen: {externalIPs: [all]}"),
        ExternalIps::All
    );
}

#[test]
fn configuration_file_invalid_or_unknown_field_does_not_affect_others() {
    let (config, problems) = read_text(
        "mode: ipvs\nclusterCidr: x\nclusterCIDR: 10.244.0.0/16\nnodePortAddresses: [1]\n\
         iptables: {masqueradeBit: 99, masqueradeAll: true, masqueradebit: 1}\n\
         logging: {format: text}\nipvs: {scheduler: rr}\n",
    );
    let expected = [
        "iptables.masqueradeBit",
        "mode",
        "nodePortAddresses[0]",
        "clusterCidr",
        "iptables.masqueradebit",
    ];
    assert_eq!(fields(&problems), expected);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    assert_eq!(errors, 3);
    assert!(config.iptables.masquerade_all);
    assert_eq!(config.iptables.masquerade_bit, 14);
    assert_eq!(config.cluster_cidrs, [parse_network("10.244.0.0/16").unwrap()]);
}

#[test]
fn configuration_file_of_wrong_kind_is_reported_without_field_errors() {
    let (_, problems) = read_config("file", b"{apiVersion: v1, kind: ConfigMap, data: {mode: x}}");
    assert_eq!(fields(&problems), ["kind", "apiVersion"]);
    let (_, problems) = read_config("file", b"{kind: KubeProxyConfiguration}");
    assert_eq!(fields(&problems), ["apiVersion"]);
}

/// A file may have more invalid fields than anyone would read.
#[test]
fn configuration_file_errors_are_bounded() {
    let gates: BTreeMap<String, u8> = (0..5000).map(|n| (format!("Gate{n}"), 1)).collect();
    let (_, problems) = read_text(&format!("featureGates: {}\n", json!(gates)));
    assert_eq!(problems.len(), 100);
}

#[test]
fn sync_period_zero_is_default_in_file_and_no_pause_in_flag() {
    let (config, problems) = read_text("iptables: {minSyncPeriod: 0s, syncPeriod: 0s}\n");
    assert_eq!(problems, []);
    let zero = Overrides {
        min_sync_period: Some(Duration::ZERO),
        sync_period: Some(Duration::ZERO),
        ..Overrides::default()
    };
    let periods = |flags: &Overrides| {
        let RunningConfig { min_sync_period, sync_period, .. } =
            RunningConfig::from(&merge(config.clone(), flags));
        (min_sync_period, sync_period)
    };
    let seconds = Duration::from_secs;
    assert_eq!(periods(&Overrides::default()), (Duration::from_millis(100), seconds(30)));
    assert_eq!(periods(&zero), (Duration::from_nanos(1), seconds(30)));
}
