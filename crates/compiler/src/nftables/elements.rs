//! Puts elements into the sets of a table.

use std::sync::Arc;

use rulegen_ruleset::nftables::{Data, Element, Key, Name, Table};

/// Puts an element in unless one with the key is there: of two Services with one address and
/// port the first by name has it, as in iptables. Says whether it was put in.
pub(super) fn put(
    table: &mut Table,
    set: &str,
    key: Key,
    data: Option<Data>,
    comment: &Arc<str>,
) -> bool {
    let Some(set) = table.sets.get_mut(&Name::from(set)) else { return false };
    match set.elements.entry(key) {
        std::collections::btree_map::Entry::Occupied(_) => false,
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(Element { data, comment: Some(comment.clone()) });
            true
        }
    }
}
