//! Suggestions for misspelt names.

/// The similarity from which on a name is suggested, from 0 to 1.
const SIMILAR: f64 = 0.87;

/// The name that is most similar to a word; `None` if none is similar.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let rated = names.map(|name| (name, strsim::jaro_winkler(&name.to_lowercase(), &word)));
    let best = rated.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, similarity)| *similarity > SIMILAR).map(|(name, _)| name)
}
