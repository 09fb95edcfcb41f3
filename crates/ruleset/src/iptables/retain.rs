//! A part of what is wanted, beside what is held already of the rest.

use std::collections::HashSet;

use super::diff::Ownership;
use super::rule::Rule;
use super::ruleset::{Chain, Ruleset};

/// What is wanted of one part, and of `rest` what is held. Taken from `held` to there, rules of the
/// rest neither come nor go: a chain of ours that is not wanted stays as it is, for chains of the
/// rest may lead to it, and in a chain that all share those rules stay that the rest wants too.
pub fn retaining(
    held: &Ruleset,
    mut wanted: Ruleset,
    rest: &Ruleset,
    ours: &Ownership<'_>,
) -> Ruleset {
    for (table, chains) in &mut wanted.tables {
        let held = held.tables.get(table).into_iter().flatten();
        for (name, held) in held.filter(|(name, _)| ours.owns(*table, name)) {
            match chains.get_mut(name) {
                Some(chain) => {
                    if let Some(rest) = rest.chain(*table, name) {
                        retain(chain, held, rest);
                    }
                }
                None => drop(chains.insert(name.clone(), held.clone())),
            }
        }
    }
    wanted
}

fn retain(chain: &mut Chain, held: &Chain, rest: &Chain) {
    let rest: HashSet<&Rule> = rest.rules.iter().collect();
    let retained: Vec<Rule> = {
        let wanted: HashSet<&Rule> = chain.rules.iter().collect();
        let is_retained = |rule: &&Rule| rest.contains(rule) && !wanted.contains(rule);
        held.rules.iter().filter(is_retained).cloned().collect()
    };
    chain.rules.extend(retained);
}
