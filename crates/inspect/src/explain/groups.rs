//! The ends of an explanation, grouped by their conditions.

use super::conditions::EndCondition;
use super::explanation::{End, Explanation};

/// Ends with the same conditions, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct EndGroup<'a> {
    /// Neighbours in the order of the explanation.
    pub ends: &'a [End],
    /// Their conditions, without those of all ends if there are several groups.
    pub conditions: Vec<&'a EndCondition>,
}

/// All ends of an explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct EndGroups<'a> {
    /// In the order of the ends.
    pub groups: Vec<EndGroup<'a>>,
    /// The conditions of all ends, if there are several groups.
    pub of_all: Vec<&'a EndCondition>,
}

impl Explanation {
    /// The ends with their conditions, each condition as rarely as possible.
    pub fn end_groups<'a>(&'a self) -> EndGroups<'a> {
        let is_of_all = |condition: &&EndCondition| {
            self.ends.iter().all(|of| of.conditions.contains(condition))
        };
        let parts: Vec<&[End]> =
            self.ends.chunk_by(|end, next| end.conditions == next.conditions).collect();
        let has_several = parts.len() > 1;
        let own = |condition: &&EndCondition| !has_several || !is_of_all(condition);
        let group = |ends: &&'a [End]| {
            let all = ends.first().map(|end| end.conditions.as_slice()).unwrap_or_default();
            EndGroup { ends, conditions: all.iter().filter(own).collect() }
        };
        let of_all = self.ends.first().filter(|_| has_several);
        let of_all = of_all.into_iter().flat_map(|end| &end.conditions).filter(is_of_all);
        EndGroups { of_all: of_all.collect(), groups: parts.iter().map(group).collect() }
    }
}
