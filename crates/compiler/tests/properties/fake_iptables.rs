//! An in-memory fake of one family's iptables, with configurable refusals.

use std::collections::BTreeSet;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Tables, Transaction};

/// The tables of one family.
#[derive(Debug)]
pub(crate) struct FakeTables {
    pub(crate) actual: Ruleset,
    /// Sets of Services. A transaction is refused if all Services of a set would be present.
    pub(crate) refuses: Vec<BTreeSet<String>>,
    /// Whether each change fails because memory is short.
    pub(crate) is_out_of_memory: bool,
    /// The number of transactions so far.
    pub(crate) trials: usize,
    /// Services that lost their rules in any transaction.
    pub(crate) lost: BTreeSet<String>,
}

impl FakeTables {
    /// Empty tables.
    pub(crate) fn new(family: IpFamily) -> Self {
        Self {
            actual: Ruleset::new(family),
            refuses: Vec::new(),
            is_out_of_memory: false,
            trials: 0,
            lost: BTreeSet::new(),
        }
    }
}

/// Why a transaction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionRefusal {
    /// The kernel does not accept a rule.
    Content,
    Memory,
}

impl Tables for FakeTables {
    type Error = TransactionRefusal;

    fn save(&mut self) -> Result<Ruleset, TransactionRefusal> {
        Ok(self.actual.clone())
    }

    /// Writes one table after the other, like iptables-restore: tables before the refused one stay
    /// written.
    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), TransactionRefusal> {
        self.trials += 1;
        let before = services(&self.actual);
        for table in &transaction.tables {
            if self.is_out_of_memory {
                return Err(TransactionRefusal::Memory);
            }
            let mut after = self.actual.clone();
            let of_table = Transaction { tables: vec![table.clone()] };
            of_table.apply(&mut after);
            let present = services(&after);
            let is_new =
                |service: &String| !rules(&after, service).is_subset(&rules(&self.actual, service));
            let is_refused =
                |set: &BTreeSet<String>| set.is_subset(&present) && set.iter().any(is_new);
            if self.refuses.iter().any(is_refused) {
                return Err(TransactionRefusal::Content);
            }
            self.actual = after;
        }
        self.lost.extend(before.difference(&services(&self.actual)).cloned());
        Ok(())
    }

    fn is_about_content(refusal: &TransactionRefusal) -> bool {
        *refusal == TransactionRefusal::Content
    }
}

/// The lines of iptables-save that name the Service in a comment.
pub(crate) fn rules(ruleset: &Ruleset, service: &str) -> BTreeSet<String> {
    let starts = [" ", ":", "\""].map(|end| format!("\"{service}{end}"));
    let names = |line: &&str| starts.iter().any(|start| line.contains(start));
    ruleset.to_text().lines().filter(names).map(str::to_owned).collect()
}

/// The Services that comments of rules name.
pub(crate) fn services(ruleset: &Ruleset) -> BTreeSet<String> {
    let text = ruleset.to_text();
    let comments = text.split("--comment \"").skip(1);
    let name = |comment: &str| {
        let (name, _) = comment.split_once([' ', ':', '"'])?;
        name.contains('/').then(|| name.to_owned())
    };
    comments.filter_map(name).collect()
}
