use std::time::{Duration, UNIX_EPOCH};

use rulegen_net::Protocol;

use super::*;
use crate::report::{
    ConntrackReport, FamilyReport, IptablesReport, IptablesRules, NoLocalEndpoints,
    OperationCounts, Operations, Phase,
};

fn metrics(mode: ProxyMode, families: &[IpFamily]) -> Metrics {
    let build = Build { version: "0.1.0".into(), commit: "abc".into(), date: "2026".into() };
    Metrics::new(mode, families, &build).unwrap()
}

#[track_caller]
fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.text().unwrap();
    for line in lines {
        assert!(text.lines().any(|of| of == *line), "{line} is not in:\n{text}");
    }
}

/// The names and types of kube-proxy 1.36's metrics, and the modes that have them: both (b),
/// iptables (i) or nftables (n).
const NAMES: &str = "
sync_proxy_rules_duration_seconds histogram b
sync_full_proxy_rules_duration_seconds histogram b
sync_partial_proxy_rules_duration_seconds histogram b
network_programming_duration_seconds histogram b
conntrack_reconciler_sync_duration_seconds histogram b
conntrack_reconciler_deleted_entries_total counter b
sync_proxy_rules_last_timestamp_seconds gauge b
sync_proxy_rules_last_queued_timestamp_seconds gauge b
sync_proxy_rules_endpoint_changes_pending gauge b
sync_proxy_rules_service_changes_pending gauge b
sync_proxy_rules_endpoint_changes_total counter b
sync_proxy_rules_service_changes_total counter b
sync_proxy_rules_iptables_total gauge i
sync_proxy_rules_iptables_last gauge i
sync_proxy_rules_iptables_restore_failures_total counter i
sync_proxy_rules_iptables_partial_restore_failures_total counter i
sync_proxy_rules_nftables_sync_failures_total counter n
sync_proxy_rules_nftables_cleanup_failures_total counter n
sync_proxy_rules_no_local_endpoints_total gauge b
proxy_healthz_total counter b
proxy_livez_total counter b
iptables_ct_state_invalid_dropped_packets_total counter i
iptables_localhost_nodeports_accepted_packets_total counter i
";

#[test]
fn metrics_have_all_names_of_kube_proxy_from_start() {
    for (mode, letter) in [(ProxyMode::Iptables, "i"), (ProxyMode::Nftables, "n")] {
        let text = metrics(mode, &IpFamily::BOTH).text().unwrap();
        let mut expected: Vec<String> = NAMES
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(_, modes)| ["b", letter].contains(modes))
            .map(|(name_and_type, _)| format!("# TYPE kubeproxy_{name_and_type}"))
            .collect();
        expected.sort();
        let types = text.lines().filter(|line| line.starts_with("# TYPE kubeproxy_"));
        assert_eq!(types.collect::<Vec<_>>(), expected, "{mode:?}");
    }
}

#[test]
fn metrics_have_label_values_from_start() {
    assert_lines(
        &metrics(ProxyMode::Iptables, &IpFamily::BOTH),
        &[
            r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 0"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 0"#,
            r#"kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="filter"} 0"#,
            r#"kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="nat"} 0"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 0"#,
            r#"kubeproxy_proxy_healthz_total{code="200"} 0"#,
            r#"kubeproxy_proxy_livez_total{code="503"} 0"#,
            r#"rulegen_sync_phase_duration_seconds_count{phase="gather"} 0"#,
            r#"rulegen_sync_operations_total{operation="delete_set"} 0"#,
            r#"rulegen_rejected_objects{kind="ServiceCIDR"} 0"#,
            r#"rulegen_watch_restarts_total{kind="EndpointSlice"} 0"#,
            "rulegen_sync_written_bytes_total 0",
            "rulegen_drift_repairs_total 0",
            r#"rulegen_services{ip_family="IPv6"} 0"#,
            r#"rulegen_endpoints{ip_family="IPv4"} 0"#,
        ],
    );
    let text = metrics(ProxyMode::Nftables, &[IpFamily::Ipv6]).text().unwrap();
    assert!(!text.contains("IPv4"), "only families that are proxied:\n{text}");
    // With rest_client_*, all metrics that the dashboards of kubernetes-mixin show.
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_network_receive_bytes_total",
        "process_network_transmit_bytes_total",
        "process_virtual_memory_max_bytes",
        "go_goroutines",
        r#"kubernetes_feature_enabled{name="NFTablesProxyMode",stage=""}"#,
    ] {
        assert!(text.contains(&format!("\n{name} ")), "{name} is not in:\n{text}");
    }
    assert!(text.contains(concat!(
        r#"kubernetes_build_info{build_date="2026",compiler="rustc",git_commit="abc","#,
        r#"git_tree_state="",git_version="v0.1.0",go_version="",major="0",minor="1",platform="#,
    )));
}

#[test]
fn metrics_histogram_buckets_equal_those_of_kube_proxy() {
    let text = metrics(ProxyMode::Nftables, &[IpFamily::Ipv4]).text().unwrap();
    let buckets = |name: &str| -> Vec<String> {
        let start = format!("kubeproxy_{name}_bucket{{");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        let bound = |line: &str| line.split("le=\"").nth(1)?.split('"').next().map(str::to_owned);
        lines.filter_map(bound).collect()
    };
    let exponential = [
        "0.001", "0.002", "0.004", "0.008", "0.016", "0.032", "0.064", "0.128", "0.256", "0.512",
        "1.024", "2.048", "4.096", "8.192", "16.384", "+Inf",
    ];
    for name in [
        "sync_proxy_rules_duration_seconds",
        "sync_full_proxy_rules_duration_seconds",
        "sync_partial_proxy_rules_duration_seconds",
        "conntrack_reconciler_sync_duration_seconds",
    ] {
        assert_eq!(buckets(name), exponential, "{name}");
    }
    let mut programming = vec!["0".to_owned(), "0.25".into(), "0.5".into()];
    programming.extend((1..60).map(|n| n.to_string()));
    programming.extend((0..12).map(|n| (60 + 5 * n).to_string()));
    programming.extend(["120", "150", "180", "210", "240", "270", "300", "+Inf"].map(String::from));
    assert_eq!(buckets("network_programming_duration_seconds"), programming);
}

fn report() -> SyncReport {
    let ipv4 = FamilyReport {
        latencies: vec![Duration::from_millis(300), Duration::from_millis(700)],
        no_local_endpoints: NoLocalEndpoints { internal: 2, external: 3 },
        iptables: Some(IptablesReport {
            filter: IptablesRules { total: 10, written: 1 },
            nat: IptablesRules { total: 20, written: 2 },
        }),
        ..FamilyReport::new(IpFamily::Ipv4)
    };
    SyncReport {
        families: vec![ipv4, FamilyReport::new(IpFamily::Ipv6)],
        full: false,
        error: None,
        took: Duration::from_millis(10),
        phases: vec![(Phase::Compile, Duration::from_millis(4))],
        operations: Operations {
            elements: OperationCounts { added: 5, deleted: 4 },
            ..Operations::default()
        },
        bytes: 1000,
        changes: ObjectChanges { services: 1, endpoints: 2 },
        finished: UNIX_EPOCH + Duration::from_millis(1_795_000_000_500),
    }
}

#[test]
fn metrics_after_successful_sync() {
    let metrics = metrics(ProxyMode::Iptables, &IpFamily::BOTH);
    metrics
        .queued(ObjectChanges { services: 1, endpoints: 5 }, UNIX_EPOCH + Duration::from_secs(9));
    metrics.synced(&report());
    let cleaned = ConntrackReport { took: Duration::from_millis(3), deleted: 7 };
    metrics.cleaned(IpFamily::Ipv4, cleaned);
    assert_lines(
        &metrics,
        &[
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.008"} 0"#,
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.016"} 1"#,
            r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.5"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 2"#,
            r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 0"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 7"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1795000000.5"#,
            r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 9"#,
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 3",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 5",
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 3"#,
            r#"kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 20"#,
            r#"kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="filter"} 1"#,
            r#"rulegen_sync_phase_duration_seconds_count{phase="compile"} 1"#,
            r#"rulegen_sync_operations_total{operation="add_element"} 5"#,
            r#"rulegen_sync_operations_total{operation="delete_element"} 4"#,
            "rulegen_sync_written_bytes_total 1000",
        ],
    );
}

#[test]
fn metrics_after_failed_sync() {
    let failures = |mode, full| {
        let metrics = metrics(mode, &IpFamily::BOTH);
        metrics.queued(ObjectChanges { services: 1, endpoints: 5 }, UNIX_EPOCH);
        metrics.synced(&SyncReport { error: Some("busy".into()), full, ..report() });
        metrics
    };
    let metrics = failures(ProxyMode::Nftables, true);
    assert_lines(
        &metrics,
        &[
            r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 0"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 0"#,
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 5",
            "rulegen_sync_written_bytes_total 0",
            r#"rulegen_sync_operations_total{operation="add_element"} 0"#,
            r#"rulegen_sync_phase_duration_seconds_count{phase="compile"} 1"#,
        ],
    );
    let start = "kubeproxy_sync_proxy_rules_iptables";
    for (full, restore, partial) in [(true, 1, 0), (false, 0, 1)] {
        let lines = [
            format!(r#"{start}_restore_failures_total{{ip_family="IPv6"}} {restore}"#),
            format!(r#"{start}_partial_restore_failures_total{{ip_family="IPv6"}} {partial}"#),
        ];
        assert_lines(&failures(ProxyMode::Iptables, full), &lines.each_ref().map(String::as_str));
    }
}

#[test]
fn metrics_drift_writers_are_bounded() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    for n in 0..60 {
        metrics.drifted(&format!("program-{n}"));
    }
    metrics.drifted("program-0");
    assert_lines(
        &metrics,
        &[
            r#"rulegen_drift_events_total{writer="program-0"} 2"#,
            r#"rulegen_drift_events_total{writer="program-49"} 1"#,
            r#"rulegen_drift_events_total{writer="other"} 10"#,
        ],
    );
    let text = metrics.text().unwrap();
    assert_eq!(text.matches("rulegen_drift_events_total{").count(), 51);
}

#[test]
fn metrics_service_connections_are_replaced_together() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    assert!(!metrics.text().unwrap().contains("rulegen_service_connections_total"));
    let of = |service: &str, connections| ServiceConnections {
        namespace: "shop".into(),
        service: service.into(),
        port: "http".into(),
        protocol: Protocol::Tcp,
        connections,
    };
    metrics.connections(vec![of("old", 1), of("new", 2)]);
    metrics.connections(vec![of("new", 30)]);
    let text = metrics.text().unwrap();
    let line = r#"rulegen_service_connections_total{namespace="shop",port="http",protocol="TCP",service="new"} 30"#;
    assert!(text.contains(&format!("# TYPE rulegen_service_connections_total counter\n{line}\n")));
    assert!(!text.contains(r#"service="old""#));
}

#[test]
fn metrics_count_health_checks_and_slis() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    assert_eq!(metrics.sli_text().unwrap(), "");
    for (check, ok) in [
        (Probe::Healthz, true),
        (Probe::Healthz, false),
        (Probe::Livez, true),
        (Probe::Readyz, false),
    ] {
        metrics.checked(check, ok);
    }
    assert_lines(
        &metrics,
        &[
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
            r#"kubeproxy_proxy_healthz_total{code="503"} 1"#,
            r#"kubeproxy_proxy_livez_total{code="200"} 1"#,
            r#"kubeproxy_proxy_livez_total{code="503"} 0"#,
        ],
    );
    let text = metrics.sli_text().unwrap();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            r#"kubernetes_healthcheck{name="healthz",type="healthz"} 0"#,
            r#"kubernetes_healthcheck{name="livez",type="livez"} 1"#,
            r#"kubernetes_healthcheck{name="readyz",type="readyz"} 0"#,
            r#"kubernetes_healthchecks_total{name="healthz",status="error",type="healthz"} 1"#,
            r#"kubernetes_healthchecks_total{name="healthz",status="success",type="healthz"} 1"#,
            r#"kubernetes_healthchecks_total{name="livez",status="success",type="livez"} 1"#,
            r#"kubernetes_healthchecks_total{name="readyz",status="error",type="readyz"} 1"#,
        ]
    );
}

#[test]
fn metrics_rejected_objects_services_endpoints_and_watch_restarts() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    metrics.rejected(Kind::Service, 3);
    metrics.proxied(IpFamily::Ipv4, [3, 4, 5]);
    metrics.watch_restarted(Kind::Node);
    metrics.repaired();
    assert_lines(
        &metrics,
        &[
            r#"rulegen_rejected_objects{kind="Service"} 3"#,
            r#"rulegen_services{ip_family="IPv4"} 3"#,
            r#"rulegen_service_ports{ip_family="IPv4"} 4"#,
            r#"rulegen_endpoints{ip_family="IPv4"} 5"#,
            r#"rulegen_watch_restarts_total{kind="Node"} 1"#,
            "rulegen_drift_repairs_total 1",
        ],
    );
}

#[test]
fn metrics_drift_writer_name_is_escaped() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    metrics.drifted("\x1b[31m<b>\n\"");
    let name = r"\\u{1b}[31m\\u{3c}b\\u{3e}\\u{a}\\u{22}";
    assert_lines(&metrics, &[&format!("rulegen_drift_events_total{{writer=\"{name}\"}} 1")]);
    assert!(!metrics.text().unwrap().contains('\x1b'));
}

static LOST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(3);

#[test]
fn metrics_lost_log_lines_are_read_on_scrape() {
    let metrics = metrics(ProxyMode::Nftables, &IpFamily::BOTH);
    assert_lines(&metrics, &["rulegen_log_lines_lost_total 0", "rulegen_source_outage_seconds 0"]);
    metrics.read_lost_log_lines(|| LOST.load(std::sync::atomic::Ordering::Relaxed));
    assert_lines(&metrics, &["rulegen_log_lines_lost_total 3"]);
    LOST.store(7, std::sync::atomic::Ordering::Relaxed);
    assert_lines(&metrics, &["rulegen_log_lines_lost_total 7"]);
    metrics.source_outage(Duration::from_millis(1500));
    assert_lines(&metrics, &["rulegen_source_outage_seconds 1.5"]);
}
