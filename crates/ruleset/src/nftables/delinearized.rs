//! A table as it was read, as far as it can be said what it means.

use std::fmt::{self, Display, Formatter};

use super::delinearize::delinearize;
use super::describe::ActualText;
use super::{Actual, ActualChain, ActualRule, Chain, Comment, Name, Rule, Table};
use rulegen_net::IpFamily;

/// A table that was read, in the types of one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delinearized {
    /// What rulegen could have made of it.
    pub table: Table,
    /// The rest.
    pub unknown: Vec<Unknown>,
}

/// What rulegen never makes, of a table of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Something of the whole table, in words.
    Table(String),
    /// A set or map.
    Set(Name),
    /// A chain of another kind or in another place. Its rules are as lost.
    Chain(Name),
    /// A rule.
    Rule {
        /// In this chain.
        chain: Name,
        /// What it is made of.
        text: String,
    },
}

impl Display for Unknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Table(what) => write!(f, "the table has {what}"),
            Unknown::Set(name) => write!(f, "set {name} is of a kind that rulegen does not make"),
            Unknown::Chain(name) => {
                write!(f, "chain {name} is of a kind that rulegen does not make")
            }
            Unknown::Rule { chain, text } => write!(f, "chain {chain}: {text}"),
        }
    }
}

impl Actual {
    /// The table of this family and name, as far as it could have been made by rulegen.
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
    /// The rule, if rulegen makes such.
    pub fn delinearize(&self, family: IpFamily) -> Option<Rule> {
        let statements = delinearize(family, self.expressions.as_deref()?)?;
        Some(Rule { statements, comment: self.comment.clone() })
    }
}

fn delinearize_chain(
    family: IpFamily,
    name: &Name,
    held: &ActualChain,
    unknown: &mut Vec<Unknown>,
) -> Chain {
    let mut rules = Vec::with_capacity(held.rules.len());
    for rule in &held.rules {
        match rule.delinearize(family) {
            Some(rule) => rules.push(rule),
            None => unknown
                .push(Unknown::Rule { chain: name.clone(), text: ActualText(rule).to_string() }),
        }
    }
    Chain { base: held.base, rules }
}
