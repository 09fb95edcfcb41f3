//! The changes in iptables mode.

use std::collections::HashMap;

use rulegen_compiler::iptables::OURS;
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::iptables::{ChainName, Change, Rule, Ruleset, Table, Transaction, diff};

use super::report::{ByOwner, CHANGED, DiffReport};
use super::services::report;
use crate::listing::{Listing, Owners, of_ruleset, owners_of_chains};

/// The changes from the actual to the desired rules, one pair per family. Rules of other programs are
/// not compared. `known` completes the names and kinds of frontends that rules do not show, usually by
/// [`of_plan`](crate::listing::of_plan); an empty listing will do.
pub fn diff_iptables(
    both: &[(&Ruleset, &Ruleset)],
    known: impl Fn(IpFamily) -> Listing,
) -> DiffReport {
    let transactions: Vec<Transaction<'_>> =
        both.iter().map(|(actual, desired)| diff(actual, desired, &OURS)).collect();
    let (mut of_actual, mut of_desired) = (Listing::default(), Listing::default());
    let mut objects = ByOwner::default();
    if transactions.iter().any(|transaction| !transaction.is_empty()) {
        for (actual, desired) in both {
            of_actual.append(of_ruleset(actual));
            of_desired.append(of_ruleset(desired));
            let known = known(desired.family);
            of_actual.complete(&known);
            of_desired.complete(&known);
        }
        for ((actual, desired), transaction) in both.iter().zip(&transactions) {
            let family = Family::new(actual, desired, [&of_actual, &of_desired]);
            for changes in &transaction.tables {
                let changes = changes.changes.iter().map(|change| (changes.table, change));
                changes.for_each(|(table, change)| family.change(table, change, &mut objects));
            }
        }
    }
    let report = report("iptables", &of_actual, &of_desired, objects);
    // Skip destructors: freeing a large cluster takes longer than comparing it.
    std::mem::forget((of_actual, of_desired));
    report
}

struct Family<'a> {
    family: IpFamily,
    actual: &'a Ruleset,
    chains: HashMap<&'a ChainName, ServicePortName>,
    owners: Owners,
}

impl<'a> Family<'a> {
    fn new(actual: &'a Ruleset, desired: &'a Ruleset, listings: [&Listing; 2]) -> Self {
        let mut chains = owners_of_chains(actual);
        chains.extend(owners_of_chains(desired));
        Self { family: desired.family, actual, chains, owners: Owners::of(listings) }
    }

    fn change(&self, table: Table, change: &Change<'_>, objects: &mut ByOwner) {
        let (chain, what) = match change {
            Change::Fill { chain, .. } if self.actual.chain(table, chain).is_none() => {
                (chain, "new chain")
            }
            Change::Fill { chain, .. } => (chain, CHANGED),
            Change::Prepend { chain, .. } | Change::Remove { chain, .. } => (chain, "shared chain"),
            Change::Delete { chain } => (chain, "deleted"),
        };
        let there = self.actual.chain(table, chain).map(|chain| chain.rules.as_slice());
        let there = there.unwrap_or_default();
        let (gone, come) = match change {
            Change::Fill { rules, .. } => (surplus(there, rules), surplus(rules, there)),
            Change::Prepend { rule, .. } => (Vec::new(), surplus(std::slice::from_ref(rule), &[])),
            Change::Remove { rule, .. } => (surplus(std::slice::from_ref(rule), &[]), Vec::new()),
            Change::Delete { .. } => (surplus(there, &[]), Vec::new()),
        };
        let object = format!("{} {table} {chain}", self.family.api_name());
        let of_chain = self.chains.get(chain);
        let is_same = gone.is_empty() && come.is_empty();
        if is_same || (of_chain.is_none() && what != CHANGED) {
            let what = if is_same && what == CHANGED { "other order" } else { what };
            objects.note(of_chain.cloned(), object.clone(), what);
        }
        for (rules, comes) in [(gone, false), (come, true)] {
            for (rule, text) in rules {
                let of_rule = || self.owners.of_rule(rule).map(|owner| (Some(owner), CHANGED));
                let of_chain = of_chain.map(|owner| (Some(owner.clone()), what));
                let (owner, what) = of_chain.or_else(of_rule).unwrap_or((None, what));
                objects.line(owner, (object.clone(), what), comes, text);
            }
        }
    }
}

/// The rules that are in the first list but not in the second; duplicates count.
fn surplus<'r>(rules: &'r [Rule], others: &[Rule]) -> Vec<(&'r Rule, String)> {
    let mut count: HashMap<String, usize> = HashMap::new();
    for other in others {
        *count.entry(text(other)).or_default() += 1;
    }
    let texts = rules.iter().map(|rule| (rule, text(rule)));
    let is_more = |(_, text): &(&Rule, String)| match count.get_mut(text) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    texts.filter(is_more).collect()
}

fn text(rule: &Rule) -> String {
    rule.to_string().trim_start().to_owned()
}
