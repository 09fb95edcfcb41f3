//! The changes from the rules of a chain to the desired ones.

use std::collections::HashMap;

use super::rule::Rule;

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleWithHandle {
    /// Its handle in nf_tables.
    pub handle: u64,
    /// The rule as the kernel has it.
    pub rule: Rule,
}

/// A change of a chain's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Deletes the rule with this handle.
    Delete(u64),
    /// Inserts a rule before the one with this handle.
    InsertBefore(u64, &'a Rule),
    /// Adds a rule at the end.
    Append(&'a Rule),
}

/// The changes, in order. Rules that are in both and in the same order stay, with their counters. A
/// rule that moves before others is deleted and inserted.
pub fn edits<'a>(actual: &[RuleWithHandle], desired: &'a [Rule]) -> Vec<Edit<'a>> {
    let mut left: HashMap<&Rule, usize> = HashMap::new();
    desired.iter().for_each(|rule| *left.entry(rule).or_default() += 1);
    let mut edits = Vec::new();
    let (mut actual, mut waiting) = (actual.iter().peekable(), Vec::new());
    for rule in desired {
        // Rules that are not desired from here on.
        while let Some(unwanted) =
            actual.next_if(|actual| actual.rule != *rule && count(&left, &actual.rule) == 0)
        {
            edits.push(Edit::Delete(unwanted.handle));
        }
        take(&mut left, rule);
        match actual.next_if(|actual| actual.rule == *rule) {
            Some(kept) => {
                edits.extend(waiting.drain(..).map(|rule| Edit::InsertBefore(kept.handle, rule)));
            }
            None => waiting.push(rule),
        }
    }
    edits.extend(actual.map(|actual| Edit::Delete(actual.handle)));
    edits.extend(waiting.into_iter().map(Edit::Append));
    edits
}

fn count(counts: &HashMap<&Rule, usize>, rule: &Rule) -> usize {
    counts.get(rule).copied().unwrap_or_default()
}

fn take(counts: &mut HashMap<&Rule, usize>, rule: &Rule) {
    if let Some(count) = counts.get_mut(rule) {
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(n: u8) -> Rule {
        Rule::Foreign { text: n.to_string().into(), target: None }
    }

    fn rules(numbers: &[u8]) -> Vec<Rule> {
        numbers.iter().map(|n| rule(*n)).collect()
    }

    fn actual(numbers: &[u8]) -> Vec<RuleWithHandle> {
        (1..).zip(rules(numbers)).map(|(handle, rule)| RuleWithHandle { handle, rule }).collect()
    }

    /// What the kernel does.
    fn applied(actual: &[RuleWithHandle], edits: &[Edit<'_>]) -> Vec<Rule> {
        let mut chain: Vec<(u64, Rule)> =
            actual.iter().map(|actual| (actual.handle, actual.rule.clone())).collect();
        for edit in edits {
            let place = |chain: &[(u64, Rule)], handle| {
                chain.iter().position(|(of, _)| *of == handle).expect("the handle exists")
            };
            match *edit {
                Edit::Delete(handle) => {
                    let at = place(&chain, handle);
                    chain.remove(at);
                }
                Edit::InsertBefore(handle, rule) => {
                    let at = place(&chain, handle);
                    chain.insert(at, (0, rule.clone()));
                }
                Edit::Append(rule) => chain.push((0, rule.clone())),
            }
        }
        chain.into_iter().map(|(_, rule)| rule).collect()
    }

    proptest! {
        #[test]
        fn edits_give_the_wanted_rules(
            before in prop::collection::vec(0..6_u8, 0..12),
            after in prop::collection::vec(0..6_u8, 0..12),
        ) {
            let (actual, desired) = (actual(&before), rules(&after));
            let edits = edits(&actual, &desired);
            prop_assert_eq!(&applied(&actual, &edits), &desired);
            prop_assert_eq!(edits.is_empty(), before == after);
        }
    }

    #[test]
    fn edits_of_one_rule_leave_the_others() {
        let before = [1, 2, 2, 3, 4, 5];
        for (after, count) in [
            (vec![1, 2, 2, 3, 4, 5], 0),
            (vec![0, 1, 2, 2, 3, 4, 5], 1),
            (vec![1, 2, 2, 0, 3, 4, 5], 1),
            (vec![1, 2, 2, 3, 4, 5, 0], 1),
            (vec![1, 2, 2, 4, 5], 1),
            (vec![1, 2, 3, 4, 5], 1),
            (vec![1, 2, 2, 0, 4, 5], 2),
            (vec![2, 2, 3, 1, 4, 5], 6),
        ] {
            assert_eq!(edits(&actual(&before), &rules(&after)).len(), count, "{after:?}");
        }
    }
}
