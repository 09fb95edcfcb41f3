//! The tables `filter` and `nat` of one family.

use std::collections::BTreeSet;
use std::time::Instant;

use rulegen_compiler::ServicePlan;
use rulegen_compiler::iptables::{LiveRuleset, OURS, Patch, Sizes};
use rulegen_kernel::iptables::{IptablesError, Restored};
use rulegen_model::{ObjectKey, ServiceChange};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::MOST_TRIALS;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Split, Table, Transaction, diff, isolate};

use super::super::{Stopwatch, changed_service};
use super::tools::Tools;
use crate::quarantine::Quarantine;
use crate::report::{IptablesReport, IptablesRules, OperationCounts, Operations, Phase};

/// The desired state of a family, and what is known about its state in the kernel.
pub(super) struct FamilyRules {
    name: IpFamily,
    pub(super) live: LiveRuleset,
    kernel: KernelState,
    /// Services that iptables refuses. `live` does not contain them.
    pub(super) quarantine: Quarantine,
    /// Services that changed since the last successful sync; `None` if any may have changed.
    pub(super) unsettled: Option<BTreeSet<ObjectKey>>,
    /// The number of rulegen's rules in `filter` and in `nat`.
    sizes: [usize; 2],
}

/// What is known about the rules in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KernelState {
    /// They are the desired state of the last sync.
    Known,
    /// The same, except for these chains, which another program changed.
    Damaged(BTreeSet<(Table, ChainName)>),
    /// The same, unless another program changed them.
    Suspected,
    /// Nothing is known.
    Unknown,
}

/// What a sync writes.
pub(super) enum Prepared<'p> {
    /// The changes of Services, to rules that are known.
    Patch(&'p Patch),
    /// What differs from all desired rules.
    Full(FullResync),
}

/// All rules of a family, read for a full resync.
pub(super) struct FullResync {
    actual: Ruleset,
    desired: Ruleset,
    /// The number of changes that are not drift; `None` if any number is expected.
    expected: Option<usize>,
}

impl Prepared<'_> {
    /// The changes to write.
    pub(super) fn transaction(&self) -> Transaction<'_> {
        match self {
            Self::Patch(patch) => patch.transaction(),
            Self::Full(resync) => resync.transaction(),
        }
    }
}

impl FullResync {
    fn transaction(&self) -> Transaction<'_> {
        diff(&self.actual, &self.desired, &OURS)
    }
}

/// The result of a family's sync.
pub(super) struct Done {
    /// Whether it was a full resync.
    pub(super) full: bool,
    pub(super) operations: Operations,
    pub(super) bytes: usize,
    pub(super) summary: Option<String>,
    pub(super) report: IptablesReport,
    /// The changes by other programs, for people.
    pub(super) drift: Option<String>,
    /// The number of chains that could not be deleted.
    pub(super) in_use: usize,
}

impl FamilyRules {
    pub(super) fn new(name: IpFamily, live: LiveRuleset, quarantine: Quarantine) -> Self {
        Self {
            name,
            live,
            kernel: KernelState::Unknown,
            quarantine,
            unsettled: None,
            sizes: [0; 2],
        }
    }

    /// Records a change of a Service. Returns whether the Service has rules (is not in quarantine).
    pub(super) fn follow(&mut self, change: &ServiceChange) -> bool {
        let Some(service) = changed_service(change) else { return false };
        let has_rules = !self.quarantine.follow(&service, change);
        if let Some(unsettled) = self.unsettled.as_mut().filter(|_| has_rules) {
            unsettled.insert(service);
        }
        has_rules
    }

    pub(super) fn is_known(&self) -> bool {
        self.kernel == KernelState::Known
    }

    /// Whether the rules in the kernel are known, except for damaged chains.
    pub(super) fn is_known_but_for_chains(&self) -> bool {
        matches!(self.kernel, KernelState::Known | KernelState::Damaged(_))
    }

    /// Records that another program may have changed the rules.
    pub(super) fn suspect(&mut self) {
        match self.kernel {
            KernelState::Known => self.kernel = KernelState::Suspected,
            // The drift was reported already.
            KernelState::Damaged(_) => self.kernel = KernelState::Unknown,
            KernelState::Suspected | KernelState::Unknown => {}
        }
    }

    /// Records that another program changed these chains, or any chain if `None`. The drift was
    /// reported already.
    pub(super) fn damage(&mut self, chains: Option<BTreeSet<(Table, ChainName)>>) {
        self.kernel = match (std::mem::replace(&mut self.kernel, KernelState::Unknown), chains) {
            (KernelState::Known, Some(chains)) => KernelState::Damaged(chains),
            (KernelState::Damaged(mut all), Some(chains)) => {
                all.extend(chains);
                KernelState::Damaged(all)
            }
            _ => KernelState::Unknown,
        };
    }

    /// Whether chains must be repaired: then [`Self::sync`] writes the family on its own.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.kernel, KernelState::Damaged(_))
    }

    /// The patch if the rules in the kernel are known, otherwise all rules to compare. `None` if the
    /// kernel cannot be read: then [`Self::sync`] writes the family on its own.
    pub(super) fn prepare<'p>(
        &self,
        tools: &Tools,
        patch: Option<&'p Patch>,
        watch: &mut Stopwatch,
    ) -> Option<Prepared<'p>> {
        match (&self.kernel, patch) {
            (KernelState::Known, Some(patch)) => Some(Prepared::Patch(patch)),
            (kernel, patch) => {
                self.read(tools, expected(kernel, patch), watch).ok().map(Prepared::Full)
            }
        }
    }

    /// Writes the patch if the rules in the kernel are known, otherwise the difference that a full
    /// resync finds.
    pub(super) fn sync(
        &mut self,
        tools: &mut Tools,
        patch: Option<&Patch>,
        watch: &mut Stopwatch,
    ) -> Result<Done, IptablesError> {
        // Unknown until the sync has succeeded.
        let kernel = std::mem::replace(&mut self.kernel, KernelState::Unknown);
        let mut earlier: Option<Done> = None;
        let without_reading_all = match (&kernel, patch) {
            (KernelState::Known, Some(patch)) => Some(self.write(tools, patch, watch)),
            (KernelState::Damaged(chains), patch) => Some(self.repair(tools, patch, chains, watch)),
            _ => None,
        };
        match without_reading_all {
            // The rules in the kernel are not what we expected: read them.
            Some(Err(error)) if error.is_refusal() => {
                tracing::warn!(%error, "incremental update refused, doing a full resync");
            }
            // A foreign rule leads to one of our chains, or one of our rules was changed so.
            Some(Ok(done)) if done.in_use > 0 => {
                tracing::debug!("a deleted chain is in use, doing a full resync");
                earlier = Some(done);
            }
            Some(done) => {
                let done = done?;
                self.settled();
                return Ok(done);
            }
            None => {}
        }
        let expected = expected(&kernel, patch);
        let mut done = self.compare(tools, expected, watch);
        if done.as_ref().is_err_and(IptablesError::is_about_content) {
            // Another program may have deleted a chain after it was read, as firewalls do. That is
            // far more frequent than a rule that iptables refuses, and the search takes longer.
            done = self.compare(tools, expected, watch);
        }
        let done = match done {
            Err(error) if error.is_about_content() => {
                tracing::warn!(%error, "iptables refused the ruleset, searching for the cause");
                watch.time(Phase::Commit, || self.isolate(tools, &error))?;
                self.compare(tools, expected, watch)?
            }
            done => done?,
        };
        self.settled();
        Ok(match earlier {
            Some(earlier) => earlier.and(done),
            None => done,
        })
    }

    /// Records that the kernel has the desired rules.
    pub(super) fn settled(&mut self) {
        self.kernel = KernelState::Known;
        self.unsettled = Some(BTreeSet::new());
    }

    /// Finds the Services that iptables refuses, and removes them from the desired state.
    fn isolate(&mut self, tools: &mut Tools, error: &IptablesError) -> Result<(), IptablesError> {
        let is_settled = |service: &ObjectKey| {
            self.unsettled.as_ref().is_some_and(|unsettled| !unsettled.contains(service))
        };
        let (settled, suspects): (Vec<_>, Vec<_>) =
            self.live.services().into_iter().partition(is_settled);
        let mut tables = tools.tables(self.name);
        let found = isolate(&mut tables, &OURS, &settled, &suspects, MOST_TRIALS, |services| {
            let (chosen, rest) = self.live.split(services);
            Split { chosen, rest }
        })?;
        tracing::info!(
            trials = found.trials,
            refused = found.refused.len(),
            "search for refused Services finished"
        );
        // Services that were not tried are left out and retried like the rejected ones.
        let refused = [found.refused, found.untried].concat();
        self.live.remove(&refused);
        let (why, now) = (error.to_string(), Instant::now());
        for service in refused {
            self.quarantine.refused(service, &why, now);
        }
        Ok(())
    }

    /// Retries the Services in quarantine that are due. `plans` returns the plans of their ports.
    pub(super) fn retry(
        &mut self,
        tools: &mut Tools,
        plans: impl Fn(&ObjectKey) -> Vec<(ServicePortName, Option<ServicePlan>)>,
        watch: &mut Stopwatch,
        now: Instant,
    ) {
        for service in self.quarantine.due(now).into_iter().take(MOST_RETRIALS) {
            if self.kernel != KernelState::Known {
                return;
            }
            let ports = plans(&service);
            let gone: Vec<_> = ports.iter().map(|(name, _)| (name.clone(), None)).collect();
            let patch = self.live.update(ports);
            match self.write(tools, &patch, watch) {
                Ok(_) => self.quarantine.release(&service),
                Err(error) => {
                    self.live.update(gone);
                    if error.is_about_content() {
                        self.quarantine.refused(service, &error.to_string(), now);
                    } else {
                        tracing::warn!(%error, "cannot retry refused Service");
                        self.quarantine.postpone(&service, now);
                    }
                    // One table may have been written before iptables refused the other.
                    self.kernel = match self.compare(tools, None, watch) {
                        Ok(_) => KernelState::Known,
                        Err(_) => KernelState::Unknown,
                    };
                }
            }
        }
    }

    fn write(
        &mut self,
        tools: &mut Tools,
        patch: &Patch,
        watch: &mut Stopwatch,
    ) -> Result<Done, IptablesError> {
        let transaction = watch.time(Phase::Diff, || patch.transaction());
        let restored = watch.time(Phase::Commit, || tools.restore(self.name, &transaction))?;
        Ok(self.written(tools, &Prepared::Patch(patch), &transaction, &restored))
    }

    /// The result of a transaction that was committed.
    pub(super) fn written(
        &mut self,
        tools: &Tools,
        prepared: &Prepared<'_>,
        transaction: &Transaction<'_>,
        restored: &Restored,
    ) -> Done {
        match prepared {
            Prepared::Patch(patch) => {
                for (size, table) in self.sizes.iter_mut().zip(TABLES) {
                    let Sizes { before, after } = patch.sizes(table);
                    *size = size.saturating_sub(before) + after;
                }
                self.done(tools, transaction, restored)
            }
            Prepared::Full(FullResync { desired, expected, .. }) => {
                self.sizes = TABLES.map(|table| desired.rules_of(table));
                let done = self.done(tools, transaction, restored);
                let changes = transaction.counts().changes();
                let has_drifted = expected.is_some_and(|few| changes > few + done.in_use);
                let drift = done.summary.clone().filter(|_| has_drifted);
                Done { full: true, drift, ..done }
            }
        }
    }

    /// Records that a commit failed, and that it is unknown whether it took effect.
    pub(super) fn forget(&mut self) {
        self.kernel = KernelState::Unknown;
    }

    /// Writes the chains that another program changed. Chains that only rulegen fills are not read.
    /// The patch is written first, because the chains are written in their state after the patch.
    fn repair(
        &mut self,
        tools: &mut Tools,
        patch: Option<&Patch>,
        chains: &BTreeSet<(Table, ChainName)>,
        watch: &mut Stopwatch,
    ) -> Result<Done, IptablesError> {
        let patched = patch.map(|patch| self.write(tools, patch, watch)).transpose()?;
        let shared = chains.iter().filter(|(table, chain)| !OURS.owns(*table, chain));
        let shared = watch.time(Phase::Read, || tools.read_chains(self.name, shared))?;
        let repair = watch.time(Phase::Compile, || self.live.repair(chains, shared));
        let repaired = self.write(tools, &repair, watch)?;
        Ok(match patched {
            Some(patched) => patched.and(repaired),
            None => repaired,
        })
    }

    /// Reads everything and writes the difference. More changes than `expected` mean that another
    /// program changed the rules; `None` if any number is expected.
    fn compare(
        &mut self,
        tools: &mut Tools,
        expected: Option<usize>,
        watch: &mut Stopwatch,
    ) -> Result<Done, IptablesError> {
        let resync = self.read(tools, expected, watch)?;
        let prepared = Prepared::Full(resync);
        let transaction = watch.time(Phase::Diff, || prepared.transaction());
        let restored = watch.time(Phase::Commit, || tools.restore(self.name, &transaction))?;
        let done = self.written(tools, &prepared, &transaction, &restored);
        tools.in_use.warn(&[self.name], &restored.in_use);
        Ok(done)
    }

    fn read(
        &self,
        tools: &Tools,
        expected: Option<usize>,
        watch: &mut Stopwatch,
    ) -> Result<FullResync, IptablesError> {
        let desired = watch.time(Phase::Compile, || self.live.ruleset());
        let actual = watch.time(Phase::Read, || tools.save(self.name))?;
        Ok(FullResync { actual, desired, expected })
    }

    fn done(&self, tools: &Tools, transaction: &Transaction<'_>, restored: &Restored) -> Done {
        let counts = transaction.counts();
        let in_use = restored.in_use.iter().filter(|of| of.family == self.name).count();
        let (name, variant) = (self.name.api_name(), tools.variant());
        let kept = match in_use {
            0 => String::new(),
            in_use => format!(" except {in_use} in use"),
        };
        let summary = || format!("{name} (iptables-{variant}): {}{kept}", transaction.summary());
        let is_written = restored.commits > 0 && !transaction.is_empty();
        let [filter, nat] = self.sizes;
        let rules =
            |total, table| IptablesRules { total, written: transaction.counts_of(table).rules };
        let deleted = counts.deleted.saturating_sub(in_use);
        Done {
            full: false,
            operations: Operations {
                rules: OperationCounts { added: counts.rules, deleted: counts.removed },
                chains: OperationCounts { added: counts.filled, deleted },
                ..Operations::default()
            },
            bytes: restored.bytes,
            summary: is_written.then(summary),
            report: IptablesReport {
                filter: rules(filter, Table::Filter),
                nat: rules(nat, Table::Nat),
            },
            drift: None,
            in_use,
        }
    }
}

/// The number of changes of a full resync that are not drift; `None` if any number is expected.
fn expected(kernel: &KernelState, patch: Option<&Patch>) -> Option<usize> {
    match kernel {
        KernelState::Suspected => {
            Some(patch.map_or(0, |patch| patch.transaction().counts().changes()))
        }
        KernelState::Known | KernelState::Damaged(_) | KernelState::Unknown => None,
    }
}

/// The maximum number of retries after one sync. Each Service that is rejected again needs a full
/// resync.
const MOST_RETRIALS: usize = 4;

impl Done {
    /// Merges the results of two transactions, one after the other.
    pub(super) fn and(self, next: Self) -> Self {
        let rules = |first: IptablesRules, next: IptablesRules| IptablesRules {
            total: next.total,
            written: first.written + next.written,
        };
        let mut operations = self.operations;
        operations += next.operations;
        let summaries: Vec<String> = self.summary.into_iter().chain(next.summary).collect();
        Self {
            full: self.full || next.full,
            operations,
            bytes: self.bytes + next.bytes,
            summary: (!summaries.is_empty()).then(|| summaries.join("; ")),
            report: IptablesReport {
                filter: rules(self.report.filter, next.report.filter),
                nat: rules(self.report.nat, next.report.nat),
            },
            drift: self.drift.or(next.drift),
            // A full resync tries all chains again.
            in_use: if next.full { next.in_use } else { self.in_use + next.in_use },
        }
    }
}

const TABLES: [Table; 2] = [Table::Filter, Table::Nat];
