//! iptables mode: the tables `filter` and `nat` of each family, changed through netlink or
//! iptables-restore.
//!
//! Other programs have chains in these tables too, so a foreign commit is only a reason to read
//! them; a difference that the read finds is drift. Saving and comparing all rules of a large
//! cluster takes seconds, so it is done only for a reason, and after a no-op resync not again for a
//! while. A commit to a chain that only rulegen fills is drift without a read and is repaired at
//! once: only the changed chains are written.

mod chains_in_use;
mod damage;
mod family;
mod pace;
mod resync_trigger;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rulegen_compiler::iptables::{LiveRuleset, Patch};
use rulegen_compiler::{ServicePlan, node_ports_at, plan};
use rulegen_kernel::iptables::{self, Variant};
use rulegen_kernel::nftables::Event;
use rulegen_model::{Changes, ObjectKey, ServiceChange, ServicePort};
use rulegen_net::{IpFamily, PerFamily, ServicePortName};
use rulegen_os::sysctl;
use rulegen_ruleset::iptables::Transaction;

use super::{
    Backend, Stopwatch, SyncCost, SyncResult, WrittenOperations, changed_service, plan_of,
    service_of,
};
use crate::configured_store::ConfiguredStore;
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::left_out::LeftOutReason;
use crate::queue::Sink;
use crate::report::Phase;
use crate::set_up::{log_sysctl_change, log_sysctl_failure};

use damage::Damage;
use family::{Done, FamilyRules, Prepared};
use resync_trigger::ResyncTrigger;
use tools::Tools;

pub(crate) use tools::ToolOptions;

/// The tables of both families.
pub(crate) struct IptablesBackend {
    options: ToolOptions,
    /// The receiver of commit events.
    sink: Sink,
    /// `None` until the variant is chosen.
    tools: Option<Tools>,
    /// Read by the cleanup of the other variant.
    variant: Arc<OnceLock<Variant>>,
    names: Vec<IpFamily>,
    families: PerFamily<FamilyRules>,
    resync_trigger: ResyncTrigger,
    /// Whether the last sync was a full resync with a pace of its own. One that follows a patch which
    /// did not succeed has none: such patches may be as frequent as changes.
    has_own_pace: bool,
    /// Whether the sysctl route_localnet is already set.
    routes_localnet: bool,
}

/// The outcome of a commit of all families.
enum Together {
    Done(PerFamily<Done>),
    /// Each family is to be written on its own, after what was written already.
    Failed(PerFamily<Done>),
}

impl IptablesBackend {
    /// Works in the network namespace of the calling thread. Chooses the variant at the first sync,
    /// and stores it then.
    pub(crate) fn new(
        options: ToolOptions,
        names: &[IpFamily],
        sink: Sink,
        variant: Arc<OnceLock<Variant>>,
    ) -> Self {
        Self {
            options,
            sink,
            tools: None,
            variant,
            names: names.to_vec(),
            families: PerFamily::new(),
            resync_trigger: ResyncTrigger::default(),
            has_own_pace: false,
            routes_localnet: false,
        }
    }

    /// Updates the desired rulesets with the changes. Returns the patches.
    fn compile(&mut self, store: &ConfiguredStore, changes: &Changes) -> PerFamily<Patch> {
        if changes.full_resync || self.families.is_empty() {
            let snapshot = store.snapshot();
            for family in &self.names {
                let before = self.families.remove(*family);
                let mut quarantine = before.map(|of| of.quarantine).unwrap_or_default();
                for change in &changes.services {
                    if let Some(service) = changed_service(change) {
                        quarantine.follow(&service, change);
                    }
                }
                let mut plan = plan(&snapshot, store.config(), *family);
                plan.services.retain(|service| !quarantine.holds(&service_of(&service.name)));
                let live = LiveRuleset::new(plan);
                self.families.insert(*family, FamilyRules::new(*family, live, quarantine));
            }
            return PerFamily::new();
        }
        let families = self.families.iter_mut();
        let patch = |(family, of): (IpFamily, &mut FamilyRules)| {
            let in_rules = changes.services.iter().filter(|change| of.follow(change));
            let in_rules: Vec<&ServiceChange> = in_rules.collect();
            let plans = in_rules.into_iter().flat_map(|change| plans(store, change, family));
            let patch = match changes.node_port_addresses {
                true => {
                    let addresses = node_ports_at(store.node(), store.config(), family);
                    of.live.update_with_node_ports_at(plans, addresses)
                }
                false => of.live.update(plans),
            };
            (family, patch)
        };
        families.map(patch).collect()
    }

    /// Writes all families in one commit, if that is possible and not refused.
    fn write_together(
        families: &mut PerFamily<FamilyRules>,
        tools: &mut Tools,
        patches: &PerFamily<Patch>,
        watch: &mut Stopwatch,
    ) -> Together {
        let each = || Together::Failed(PerFamily::new());
        if families.families().count() < 2
            || !tools.commits_together()
            || families.values().any(FamilyRules::is_damaged)
        {
            return each();
        }
        let mut prepared: PerFamily<Prepared<'_>> = PerFamily::new();
        for (name, of) in families.iter() {
            let Some(of) = of.prepare(tools, patches.get(name), watch) else { return each() };
            prepared.insert(name, of);
        }
        let transactions: PerFamily<Transaction<'_>> = watch.time(Phase::Diff, || {
            prepared.iter().map(|(name, prepared)| (name, prepared.transaction())).collect()
        });
        let parts = transactions.iter().filter(|(_, transaction)| !transaction.is_empty());
        let parts: Vec<(IpFamily, &Transaction<'_>)> = parts.collect();
        let mut restored = match watch.time(Phase::Commit, || tools.restore_together(&parts)) {
            Ok(restored) => restored,
            Err(error) => {
                tracing::warn!(%error, "commit of all IP families failed, writing each on its own");
                if !error.is_refusal() {
                    families.values_mut().for_each(FamilyRules::forget);
                }
                return each();
            }
        };
        let is_patch = |name: IpFamily| matches!(prepared.get(name), Some(Prepared::Patch(_)));
        let mut done = PerFamily::new();
        for (name, of) in families.iter_mut() {
            let (Some(prepared), Some(transaction)) = (prepared.get(name), transactions.get(name))
            else {
                continue;
            };
            done.insert(name, of.written(tools, prepared, transaction, &restored));
            // The size of the batch counts once.
            restored.bytes = 0;
            of.settled();
        }
        if restored.in_use.iter().any(|of| is_patch(of.family)) {
            // A foreign rule leads to one of our chains, or one of our rules was changed so.
            tracing::debug!("a deleted chain is in use, doing a full resync");
            families.values_mut().for_each(FamilyRules::forget);
            return Together::Failed(done);
        }
        let full = families.families().filter(|name| !is_patch(*name));
        tools.in_use.warn(&full.collect::<Vec<_>>(), &restored.in_use);
        Together::Done(done)
    }

    /// Writes each family, even if another fails.
    fn write(
        &mut self,
        patches: &PerFamily<Patch>,
        watch: &mut Stopwatch,
    ) -> Result<PerFamily<Result<Done, iptables::IptablesError>>> {
        let tools = match &mut self.tools {
            Some(tools) => tools,
            none => none.insert(Tools::open(&self.options, &self.sink)?),
        };
        let _ = self.variant.set(tools.variant());
        let mut earlier = match Self::write_together(&mut self.families, tools, patches, watch) {
            Together::Done(done) => {
                return Ok(done.into_iter().map(|(name, done)| (name, Ok(done))).collect());
            }
            Together::Failed(earlier) => earlier,
        };
        let families = self.families.iter_mut();
        let done = families.map(|(name, of)| {
            let done = of.sync(tools, patches.get(name), watch);
            let done = match earlier.remove(name) {
                Some(earlier) => done.map(|done| earlier.and(done)),
                None => done,
            };
            (name, done)
        });
        Ok(done.collect())
    }

    /// Retries Services in quarantine after everything else is written.
    fn retry(&mut self, store: &ConfiguredStore, watch: &mut Stopwatch) {
        let Some(tools) = &mut self.tools else { return };
        for (family, of) in self.families.iter_mut() {
            let plans = |service: &ObjectKey| {
                let after = store.service(service).unwrap_or_default().into();
                plans(store, &ServiceChange { before: [].into(), after }, family)
            };
            of.retry(tools, plans, watch, Instant::now());
        }
    }

    /// The loopback guard rules must be written first; at this point they are.
    fn route_localnet(&mut self) {
        let wants = |of: &FamilyRules| of.is_known() && of.live.guards_loopback();
        if self.routes_localnet || !self.families.values().any(wants) {
            return;
        }
        match sysctl::set_route_localnet() {
            Ok(change) => {
                change.iter().for_each(log_sysctl_change);
                self.routes_localnet = true;
            }
            Err(failure) => log_sysctl_failure(&failure),
        }
    }
}

impl Backend for IptablesBackend {
    fn sync(&mut self, store: &ConfiguredStore, changes: &Changes) -> SyncResult {
        let mut watch = Stopwatch::default();
        let begun = Instant::now();
        let patches = self.compile(store, changes);
        watch.add(Phase::Compile, begun.elapsed());
        self.has_own_pace = true;
        let families = self.families.iter();
        let is_patched =
            |(name, of): &(IpFamily, &FamilyRules)| of.is_known() && patches.get(*name).is_some();
        let patched: BTreeSet<IpFamily> =
            families.filter(is_patched).map(|(name, _)| name).collect();
        let done = match self.write(&patches, &mut watch) {
            Ok(done) => done,
            Err(error) => return SyncResult { full: true, ..SyncResult::new(watch, Err(error)) },
        };
        let full = done.iter().filter(|(_, done)| done.as_ref().is_ok_and(|done| done.full));
        self.has_own_pace = has_own_pace(full.map(|(name, _)| name), &patched);
        self.retry(store, &mut watch);
        let has_drifted = done.values().flatten().any(|done| done.drift.is_some());
        self.resync_trigger.resynced(begun.elapsed(), has_drifted, Instant::now());
        self.route_localnet();
        outcome(done, watch, &self.resync_trigger)
    }

    fn rest_after(&self, sync: SyncCost) -> Duration {
        // Most of its CPU time is that of the iptables programs.
        if self.has_own_pace { Duration::ZERO } else { pace::rest_after(sync.took) }
    }

    fn on_ruleset_events(&mut self, events: &[Event]) -> Vec<Drift> {
        // Families that are not written or not known are fully compared anyway.
        let is_known = self.families.values().any(FamilyRules::is_known_but_for_chains);
        let Some(tools) = self.tools.as_mut().filter(|_| is_known) else { return Vec::new() };
        let mut drift = Vec::new();
        for event in events {
            match event {
                Event::Lost => self.resync_trigger.suspect(None),
                Event::Commit(commit) if tools.own.made(commit) || commit.changes.is_empty() => {}
                Event::Commit(commit) => match Damage::of(&commit.chains) {
                    Damage::None => self.resync_trigger.suspect(Some(&commit.writer)),
                    damage => {
                        let families = self.families.iter_mut();
                        families.for_each(|(family, of)| damage.apply(family, of));
                        drift.push(Drift::of(commit));
                    }
                },
            }
        }
        if self.resync_trigger.wants_resync(Instant::now()) {
            self.families.values_mut().for_each(FamilyRules::suspect);
            drift.push(Drift::suspected(self.resync_trigger.writer()));
        }
        drift
    }

    fn refused(&self) -> Vec<(ObjectKey, LeftOutReason)> {
        let all = self.families.values().flat_map(|of| of.quarantine.all());
        all.map(|(service, why)| (service.clone(), LeftOutReason::refused(why))).collect()
    }

    fn next_retry(&self) -> Option<Instant> {
        self.families.values().filter_map(|of| of.quarantine.next()).min()
    }
}

/// Whether there was a full resync, and none in a family that was to be patched.
fn has_own_pace(full: impl Iterator<Item = IpFamily>, patched: &BTreeSet<IpFamily>) -> bool {
    let full: BTreeSet<IpFamily> = full.collect();
    !full.is_empty() && full.is_disjoint(patched)
}

/// Merges the results of all families: an error if one of them failed.
fn outcome(
    done: PerFamily<Result<Done, iptables::IptablesError>>,
    watch: Stopwatch,
    resync_trigger: &ResyncTrigger,
) -> SyncResult {
    let mut outcome = SyncResult::new(watch, Ok(WrittenOperations::default()));
    let mut written = WrittenOperations::default();
    let mut failed = Vec::new();
    for (family, done) in done {
        match done {
            Ok(done) => {
                outcome.full |= done.full;
                outcome.iptables.insert(family, done.report);
                let changes = done.drift.into_iter().collect::<Vec<String>>();
                if !changes.is_empty() {
                    outcome.drift.push(Drift {
                        writer: resync_trigger.writer(),
                        changes,
                        certain: true,
                    });
                }
                written.operations += done.operations;
                written.bytes += done.bytes;
                written.summary.extend(done.summary);
            }
            Err(error) => {
                outcome.full = true;
                failed.push((family, error));
            }
        }
    }
    let is_done = failed.is_empty();
    outcome.written = if is_done { Ok(written) } else { Err(Error::IptablesFamilies(failed)) };
    outcome
}

/// The plans of a Service's ports in one family; `None` for deleted ports.
fn plans(
    store: &ConfiguredStore,
    change: &ServiceChange,
    family: IpFamily,
) -> Vec<(ServicePortName, Option<ServicePlan>)> {
    let of_family = |port: &&ServicePort| IpFamily::of(port.cluster_ip) == family;
    let after = change.after.iter().filter(of_family);
    let after = after.map(|port| (port.name.clone(), Some(plan_of(store, port, family))));
    let gone = change.before.iter().filter(of_family).map(|port| (port.name.clone(), None));
    let mut plans: BTreeMap<ServicePortName, Option<ServicePlan>> = gone.collect();
    plans.extend(after);
    plans.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_of_full_resync_is_its_own_unless_a_patch_led_to_it() {
        let (four, six) = (IpFamily::Ipv4, IpFamily::Ipv6);
        let has = |full: &[IpFamily], patched: &[IpFamily]| {
            has_own_pace(full.iter().copied(), &patched.iter().copied().collect())
        };
        assert!(!has(&[], &[four, six]), "patches only");
        assert!(has(&[four, six], &[]), "the first sync");
        assert!(has(&[four], &[six]), "another program wrote IPv4 rules");
        assert!(!has(&[four], &[four, six]));
    }
}
