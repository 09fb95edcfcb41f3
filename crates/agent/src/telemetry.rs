//! Passes the reconciler's state to health probes, metrics and load balancers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rulegen_compiler::{NodePortsAt, node_ports_at};
use rulegen_model::{Kind, NodeClaims, NodeState};
use rulegen_net::IpFamily;
use tokio::sync::watch;

use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::health::SharedHealth;
use crate::input::SourceError;
use crate::intrusion::Intrusion;
use crate::journal::Journal;
use crate::kube_proxy::Detected;
use crate::metrics::Metrics;
use crate::report::{ObjectChanges, SyncReport};
use crate::service_counts::{FamilyCounts, ServiceCounts};
use crate::service_health::ServiceChecks;
use crate::source::api::Watches;

/// The shared state that the reconciler writes and other threads read.
#[derive(Clone)]
pub(crate) struct Telemetry {
    pub(crate) health: SharedHealth,
    pub(crate) metrics: Arc<Metrics>,
    /// Recent syncs and drift.
    pub(crate) journal: Journal,
    pub(crate) families: Vec<IpFamily>,
    /// Services with health-check node ports.
    pub(crate) checks: watch::Sender<ServiceChecks>,
    /// Node addresses that Services claim.
    pub(crate) node_claims: watch::Sender<NodeClaims>,
}

impl Telemetry {
    /// The initial lists are complete.
    pub(crate) fn in_sync(&self) {
        self.health.with(|health| health.in_sync_with_source(true));
    }

    /// The source failed (`Some`) or recovered (`None`).
    pub(crate) fn source(&self, what: &'static str, trouble: Option<SourceError>) {
        self.health.with(|health| health.source(what, trouble, Instant::now(), SystemTime::now()));
    }

    pub(crate) fn node(&self, state: NodeState) {
        self.health.with(|health| health.node(state));
    }

    /// Whether kube-proxy runs in the same network namespace, and how it was found.
    pub(crate) fn kube_proxy(&self, seen: Option<&Detected>) {
        self.metrics.kube_proxy_running(seen.is_some());
        self.health.with(|health| health.kube_proxy(seen.map(ToString::to_string)));
    }

    /// A sync has been pending since this time.
    pub(crate) fn queued(&self, at: Instant) {
        self.health.with(|health| health.queued(at));
    }

    /// An object that the next sync must handle was added, changed or deleted.
    pub(crate) fn changed(&self, changes: ObjectChanges) {
        self.metrics.queued(changes, SystemTime::now());
    }

    pub(crate) fn rejected(&self, kind: Kind, number: usize) {
        self.metrics.rejected(kind, number);
    }

    pub(crate) fn drifted(&self, drift: &Drift, at: SystemTime) {
        self.metrics.drifted(drift.program());
        self.journal.drifted(drift, at);
    }

    /// The drift is resolved. `has_written` says whether rules had to be written. `whose` is the
    /// program that caused the drift.
    pub(crate) fn repaired(&self, at: SystemTime, has_written: bool, whose: String) {
        if has_written {
            self.metrics.repaired();
            self.health.with(|health| health.repaired(whose, Instant::now()));
        }
        self.journal.repaired(at, has_written);
    }

    /// Another program created rules of another proxy mode.
    pub(crate) fn intruded(&self, intrusion: &Intrusion, at: SystemTime) {
        let (Intrusion::Removed(drift) | Intrusion::Left(drift, _)) = intrusion;
        self.metrics.drifted(drift.program());
        self.metrics.repaired();
        self.journal.undone(drift, at);
        let now = Instant::now();
        self.health.with(|health| {
            health.repaired(drift.whose(), now);
            if let Intrusion::Left(_, pause) = intrusion {
                health.left_other_mode(*pause, now);
            }
        });
    }

    /// A sync ended that contained all changes up to this time.
    pub(crate) fn synced(
        &self,
        report: &SyncReport,
        service_counts: &ServiceCounts,
        store: &ConfiguredStore,
        gathered: Instant,
    ) {
        self.metrics.synced(report);
        let families = report.families.iter().map(|of| of.family);
        if report.error.is_some() {
            let now = Instant::now();
            self.health.with(|health| families.for_each(|family| health.failed(family, now)));
            return;
        }
        let has_changes = report.changes.services + report.changes.endpoints > 0;
        self.health.with(|health| {
            families.for_each(|family| health.synced(family, gathered, report.finished));
            if has_changes {
                health.changed(Instant::now());
            }
        });
        for family in report.families.iter().map(|of| of.family) {
            self.proxied(family, service_counts);
        }
        self.checks.send_if_modified(|checks| {
            let addresses = self.families.iter().flat_map(|of| listen_at(store, *of)).collect();
            let desired = ServiceChecks { services: service_counts.checks(), addresses };
            let is_new = *checks != desired;
            *checks = desired;
            is_new
        });
    }

    /// The rules with these claims on node addresses are written.
    pub(crate) fn claimed(&self, claims: NodeClaims) {
        self.node_claims.send_if_modified(|known| {
            let is_new = *known != claims;
            *known = claims;
            is_new
        });
    }

    fn proxied(&self, family: IpFamily, service_counts: &ServiceCounts) {
        let counts = service_counts.of(family);
        let FamilyCounts { services, service_ports, endpoints, .. } = counts;
        self.metrics.proxied(family, [services, service_ports, endpoints]);
    }
}

/// The addresses on which health-check node ports listen: where node ports are open.
fn listen_at(store: &ConfiguredStore, family: IpFamily) -> Vec<IpAddr> {
    let everywhere = match family {
        IpFamily::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    match node_ports_at(store.node(), store.config(), family) {
        NodePortsAt::These(addresses) => addresses,
        NodePortsAt::AnyLocal { .. } => vec![everywhere],
    }
}

impl Watches for Arc<Metrics> {
    fn restarted(&self, kind: Kind) {
        self.watch_restarted(kind);
    }
}
