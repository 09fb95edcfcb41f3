//! A table read from the kernel, decoded as far as possible.

use std::fmt::{self, Display, Formatter};

use super::delinearize::delinearize;
use super::describe::ActualText;
use super::{Actual, ActualChain, ActualRule, Chain, Comment, Name, Rule, Statement, Table};
use rulegen_net::IpFamily;

/// A table read from the kernel, in the types of a desired table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delinearized {
    /// The part that the types describe.
    pub table: Table,
    /// Everything else.
    pub unknown: Vec<Unknown>,
}

/// Content that the types do not describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Description of a property of the whole table.
    Table(String),
    /// A set or map.
    Set(Name),
    /// A chain with another type or hook. Its rules are not decoded.
    Chain(Name),
    /// A rule with an expression that the types do not describe.
    Rule {
        /// Name of the chain that has the rule.
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
    /// Decodes the table as far as possible. What a rule does is unknown if one of its sets is unknown.
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
                    let chain = delinearize_chain(&name, &chain, &table, &mut unknown);
                    table.chains.insert(name, chain);
                }
                None => unknown.push(Unknown::Chain(name)),
            }
        }
        Delinearized { table, unknown }
    }
}

impl ActualRule {
    /// Decodes the rule; `None` if the types do not describe it.
    pub fn delinearize(&self, family: IpFamily) -> Option<Rule> {
        let statements = delinearize(family, self.expressions.as_deref()?)?;
        Some(Rule { statements, comment: self.comment.clone() })
    }
}

fn delinearize_chain(
    name: &Name,
    actual: &ActualChain,
    table: &Table,
    unknown: &mut Vec<Unknown>,
) -> Chain {
    let mut rules = Vec::with_capacity(actual.rules.len());
    for rule in &actual.rules {
        let has_its_sets = |rule: &Rule| {
            rule.statements
                .iter()
                .filter_map(Statement::set)
                .all(|set| table.sets.contains_key(set))
        };
        match rule.delinearize(table.family).filter(has_its_sets) {
            Some(rule) => rules.push(rule),
            None => unknown
                .push(Unknown::Rule { chain: name.clone(), text: ActualText(rule).to_string() }),
        }
    }
    Chain { base: actual.base, rules }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rulegen_net::IpFamily;

    use super::super::linearize::linearize;
    use super::*;
    use crate::Negatable;
    use crate::nftables::{Condition, Selector, Verdict};

    /// Without the set, it is not known which packets the rule drops.
    #[test]
    fn delinearized_rule_is_unknown_without_its_set() {
        let set = Negatable { negated: true, value: Name::from("__set0") };
        let key = vec![Selector::SourceAddress];
        let statements = [
            Statement::Match(Condition::SetLookup { key, set }),
            Statement::Verdict(Verdict::Drop),
        ];
        let expressions = Some(linearize(IpFamily::Ipv4, &statements));
        let rule = ActualRule { handle: None, expressions, comment: None };
        let chain = ActualChain { base: None, rules: vec![rule] };
        let chains = BTreeMap::from([(Name::from("chain"), Some(chain))]);
        let actual = Actual { chains, ..Actual::default() };
        let Delinearized { table, unknown } = actual.delinearize(IpFamily::Ipv4, &"table".into());
        assert_eq!(table.chains[&Name::from("chain")].rules, []);
        assert!(matches!(unknown.as_slice(), [Unknown::Rule { .. }]), "{unknown:?}");
    }
}
