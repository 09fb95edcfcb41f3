//! The two tables of one family.

use std::collections::BTreeSet;
use std::time::Instant;

use rulegen_compiler::ServicePlan;
use rulegen_compiler::iptables::{LiveRuleset, OURS, Patch, Sizes};
use rulegen_kernel::iptables::Error;
use rulegen_model::{ObjectKey, ServiceChange};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::MOST_TRIALS;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Split, Table, Transaction, diff, isolate};

use super::super::{Stopwatch, changed_service};
use super::tools::Tools;
use crate::quarantine::Quarantine;
use crate::report::{Counts, IptablesReport, IptablesRules, Operations, Phase};

/// What is wanted of a family, and what is known of what the kernel holds.
pub(super) struct Family {
    name: IpFamily,
    pub(super) live: LiveRuleset,
    held: KernelState,
    /// Services that iptables refuses, which `live` is without.
    pub(super) quarantine: Quarantine,
    /// Services that changed since iptables took all others; none if any may have.
    pub(super) unsettled: Option<BTreeSet<ObjectKey>>,
    /// Rules in `filter` and `nat`, as far as they are ours.
    sizes: [usize; 2],
}

/// What is known of what the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KernelState {
    /// What was wanted last.
    Known,
    /// The same but for these chains, which somebody changed.
    Damaged(BTreeSet<(Table, ChainName)>),
    /// The same, unless somebody changed it.
    Suspected,
    /// Anything.
    Unknown,
}

/// What was done to a family.
pub(super) struct Done {
    /// Whether everything was compared.
    pub(super) full: bool,
    pub(super) operations: Operations,
    pub(super) bytes: usize,
    pub(super) summary: Option<String>,
    pub(super) report: IptablesReport,
    /// What somebody else had changed, in words.
    pub(super) drift: Option<String>,
}

impl Family {
    pub(super) fn new(name: IpFamily, live: LiveRuleset, quarantine: Quarantine) -> Self {
        Self { name, live, held: KernelState::Unknown, quarantine, unsettled: None, sizes: [0; 2] }
    }

    /// Follows a change of a Service, and says whether it is one with rules.
    pub(super) fn follow(&mut self, change: &ServiceChange) -> bool {
        let Some(service) = changed_service(change) else { return false };
        let has_rules = !self.quarantine.follow(&service, change);
        if let Some(unsettled) = self.unsettled.as_mut().filter(|_| has_rules) {
            unsettled.insert(service);
        }
        has_rules
    }

    pub(super) fn is_known(&self) -> bool {
        self.held == KernelState::Known
    }

    /// Whether it is known what is held but for some chains.
    pub(super) fn is_known_but_for_chains(&self) -> bool {
        matches!(self.held, KernelState::Known | KernelState::Damaged(_))
    }

    /// Somebody may have changed what is held.
    pub(super) fn suspect(&mut self) {
        match self.held {
            KernelState::Known => self.held = KernelState::Suspected,
            // It was reported already that somebody changed it.
            KernelState::Damaged(_) => self.held = KernelState::Unknown,
            KernelState::Suspected | KernelState::Unknown => {}
        }
    }

    /// Somebody changed these chains, or any where they are not known. This was reported.
    pub(super) fn damage(&mut self, chains: Option<BTreeSet<(Table, ChainName)>>) {
        self.held = match (std::mem::replace(&mut self.held, KernelState::Unknown), chains) {
            (KernelState::Known, Some(chains)) => KernelState::Damaged(chains),
            (KernelState::Damaged(mut all), Some(chains)) => {
                all.extend(chains);
                KernelState::Damaged(all)
            }
            _ => KernelState::Unknown,
        };
    }

    /// Writes a patch where it is known what is held, else what differs.
    pub(super) fn sync(
        &mut self,
        tools: &mut Tools,
        patch: Option<&Patch>,
        watch: &mut Stopwatch,
    ) -> Result<Done, Error> {
        // Until it has succeeded.
        let held = std::mem::replace(&mut self.held, KernelState::Unknown);
        let without_reading_all = match (&held, patch) {
            (KernelState::Known, Some(patch)) => Some(self.write(tools, patch, watch)),
            (KernelState::Damaged(chains), patch) => Some(self.repair(tools, patch, chains, watch)),
            _ => None,
        };
        match without_reading_all {
            // It holds something else than we thought: what it is, reading tells.
            Some(Err(error @ Error::Refused { .. })) => {
                tracing::warn!(%error, "incremental update rejected, doing a full resync");
            }
            Some(done) => {
                let done = done?;
                self.held = KernelState::Known;
                return Ok(done);
            }
            None => {}
        }
        let expected = match held {
            KernelState::Suspected => {
                Some(patch.map_or(0, |patch| patch.transaction().counts().changes()))
            }
            KernelState::Known | KernelState::Damaged(_) | KernelState::Unknown => None,
        };
        let mut done = self.compare(tools, expected, watch);
        if done.as_ref().is_err_and(Error::is_about_content) {
            // Another program may have deleted a chain after it was read, as firewalls do. That is
            // far more frequent than a rule that iptables refuses, and the search takes longer.
            done = self.compare(tools, expected, watch);
        }
        let done = match done {
            Err(error) if error.is_about_content() => {
                tracing::warn!(%error, "iptables rejected the ruleset, searching for the cause");
                watch.time(Phase::Commit, || self.isolate(tools, &error))?;
                self.compare(tools, expected, watch)?
            }
            done => done?,
        };
        self.held = KernelState::Known;
        self.unsettled = Some(BTreeSet::new());
        Ok(done)
    }

    /// Finds the Services that iptables refuses, and removes them from what is wanted.
    fn isolate(&mut self, tools: &mut Tools, error: &Error) -> Result<(), Error> {
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
            "search for rejected Services finished"
        );
        // A Service that was not tried is left out and tried again like the others.
        let refused = [found.refused, found.untried].concat();
        self.live.remove(&refused);
        let (why, now) = (error.to_string(), Instant::now());
        for service in refused {
            self.quarantine.refused(service, &why, now);
        }
        Ok(())
    }

    /// Tries the Services in quarantine that are due, with `plans` for their ports.
    pub(super) fn retry(
        &mut self,
        tools: &mut Tools,
        plans: impl Fn(&ObjectKey) -> Vec<(ServicePortName, Option<ServicePlan>)>,
        watch: &mut Stopwatch,
        now: Instant,
    ) {
        for service in self.quarantine.due(now).into_iter().take(MOST_RETRIALS) {
            if self.held != KernelState::Known {
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
                        tracing::warn!(%error, "cannot retry rejected Service");
                        self.quarantine.postpone(&service, now);
                    }
                    // A table may have been written before the other was refused.
                    self.held = match self.compare(tools, None, watch) {
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
    ) -> Result<Done, Error> {
        let transaction = watch.time(Phase::Diff, || patch.transaction());
        let bytes = watch.time(Phase::Commit, || tools.restore(self.name, &transaction))?;
        for (size, table) in self.sizes.iter_mut().zip(TABLES) {
            let Sizes { before, after } = patch.sizes(table);
            *size = size.saturating_sub(before) + after;
        }
        Ok(self.done(tools, &transaction, bytes))
    }

    /// Writes the chains that somebody changed, without reading those that only we fill. The patch
    /// comes first: the chains are written as they shall be after it.
    fn repair(
        &mut self,
        tools: &mut Tools,
        patch: Option<&Patch>,
        chains: &BTreeSet<(Table, ChainName)>,
        watch: &mut Stopwatch,
    ) -> Result<Done, Error> {
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

    /// Reads everything and writes what differs. More changes than are expected of one who knew
    /// what was held are somebody else's.
    fn compare(
        &mut self,
        tools: &mut Tools,
        expected: Option<usize>,
        watch: &mut Stopwatch,
    ) -> Result<Done, Error> {
        let family = self.name;
        let wanted: Ruleset = watch.time(Phase::Compile, || self.live.ruleset());
        let held = watch.time(Phase::Read, || tools.save(family))?;
        let transaction = watch.time(Phase::Diff, || diff(&held, &wanted, &OURS));
        let bytes = watch.time(Phase::Commit, || tools.restore(family, &transaction))?;
        self.sizes = TABLES.map(|table| wanted.rules_of(table));
        let done = self.done(tools, &transaction, bytes);
        let has_drifted = expected.is_some_and(|few| transaction.counts().changes() > few);
        let drift = done.summary.clone().filter(|_| has_drifted);
        Ok(Done { full: true, drift, ..done })
    }

    fn done(&self, tools: &Tools, transaction: &Transaction<'_>, bytes: usize) -> Done {
        let counts = transaction.counts();
        let (name, variant) = (self.name.api_name(), tools.variant());
        let summary = || format!("{name} (iptables-{variant}): {}", transaction.summary());
        let [filter, nat] = self.sizes;
        let rules =
            |total, table| IptablesRules { total, written: transaction.counts_of(table).rules };
        Done {
            full: false,
            operations: Operations {
                rules: Counts { added: counts.rules, deleted: counts.removed },
                chains: Counts { added: counts.filled, deleted: counts.deleted },
                ..Operations::default()
            },
            bytes,
            summary: (!transaction.is_empty()).then(summary),
            report: IptablesReport {
                filter: rules(filter, Table::Filter),
                nat: rules(nat, Table::Nat),
            },
            drift: None,
        }
    }
}

/// So many Services are tried again after one sync: each that is still refused takes a comparison.
const MOST_RETRIALS: usize = 4;

impl Done {
    /// What two transactions did, one after the other.
    fn and(self, next: Self) -> Self {
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
        }
    }
}

const TABLES: [Table; 2] = [Table::Filter, Table::Nat];
