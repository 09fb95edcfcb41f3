//! Comments and annotations that ignore codes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rulegen_model::{ObjectName, ProblemCode, Source};

use crate::documents::LintDocument;
use crate::finding::LintFinding;
use crate::nearest::nearest;
use crate::rule::rule;

/// The annotation that ignores codes for one object.
pub(crate) const ANNOTATION: &str = "rulegen/lint-ignore";

/// The comment that ignores codes for the objects of its document.
const COMMENT: &str = "rulegen:ignore";

/// Ignored codes.
#[derive(Default)]
pub(crate) struct Ignores {
    documents: HashMap<Source, BTreeSet<ProblemCode>>,
    objects: BTreeMap<ObjectName, BTreeSet<ProblemCode>>,
}

impl Ignores {
    /// Reads the comments of documents, in order. A comment before the `---` of the first document
    /// is a document of its own, so a document of comments alone counts for the next one of its file.
    pub(crate) fn of_comments(documents: &[LintDocument]) -> (Self, Vec<LintFinding>) {
        let (mut ignores, mut findings) = (Self::default(), Vec::new());
        let mut carried: Option<(&Source, BTreeSet<ProblemCode>)> = None;
        for LintDocument { source, first_line, text } in documents {
            let before = carried.take().filter(|(of, _)| of.file == source.file);
            let mut codes = before.map(|(_, codes)| codes).unwrap_or_default();
            let mut is_blank = true;
            for (n, line) in text.lines().enumerate() {
                let line = line.trim_start();
                is_blank &= line.is_empty() || line.starts_with(['#', '%']);
                for word in words_of_comment(line) {
                    match word.parse() {
                        Ok(code) => _ = codes.insert(code),
                        Err(_) => {
                            let unknown = unknown_code(word).at(Some(source));
                            findings.push(LintFinding { line: Some(first_line + n), ..unknown });
                        }
                    }
                }
            }
            if is_blank {
                carried = Some((source, codes));
            } else if !codes.is_empty() {
                ignores.documents.insert(source.clone(), codes);
            }
        }
        (ignores, findings)
    }

    /// Adds the codes of an object's annotation. Returns a finding for each unknown code.
    pub(crate) fn add_annotation(
        &mut self,
        object: &ObjectName,
        source: &Source,
        text: &str,
    ) -> Vec<LintFinding> {
        let mut findings = Vec::new();
        for word in words(text) {
            match word.parse() {
                Ok(code) => _ = self.objects.entry(object.clone()).or_default().insert(code),
                Err(_) => {
                    let field = format!("metadata.annotations[{ANNOTATION}]");
                    let unknown = unknown_code(word).about(object).field(field);
                    findings.push(unknown.at(Some(source)));
                }
            }
        }
        findings
    }

    /// Whether a finding is ignored.
    pub(crate) fn contain(&self, finding: &LintFinding) -> bool {
        let has = |codes: Option<&BTreeSet<ProblemCode>>| {
            codes.is_some_and(|codes| codes.contains(&finding.code))
        };
        has(finding.source.as_ref().and_then(|source| self.documents.get(source)))
            || has(finding.object.as_ref().and_then(|object| self.objects.get(object)))
    }
}

/// The codes that a line ignores: `# rulegen:ignore CODE,CODE # reason`.
fn words_of_comment(line: &str) -> impl Iterator<Item = &str> {
    let comment = line.strip_prefix('#').and_then(|rest| rest.trim_start().strip_prefix(COMMENT));
    let codes = comment.filter(|codes| codes.starts_with(char::is_whitespace));
    words(codes.and_then(|codes| codes.split('#').next()).unwrap_or_default())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\r']).filter(|word| !word.is_empty())
}

fn unknown_code(word: &str) -> LintFinding {
    let names = ProblemCode::ALL.iter().map(|code| code.name());
    let rule = rule(ProblemCode::UnknownCode);
    let what = match nearest(word, names) {
        Some(name) => format!("unknown code {word:?}, did you mean {name:?}?"),
        None => format!("unknown code {word:?}"),
    };
    LintFinding::new(rule.code, rule.severity, what, rule.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_ignores_codes_up_to_the_next_number_sign() {
        let words = |line| words_of_comment(line).collect::<Vec<_>>();
        assert_eq!(words("# rulegen:ignore a-b, c,d # shared"), ["a-b", "c", "d"]);
        assert_eq!(words("#rulegen:ignore a"), ["a"]);
        for other in ["# rulegen:ignored a", "a: b # rulegen:ignore a", "# ignore a", "#"] {
            assert!(words(other).is_empty(), "{other}");
        }
    }
}
