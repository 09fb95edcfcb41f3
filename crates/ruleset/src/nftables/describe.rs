//! Transactions for a person to read.

use std::fmt::{self, Display, Formatter};

use super::text::{ElementText, RuleText};
use super::{Element, HeldRule, Key, Operation, Transaction};

/// One line about a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What is changed, and how.
    Heading(String),
    /// What goes.
    Gone(String),
    /// What comes.
    New(String),
}

impl Transaction<'_> {
    /// What is done, a line for each rule and element.
    pub fn lines(&self) -> impl Iterator<Item = Line> {
        self.operations.iter().flat_map(|operation| self.describe(operation))
    }

    fn describe(&self, operation: &Operation<'_>) -> Vec<Line> {
        let table = format!("{} {}", self.family.word(), self.table);
        let heading = |what: &str, name: &dyn Display, how: &str| {
            Line::Heading(format!("{table} {what}{name}: {how}"))
        };
        let element = |(key, element): &(&Key, &Element)| ElementText { key, element }.to_string();
        match operation {
            Operation::AddTable(_) => vec![Line::Heading(format!("{table}: new table"))],
            Operation::DeleteTable => vec![Line::Heading(format!("{table}: deleted"))],
            Operation::AddSet(name, _) => vec![heading("set ", name, "new set")],
            Operation::DeleteSet(name) => vec![heading("set ", name, "deleted")],
            Operation::AddChain(name, _) => vec![heading("chain ", name, "new chain")],
            Operation::DeleteChain(name) => vec![heading("chain ", name, "deleted")],
            Operation::AddRule(chain, rule) => {
                let text = RuleText { rule, family: self.family }.to_string();
                vec![heading("chain ", chain, "changed"), Line::New(text)]
            }
            Operation::DeleteRule(chain, rule) => {
                vec![heading("chain ", chain, "changed"), Line::Gone(HeldText(rule).to_string())]
            }
            Operation::AddElements(name, _, elements) => {
                let lines = elements.iter().map(|one| Line::New(element(one)));
                [heading("set ", name, "changed")].into_iter().chain(lines).collect()
            }
            Operation::DeleteElements(name, _, elements) => {
                let lines = elements.iter().map(|one| Line::Gone(element(one)));
                [heading("set ", name, "changed")].into_iter().chain(lines).collect()
            }
            Operation::FlushChain(name) => vec![heading("chain ", name, "emptied")],
            Operation::FlushSet(name) => vec![heading("set ", name, "emptied")],
        }
    }
}

/// A rule as it was read: nobody can say what it was written as.
pub(super) struct HeldText<'a>(pub(super) &'a HeldRule);

impl Display for HeldText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.expressions {
            None => f.write_str("a rule of a kind that rulegen does not make")?,
            Some(expressions) => {
                let mut between = "";
                for expression in expressions {
                    write!(f, "{between}{expression}")?;
                    between = " ";
                }
            }
        }
        self.0.handle.map_or(Ok(()), |handle| write!(f, " handle {handle}"))?;
        self.0.comment.as_ref().map_or(Ok(()), |comment| write!(f, " comment {comment}"))
    }
}
