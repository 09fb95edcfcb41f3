//! The reconcile loop: syncs the kernel's rules with the objects.
//!
//! ```text
//! TimedInput ──▶ Store ──▶ Changes ──▶ Backend ──▶ kernel
//!                  └ SyncScheduler: when  └ SyncResult ──▶ Telemetry
//! ```
//!
//! A single thread, so that each input sees the outcome of those before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rulegen_model::{
    Changes, Host, Kind, NodeState, Object, ObjectKey, Problem, ServiceCidr, Store, StoreEvent,
};
use rulegen_net::IpFamily;
use rulegen_os::{cpu_time, memory};

use crate::backend::{Backend, SyncCost, SyncResult};
use crate::configured_store::ConfiguredStore;
use crate::conntrack::ConntrackCleaner;
use crate::drift::Drift;
use crate::error::with_causes;
use crate::events::{Notice, Notices};
use crate::input::{ReconcilerInput, TimedInput};
use crate::journal::SyncTrigger;
use crate::left_out::{LeftOutKind, LeftOutReason, News};
use crate::pending::Pending;
use crate::queue::InputReceiver;
use crate::rejected_objects::log;
use crate::repair_pace::RepairPace;
use crate::report::{self, FamilyReport, Phase, SyncReport};
use crate::service_counts::ServiceCounts;
use crate::shared::ClusterState;
use crate::sync_log::SyncLog;
use crate::sync_scheduler::SyncScheduler;
use crate::telemetry::Telemetry;

/// A function that reads the machine's own addresses.
pub(crate) type ReadHost = fn() -> Host;

/// Everything that a sync needs.
pub(crate) struct Reconciler {
    pub(crate) known: ClusterState,
    pub(crate) notices: Notices,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) conntrack_cleaner: ConntrackCleaner,
    pub(crate) families: Vec<IpFamily>,
    pub(crate) scheduler: SyncScheduler,
    pub(crate) telemetry: Telemetry,
    pub(crate) host: ReadHost,
    pub(crate) started: SystemTime,
    /// Whether `/healthz` fails while the cluster has no Node object for this node.
    pub(crate) needs_node: bool,
    /// Work to do once the caches are synced, before the first write.
    pub(crate) before_first_sync: Option<Box<dyn FnOnce() + Send>>,
    /// Work to do after the first successful sync.
    pub(crate) after_first_sync: Option<Box<dyn FnOnce() + Send>>,
    pub(crate) state: ReconcilerState,
}

/// State kept between two syncs.
#[derive(Default)]
pub(crate) struct ReconcilerState {
    pending: Pending,
    service_counts: ServiceCounts,
    /// Whether the initial lists are complete.
    in_sync: bool,
    /// The last program that changed the rules since the last sync, if any did.
    drifted: Option<String>,
    repair_pace: RepairPace,
    /// Whether the next sync only checks for changes by other programs.
    only_checks: bool,
    last_error: Option<String>,
    sync_log: SyncLog,
    /// The number of headless and ExternalName Services that was last logged.
    services_without_rules: usize,
    /// The revision of the node address claims that were last reported.
    claims: Option<u64>,
}

/// After this many compiled Services, free memory is returned to the system.
const MANY: usize = 1000;

/// At most this many Services are logged individually when they are left out.
const MOST_NAMED: usize = 20;

/// A due sync is not delayed longer than this by a continuous stream of inputs.
const IMPATIENCE: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Handles inputs and syncs when due, until it receives `Stop`.
    pub(crate) fn run(mut self, inputs: &mut InputReceiver) {
        loop {
            inputs.done();
            let due = self.scheduler.due().filter(|_| self.state.in_sync);
            let next = due.into_iter().chain(self.state.sync_log.due()).min();
            let received = match next {
                Some(next) if next.elapsed() > IMPATIENCE => None,
                Some(next) => inputs.recv_timeout(next.saturating_duration_since(Instant::now())),
                None => Some(inputs.recv()),
            };
            match received {
                Some(TimedInput { input: ReconcilerInput::Stop, .. }) => {
                    self.state.sync_log.write();
                    return self.backend.stop();
                }
                Some(input) => self.take_in(input),
                None => {
                    let now = Instant::now();
                    if due.is_some_and(|due| due <= now) {
                        self.sync();
                    }
                    self.state.sync_log.write_due(now);
                }
            }
        }
    }

    fn take_in(&mut self, TimedInput { input, at }: TimedInput) {
        match input {
            ReconcilerInput::Object(event) => self.object(event, at),
            ReconcilerInput::Objects(events) => {
                events.into_iter().for_each(|event| self.object(event, at));
            }
            ReconcilerInput::Unreadable(kind, key, problem) => {
                let was_there = self.known.store.read().holds(kind, &key);
                self.report_problems(kind, key.clone(), vec![*problem]);
                if was_there {
                    self.count(kind);
                    self.known.store.write().take_in(StoreEvent::Gone(kind, key));
                    self.want(at);
                }
            }
            ReconcilerInput::Problem(problem) => log(&problem),
            ReconcilerInput::Source(what, trouble) => {
                self.telemetry.source(what, trouble);
            }
            ReconcilerInput::ServiceCidrsUnknown => self.keep_service_cidrs(at),
            ReconcilerInput::Triggered(event, time) => {
                if time >= self.started {
                    self.state.pending.trigger(time);
                }
                self.object(event, at);
            }
            ReconcilerInput::Stop => {}
            ReconcilerInput::Rules(events) => {
                for drift in self.backend.on_ruleset_events(&events) {
                    self.drifted(&drift);
                    self.want(self.state.repair_pace.may_begin(at));
                }
            }
            ReconcilerInput::Clients(clients) => self.backend.delete_clients(clients),
            ReconcilerInput::OtherMode(intrusion) => {
                self.telemetry.intruded(&intrusion, SystemTime::now())
            }
            ReconcilerInput::Addresses => {
                let addresses = (self.host)().addresses;
                // The list is never empty unless it cannot be read.
                if !addresses.is_empty() {
                    let problems = self.known.store.write().set_addresses(addresses);
                    problems.iter().for_each(log);
                    // Addresses change with pods, and rules depend on few of them.
                    if self.known.store.read().may_have_changes() {
                        self.want(at);
                    }
                }
            }
        }
    }

    /// Until ServiceCIDRs can be listed, those in the kernel's rules stay: the previous agent could
    /// list them.
    fn keep_service_cidrs(&mut self, at: Instant) {
        if !self.known.store.read().missing().contains(&Kind::ServiceCidr) {
            return;
        }
        let networks = self.backend.service_cidrs_in_kernel();
        let mut kept = ServiceCidr::default();
        kept.metadata.name = "in-kernel".to_owned();
        kept.spec.cidrs = networks.iter().map(ToString::to_string).collect();
        self.object(StoreEvent::ListBegan(Kind::ServiceCidr), at);
        self.object(StoreEvent::Put(Box::new(Object::ServiceCidr(kept))), at);
        self.object(StoreEvent::ListEnded(Kind::ServiceCidr), at);
    }

    fn drifted(&mut self, drift: &Drift) {
        drift.log();
        if drift.certain {
            self.telemetry.drifted(drift, SystemTime::now());
            self.state.drifted = Some(drift.whose());
            // `RepairPace` decides how often repairs may follow each other.
            self.scheduler.end_rest();
        } else {
            self.state.only_checks = true;
        }
    }

    fn object(&mut self, event: StoreEvent, at: Instant) {
        match &event {
            StoreEvent::Put(object) => {
                let (kind, key) = (object.kind(), object.key());
                self.count(kind);
                let problems: Vec<Problem> = self.known.store.write().take_in(event);
                self.report_problems(kind, key, problems);
            }
            StoreEvent::Gone(kind, key) => {
                self.count(*kind);
                self.known.rejected_objects.write().deleted(*kind, key);
                self.count_rejected(*kind);
                self.known.store.write().take_in(event);
            }
            StoreEvent::ListBegan(kind) => {
                self.known.rejected_objects.write().list_began(*kind);
                self.known.store.write().take_in(event);
                return;
            }
            StoreEvent::ListEnded(kind) => {
                let kind = *kind;
                self.known.rejected_objects.write().list_ended(kind);
                self.count_rejected(kind);
                self.known.store.write().take_in(event);
                // Meanwhile other lists may end.
                if kind == Kind::Service {
                    self.log_services_without_rules();
                }
                self.listed();
            }
        }
        self.want(at);
    }

    /// One line for all, after the first list and when a later list has another number.
    fn log_services_without_rules(&mut self) {
        let services = self.known.rejected_objects.read().services_without_rules();
        if std::mem::replace(&mut self.state.services_without_rules, services) != services {
            tracing::info!(services, "skipped headless and ExternalName Services");
        }
    }

    fn report_problems(&self, kind: Kind, key: ObjectKey, problems: Vec<Problem>) {
        // Logging may block, and must not do so while the lock is held.
        let news = self.known.rejected_objects.write().about(kind, key, problems);
        news.iter().flat_map(|news| news.iter()).for_each(log);
        self.count_rejected(kind);
    }

    fn report_address_problems(&self, changes: &Changes) {
        if changes.addresses.is_empty() {
            return;
        }
        let mut news = Vec::new();
        for (key, problems) in &changes.addresses {
            let mut rejected_objects = self.known.rejected_objects.write();
            news.extend(rejected_objects.about_addresses(key.clone(), problems.clone()));
        }
        news.iter().flat_map(|news| news.iter()).for_each(log);
        self.count_rejected(Kind::Service);
    }

    fn count_rejected(&self, kind: Kind) {
        self.telemetry.rejected(kind, self.known.rejected_objects.read().rejected(kind));
    }

    fn count(&mut self, kind: Kind) {
        let (services, endpoints) = match kind {
            Kind::Service => (1, 0),
            Kind::EndpointSlice => (0, 1),
            Kind::Node | Kind::ServiceCidr => return,
        };
        self.state.pending.services += services;
        self.state.pending.slices += endpoints;
        self.telemetry.changed(report::ObjectChanges { services, endpoints });
    }

    fn listed(&mut self) {
        if self.state.in_sync {
            return;
        }
        let store = self.known.store.read();
        self.state.in_sync = store.missing().is_empty();
        if self.state.in_sync {
            self.telemetry.in_sync();
            tracing::info!(node = store.node().name, "caches synced");
            warn_of_missing_node(&store, self.needs_node);
            self.before_first_sync.take().into_iter().for_each(|work| work());
        }
    }

    fn want(&mut self, at: Instant) {
        // A folder does not have to contain a Node.
        let state =
            if self.needs_node { self.known.store.read().node_state() } else { NodeState::Known };
        self.telemetry.node(state);
        if self.state.in_sync {
            self.telemetry.queued(at);
            self.scheduler.want(at);
        }
    }

    fn sync(&mut self) {
        let (began, cpu) = (Instant::now(), cpu_time::of_this_thread());
        self.telemetry.journal.begins(self.cause(), began, SystemTime::now());
        let changes = self.known.store.write().next_changes(self.backend.most_changes());
        let gathering = began.elapsed();
        changes.services.iter().for_each(|change| self.state.service_counts.follow(change));
        self.report_address_problems(&changes);
        let store = self.known.store.clone();
        let store = store.read();
        let mut outcome = self.backend.sync(&store, &changes);
        outcome.phases.insert(0, (Phase::Gather, gathering));
        self.conntrack_cleaner.follow(&changes);
        if outcome.written.is_ok() {
            self.conntrack_cleaner.begin(&store, &self.families);
        }
        let ended = Instant::now();
        let rest = self.backend.rest_after(sync_cost(ended.saturating_duration_since(began), cpu));
        self.scheduler.done(ended, rest, outcome.written.is_ok());
        self.backend.next_retry().into_iter().for_each(|at| self.scheduler.want(at));
        self.report_left_out(&store);
        let has_more = outcome.written.is_ok() && store.may_have_changes();
        let is_large = outcome.full || changes.services.len() > MANY;
        self.report(&store, &changes, outcome, began, has_more);
        // The changes are half of what a first sync allocates.
        drop(changes);
        if is_large {
            memory::release_free_pages();
        }
        if has_more {
            self.telemetry.queued(began);
            self.scheduler.go_on(began);
        }
    }

    /// Reports Services that are left out, and those that no longer are.
    fn report_left_out(&self, store: &ConfiguredStore) {
        let too_large = store.too_large().map(|(service, too_large)| {
            let why =
                LeftOutReason { reason: LeftOutKind::TooLarge, message: too_large.to_string() };
            (service.clone(), why)
        });
        let refused = self.backend.refused();
        let now: BTreeMap<ObjectKey, LeftOutReason> = too_large.chain(refused).collect();
        if now.is_empty() && self.known.left_out.read().len() == 0 {
            return;
        }
        let News { left_out, back } = self.known.left_out.write().replace(now);
        for (service, why) in left_out.iter().take(MOST_NAMED) {
            let ObjectKey { namespace, name } = service;
            tracing::warn!(
                service = %format_args!("{namespace}/{name}"),
                reason = why.reason.label(),
                problem = why.problem(service).shown_message(),
                "Service left out"
            );
            let (service, why) = (service.clone(), why.clone());
            self.notices.send(Notice::ServiceLeftOut { service, why });
        }
        if let Some(more) = left_out.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            tracing::warn!(more, "more Services left out; see the status page");
        }
        for ObjectKey { namespace, name } in back.iter().take(MOST_NAMED) {
            let service = format_args!("{namespace}/{name}");
            tracing::info!(%service, "Service no longer left out");
        }
        let known = self.known.left_out.read();
        LeftOutKind::ALL
            .iter()
            .for_each(|of| self.telemetry.metrics.left_out(*of, known.count(*of)));
    }

    /// The trigger of a sync.
    fn cause(&self) -> SyncTrigger {
        SyncTrigger {
            services: self.state.pending.services,
            slices: self.state.pending.slices,
            again: self.state.last_error.is_some(),
            drift: self.state.drifted.is_some(),
        }
    }

    fn report(
        &mut self,
        store: &ConfiguredStore,
        changes: &Changes,
        outcome: SyncResult,
        began: Instant,
        has_more: bool,
    ) {
        let finished = SystemTime::now();
        outcome.drift.iter().for_each(|drift| self.drifted(drift));
        let (written, error) = match outcome.written {
            Ok(written) => (written, None),
            Err(error) => (Default::default(), Some(with_causes(&error))),
        };
        let pending = match error {
            None if !has_more => std::mem::take(&mut self.state.pending),
            _ => Pending::default(),
        };
        let family = |family: &IpFamily| FamilyReport {
            latencies: pending.latencies(finished),
            no_local_endpoints: self.state.service_counts.of(*family).no_local_endpoints,
            iptables: outcome.iptables.get(*family).copied(),
            ..FamilyReport::new(*family)
        };
        let (took, phases) = report::with_other(began.elapsed(), outcome.phases);
        let report = SyncReport {
            families: self.families.iter().map(family).collect(),
            full: outcome.full,
            error,
            took,
            phases,
            operations: written.operations,
            bytes: written.bytes,
            changes: report::ObjectChanges {
                services: pending.services,
                endpoints: pending.slices,
            },
            finished,
        };
        let found_nothing = self.found_nothing(&report, changes);
        self.telemetry.journal.ended(&report, changes.services.len(), found_nothing);
        self.log(&report, changes, &written.summary, found_nothing);
        if report.error.is_none()
            && let Some(program) = self.state.drifted.take()
        {
            self.state.repair_pace.repaired(report.took, Instant::now());
            self.telemetry.repaired(report.finished, report.bytes > 0, program);
        }
        self.telemetry.synced(&report, &self.state.service_counts, store, began);
        if report.error.is_none() {
            self.state.only_checks = false;
            self.after_first_sync.take().into_iter().for_each(|work| work());
            let claims = Some(store.claims_revision());
            if std::mem::replace(&mut self.state.claims, claims) != claims {
                self.telemetry.claimed(store.node_claims());
            }
        }
    }

    /// Whether the sync was a no-op resync.
    fn found_nothing(&self, report: &SyncReport, changes: &Changes) -> bool {
        let is_check = !report.full || self.state.only_checks;
        report.error.is_none() && report.bytes == 0 && is_check && changes.services.is_empty()
    }

    fn log(
        &mut self,
        report: &SyncReport,
        changes: &Changes,
        summary: &[String],
        found_nothing: bool,
    ) {
        if let Some(error) = &report.error {
            self.state.sync_log.write();
            // The number of further rejections grows with what is pending, so only the first is
            // compared.
            let first = error.split("; ").next().unwrap_or_default();
            if self.state.last_error.as_deref() == Some(first) {
                tracing::debug!(error, "sync failed again");
            } else {
                tracing::error!(error, "sync failed, will retry");
            }
            self.state.last_error = Some(first.to_owned());
            return;
        }
        self.state.last_error = None;
        if found_nothing {
            return;
        }
        let services = changes.services.len();
        self.state.sync_log.add(report, services, summary, Instant::now());
    }
}

/// The cost of a sync by this thread, given its duration and the thread's CPU time before.
fn sync_cost(took: Duration, cpu_before: Option<Duration>) -> SyncCost {
    let cpu = cpu_time::of_this_thread().zip(cpu_before);
    SyncCost { took, cpu: cpu.map_or(took, |(after, before)| after.saturating_sub(before)) }
}

/// Without a Node object of its name, no endpoint counts as local, so Services with traffic policy Local
/// drop their traffic here. A folder may have no Nodes at all.
fn warn_of_missing_node(store: &Store, needs_node: bool) {
    let other = store.other_node();
    if store.node_state() == NodeState::Unknown && (needs_node || other.is_some()) {
        tracing::warn!(
            node = store.node().name,
            found = other.map(|node| node.name.as_str()),
            found_has_host_address = other.map(|node| node.has_host_address),
            "no Node object with this name, so no endpoint counts as local; set --hostname-override"
        );
    }
}
