//! Deletes stale conntrack entries: flows to destinations that the rules no longer use.
//!
//! The conntrack table may be large, so a thread lists it after the rules are written. Failed work
//! is retried together with newer work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rulegen_compiler::conntrack::{Context, History, StaleFlowFilter, concerns, frontends};
use rulegen_compiler::{NodePortsAt, node_ports_at};
use rulegen_kernel::conntrack::{Conntrack, ConntrackError};
use rulegen_model::{Changes, ServicePort};
use rulegen_net::{Frontend, IpFamily, PerFamily};
use rulegen_ruleset::Flow;

use crate::configured_store::ConfiguredStore;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::report::ConntrackReport;
use crate::threads;

/// The changes that affect flows, and the sender to the cleanup thread.
pub(crate) struct ConntrackCleaner {
    jobs: Sender<Vec<CleanupJob>>,
    resets_removed_tcp: bool,
    /// Frontends of Services that changed or were deleted since the last job.
    changed: HashSet<Frontend>,
    is_needed: bool,
}

/// The current rules of a family.
struct CleanupJob {
    family: IpFamily,
    ports: Vec<ServicePort>,
    changed: HashSet<Frontend>,
    node_ports_at: NodePortsAt,
    local_addresses: Vec<std::net::IpAddr>,
    service_cidrs: Vec<IpNet>,
}

/// The pause before a retry.
const PAUSE: Duration = Duration::from_secs(1);

impl ConntrackCleaner {
    /// Starts the cleanup thread in the caller's network namespace.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(resets_removed_tcp: bool, metrics: Arc<Metrics>) -> Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let cleaner = Cleaner {
            metrics,
            resets_removed_tcp,
            waiting: PerFamily::new(),
            known: HashSet::new(),
        };
        threads::start("conntrack", move || cleaner.run(&todo))?;
        Ok(Self { jobs, resets_removed_tcp, changed: HashSet::new(), is_needed: false })
    }

    /// Records the changes of the next sync.
    pub(crate) fn follow(&mut self, changes: &Changes) {
        self.is_needed |= changes.full_resync || changes.node_port_addresses;
        for change in &changes.services {
            let is_concerned = |port: &&ServicePort| concerns(port, self.resets_removed_tcp);
            let before = change.before.iter().filter(is_concerned);
            self.changed.extend(before.flat_map(frontends));
            self.is_needed |=
                change.before.iter().chain(change.after.iter()).any(|p| is_concerned(&p));
        }
    }

    /// Starts the cleanup. The rules must be written already.
    pub(crate) fn begin(&mut self, store: &ConfiguredStore, families: &[IpFamily]) {
        if !std::mem::take(&mut self.is_needed) {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let jobs = families.iter().map(|family| self.job(store, *family, &changed)).collect();
        // A kernel without ctnetlink has no flows either, and the thread has exited.
        let _ = self.jobs.send(jobs);
    }

    fn job(
        &self,
        store: &ConfiguredStore,
        family: IpFamily,
        changed: &HashSet<Frontend>,
    ) -> CleanupJob {
        let is_concerned = |port: &&ServicePort| {
            IpFamily::of(port.cluster_ip) == family && concerns(port, self.resets_removed_tcp)
        };
        CleanupJob {
            family,
            ports: store.service_ports().filter(is_concerned).cloned().collect(),
            changed: changed.clone(),
            node_ports_at: node_ports_at(store.node(), store.config(), family),
            local_addresses: store.node().addresses(family).local.clone(),
            service_cidrs: store.service_cidrs(family),
        }
    }
}

/// The state of the thread.
struct Cleaner {
    metrics: Arc<Metrics>,
    resets_removed_tcp: bool,
    /// Work that has not succeeded yet.
    waiting: PerFamily<CleanupJob>,
    /// Families that were cleaned once. Before that, any flow may be stale.
    known: HashSet<IpFamily>,
}

impl Cleaner {
    fn run(mut self, todo: &Receiver<Vec<CleanupJob>>) {
        let mut failed = false;
        loop {
            let patience = if self.waiting.is_empty() { Duration::MAX } else { PAUSE };
            match todo.recv_timeout(patience) {
                Ok(jobs) => self.take(jobs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            todo.try_iter().for_each(|jobs| self.take(jobs));
            let families: Vec<IpFamily> = self.waiting.families().collect();
            for family in families {
                match self.clean(family, todo) {
                    Ok(()) => failed = false,
                    Err(error) if error.is_absence() => {
                        return tracing::warn!(
                            %error,
                            "conntrack cleanup not supported by this kernel, disabled until \
                             restart"
                        );
                    }
                    Err(error) if failed => {
                        tracing::debug!(%error, "conntrack cleanup failed again")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "conntrack cleanup failed, will retry");
                        failed = true;
                    }
                }
            }
        }
    }

    fn take(&mut self, jobs: Vec<CleanupJob>) {
        for mut job in jobs {
            if let Some(earlier) = self.waiting.remove(job.family) {
                job.changed.extend(earlier.changed);
            }
            self.waiting.insert(job.family, job);
        }
    }

    /// Puts failed work back. Newer work wins.
    fn put_back(&mut self, job: CleanupJob) {
        match self.waiting.get_mut(job.family) {
            Some(newer) => newer.changed.extend(job.changed),
            None => {
                self.waiting.insert(job.family, job);
            }
        }
    }

    /// The filter for the pending work of a family, if there is any.
    fn filter(&self, family: IpFamily) -> Option<StaleFlowFilter> {
        let job = self.waiting.get(family)?;
        let history = match self.known.contains(&family) {
            true => History::Vanished(job.changed.clone()),
            false => History::Unknown,
        };
        let context = Context {
            node_ports_at: &job.node_ports_at,
            local_addresses: &job.local_addresses,
            service_cidrs: &job.service_cidrs,
            resets_removed_tcp: self.resets_removed_tcp,
        };
        Some(StaleFlowFilter::new(&job.ports, history, &context))
    }

    fn clean(
        &mut self,
        family: IpFamily,
        todo: &Receiver<Vec<CleanupJob>>,
    ) -> Result<(), ConntrackError> {
        let begun = Instant::now();
        let Some(filter) = self.filter(family) else { return Ok(()) };
        let mut kernel = Conntrack::open()?;
        let mut stale = list_stale(&mut kernel, &filter, family)?;
        let done = self.waiting.remove(family);
        // The list may have taken long: a flow to an endpoint added meanwhile is not stale.
        todo.try_iter().for_each(|jobs| self.take(jobs));
        if let Some(newer) = self.filter(family) {
            stale.retain(|flow| newer.is_stale(flow));
        }
        let deleted = match forget(&mut kernel, &stale) {
            Ok(deleted) => deleted,
            Err(error) => {
                done.into_iter().for_each(|job| self.put_back(job));
                return Err(error);
            }
        };
        self.known.insert(family);
        let report = ConntrackReport { took: begun.elapsed(), deleted };
        self.metrics.cleaned(family, report);
        if deleted > 0 {
            tracing::info!(
                family = family.api_name(),
                flows = deleted,
                "deleted stale conntrack entries"
            );
        }
        Ok(())
    }
}

fn list_stale(
    kernel: &mut Conntrack,
    filter: &StaleFlowFilter,
    family: IpFamily,
) -> Result<Vec<Flow>, ConntrackError> {
    let mut stale: Vec<Flow> = Vec::new();
    for protocol in filter.protocols() {
        kernel.for_each(family, protocol, |flow| {
            if filter.is_stale(&flow) {
                stale.push(flow);
            }
        })?;
    }
    Ok(stale)
}

fn forget(kernel: &mut Conntrack, stale: &[Flow]) -> Result<usize, ConntrackError> {
    let mut deleted = 0;
    for flow in stale {
        deleted += usize::from(kernel.delete(flow)?);
    }
    Ok(deleted)
}
