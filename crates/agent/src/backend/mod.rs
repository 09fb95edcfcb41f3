//! What holds the rules: one file a mode.

mod iptables;
mod nftables;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rulegen_compiler::{ServicePlan, plan_service};
use rulegen_kernel::nftables::Event;
use rulegen_model::{Changes, ObjectKey, ServiceChange, ServicePort};
use rulegen_net::{IpFamily, ServicePortName};

use crate::affinity::Clients;
use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::error::Result;
use crate::left_out::Why;
use crate::report::{IptablesReport, Operations, Phase};

pub(crate) use iptables::{Iptables, ToolOptions};
pub(crate) use nftables::Nftables;

/// Makes the kernel hold what a store says.
pub(crate) trait Backend: Send {
    /// Writes what the changes make different; everything that differs, if it is not sure what is
    /// held, or never was. Whatever it fails at is written the next time.
    fn sync(&mut self, store: &ConfiguredStore, changes: &Changes) -> Outcome;

    /// What others did to our rules. The next sync compares everything if there was something.
    fn on_ruleset_events(&mut self, events: &[Event]) -> Vec<Drift>;

    /// Deletes clients of session affinity whose endpoints are gone. Only nftables mode has any.
    fn delete_clients(&mut self, _: Clients) {}

    /// The Services that the kernel refuses, which are left out.
    fn refused(&self) -> Vec<(ObjectKey, Why)>;

    /// When a sync is due to try one of them again.
    fn next_retry(&self) -> Option<Instant>;
}

/// What came of a sync.
pub(crate) struct Outcome {
    /// Whether everything was compared with what is held.
    pub(crate) full: bool,
    /// What took how long.
    pub(crate) phases: Vec<(Phase, Duration)>,
    /// What was written. Where a family failed, another may still be done.
    pub(crate) written: Result<Written>,
    /// What others turn out to have done, where it could only be suspected before.
    pub(crate) drift: Vec<Drift>,
    /// The rules of the families that were done, in iptables mode.
    pub(crate) iptables: BTreeMap<IpFamily, IptablesReport>,
}

impl Outcome {
    /// One of which nothing more is known.
    fn new(watch: Stopwatch, written: Result<Written>) -> Self {
        let (drift, iptables) = (Vec::new(), BTreeMap::new());
        Self { full: false, phases: watch.phases, written, drift, iptables }
    }
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) operations: Operations,
    pub(crate) bytes: usize,
    /// The same in words, for each table.
    pub(crate) summary: Vec<String>,
}

/// Adds up what each phase took.
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

/// The Service that a port is of.
fn service_of(name: &ServicePortName) -> ObjectKey {
    ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() }
}

/// The Service that a change is about.
fn changed_service(change: &ServiceChange) -> Option<ObjectKey> {
    change.before.first().or(change.after.first()).map(|port| service_of(&port.name))
}

/// The plan of a service port, as the store has it now.
fn plan_of(store: &ConfiguredStore, port: &ServicePort, family: IpFamily) -> ServicePlan {
    plan_service(port, store.node(), store.config(), family)
}
