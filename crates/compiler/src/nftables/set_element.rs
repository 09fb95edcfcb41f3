//! An element of one of the shared sets.

use rulegen_ruleset::nftables::{Element, Key};

use super::claims::SetKey;

/// An element, with the name of its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetElement {
    pub(super) set: &'static str,
    pub(super) key: Key,
    pub(super) element: Element,
}

impl SetElement {
    pub(super) fn without_data((set, key): &SetKey) -> Self {
        Self { set, key: key.clone(), element: Element::default() }
    }
}
