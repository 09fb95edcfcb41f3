//! A table as it was read, as far as it can be said what it means.

use std::fmt::{self, Display, Formatter};

use super::describe::HeldText;
use super::raise::raise;
use super::{Chain, Comment, Held, HeldChain, HeldRule, Name, Rule, Table};
use rulegen_net::IpFamily;

/// A table that was read, in the types of one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
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

impl Held {
    /// The table of this family and name, as far as it could have been made by rulegen.
    pub fn raised(self, family: IpFamily, name: &Name) -> Raised {
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
                    let chain = raised_chain(family, &name, &chain, &mut unknown);
                    table.chains.insert(name, chain);
                }
                None => unknown.push(Unknown::Chain(name)),
            }
        }
        Raised { table, unknown }
    }
}

impl HeldRule {
    /// The rule, if rulegen makes such.
    pub fn raised(&self, family: IpFamily) -> Option<Rule> {
        let statements = raise(family, self.expressions.as_deref()?)?;
        Some(Rule { statements, comment: self.comment.clone() })
    }
}

fn raised_chain(
    family: IpFamily,
    name: &Name,
    held: &HeldChain,
    unknown: &mut Vec<Unknown>,
) -> Chain {
    let mut rules = Vec::with_capacity(held.rules.len());
    for rule in &held.rules {
        match rule.raised(family) {
            Some(rule) => rules.push(rule),
            None => unknown
                .push(Unknown::Rule { chain: name.clone(), text: HeldText(rule).to_string() }),
        }
    }
    Chain { base: held.base, rules }
}
