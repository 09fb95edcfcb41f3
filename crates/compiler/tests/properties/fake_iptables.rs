//! A fake of one family's iptables in memory, which refuses what a test wants it to refuse.

use std::collections::BTreeSet;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Tables, Transaction};

/// The tables of one family.
#[derive(Debug)]
pub(crate) struct FakeTables {
    /// What the kernel holds.
    pub(crate) held: Ruleset,
    /// Services that it refuses: each of these sets, if all of its Services would be there together.
    pub(crate) refuses: Vec<BTreeSet<String>>,
    /// Whether it lacks the memory for any change.
    pub(crate) lacks_memory: bool,
    /// How often a transaction was tried.
    pub(crate) trials: usize,
    /// Services that lost their rules in some transaction.
    pub(crate) lost: BTreeSet<String>,
}

impl FakeTables {
    /// Tables without any chain.
    pub(crate) fn new(family: IpFamily) -> Self {
        Self {
            held: Ruleset::new(family),
            refuses: Vec::new(),
            lacks_memory: false,
            trials: 0,
            lost: BTreeSet::new(),
        }
    }
}

/// Why a transaction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A rule is not accepted.
    Content,
    /// Memory is short.
    Memory,
}

impl Tables for FakeTables {
    type Error = Refusal;

    fn save(&mut self) -> Result<Ruleset, Refusal> {
        Ok(self.held.clone())
    }

    /// Writes table by table: the tables before the refused one stay written, as in iptables-restore.
    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Refusal> {
        self.trials += 1;
        let before = services(&self.held);
        for table in &transaction.tables {
            if self.lacks_memory {
                return Err(Refusal::Memory);
            }
            let mut after = self.held.clone();
            let of_table = Transaction { tables: vec![table.clone()] };
            of_table.apply(&mut after);
            let there = services(&after);
            let is_new =
                |service: &String| !rules(&after, service).is_subset(&rules(&self.held, service));
            let is_refused =
                |set: &BTreeSet<String>| set.is_subset(&there) && set.iter().any(is_new);
            if self.refuses.iter().any(is_refused) {
                return Err(Refusal::Content);
            }
            self.held = after;
        }
        self.lost.extend(before.difference(&services(&self.held)).cloned());
        Ok(())
    }

    fn is_about_content(refusal: &Refusal) -> bool {
        *refusal == Refusal::Content
    }
}

/// The lines of iptables-save that name a Service in a comment.
pub(crate) fn rules(ruleset: &Ruleset, service: &str) -> BTreeSet<String> {
    let starts = [" ", ":", "\""].map(|end| format!("\"{service}{end}"));
    let names = |line: &&str| starts.iter().any(|start| line.contains(start));
    ruleset.to_text().lines().filter(names).map(str::to_owned).collect()
}

/// The Services that rules name in their comments.
pub(crate) fn services(ruleset: &Ruleset) -> BTreeSet<String> {
    let text = ruleset.to_text();
    let comments = text.split("--comment \"").skip(1);
    let name = |comment: &str| {
        let (name, _) = comment.split_once([' ', ':', '"'])?;
        name.contains('/').then(|| name.to_owned())
    };
    comments.filter_map(name).collect()
}
