//! Tells probers, Prometheus and load balancers how it goes.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rulegen_model::{IpFamily, Kind, NodeState};
use tokio::sync::watch;

use crate::health::SharedHealth;
use crate::metrics::Metrics;
use crate::report::{Changes, SyncReport};
use crate::service_health::ServiceCheck;
use crate::source::api::Watches;
use crate::tally::Tally;

/// Where the reconciler leaves what it knows. All of it may be read by others at any time.
#[derive(Clone)]
pub(crate) struct Telemetry {
    pub(crate) health: SharedHealth,
    pub(crate) metrics: Arc<Metrics>,
    /// Services whose load balancers ask for endpoints on this node.
    pub(crate) checks: watch::Sender<Vec<ServiceCheck>>,
}

impl Telemetry {
    /// Everything was listed once.
    pub(crate) fn in_sync(&self) {
        self.health.with(|health| health.in_sync_with_source(true));
    }

    pub(crate) fn node(&self, state: NodeState) {
        self.health.with(|health| health.node(state));
    }

    /// Something waits for a sync since then.
    pub(crate) fn queued(&self, at: Instant) {
        self.health.with(|health| health.queued(at));
    }

    /// An object came or went that a sync must take in.
    pub(crate) fn changed(&self, changes: Changes) {
        self.metrics.queued(changes, SystemTime::now());
    }

    pub(crate) fn rejected(&self, kind: Kind, number: usize) {
        self.metrics.rejected(kind, number);
    }

    pub(crate) fn drifted(&self, program: &str) {
        self.metrics.drifted(program);
    }

    pub(crate) fn repaired(&self) {
        self.metrics.repaired();
    }

    /// A sync ended that had gathered everything until then.
    pub(crate) fn synced(&self, report: &SyncReport, tally: &Tally, gathered: Instant) {
        self.metrics.synced(report);
        let families = report.families.iter().map(|of| of.family);
        if report.error.is_some() {
            let now = Instant::now();
            self.health.with(|health| families.for_each(|family| health.failed(family, now)));
            return;
        }
        self.health.with(|health| {
            families.for_each(|family| health.synced(family, gathered, report.finished));
        });
        for family in report.families.iter().map(|of| of.family) {
            self.proxied(family, tally);
        }
        self.checks.send_if_modified(|checks| {
            let wanted = tally.checks();
            let is_new = *checks != wanted;
            *checks = wanted;
            is_new
        });
    }

    fn proxied(&self, family: IpFamily, tally: &Tally) {
        let counts = tally.of(family);
        self.metrics.proxied(family, counts.services, counts.endpoints);
    }
}

impl Watches for Arc<Metrics> {
    fn restarted(&self, kind: Kind) {
        self.watch_restarted(kind);
    }
}
