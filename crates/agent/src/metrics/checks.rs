//! Health check results at `/metrics/slis`, as in all Kubernetes components (KEP-3466).

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, Result};

/// The health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`: the agent syncs in time, and the node can get new connections.
    Healthz,
    /// `/livez`: the agent syncs in time.
    Livez,
    /// `/readyz`: the rules are in the kernel.
    Readyz,
}

impl Probe {
    /// The path without its slash.
    pub fn name(self) -> &'static str {
        match self {
            Probe::Healthz => "healthz",
            Probe::Livez => "livez",
            Probe::Readyz => "readyz",
        }
    }
}

/// A check has no samples before its first request.
pub(super) struct ProbeMetrics {
    last: IntGaugeVec,
    all: IntCounterVec,
}

impl ProbeMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let opts =
            Opts::new("kubernetes_healthcheck", "Result of the last health check, 1 = healthy");
        let last = IntGaugeVec::new(opts, &["name", "type"])?;
        let opts = Opts::new("kubernetes_healthchecks_total", "Health check results");
        let all = IntCounterVec::new(opts, &["name", "type", "status"])?;
        registry.register(Box::new(last.clone()))?;
        registry.register(Box::new(all.clone()))?;
        Ok(Self { last, all })
    }

    pub(super) fn checked(&self, check: Probe, ok: bool) {
        let name = check.name();
        let status = if ok { "success" } else { "error" };
        if let Ok(last) = self.last.get_metric_with_label_values(&[name, name]) {
            last.set(i64::from(ok));
        }
        if let Ok(all) = self.all.get_metric_with_label_values(&[name, name, status]) {
            all.inc();
        }
    }
}
