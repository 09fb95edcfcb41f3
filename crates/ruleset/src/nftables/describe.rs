//! Transactions as text for people.

use std::fmt::{self, Display, Formatter};

use super::text::{ElementText, RuleText};
use super::{ActualRule, Element, Key, Name, Operation, Rule, Transaction};
use rulegen_net::IpFamily;

/// A change to one object in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEdit<'a> {
    /// The set or chain; `None` for the table itself.
    pub object: Option<EditedObject<'a>>,
    /// The change.
    pub action: EditAction<'a>,
}

/// An object in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditedObject<'a> {
    /// A set or map.
    Set(&'a Name),
    /// A chain, by its name.
    Chain(&'a Name),
}

/// A change to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditAction<'a> {
    /// Created, empty.
    Created,
    /// The kernel has it, and it is to go.
    Deleted,
    /// Flushed: all its content is deleted.
    Flushed,
    /// An element is added or deleted.
    Element {
        /// True if it is added.
        added: bool,
        /// Key of the element in its set.
        key: &'a Key,
        /// Data and comment.
        element: &'a Element,
    },
    /// A rule that the kernel lacks.
    RuleAdded(&'a Rule),
    /// A rule of the kernel that is not desired.
    RuleDeleted(&'a ActualRule),
}

impl<'a> Transaction<'a> {
    /// All changes, one per rule or element.
    pub fn edits(&self) -> impl Iterator<Item = ObjectEdit<'a>> {
        self.operations.iter().flat_map(edits)
    }

    /// The changed object, by its name in the kernel.
    pub fn object(&self, edit: &ObjectEdit<'_>) -> String {
        let table = format!("{} {}", self.family.nft_name(), self.table);
        match edit.object {
            None => table,
            Some(EditedObject::Set(name)) => format!("{table} set {name}"),
            Some(EditedObject::Chain(name)) => format!("{table} chain {name}"),
        }
    }
}

impl ObjectEdit<'_> {
    /// The added or deleted element or rule, as text.
    pub fn text(&self, family: IpFamily) -> Option<String> {
        match &self.action {
            EditAction::Created | EditAction::Deleted | EditAction::Flushed => None,
            EditAction::Element { key, element, .. } => {
                Some(ElementText { key, element }.to_string())
            }
            EditAction::RuleAdded(rule) => Some(RuleText { rule, family }.to_string()),
            // In nft's syntax if it can be decoded, else as expressions.
            EditAction::RuleDeleted(actual) => Some(match actual.delinearize(family) {
                Some(rule) => RuleText { rule: &rule, family }.to_string(),
                None => ActualText(actual).to_string(),
            }),
        }
    }
}

fn edits<'a>(operation: &Operation<'a>) -> Vec<ObjectEdit<'a>> {
    let one = |object, action| vec![ObjectEdit { object, action }];
    let elements = |name, elements: &[(&'a Key, &'a Element)], added| {
        let object = Some(EditedObject::Set(name));
        let element = |(key, element): &(&'a Key, &'a Element)| ObjectEdit {
            object,
            action: EditAction::Element { added, key, element },
        };
        elements.iter().map(element).collect()
    };
    match operation {
        Operation::AddTable(_) => one(None, EditAction::Created),
        Operation::DeleteTable => one(None, EditAction::Deleted),
        Operation::AddSet(name, _) => one(Some(EditedObject::Set(name)), EditAction::Created),
        Operation::DeleteSet(name) => one(Some(EditedObject::Set(name)), EditAction::Deleted),
        Operation::AddChain(name, _) => one(Some(EditedObject::Chain(name)), EditAction::Created),
        Operation::DeleteChain(name) => one(Some(EditedObject::Chain(name)), EditAction::Deleted),
        Operation::AddRule(name, rule) => {
            one(Some(EditedObject::Chain(name)), EditAction::RuleAdded(rule))
        }
        Operation::DeleteRule(name, rule) => {
            one(Some(EditedObject::Chain(name)), EditAction::RuleDeleted(rule))
        }
        Operation::AddElements(name, _, come) => elements(name, come, true),
        Operation::DeleteElements(name, _, gone) => elements(name, gone, false),
        Operation::FlushChain(name) => one(Some(EditedObject::Chain(name)), EditAction::Flushed),
        Operation::FlushSet(name) => one(Some(EditedObject::Set(name)), EditAction::Flushed),
    }
}

/// A rule as read from the kernel: its original text is unknown.
pub(super) struct ActualText<'a>(pub(super) &'a ActualRule);

impl Display for ActualText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.expressions {
            None => f.write_str("a rule that rulegen did not make")?,
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
