//! The two tables of one family.

use anyhow::Result;
use rulegen_compiler::family as family_of;
use rulegen_compiler::iptables::{LiveRuleset, OURS, Patch, Sizes};
use rulegen_kernel::iptables::Error;
use rulegen_model::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Table, Transaction, diff};

use super::super::Stopwatch;
use super::tools::Tools;
use crate::report::{Counts, IptablesReport, IptablesRules, Operations, Phase};

/// What is wanted of a family, and what is known of what the kernel holds.
pub(super) struct Family {
    name: IpFamily,
    pub(super) live: LiveRuleset,
    held: Held,
    /// Rules in `filter` and `nat`, as far as they are ours.
    sizes: [usize; 2],
}

/// What is known of what the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// What was wanted last.
    Known,
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
    pub(super) fn new(name: IpFamily, live: LiveRuleset) -> Self {
        Self { name, live, held: Held::Unknown, sizes: [0; 2] }
    }

    pub(super) fn is_known(&self) -> bool {
        self.held == Held::Known
    }

    /// Somebody may have changed what is held.
    pub(super) fn suspect(&mut self) {
        if self.held == Held::Known {
            self.held = Held::Suspected;
        }
    }

    /// Writes a patch where it is known what is held, else what differs.
    pub(super) fn sync(
        &mut self,
        tools: &mut Tools,
        patch: Option<&Patch>,
        watch: &mut Stopwatch,
    ) -> Result<Done> {
        // Until it has succeeded.
        let held = std::mem::replace(&mut self.held, Held::Unknown);
        if let (Held::Known, Some(patch)) = (held, patch) {
            match self.write(tools, patch, watch) {
                // It holds something else than we thought: what it is, reading tells.
                Err(error @ Error::Refused { .. }) => {
                    tracing::warn!(%error, "a change was refused: all is compared");
                }
                done => {
                    let done = done?;
                    self.held = Held::Known;
                    return Ok(done);
                }
            }
        }
        let expected = match held {
            Held::Suspected => {
                Some(patch.map_or(0, |patch| patch.transaction().counts().changes()))
            }
            Held::Known | Held::Unknown => None,
        };
        let done = self.compare(tools, expected, watch)?;
        self.held = Held::Known;
        Ok(done)
    }

    fn write(
        &mut self,
        tools: &mut Tools,
        patch: &Patch,
        watch: &mut Stopwatch,
    ) -> Result<Done, Error> {
        let transaction = watch.time(Phase::Diff, || patch.transaction());
        let bytes =
            watch.time(Phase::Commit, || tools.restore(family_of(self.name), &transaction))?;
        for (size, table) in self.sizes.iter_mut().zip(TABLES) {
            let Sizes { before, after } = patch.sizes(table);
            *size = size.saturating_sub(before) + after;
        }
        Ok(self.done(tools, &transaction, bytes))
    }

    /// Reads everything and writes what differs. More changes than are expected of one who knew
    /// what was held are somebody else's.
    fn compare(
        &mut self,
        tools: &mut Tools,
        expected: Option<usize>,
        watch: &mut Stopwatch,
    ) -> Result<Done, Error> {
        let family = family_of(self.name);
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

const TABLES: [Table; 2] = [Table::Filter, Table::Nat];
