//! Suggestions for misspelt names.

/// The Jaro-Winkler similarity from which on a name is suggested, from 0 (none) to 1 (equal). One wrong
/// letter in four gives 0.88 (`typo`, `type`), a missing end 0.90 (`node`, `nodePort`). Names with
/// another meaning stay below 0.78 (`port`, `protocol`).
const SIMILAR: f64 = 0.87;

/// The known name that is most similar to a misspelt one, for "did you mean"; `None` if none is similar.
/// Upper and lower case count as equal.
pub fn nearest<'a>(misspelt: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let misspelt = misspelt.to_lowercase();
    let rated = known.map(|name| (name, strsim::jaro_winkler(&name.to_lowercase(), &misspelt)));
    let best = rated.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, similarity)| *similarity > SIMILAR).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_one_with_a_spelling_mistake_not_one_with_another_meaning() {
        let known = ["type", "nodePort", "protocol", "podCIDR", "hosts"];
        for (misspelt, name) in [
            ("typo", Some("type")),
            ("node", Some("nodePort")),
            ("podCidr", Some("podCIDR")),
            ("protcol", Some("protocol")),
            ("port", None),
            ("ports", None),
            ("", None),
        ] {
            assert_eq!(nearest(misspelt, known.into_iter()), name, "{misspelt}");
        }
    }
}
