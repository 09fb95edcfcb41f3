//! Rules of a part of the desired ruleset together with the existing rules of the rest.

use std::collections::HashSet;

use super::diff::Ownership;
use super::rule::Rule;
use super::ruleset::{Chain, Ruleset};

/// The desired rules of one part, plus the rules of `rest` that `actual` contains. A transaction from
/// `actual` to the result neither adds nor removes rules of the rest: an owned chain that is not
/// desired stays, because chains of the rest may lead to it, and shared chains keep the rules that
/// the rest also wants.
pub fn retaining(
    actual: &Ruleset,
    mut desired: Ruleset,
    rest: &Ruleset,
    ours: &Ownership<'_>,
) -> Ruleset {
    for (table, chains) in &mut desired.tables {
        let actual = actual.tables.get(table).into_iter().flatten();
        for (name, actual) in actual.filter(|(name, _)| ours.owns(*table, name)) {
            match chains.get_mut(name) {
                Some(chain) => {
                    if let Some(rest) = rest.chain(*table, name) {
                        retain(chain, actual, rest);
                    }
                }
                None => drop(chains.insert(name.clone(), actual.clone())),
            }
        }
    }
    desired
}

fn retain(chain: &mut Chain, actual: &Chain, rest: &Chain) {
    let rest: HashSet<&Rule> = rest.rules.iter().collect();
    let retained: Vec<Rule> = {
        let desired: HashSet<&Rule> = chain.rules.iter().collect();
        let is_retained = |rule: &&Rule| rest.contains(rule) && !desired.contains(rule);
        actual.rules.iter().filter(is_retained).cloned().collect()
    };
    chain.rules.extend(retained);
}
