//! The changes from the rules of a chain to the wanted ones.

use std::collections::HashMap;

use rulegen_ruleset::iptables::Rule;

use super::read::ActualRule;

/// A change of a chain's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit<'a> {
    /// Deletes the rule with this handle.
    Delete(u64),
    /// Inserts a rule before the one with this handle.
    InsertBefore(u64, &'a Rule),
    /// Adds a rule at the end.
    Append(&'a Rule),
}

/// The changes, in order. Rules that are in both and in the same order stay, with their counters.
pub(super) fn edits<'a>(actual: &[ActualRule], wanted: &'a [Rule]) -> Vec<Edit<'a>> {
    let mut left: HashMap<&Rule, usize> = HashMap::new();
    wanted.iter().for_each(|rule| *left.entry(rule).or_default() += 1);
    let mut there: HashMap<&Rule, usize> = HashMap::new();
    actual.iter().for_each(|actual| *there.entry(&actual.rule).or_default() += 1);
    let mut edits = Vec::new();
    let (mut actual, mut waiting) = (actual.iter().peekable(), Vec::new());
    for rule in wanted {
        // Rules that are not wanted behind this point.
        while let Some(unwanted) =
            actual.next_if(|actual| actual.rule != *rule && count(&left, &actual.rule) == 0)
        {
            edits.push(Edit::Delete(unwanted.handle));
            take(&mut there, &unwanted.rule);
        }
        take(&mut left, rule);
        // A rule that is not behind this point is inserted. One that is there, but only behind
        // others that are wanted, moves: those others are deleted and inserted.
        let is_there = count(&there, rule) > 0;
        if is_there {
            while let Some(moved) = actual.next_if(|actual| actual.rule != *rule) {
                edits.push(Edit::Delete(moved.handle));
                take(&mut there, &moved.rule);
            }
        }
        match actual.next_if(|actual| actual.rule == *rule) {
            Some(kept) => {
                take(&mut there, rule);
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

fn take<'a>(counts: &mut HashMap<&'a Rule, usize>, rule: &'a Rule) {
    if let Some(count) = counts.get_mut(rule) {
        *count = count.saturating_sub(1);
    }
}
