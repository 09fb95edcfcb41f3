//! Suggestions for misspelt names.

use rulegen_model::Objects;

/// The most similar of some names, if one is similar enough to be meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// As in clap.
    const SIMILAR: f64 = 0.7;
    let rated = known.map(|of| (strsim::jaro(name, of), of)).filter(|(rate, _)| *rate > SIMILAR);
    rated.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, of)| of)
}

/// The message for a name that no Node has.
pub(crate) fn no_node(name: &str, objects: &Objects) -> String {
    let names = objects.nodes.iter().map(|node| node.object.metadata.name.as_str());
    let hint = nearest(name, names).map(|of| format!(", did you mean {of:?}?"));
    format!("no Node {name:?} in the input{}", hint.unwrap_or_default())
}
