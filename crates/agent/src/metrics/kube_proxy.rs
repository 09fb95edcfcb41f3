//! The metrics of kube-proxy 1.36, with the same names (pkg/proxy/metrics/metrics.go), so that
//! existing dashboards and alerts work.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Result};
use rulegen_config::ProxyMode;
use rulegen_net::{IpFamily, PerFamily};

use super::register::{Registration, count, gauge};
use crate::report::{ConntrackReport, FamilyReport, IptablesReport, ObjectChanges, SyncReport};

/// The metrics of both modes.
pub(super) struct KubeProxy {
    sync: PerFamily<Histogram>,
    full_sync: PerFamily<Histogram>,
    partial_sync: PerFamily<Histogram>,
    network_programming: PerFamily<Histogram>,
    conntrack_sync: PerFamily<Histogram>,
    conntrack_deleted: PerFamily<IntCounter>,
    last_synced: PerFamily<Gauge>,
    last_queued: PerFamily<Gauge>,
    endpoint_changes_pending: IntGauge,
    service_changes_pending: IntGauge,
    endpoint_changes: IntCounter,
    service_changes: IntCounter,
    /// By `internalTrafficPolicy` and by `externalTrafficPolicy`.
    no_local_endpoints: PerFamily<[IntGauge; 2]>,
    pub(super) healthz: IntCounterVec,
    pub(super) livez: IntCounterVec,
    mode: Mode,
}

enum Mode {
    Iptables(IptablesMetrics),
    Nftables { sync_failures: PerFamily<IntCounter> },
}

struct IptablesMetrics {
    /// For the tables filter and nat.
    rules: PerFamily<[IntGauge; 2]>,
    written: PerFamily<[IntGauge; 2]>,
    restore_failures: PerFamily<IntCounter>,
    partial_restore_failures: PerFamily<IntCounter>,
}

impl KubeProxy {
    pub(super) fn new(register: &Registration<'_>, mode: ProxyMode) -> Result<Self> {
        let seconds = |name, help| register.family_histograms(name, help, sync_buckets()?);
        Ok(Self {
            sync: seconds(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds",
            )?,
            full_sync: seconds(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
            )?,
            partial_sync: seconds(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
            )?,
            network_programming: register.family_histograms(
                "kubeproxy_network_programming_duration_seconds",
                "In-cluster network programming latency in seconds: from an EndpointSlice \
                 change to the end of the sync that contains it",
                network_programming_buckets(),
            )?,
            conntrack_sync: seconds(
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Conntrack cleanup latency in seconds",
            )?,
            conntrack_deleted: register.family_counters(
                "kubeproxy_conntrack_reconciler_deleted_entries_total",
                "Stale conntrack entries deleted",
            )?,
            last_synced: register.family_times(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Time of the last successful sync, in seconds since the Unix epoch",
            )?,
            last_queued: register.family_times(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "Time when a sync was last queued, in seconds since the Unix epoch",
            )?,
            endpoint_changes_pending: register.gauge(
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Pending EndpointSlice changes",
            )?,
            service_changes_pending: register.gauge(
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Pending Service changes",
            )?,
            endpoint_changes: register.counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "EndpointSlice changes",
            )?,
            service_changes: register
                .counter("kubeproxy_sync_proxy_rules_service_changes_total", "Service changes")?,
            no_local_endpoints: register.family_gauge_pairs(
                (
                    "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                    "Services with traffic policy Local and no endpoint on this node",
                ),
                "traffic_policy",
                ["internal", "external"],
            )?,
            healthz: register.counters(
                ("kubeproxy_proxy_healthz_total", "/healthz responses by HTTP status code"),
                "code",
                ["200", "503"],
            )?,
            livez: register.counters(
                ("kubeproxy_proxy_livez_total", "/livez responses by HTTP status code"),
                "code",
                ["200", "503"],
            )?,
            mode: Mode::new(register, mode)?,
        })
    }

    /// Counts new changes.
    pub(super) fn queued(&self, changes: ObjectChanges, at: SystemTime) {
        self.service_changes.inc_by(count(changes.services));
        self.endpoint_changes.inc_by(count(changes.endpoints));
        self.last_queued.values().for_each(|time| time.set(seconds_since_1970(at)));
    }

    /// Sets the number of pending changes.
    pub(super) fn pending(&self, changes: ObjectChanges) {
        self.service_changes_pending.set(gauge(changes.services));
        self.endpoint_changes_pending.set(gauge(changes.endpoints));
    }

    pub(super) fn synced(&self, report: &SyncReport) {
        let kind = if report.full { &self.full_sync } else { &self.partial_sync };
        for of in &report.families {
            for histogram in [&self.sync, kind].into_iter().filter_map(|all| all.get(of.family)) {
                histogram.observe(report.took.as_secs_f64());
            }
            match report.error {
                None => self.succeeded(of, report.finished),
                Some(_) => self.mode.failed(of, report.full),
            }
        }
    }

    pub(super) fn cleaned(&self, family: IpFamily, report: ConntrackReport) {
        if let (Some(histogram), Some(deleted)) =
            (self.conntrack_sync.get(family), self.conntrack_deleted.get(family))
        {
            histogram.observe(report.took.as_secs_f64());
            deleted.inc_by(count(report.deleted));
        }
    }

    fn succeeded(&self, of: &FamilyReport, at: SystemTime) {
        if let Some(time) = self.last_synced.get(of.family) {
            time.set(seconds_since_1970(at));
        }
        if let Some(histogram) = self.network_programming.get(of.family) {
            of.latencies.iter().for_each(|latency| histogram.observe(latency.as_secs_f64()));
        }
        if let Some([internal, external]) = self.no_local_endpoints.get(of.family) {
            internal.set(gauge(of.no_local_endpoints.internal));
            external.set(gauge(of.no_local_endpoints.external));
        }
        self.mode.succeeded(of);
    }
}

impl Mode {
    fn new(register: &Registration<'_>, mode: ProxyMode) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => IptablesMetrics::new(register).map(Mode::Iptables),
            ProxyMode::Nftables => {
                // Stale objects are deleted in the sync's transaction, so cleanup cannot fail
                // separately.
                register.family_counters(
                    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
                    "Failed deletions of stale chains and sets; always 0",
                )?;
                let sync_failures = register.family_counters(
                    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                    "Failed syncs",
                )?;
                Ok(Mode::Nftables { sync_failures })
            }
        }
    }

    fn succeeded(&self, of: &FamilyReport) {
        if let (Mode::Iptables(iptables), Some(report)) = (self, of.iptables) {
            iptables.count(of, report);
        }
    }

    fn failed(&self, of: &FamilyReport, full: bool) {
        let failures = match self {
            Mode::Iptables(iptables) if full => &iptables.restore_failures,
            Mode::Iptables(iptables) => &iptables.partial_restore_failures,
            Mode::Nftables { sync_failures } => sync_failures,
        };
        if let Some(counter) = failures.get(of.family) {
            counter.inc();
        }
    }
}

impl IptablesMetrics {
    fn new(register: &Registration<'_>) -> Result<Self> {
        // kube-proxy reads these two from nfacct objects, which our rules do not use.
        register.counter(
            "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
            "Always 0; see the counter of the drop rule",
        )?;
        register.counter(
            "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
            "Always 0; see the counter of the accept rule",
        )?;
        let tables =
            |name, help| register.family_gauge_pairs((name, help), "table", ["filter", "nat"]);
        Ok(Self {
            rules: tables(
                "kubeproxy_sync_proxy_rules_iptables_total",
                "Rules in the iptables table",
            )?,
            written: tables(
                "kubeproxy_sync_proxy_rules_iptables_last",
                "Rules written by the last successful sync",
            )?,
            restore_failures: register.family_counters(
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                "Failed full syncs",
            )?,
            partial_restore_failures: register.family_counters(
                "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
                "Failed partial syncs",
            )?,
        })
    }

    fn count(&self, of: &FamilyReport, IptablesReport { filter, nat }: IptablesReport) {
        if let Some([in_filter, in_nat]) = self.rules.get(of.family) {
            in_filter.set(gauge(filter.total));
            in_nat.set(gauge(nat.total));
        }
        if let Some([in_filter, in_nat]) = self.written.get(of.family) {
            in_filter.set(gauge(filter.written));
            in_nat.set(gauge(nat.written));
        }
    }
}

/// 1 ms to 16 s, doubling.
pub(super) fn sync_buckets() -> Result<Vec<f64>> {
    prometheus::exponential_buckets(0.001, 2.0, 15)
}

/// The first bucket is always empty, but kube-proxy has it too.
fn network_programming_buckets() -> Vec<f64> {
    let wholes = |from: u32, to: u32, step: usize| (from..=to).step_by(step).map(f64::from);
    [0.0, 0.25, 0.5]
        .into_iter()
        .chain(wholes(1, 59, 1))
        .chain(wholes(60, 115, 5))
        .chain(wholes(120, 300, 30))
        .collect()
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
