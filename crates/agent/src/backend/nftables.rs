//! nftables mode: one table per family, changed through netlink.

mod record;
mod stale_clients;
mod suspects;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rulegen_compiler::nftables::{self, LiveTable, Patch, ServiceUpdate};
use rulegen_compiler::{Plan, ServicePlan, node_ports_at, plan};
use rulegen_kernel::nftables::{
    Dataplane, DataplaneError, DynamicSets, Event, Generation, Missing, NfTables, RulesetIdentity,
    commit_in_stages, isolate, reconcile,
};
use rulegen_model::{Changes, ObjectKey, ServiceChange, ServicePort};
use rulegen_net::{IpFamily, PerFamily, ServicePortName};
use rulegen_ruleset::bisect;
use rulegen_ruleset::nftables::{
    Actual, ComparedTable, Key, Name, Set, Table, TablePart, Transaction, Value, diff_compared,
};

use super::{
    Backend, Stopwatch, SyncCost, SyncResult, WrittenOperations, changed_service, plan_of,
    service_of,
};
use stale_clients::StaleClients;
use suspects::Suspects;

pub(crate) use record::RecordFile;

use crate::affinity_clients::{Clients, ReadClients};
use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::error::{self, Result};
use crate::left_out::LeftOutReason;
use crate::quarantine::Quarantine;
use crate::report::{OperationCounts, Operations, Phase};

/// The tables of both families, and what is known about them in the kernel.
pub(crate) struct Nftables<K = NfTables> {
    kernel: K,
    name: Name,
    families: Vec<IpFamily>,
    /// The desired state, without the Services in quarantine.
    live: PerFamily<LiveTable>,
    /// Whether the tables in the kernel are known to equal `live`, except for `suspects`.
    in_sync: bool,
    /// The parts that other programs changed.
    suspects: Suspects,
    /// The generation up to which all commits are known. What other programs changed in our tables
    /// is repaired or in `suspects`.
    known: Option<Generation>,
    /// The record of the tables, for the next start.
    record: Option<RecordFile>,
    /// Whether the record of the last run may still be right.
    may_be_recorded: bool,
    /// Services that the kernel refuses.
    quarantine: Quarantine,
    /// Services that changed since the last successful sync; `None` if any may have changed.
    unsettled: Option<BTreeSet<ObjectKey>>,
    /// Affinity entries of removed endpoints that are not deleted yet.
    stale_clients: StaleClients,
    /// Requests to search sets for such entries.
    searches: mpsc::Sender<ReadClients>,
}

impl Nftables {
    /// Works in the network namespace of the calling thread. Affinity sets that have to be searched
    /// are sent to `searches`, at most one search per set at a time.
    ///
    /// # Errors
    /// The kernel cannot be reached.
    pub(crate) fn open(
        name: Name,
        families: &[IpFamily],
        searches: mpsc::Sender<ReadClients>,
        record: Option<RecordFile>,
    ) -> Result<Self> {
        Ok(Self::new(NfTables::open()?, name, families, searches, record))
    }
}

impl<K: Kernel> Nftables<K> {
    fn new(
        kernel: K,
        name: Name,
        families: &[IpFamily],
        searches: mpsc::Sender<ReadClients>,
        record: Option<RecordFile>,
    ) -> Self {
        Self {
            kernel,
            name,
            families: families.to_vec(),
            live: PerFamily::new(),
            in_sync: false,
            suspects: Suspects::default(),
            known: None,
            may_be_recorded: record.is_some(),
            record,
            quarantine: Quarantine::default(),
            unsettled: None,
            stale_clients: StaleClients::default(),
            searches,
        }
    }

    /// The netlink port of our commits, for a watcher.
    pub(crate) fn port(&self) -> u32 {
        self.kernel.port()
    }

    /// The names of the tables, for a watcher.
    pub(crate) fn tables(&self) -> Vec<(IpFamily, Name)> {
        self.families.iter().map(|family| (*family, self.name.clone())).collect()
    }

    /// Updates the desired tables with the changes. Returns the patches, or none if a full resync is
    /// needed.
    fn compile(&mut self, store: &ConfiguredStore, changes: &Changes) -> Vec<Patch> {
        let in_rules = self.follow(changes);
        if changes.full_resync || self.live.is_empty() {
            self.compile_all(store);
            return Vec::new();
        }
        let mut patches = Vec::new();
        if changes.node_port_addresses {
            let moved = self.live.iter_mut().map(|(family, live)| {
                live.open_node_ports_at(node_ports_at(store.node(), store.config(), family))
            });
            let Some(moved) = moved.collect::<Option<Vec<Patch>>>() else {
                self.compile_all(store);
                return Vec::new();
            };
            patches.extend(moved);
        }
        patches.extend(self.update(store, &in_rules));
        patches
    }

    fn compile_all(&mut self, store: &ConfiguredStore) {
        self.in_sync = false;
        self.unsettled = None;
        self.live = self.live_tables(self.plans(store));
    }

    /// Records which Services changed. Returns the changes of Services that are not in quarantine.
    fn follow<'a>(&mut self, changes: &'a Changes) -> Vec<&'a ServiceChange> {
        let mut in_rules = Vec::with_capacity(changes.services.len());
        for change in &changes.services {
            let Some(service) = changed_service(change) else { continue };
            if !self.quarantine.follow(&service, change) {
                in_rules.push(change);
                if let Some(unsettled) = &mut self.unsettled {
                    unsettled.insert(service);
                }
            }
        }
        in_rules
    }

    /// Updates the desired tables. Returns the patches.
    fn update(&mut self, store: &ConfiguredStore, changes: &[&ServiceChange]) -> Vec<Patch> {
        let live = self.live.iter_mut();
        live.map(|(family, live)| {
            let updates = changes.iter().flat_map(|change| updates(store, change, family));
            live.update(updates, |name| {
                store.service_port(name, family).map(|port| plan_of(store, port, family))
            })
        })
        .collect()
    }

    /// The plans of all Services that are not in quarantine.
    fn plans(&self, store: &ConfiguredStore) -> Vec<Plan> {
        let snapshot = store.snapshot();
        let plan = |family: &IpFamily| {
            let mut plan = plan(&snapshot, store.config(), *family);
            plan.services.retain(|service| !self.quarantine.holds(&service_of(&service.name)));
            plan
        };
        self.families.iter().map(plan).collect()
    }

    fn live_tables(&self, plans: Vec<Plan>) -> PerFamily<LiveTable> {
        let plans = plans.into_iter();
        plans.map(|plan| (plan.family, LiveTable::new(plan, &self.name))).collect()
    }

    fn sync_at(&mut self, store: &ConfiguredStore, changes: &Changes, now: Instant) -> SyncResult {
        let mut watch = Stopwatch::default();
        let repaired = self.repair(&mut watch);
        let begun = Instant::now();
        let patches = self.compile(store, changes);
        watch.add(Phase::Compile, begun.elapsed());
        if self.in_sync {
            match self.write(&patches, &mut watch) {
                Ok(mut written) => {
                    self.search_stale_clients(&patches);
                    written.add(repaired);
                    let written = self.settle(store, &mut watch, Ok(written), now);
                    return SyncResult::new(watch, written);
                }
                // The tables in the kernel are not what we expected: read them.
                Err(error) => {
                    tracing::warn!(%error, "incremental update refused, doing a full resync")
                }
            }
        }
        drop(patches);
        // The comparison reads all affinity entries.
        self.stale_clients.forget_all();
        let written = self.write_all(store, &mut watch, now).map(|mut written| {
            written.add(repaired);
            written
        });
        let written = self.settle(store, &mut watch, written, now);
        SyncResult { full: true, ..SyncResult::new(watch, written) }
    }

    /// Compares the parts of the tables that other programs changed, and writes the difference. If
    /// that does not work, everything has to be read.
    fn repair(&mut self, watch: &mut Stopwatch) -> WrittenOperations {
        let suspects = std::mem::take(&mut self.suspects);
        if !self.in_sync || suspects.is_empty() {
            return WrittenOperations::default();
        }
        let parts = suspects.parts(|family| self.live.get(family).map(LiveTable::table));
        match parts.map(|parts| self.repair_parts(&parts, watch)) {
            Some(Ok(Some(written))) => return written,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot repair only the changed parts, doing a full resync");
            }
            Some(Ok(None)) | None => {}
        }
        self.in_sync = false;
        WrittenOperations::default()
    }

    fn repair_parts(
        &mut self,
        parts: &[TablePart],
        watch: &mut Stopwatch,
    ) -> Result<Option<WrittenOperations>, DataplaneError> {
        let (generation, compared) =
            watch.time(Phase::Read, || self.kernel.compare_parts(parts))?;
        let Some(compared) = compared else { return Ok(None) };
        let transactions: Vec<Transaction<'_>> = watch.time(Phase::Diff, || {
            let pairs = compared.iter().zip(parts);
            pairs.map(|(compared, part)| diff_compared(Some(compared), &part.desired)).collect()
        });
        watch.time(Phase::Commit, || self.kernel.commit(Some(generation), &transactions))?;
        Ok(Some(written(&self.kernel, &transactions)))
    }

    /// Records the result of a sync. After a success, retries the Services in quarantine.
    fn settle(
        &mut self,
        store: &ConfiguredStore,
        watch: &mut Stopwatch,
        written: Result<WrittenOperations>,
        now: Instant,
    ) -> Result<WrittenOperations> {
        self.in_sync = written.is_ok();
        let written = written?;
        self.unsettled = Some(BTreeSet::new());
        if !self.quarantine.is_empty() {
            watch.time(Phase::Commit, || self.retry(store, now));
        }
        Ok(written)
    }

    fn write(&mut self, patches: &[Patch], watch: &mut Stopwatch) -> Result<WrittenOperations> {
        let begun = Instant::now();
        let transactions: Vec<Transaction<'_>> = patches.iter().map(Patch::transaction).collect();
        watch.add(Phase::Diff, begun.elapsed());
        let done =
            watch.time(Phase::Commit, || commit_in_stages(&mut self.kernel, None, &transactions));
        done?;
        Ok(written(&self.kernel, &transactions))
    }

    /// Requests a search for the affinity entries of endpoints that a commit removed.
    fn search_stale_clients(&mut self, patches: &[Patch]) {
        for patch in patches {
            let changes = patch.client_sets().iter();
            changes.for_each(|change| self.stale_clients.follow(patch.family(), change));
        }
        self.read_clients();
    }

    fn read_clients(&mut self) {
        for read in self.stale_clients.reads() {
            // Fails only if the thread panicked, which ends the agent.
            let _ = self.searches.send(read);
        }
    }

    /// Reads everything and writes the difference. Services that the kernel refuses are put into
    /// quarantine, and all others are written.
    fn write_all(
        &mut self,
        store: &ConfiguredStore,
        watch: &mut Stopwatch,
        now: Instant,
    ) -> Result<WrittenOperations> {
        let error = match self.compare(watch) {
            Err(error::Error::Nftables(error)) if error.is_about_content() => error,
            done => return done,
        };
        tracing::warn!(%error, "kernel refused the ruleset, searching for the cause");
        watch.time(Phase::Commit, || self.isolate(store, &error, now))?;
        self.live = self.live_tables(self.plans(store));
        self.compare(watch)
    }

    /// Finds the Services that the kernel refuses. Services that changed since the last successful
    /// sync are tried first.
    fn isolate(
        &mut self,
        store: &ConfiguredStore,
        error: &DataplaneError,
        now: Instant,
    ) -> Result<()> {
        let plans = self.plans(store);
        let ports = plans.iter().flat_map(|plan| &plan.services);
        let services: BTreeSet<ObjectKey> = ports.map(|port| service_of(&port.name)).collect();
        let is_settled = |service: &ObjectKey| {
            self.unsettled.as_ref().is_some_and(|unsettled| !unsettled.contains(service))
        };
        let (settled, suspects): (Vec<_>, Vec<_>) = services.into_iter().partition(is_settled);
        let name = &self.name;
        let found = isolate(&mut self.kernel, &settled, &suspects, MOST_TRIALS, |services| {
            let services: HashSet<&ObjectKey> = services.iter().collect();
            plans.iter().map(|plan| nftables::table(&only(plan, &services), name)).collect()
        })?;
        tracing::info!(
            trials = found.trials,
            refused = found.refused.len(),
            "search for refused Services finished"
        );
        let why = first_refusal(error);
        for service in found.refused.into_iter().chain(found.untried) {
            self.quarantine.refused(service, &why, now);
        }
        Ok(())
    }

    /// Retries the Services in quarantine that are due.
    fn retry(&mut self, store: &ConfiguredStore, now: Instant) {
        let with_ports = |service: ObjectKey| {
            let after = store.service(&service)?.into();
            Some((service, ServiceChange { before: [].into(), after }))
        };
        let due: Vec<(ObjectKey, ServiceChange)> =
            self.quarantine.due(now).into_iter().filter_map(with_ports).collect();
        let mut why = String::new();
        let done = bisect(&due, MOST_RETRIALS, |services| {
            let changes: Vec<&ServiceChange> = services.iter().map(|(_, change)| change).collect();
            match self.add(store, &changes) {
                Ok(()) => {
                    services.iter().for_each(|(service, _)| self.quarantine.release(service));
                    Ok(true)
                }
                Err(error) => {
                    why = first_refusal(&error);
                    if error.is_about_content() { Ok(false) } else { Err(error) }
                }
            }
        });
        let was_tried = done.is_ok();
        if let Err(error) = done {
            tracing::warn!(%error, "cannot retry refused Services");
            self.in_sync = false;
        }
        for (service, _) in due {
            if !self.quarantine.holds(&service) {
                continue;
            }
            match was_tried {
                true => self.quarantine.refused(service, &why, now),
                false => self.quarantine.postpone(&service, now),
            }
        }
    }

    /// Adds Services to the tables. If the kernel refuses them, the desired tables are restored.
    fn add(
        &mut self,
        store: &ConfiguredStore,
        changes: &[&ServiceChange],
    ) -> Result<(), DataplaneError> {
        let patches = self.update(store, changes);
        let transactions: Vec<Transaction<'_>> = patches.iter().map(Patch::transaction).collect();
        self.kernel.commit(None, &transactions).inspect_err(|_| {
            let back: Vec<ServiceChange> = changes.iter().map(|change| reversed(change)).collect();
            self.update(store, &back.iter().collect::<Vec<_>>());
        })
    }

    /// The generation of the kernel's ruleset, if the record says that its tables are the desired ones.
    fn recorded(&mut self) -> Option<Generation> {
        let record = self.record.as_ref()?;
        let tables: Vec<&Table> = self.live.values().map(LiveTable::table).collect();
        let names: Vec<(IpFamily, &Name)> = tables.iter().map(|t| (t.family, &t.name)).collect();
        let ruleset = self.kernel.identity(&names).ok()??;
        record.matches(&ruleset, &tables).then_some(ruleset.generation)
    }

    /// Records the tables, if the kernel is known to have exactly the desired ones. Stale clients have
    /// to be searched for at the next start.
    fn write_record(&mut self) {
        let is_settled = self.in_sync
            && self.suspects.is_empty()
            && self.quarantine.is_empty()
            && self.stale_clients.is_empty();
        let Some((record, known)) = self.record.as_ref().zip(self.known) else { return };
        let tables: Vec<&Table> = self.live.values().map(LiveTable::table).collect();
        let names: Vec<(IpFamily, &Name)> = tables.iter().map(|t| (t.family, &t.name)).collect();
        if !is_settled || tables.is_empty() {
            return;
        }
        // In another generation a commit may be unknown: its event has not come yet.
        let ruleset = match self.kernel.identity(&names) {
            Ok(Some(ruleset)) if ruleset.generation == known => ruleset,
            _ => return,
        };
        if let Err(error) = record.write(&ruleset, &tables) {
            tracing::info!(%error, "cannot record the tables, the next start will read them");
        }
    }

    /// Takes note of a commit that is known: an own one, one that changed only other tables, or one
    /// whose changes are suspects.
    fn follow_generation(&mut self, generation: Generation) {
        let Some(known) = self.known else { return };
        // Events of commits before the last comparison come after it.
        let is_older = known.0.wrapping_sub(generation.0) < u32::MAX / 2;
        if !is_older {
            self.known = (generation == known.next()).then_some(generation);
        }
    }

    /// Reads everything and writes the difference.
    fn compare(&mut self, watch: &mut Stopwatch) -> Result<WrittenOperations> {
        let tables: Vec<&Table> = self.live.values().map(LiveTable::table).collect();
        let names: Vec<(IpFamily, &Name)> = tables.iter().map(|t| (t.family, &t.name)).collect();
        if !self.kernel.has_all(&names)? {
            refuse_old_kernel(&self.kernel.missing(&tables)?)?;
        }
        if std::mem::take(&mut self.may_be_recorded)
            && let Some(known) = watch.time(Phase::Read, || self.recorded())
        {
            tracing::debug!("the kernel has the recorded tables, not reading them");
            self.known = Some(known);
            return Ok(WrittenOperations::default());
        }
        let tables: Vec<&Table> = self.live.values().map(LiveTable::table).collect();
        let begun = Instant::now();
        let mut timed = Timed { kernel: &mut self.kernel, watch, compared: None };
        let counts = reconcile(&mut timed, &tables, |transactions| {
            (operations(transactions), summaries(transactions))
        });
        // Events report the own commits that followed.
        self.known = timed.compared;
        let rest = watch.phases.iter().filter(|(of, _)| matches!(of, Phase::Read | Phase::Commit));
        let rest = begun.elapsed().saturating_sub(rest.map(|(_, took)| *took).sum());
        watch.add(Phase::Diff, rest);
        match counts {
            Ok((operations, summary)) => {
                let bytes =
                    if operations == Operations::default() { 0 } else { self.kernel.last_bytes() };
                Ok(WrittenOperations { operations, bytes, summary })
            }
            Err(error) => {
                if matches!(error, DataplaneError::Refused(_)) {
                    refuse_old_kernel(&self.kernel.missing(&tables).unwrap_or_default())?;
                }
                Err(error.into())
            }
        }
    }
}

impl<K: Kernel> Backend for Nftables<K> {
    fn sync(&mut self, store: &ConfiguredStore, changes: &Changes) -> SyncResult {
        self.sync_at(store, changes, Instant::now())
    }

    fn most_changes(&self) -> usize {
        MOST_CHANGES
    }

    fn rest_after(&self, sync: SyncCost) -> Duration {
        sync.cpu.saturating_mul(REST).min(LONGEST_REST)
    }

    fn on_ruleset_events(&mut self, events: &[Event]) -> Vec<Drift> {
        let mut drift = Vec::new();
        for event in events {
            match event {
                Event::Lost => {
                    self.in_sync = false;
                    drift.push(Drift::unknown());
                }
                Event::Commit(commit)
                    if commit.writer.port == self.kernel.port() || commit.changes.is_empty() =>
                {
                    self.follow_generation(commit.generation);
                }
                Event::Commit(commit) => {
                    self.follow_generation(commit.generation);
                    // Keys of changed elements matter only while the rest is known.
                    if self.in_sync && !self.suspects.add(commit) {
                        self.in_sync = false;
                        self.suspects = Suspects::default();
                    }
                    drift.push(Drift::of(commit));
                }
            }
        }
        drift
    }

    fn delete_clients(&mut self, clients: Clients) {
        let (family, name) = (clients.family, clients.name.clone());
        if let Some((set, keys)) = self.stale_clients.stale(clients) {
            let deleted = self.kernel.delete_if_present(family, &self.name, &name, &set, &keys);
            match deleted {
                Ok(()) => {
                    let clients = keys.len();
                    tracing::debug!(set = %name, clients, "deleted stale affinity entries");
                }
                // The entries expire. If another program deleted the set, an event reports the drift.
                Err(error) => {
                    tracing::warn!(set = %name, %error, "cannot delete stale affinity entries");
                }
            }
        }
        self.read_clients();
    }

    fn refused(&self) -> Vec<(ObjectKey, LeftOutReason)> {
        let all = self.quarantine.all();
        all.map(|(service, why)| (service.clone(), LeftOutReason::refused(why))).collect()
    }

    fn next_retry(&self) -> Option<Instant> {
        self.quarantine.next()
    }

    fn stop(&mut self) {
        self.write_record();
    }

    fn service_cidrs_in_kernel(&mut self) -> Vec<IpNet> {
        let set = Name::from(nftables::SERVICE_CIDRS);
        let mut networks = Vec::new();
        for family in &self.families {
            match self.kernel.read_set(*family, &self.name, &set) {
                Ok(set) => {
                    let keys = set.iter().flat_map(|set| set.elements.keys());
                    networks.extend(keys.flat_map(Key::values).filter_map(network));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the ServiceCIDRs that the rules have");
                }
            }
        }
        networks
    }
}

fn network(value: Value) -> Option<IpNet> {
    match value {
        Value::Network(network) => Some(network),
        Value::Address(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The nf_tables operations that the backend needs in addition to a [`Dataplane`].
pub(crate) trait Kernel: Dataplane + DynamicSets + Send {
    /// The netlink port, by which own commits are recognised.
    fn port(&self) -> u32;
    fn has_all(&mut self, tables: &[(IpFamily, &Name)]) -> Result<bool, DataplaneError>;
    fn missing(&mut self, tables: &[&Table]) -> Result<Vec<Missing>, DataplaneError>;
    /// The number of bytes that the last commit sent.
    fn last_bytes(&self) -> usize;
    /// See [`NfTables::compare_parts`].
    fn compare_parts(
        &mut self,
        parts: &[TablePart],
    ) -> Result<(Generation, Option<Vec<ComparedTable>>), DataplaneError>;
    fn read_set(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
    ) -> Result<Option<Set>, DataplaneError>;
    /// Identifies the tables; `None` if one does not exist or the kernel cannot.
    fn identity(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<Option<RulesetIdentity>, DataplaneError>;
}

impl Kernel for NfTables {
    fn port(&self) -> u32 {
        self.port()
    }

    fn has_all(&mut self, tables: &[(IpFamily, &Name)]) -> Result<bool, DataplaneError> {
        self.has_all(tables)
    }

    fn missing(&mut self, tables: &[&Table]) -> Result<Vec<Missing>, DataplaneError> {
        self.missing(tables)
    }

    fn last_bytes(&self) -> usize {
        self.last_written().bytes
    }

    fn compare_parts(
        &mut self,
        parts: &[TablePart],
    ) -> Result<(Generation, Option<Vec<ComparedTable>>), DataplaneError> {
        self.compare_parts(parts)
    }

    fn read_set(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
    ) -> Result<Option<Set>, DataplaneError> {
        self.read_set(family, table, name)
    }

    fn identity(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<Option<RulesetIdentity>, DataplaneError> {
        self.identity(tables)
    }
}

/// The maximum number of Services per incremental update. With 10,000 Services of 5 endpoints, a
/// flood of changes raises the agent's memory from 83 to 102 MB; without this limit to 158 MB.
const MOST_CHANGES: usize = 2000;

/// A sync is followed by a rest of this many times the CPU time of its thread; what a large sync
/// gives to other threads is not counted. So syncs take about a tenth of a processor's time, and a change that comes alone or in a row of a few hundred a second is written
/// at once: its sync takes 0.1 ms. By the clock, a sync that had to wait 10 ms for a processor would
/// delay the next change by 100 ms.
const REST: u32 = 10;

/// People feel a change that waits for longer.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The maximum number of trials per search for refused Services. Each takes as long as a
/// comparison. Services that were not tried are left out and retried like the rejected ones.
const MOST_TRIALS: usize = 200;

/// The maximum number of retries per sync. Each is a commit of about 10 ms.
const MOST_RETRIALS: usize = 32;

/// The first rejection: the others are often consequences.
fn first_refusal(error: &DataplaneError) -> String {
    match error {
        DataplaneError::Refused(refusals) => {
            refusals.first().map(ToString::to_string).unwrap_or_default()
        }
        error => error.to_string(),
    }
}

/// The plan of these Services.
fn only(plan: &Plan, services: &HashSet<&ObjectKey>) -> Plan {
    let is_one = |port: &&ServicePlan| services.contains(&service_of(&port.name));
    let services = plan.services.iter().filter(is_one).cloned().collect();
    Plan { services, ..plan.without_services() }
}

fn reversed(change: &ServiceChange) -> ServiceChange {
    ServiceChange { before: change.after.clone(), after: change.before.clone() }
}

/// The updates of a Service's ports in one family.
fn updates(
    store: &ConfiguredStore,
    change: &ServiceChange,
    family: IpFamily,
) -> Vec<ServiceUpdate> {
    let of_family = |port: &&ServicePort| IpFamily::of(port.cluster_ip) == family;
    let plan = |port: &ServicePort| plan_of(store, port, family);
    let mut updates: BTreeMap<&ServicePortName, ServiceUpdate> = BTreeMap::new();
    let none =
        |name: &ServicePortName| ServiceUpdate { name: name.clone(), before: None, after: None };
    for port in change.before.iter().filter(of_family) {
        updates.entry(&port.name).or_insert_with(|| none(&port.name)).before = Some(plan(port));
    }
    for port in change.after.iter().filter(of_family) {
        updates.entry(&port.name).or_insert_with(|| none(&port.name)).after = Some(plan(port));
    }
    updates.into_values().collect()
}

fn refuse_old_kernel(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(error::Error::UnsupportedKernel(missing.to_vec()))
}

fn written(kernel: &impl Kernel, transactions: &[Transaction<'_>]) -> WrittenOperations {
    let operations = operations(transactions);
    let nothing = transactions.iter().all(Transaction::is_empty);
    let bytes = if nothing { 0 } else { kernel.last_bytes() };
    WrittenOperations { operations, bytes, summary: summaries(transactions) }
}

fn summaries(transactions: &[Transaction<'_>]) -> Vec<String> {
    let some = transactions.iter().filter(|transaction| !transaction.is_empty());
    some.map(|transaction| {
        let (family, table) = (transaction.family.nft_name(), transaction.table);
        format!("{family} {table}: {}", transaction.summary())
    })
    .collect()
}

fn operations(transactions: &[Transaction<'_>]) -> Operations {
    let mut sum = Operations::default();
    for ((change, kind), count) in transactions.iter().flat_map(Transaction::counts) {
        if change == "flushed" {
            sum.flushed_sets += count;
            continue;
        }
        let counts: &mut OperationCounts = match kind {
            "element" => &mut sum.elements,
            "rule" => &mut sum.rules,
            "chain" => &mut sum.chains,
            "set" => &mut sum.sets,
            _ => continue,
        };
        match change {
            "added" => counts.added += count,
            _ => counts.deleted += count,
        }
    }
    sum
}

/// Measures the duration of the kernel's work.
struct Timed<'a, K> {
    kernel: &'a mut K,
    watch: &'a mut Stopwatch,
    /// The generation of the last comparison.
    compared: Option<Generation>,
}

impl<K: Dataplane> Dataplane for Timed<'_, K> {
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError> {
        let Self { kernel, watch, .. } = self;
        watch.time(Phase::Read, || kernel.read(tables))
    }

    fn compare(
        &mut self,
        desired: &[&Table],
    ) -> Result<(Generation, Vec<Option<ComparedTable>>), DataplaneError> {
        let Self { kernel, watch, compared } = self;
        let read = watch.time(Phase::Read, || kernel.compare(desired))?;
        *compared = Some(read.0);
        Ok(read)
    }

    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        let Self { kernel, watch, .. } = self;
        watch.time(Phase::Commit, || kernel.commit(generation, transactions))
    }

    fn validate(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        let Self { kernel, watch, .. } = self;
        watch.time(Phase::Commit, || kernel.validate(generation, transactions))
    }
}

#[cfg(test)]
mod tests;
