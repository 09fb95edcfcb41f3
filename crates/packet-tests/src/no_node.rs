//! The message for a node that does not exist.

use rulegen_model::{Objects, nearest};

/// The message for a name that no Node has.
pub fn no_node(name: &str, objects: &Objects) -> String {
    let names = objects.nodes.iter().map(|node| node.object.metadata.name.as_str());
    let hint = nearest(name, names).map(|of| format!(", did you mean {of:?}?"));
    format!("no Node {name:?} in the input{}", hint.unwrap_or_default())
}
