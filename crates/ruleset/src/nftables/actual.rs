//! Tables as read from the kernel. Content that rulegen does not make itself is marked as foreign
//! and not decoded.

use std::collections::BTreeMap;

use super::linearize::linearize;
use super::{BaseChain, Chain, Comment, Expression, Name, Rule, Set, Table};

/// A table as read from the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Descriptions of flags or objects that rulegen does not make. They can be removed only with
    /// the whole table.
    pub foreign: Vec<String>,
    /// Sets and maps; `None` for a set with a foreign property or element.
    pub sets: BTreeMap<Name, Option<Set>>,
    /// Chains; `None` for a chain with a foreign property. Its rules do not matter here.
    pub chains: BTreeMap<Name, Option<ActualChain>>,
}

impl From<Table> for Actual {
    /// The kernel's content once the table is committed.
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

/// A chain as read from the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActualChain {
    /// Hook of a base chain; `None` for a regular chain.
    pub base: Option<BaseChain>,
    /// Rules in order.
    pub rules: Vec<ActualRule>,
}

/// A rule as read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualRule {
    /// The kernel's handle, if known: a number that identifies the rule within its table.
    pub handle: Option<u64>,
    /// Expressions; `None` if one is foreign.
    pub expressions: Option<Vec<Expression>>,
    /// Comment of the rule; names the Service.
    pub comment: Option<Comment>,
}
