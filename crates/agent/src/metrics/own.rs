//! The metrics that kube-proxy does not have.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result};
use rulegen_model::Kind;
use rulegen_net::{IpFamily, PerFamily};

use super::kube_proxy::sync_buckets;
use super::register::{Registration, count, gauge};
use crate::left_out::LeftOutKind;
use crate::report::{Operations, Phase, SyncReport};

pub(super) struct Own {
    phases: HistogramVec,
    operations: IntCounterVec,
    written_bytes: IntCounter,
    drift_events: IntCounterVec,
    drift_writers: Mutex<BTreeSet<String>>,
    pub(super) drift_repairs: IntCounter,
    rejected_objects: IntGaugeVec,
    left_out: IntGaugeVec,
    services: PerFamily<IntGauge>,
    service_ports: PerFamily<IntGauge>,
    endpoints: PerFamily<IntGauge>,
    watch_restarts: IntCounterVec,
    unanswered_health_checks: IntGauge,
    full_affinity_sets: IntGauge,
    kube_proxy_running: IntGauge,
    lost_log_lines: IntCounter,
    source_outage: Gauge,
}

/// The maximum number of program names: programs choose their own.
const MOST_WRITERS: usize = 50;

impl Own {
    pub(super) fn new(register: &Registration<'_>) -> Result<Self> {
        Ok(Self {
            phases: register.histograms(
                (
                    "rulegen_sync_phase_duration_seconds",
                    "Duration of each phase of a sync in seconds",
                ),
                "phase",
                Phase::ALL.map(Phase::name),
                sync_buckets()?,
            )?,
            operations: register.counters(
                ("rulegen_sync_operations_total", "Operations written by syncs, by kind"),
                "operation",
                operations(&Operations::default()).map(|(name, _)| name),
            )?,
            written_bytes: register.counter(
                "rulegen_sync_written_bytes_total",
                "Bytes written to the kernel by syncs",
            )?,
            drift_events: register.counters(
                (
                    "rulegen_drift_events_total",
                    "Changes to rulegen's rules by other programs, by program name",
                ),
                "writer",
                [],
            )?,
            drift_writers: Mutex::default(),
            drift_repairs: register.counter(
                "rulegen_drift_repairs_total",
                "Syncs that reverted changes by other programs",
            )?,
            rejected_objects: register.gauges(
                ("rulegen_rejected_objects", "Objects rejected in full or in part, by kind"),
                "kind",
                Kind::ALL.map(Kind::name),
            )?,
            left_out: register.gauges(
                (
                    "rulegen_services_left_out",
                    "Services without rules because they were left out, by reason",
                ),
                "reason",
                LeftOutKind::ALL.map(LeftOutKind::label),
            )?,
            services: register.family_gauges("rulegen_services", "Services with rules")?,
            service_ports: register
                .family_gauges("rulegen_service_ports", "Service ports with rules")?,
            endpoints: register.family_gauges("rulegen_endpoints", "Endpoints with rules")?,
            watch_restarts: register.counters(
                ("rulegen_watch_restarts_total", "Watch restarts, by kind"),
                "kind",
                Kind::ALL.map(Kind::name),
            )?,
            source_outage: register.register(Gauge::new(
                "rulegen_source_outage_seconds",
                "Seconds without updates from the API server or the folder, 0 if connected",
            )?)?,
            lost_log_lines: register.counter(
                "rulegen_log_lines_lost_total",
                "Log lines dropped because they could not be written in time",
            )?,
            unanswered_health_checks: register.gauge(
                "rulegen_unanswered_health_check_addresses",
                "Health-check node port addresses that could not be opened",
            )?,
            full_affinity_sets: register.gauge(
                "rulegen_affinity_full_sets",
                "Session affinity sets (one per service port and IP family) that are at least \
                 95 % full, nftables mode only",
            )?,
            kube_proxy_running: register.gauge(
                "rulegen_kube_proxy_running",
                "1 if kube-proxy runs in the network namespace of the agent, else 0; checked \
                 every minute",
            )?,
        })
    }

    pub(super) fn synced(&self, report: &SyncReport) {
        report.phases.iter().for_each(|(phase, took)| self.phase(*phase, *took));
        if report.error.is_none() {
            for (name, number) in operations(&report.operations) {
                add(&self.operations, name, count(number));
            }
            self.written_bytes.inc_by(count(report.bytes));
        }
    }

    pub(super) fn phase(&self, phase: Phase, took: Duration) {
        if let Ok(histogram) = self.phases.get_metric_with_label_values(&[phase.name()]) {
            histogram.observe(took.as_secs_f64());
        }
    }

    pub(super) fn drifted(&self, writer: &str) {
        let mut writers = self.drift_writers.lock().unwrap_or_else(PoisonError::into_inner);
        if writers.contains(writer) {
            add(&self.drift_events, writer, 1);
        } else if writers.len() < MOST_WRITERS {
            writers.insert(writer.to_owned());
            add(&self.drift_events, writer, 1);
        } else {
            add(&self.drift_events, "other", 1);
        }
    }

    pub(super) fn rejected(&self, kind: Kind, number: usize) {
        if let Ok(rejected) = self.rejected_objects.get_metric_with_label_values(&[kind.name()]) {
            rejected.set(gauge(number));
        }
    }

    pub(super) fn left_out(&self, reason: LeftOutKind, number: usize) {
        if let Ok(gauge_of) = self.left_out.get_metric_with_label_values(&[reason.label()]) {
            gauge_of.set(gauge(number));
        }
    }

    pub(super) fn proxied(&self, family: IpFamily, numbers: [usize; 3]) {
        let gauges = [&self.services, &self.service_ports, &self.endpoints];
        for (gauges, number) in gauges.into_iter().zip(numbers) {
            if let Some(of_family) = gauges.get(family) {
                of_family.set(gauge(number));
            }
        }
    }

    pub(super) fn source_outage(&self, lasts: Duration) {
        self.source_outage.set(lasts.as_secs_f64());
    }

    /// Raises a counter to this total.
    pub(super) fn lost_log_lines(&self, number: u64) {
        self.lost_log_lines.inc_by(number.saturating_sub(self.lost_log_lines.get()));
    }

    pub(super) fn unanswered_health_checks(&self, number: usize) {
        self.unanswered_health_checks.set(gauge(number));
    }

    pub(super) fn full_affinity_sets(&self, number: usize) {
        self.full_affinity_sets.set(gauge(number));
    }

    pub(super) fn kube_proxy_running(&self, runs: bool) {
        self.kube_proxy_running.set(i64::from(runs));
    }

    pub(super) fn watch_restarted(&self, kind: Kind) {
        add(&self.watch_restarts, kind.name(), 1);
    }
}

/// The only possible error is a wrong number of labels.
fn add(counters: &IntCounterVec, label: &str, number: u64) {
    if let Ok(counter) = counters.get_metric_with_label_values(&[label]) {
        counter.inc_by(number);
    }
}

fn operations(of: &Operations) -> [(&'static str, usize); 9] {
    [
        ("add_element", of.elements.added),
        ("delete_element", of.elements.deleted),
        ("add_rule", of.rules.added),
        ("delete_rule", of.rules.deleted),
        ("add_chain", of.chains.added),
        ("delete_chain", of.chains.deleted),
        ("add_set", of.sets.added),
        ("delete_set", of.sets.deleted),
        ("flush_set", of.flushed_sets),
    ]
}
