//! The backends that write the rules, one module per proxy mode.

mod iptables;
mod nftables;

use std::time::{Duration, Instant};

use ipnet::IpNet;
use rulegen_compiler::{ServicePlan, plan_service};
use rulegen_kernel::nftables::Event;
use rulegen_model::{Changes, ObjectKey, ServiceChange, ServicePort};
use rulegen_net::{IpFamily, PerFamily, ServicePortName};

use crate::affinity_clients::Clients;
use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::error::Result;
use crate::left_out::LeftOutReason;
use crate::report::{IptablesReport, Operations, Phase};

pub(crate) use iptables::{IptablesBackend, ToolOptions};
pub(crate) use nftables::{Nftables, RecordFile};

/// Syncs the kernel with a store.
pub(crate) trait Backend: Send {
    /// Writes the changes, or does a full resync if the kernel's state is unknown. Failed work is
    /// done by the next sync.
    fn sync(&mut self, store: &ConfiguredStore, changes: &Changes) -> SyncResult;

    /// The maximum number of changed Services per sync. A sync needs memory for each, and an
    /// iptables restore costs the whole table however few it changes.
    fn most_changes(&self) -> usize {
        usize::MAX
    }

    /// The minimum time until the next sync after one with this cost.
    fn rest_after(&self, _sync: SyncCost) -> Duration {
        Duration::ZERO
    }

    /// Handles ruleset events. Returns changes by other programs, which the next sync repairs.
    fn on_ruleset_events(&mut self, events: &[Event]) -> Vec<Drift>;

    /// Deletes affinity entries of removed endpoints (nftables mode only).
    fn delete_clients(&mut self, _: Clients) {}

    /// The Services that the kernel refuses, which are left out.
    fn refused(&self) -> Vec<(ObjectKey, LeftOutReason)>;

    /// When the next retry of a refused Service is due.
    fn next_retry(&self) -> Option<Instant>;

    /// The agent is about to stop; the rules stay.
    fn stop(&mut self) {}

    /// The ServiceCIDRs in the kernel's rules (nftables mode only).
    fn service_cidrs_in_kernel(&mut self) -> Vec<IpNet> {
        Vec::new()
    }
}

/// What a sync cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncCost {
    /// From its begin to its end.
    pub(crate) took: Duration,
    /// CPU time of the reconciler's thread, in which the kernel also commits to nf_tables. Other
    /// threads and programs are not included.
    pub(crate) cpu: Duration,
}

/// What a sync did, and whether it succeeded.
pub(crate) struct SyncResult {
    /// Whether it was a full resync.
    pub(crate) full: bool,
    /// The duration of each phase.
    pub(crate) phases: Vec<(Phase, Duration)>,
    /// The operations written. If a family failed, others may still be written.
    pub(crate) written: Result<WrittenOperations>,
    /// Changes by other programs that the sync found.
    pub(crate) drift: Vec<Drift>,
    /// The rule counts of the successful families, in iptables mode.
    pub(crate) iptables: PerFamily<IptablesReport>,
}

impl SyncResult {
    /// An outcome with these values only.
    fn new(watch: Stopwatch, written: Result<WrittenOperations>) -> Self {
        let (drift, iptables) = (Vec::new(), PerFamily::new());
        Self { full: false, phases: watch.phases, written, drift, iptables }
    }
}

/// The operations of a sync that the kernel accepted, and their cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenOperations {
    pub(crate) operations: Operations,
    pub(crate) bytes: usize,
    /// A summary for people, one per table.
    pub(crate) summary: Vec<String>,
}

impl WrittenOperations {
    /// Adds what was written before.
    fn add(&mut self, before: Self) {
        self.operations += before.operations;
        self.bytes += before.bytes;
        self.summary.splice(0..0, before.summary);
    }
}

/// Adds up the duration of each phase.
#[derive(Default)]
pub(crate) struct Stopwatch {
    pub(crate) phases: Vec<(Phase, Duration)>,
}

impl Stopwatch {
    pub(crate) fn time<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.add(phase, begun.elapsed());
        done
    }

    pub(crate) fn add(&mut self, phase: Phase, took: Duration) {
        match self.phases.iter_mut().find(|(of, _)| *of == phase) {
            Some((_, sum)) => *sum += took,
            None => self.phases.push((phase, took)),
        }
    }
}

/// The Service of a port.
fn service_of(name: &ServicePortName) -> ObjectKey {
    ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() }
}

fn changed_service(change: &ServiceChange) -> Option<ObjectKey> {
    change.before.first().or(change.after.first()).map(|port| service_of(&port.name))
}

/// The current plan of a service port.
fn plan_of(store: &ConfiguredStore, port: &ServicePort, family: IpFamily) -> ServicePlan {
    plan_service(port, store.node(), store.config(), family)
}
