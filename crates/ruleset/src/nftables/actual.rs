//! What the kernel holds under the name of a table. Whatever rulegen would never make is told
//! as foreign instead of as what it is.

use std::collections::BTreeMap;

use super::linearize::linearize;
use super::{BaseChain, Chain, Comment, Expression, Name, Rule, Set, Table};

/// A table as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// What is in it that can only be taken away with the whole table, in words: flags, or
    /// objects of kinds that rulegen does not make.
    pub foreign: Vec<String>,
    /// Sets and maps; `None` if something about one is foreign.
    pub sets: BTreeMap<Name, Option<Set>>,
    /// Chains; `None` if something about one but its rules is foreign.
    pub chains: BTreeMap<Name, Option<ActualChain>>,
}

impl From<Table> for Actual {
    /// What the kernel holds once the table is committed.
    fn from(table: Table) -> Self {
        let rule = |rule: Rule| ActualRule {
            handle: None,
            expressions: Some(linearize(table.family, &rule.statements)),
            comment: rule.comment,
        };
        let chain = |chain: Chain| ActualChain {
            base: chain.base,
            rules: chain.rules.into_iter().map(rule).collect(),
        };
        Self {
            foreign: Vec::new(),
            sets: table.sets.into_iter().map(|(name, set)| (name, Some(set))).collect(),
            chains: table.chains.into_iter().map(|(name, of)| (name, Some(chain(of)))).collect(),
        }
    }
}

/// A chain as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActualChain {
    /// Where packets enter it, if not from other chains alone.
    pub base: Option<BaseChain>,
    /// From top to bottom.
    pub rules: Vec<ActualRule>,
}

/// A rule as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualRule {
    /// The kernel's number for it, if it is known.
    pub handle: Option<u64>,
    /// What it is made of; `None` if that is foreign.
    pub expressions: Option<Vec<Expression>>,
    /// What it is for.
    pub comment: Option<Comment>,
}
