//! A table read from the kernel, decoded as far as possible.

use std::fmt::{self, Display, Formatter};

use super::delinearize::delinearize;
use super::describe::ActualText;
use super::{Actual, ActualChain, ActualRule, Chain, Comment, Name, Rule, Table};
use rulegen_net::IpFamily;

/// A table read from the kernel, in the types of a wanted table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delinearized {
    /// The part that rulegen could have made.
    pub table: Table,
    /// Everything else.
    pub unknown: Vec<Unknown>,
}

/// Content that rulegen does not make, in a table of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Description of a property of the whole table.
    Table(String),
    /// A set or map.
    Set(Name),
    /// A chain with another type or hook. Its rules are not decoded.
    Chain(Name),
    /// A rule.
    Rule {
        /// Its chain.
        chain: Name,
        /// Its expressions as text.
        text: String,
    },
}

impl Display for Unknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Table(what) => write!(f, "the table has {what}"),
            Unknown::Set(name) => {
                write!(f, "set {name} was not made by rulegen (unsupported type)")
            }
            Unknown::Chain(name) => {
                write!(f, "chain {name} was not made by rulegen (unsupported type)")
            }
            Unknown::Rule { chain, text } => write!(f, "chain {chain}: {text}"),
        }
    }
}

impl Actual {
    /// Decodes the table, as far as rulegen could have made it.
    pub fn delinearize(self, family: IpFamily, name: &Name) -> Delinearized {
        let mut unknown: Vec<Unknown> = self.foreign.into_iter().map(Unknown::Table).collect();
        let (family, name, comment) = (family, name.clone(), Comment::from(""));
        let mut table = Table { family, name, comment, sets: [].into(), chains: [].into() };
        for (name, set) in self.sets {
            match set {
                Some(set) => drop(table.sets.insert(name, set)),
                None => unknown.push(Unknown::Set(name)),
            }
        }
        for (name, chain) in self.chains {
            match chain {
                Some(chain) => {
                    let chain = delinearize_chain(family, &name, &chain, &mut unknown);
                    table.chains.insert(name, chain);
                }
                None => unknown.push(Unknown::Chain(name)),
            }
        }
        Delinearized { table, unknown }
    }
}

impl ActualRule {
    /// Decodes the rule; `None` if rulegen does not make such a rule.
    pub fn delinearize(&self, family: IpFamily) -> Option<Rule> {
        let statements = delinearize(family, self.expressions.as_deref()?)?;
        Some(Rule { statements, comment: self.comment.clone() })
    }
}

fn delinearize_chain(
    family: IpFamily,
    name: &Name,
    actual: &ActualChain,
    unknown: &mut Vec<Unknown>,
) -> Chain {
    let mut rules = Vec::with_capacity(actual.rules.len());
    for rule in &actual.rules {
        match rule.delinearize(family) {
            Some(rule) => rules.push(rule),
            None => unknown
                .push(Unknown::Rule { chain: name.clone(), text: ActualText(rule).to_string() }),
        }
    }
    Chain { base: actual.base, rules }
}
