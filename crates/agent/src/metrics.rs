//! The metrics for Prometheus: kube-proxy's by their names, our own as `rulegen_…`.
//!
//! Callers report what happened; this module decides which metrics change.

mod build;
mod checks;
mod connections;
mod features;
mod kube_proxy;
mod own;
mod process;
mod register;
mod rest_client;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, Result, TextEncoder};
use rulegen_config::ProxyMode;
use rulegen_model::Kind;
use rulegen_net::IpFamily;
use rulegen_os::printable::program_name;

pub use build::Build;
pub(crate) use build::go_architecture;
pub use checks::Probe;
pub use connections::ServiceConnections;
pub(crate) use rest_client::RestClient;

use crate::left_out::LeftOutKind;
use crate::report::{ConntrackReport, ObjectChanges, Phase, SyncReport};
use checks::ProbeMetrics;
use connections::ConnectionMetrics;
use kube_proxy::KubeProxy;
use own::Own;
use process::ProcessMetrics;
use register::Registration;

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    kube_proxy: KubeProxy,
    own: Own,
    connections: ConnectionMetrics,
    pending: Mutex<ObjectChanges>,
    slis: Registry,
    checks: ProbeMetrics,
    lost_log_lines: OnceLock<fn() -> u64>,
}

impl Metrics {
    /// The metrics of a proxy mode, all 0.
    ///
    /// # Errors
    /// Two metrics have the same name (a bug in this module).
    pub fn new(mode: ProxyMode, families: &[IpFamily], build: &Build) -> Result<Self> {
        let (registry, slis) = (Registry::new(), Registry::new());
        let register = Registration { registry: &registry, families };
        let kube_proxy = KubeProxy::new(&register, mode)?;
        let own = Own::new(&register)?;
        let connections = register.register(ConnectionMetrics::new()?)?;
        build::register(&register, build)?;
        features::register(&register)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        registry.register(Box::new(ProcessMetrics::new()?))?;
        let checks = ProbeMetrics::new(&slis)?;
        let pending = Mutex::default();
        let lost_log_lines = OnceLock::new();
        Ok(Self { registry, kube_proxy, own, connections, pending, slis, checks, lost_log_lines })
    }

    /// Adds the metrics of the API server's client.
    ///
    /// # Errors
    /// They were added before.
    pub(crate) fn add_rest_client(&self, client: &RestClient) -> Result<()> {
        client.register(&self.registry)
    }

    /// More changes are pending.
    pub fn queued(&self, changes: ObjectChanges, at: SystemTime) {
        self.kube_proxy.queued(changes, at);
        self.wait(|pending| ObjectChanges {
            services: pending.services.saturating_add(changes.services),
            endpoints: pending.endpoints.saturating_add(changes.endpoints),
        });
    }

    /// A sync ended. If it succeeded, its changes are no longer pending.
    pub fn synced(&self, report: &SyncReport) {
        self.kube_proxy.synced(report);
        self.own.synced(report);
        if report.error.is_none() {
            self.wait(|pending| ObjectChanges {
                services: pending.services.saturating_sub(report.changes.services),
                endpoints: pending.endpoints.saturating_sub(report.changes.endpoints),
            });
        }
    }

    /// Stale flows of a family were deleted.
    pub fn cleaned(&self, family: IpFamily, report: ConntrackReport) {
        self.kube_proxy.cleaned(family, report);
        self.own.phase(Phase::Conntrack, report.took);
    }

    /// A program changed the rules; its name is as in /proc/pid/comm.
    pub fn drifted(&self, writer: &str) {
        self.own.drifted(&program_name(writer));
    }

    /// Changes by other programs were reverted.
    pub fn repaired(&self) {
        self.own.drift_repairs.inc();
    }

    /// The number of rejected objects of a kind.
    pub fn rejected(&self, kind: Kind, number: usize) {
        self.own.rejected(kind, number);
    }

    /// The number of Services left out for a reason.
    pub(crate) fn left_out(&self, reason: LeftOutKind, number: usize) {
        self.own.left_out(reason, number);
    }

    /// The number of Services, service ports and endpoints of a family with rules.
    pub fn proxied(&self, family: IpFamily, numbers: [usize; 3]) {
        self.own.proxied(family, numbers);
    }

    /// The number of health-check node port addresses that could not be opened.
    pub fn unanswered_health_checks(&self, number: usize) {
        self.own.unanswered_health_checks(number);
    }

    /// The number of full session affinity sets.
    pub fn full_affinity_sets(&self, number: usize) {
        self.own.full_affinity_sets(number);
    }

    /// Whether kube-proxy runs in the same network namespace.
    pub fn kube_proxy_running(&self, runs: bool) {
        self.own.kube_proxy_running(runs);
    }

    /// A watch was restarted.
    pub fn watch_restarted(&self, kind: Kind) {
        self.own.watch_restarted(kind);
    }

    /// All connection counters were read from the kernel.
    pub fn connections(&self, connections: Vec<ServiceConnections>) {
        self.connections.set(connections);
    }

    /// The result of a health check.
    pub fn checked(&self, check: Probe, ok: bool) {
        self.checks.checked(check, ok);
        let code = if ok { "200" } else { "503" };
        let answers = match check {
            Probe::Healthz => &self.kube_proxy.healthz,
            Probe::Livez => &self.kube_proxy.livez,
            Probe::Readyz => return,
        };
        if let Ok(counter) = answers.get_metric_with_label_values(&[code]) {
            counter.inc();
        }
    }

    /// The time without updates from the source; zero if it works.
    pub fn source_outage(&self, lasts: Duration) {
        self.own.source_outage(lasts);
    }

    /// Sets the function that returns the number of lost log lines. Only the first call counts.
    pub fn read_lost_log_lines(&self, read: fn() -> u64) {
        let _ = self.lost_log_lines.set(read);
    }

    /// `/metrics`, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// A metric has no name (a bug in this module).
    pub fn text(&self) -> Result<String> {
        if let Some(read) = self.lost_log_lines.get() {
            self.own.lost_log_lines(read());
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// `/metrics/slis`, in the same format.
    ///
    /// # Errors
    /// As [`Metrics::text`].
    pub fn sli_text(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.slis.gather())
    }

    /// Under the lock, so that concurrent changes are applied in order.
    fn wait(&self, change: impl FnOnce(ObjectChanges) -> ObjectChanges) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = change(*pending);
        self.kube_proxy.pending(*pending);
    }
}
