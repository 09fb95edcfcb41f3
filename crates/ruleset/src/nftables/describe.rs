//! Transactions for a person to read.

use std::fmt::{self, Display, Formatter};

use super::text::{ElementText, RuleText};
use super::{ActualRule, Element, Key, Name, Operation, Rule, Transaction};
use rulegen_net::IpFamily;

/// A change to one thing in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The set or chain; none where it is the table itself.
    pub object: Option<Object<'a>>,
    /// What becomes of it.
    pub done: Done<'a>,
}

/// A part of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A set or map.
    Set(&'a Name),
    /// A chain.
    Chain(&'a Name),
}

/// What becomes of a part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done<'a> {
    /// It is made, empty.
    Made,
    /// It goes.
    Deleted,
    /// All goes that is in it.
    Emptied,
    /// Elements come, or go.
    Element {
        /// Whether it comes.
        comes: bool,
        /// Its key.
        key: &'a Key,
        /// The rest of it.
        element: &'a Element,
    },
    /// A rule comes.
    RuleComes(&'a Rule),
    /// A rule goes.
    RuleGoes(&'a ActualRule),
}

impl<'a> Transaction<'a> {
    /// What is done, one rule or element at a time.
    pub fn edits(&self) -> impl Iterator<Item = Edit<'a>> {
        self.operations.iter().flat_map(edits)
    }

    /// The part of the table that is changed, by its name in the kernel.
    pub fn object(&self, edit: &Edit<'_>) -> String {
        let table = format!("{} {}", self.family.nft_name(), self.table);
        match edit.object {
            None => table,
            Some(Object::Set(name)) => format!("{table} set {name}"),
            Some(Object::Chain(name)) => format!("{table} chain {name}"),
        }
    }
}

impl Edit<'_> {
    /// The element or rule that comes or goes, as text.
    pub fn text(&self, family: IpFamily) -> Option<String> {
        match &self.done {
            Done::Made | Done::Deleted | Done::Emptied => None,
            Done::Element { key, element, .. } => Some(ElementText { key, element }.to_string()),
            Done::RuleComes(rule) => Some(RuleText { rule, family }.to_string()),
            // As it would be written, or what it is made of.
            Done::RuleGoes(held) => Some(match held.delinearize(family) {
                Some(rule) => RuleText { rule: &rule, family }.to_string(),
                None => ActualText(held).to_string(),
            }),
        }
    }
}

fn edits<'a>(operation: &Operation<'a>) -> Vec<Edit<'a>> {
    let one = |object, done| vec![Edit { object, done }];
    let elements = |name, elements: &[(&'a Key, &'a Element)], comes| {
        let object = Some(Object::Set(name));
        let element = |(key, element): &(&'a Key, &'a Element)| Edit {
            object,
            done: Done::Element { comes, key, element },
        };
        elements.iter().map(element).collect()
    };
    match operation {
        Operation::AddTable(_) => one(None, Done::Made),
        Operation::DeleteTable => one(None, Done::Deleted),
        Operation::AddSet(name, _) => one(Some(Object::Set(name)), Done::Made),
        Operation::DeleteSet(name) => one(Some(Object::Set(name)), Done::Deleted),
        Operation::AddChain(name, _) => one(Some(Object::Chain(name)), Done::Made),
        Operation::DeleteChain(name) => one(Some(Object::Chain(name)), Done::Deleted),
        Operation::AddRule(name, rule) => one(Some(Object::Chain(name)), Done::RuleComes(rule)),
        Operation::DeleteRule(name, rule) => one(Some(Object::Chain(name)), Done::RuleGoes(rule)),
        Operation::AddElements(name, _, come) => elements(name, come, true),
        Operation::DeleteElements(name, _, gone) => elements(name, gone, false),
        Operation::FlushChain(name) => one(Some(Object::Chain(name)), Done::Emptied),
        Operation::FlushSet(name) => one(Some(Object::Set(name)), Done::Emptied),
    }
}

/// A rule as it was read: nobody can say what it was written as.
pub(super) struct ActualText<'a>(pub(super) &'a ActualRule);

impl Display for ActualText<'_> {
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
