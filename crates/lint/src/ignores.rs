//! Comments and annotations that ignore codes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rulegen_model::{ObjectName, ProblemCode, Source, nearest};

use crate::documents::LintDocument;
use crate::finding::LintFinding;

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
    /// is a document of its own, so a first document of comments alone counts for the next one.
    pub(crate) fn of_comments(documents: &[LintDocument]) -> (Self, Vec<LintFinding>) {
        let (mut ignores, mut findings) = (Self::default(), Vec::new());
        let mut carried: Option<(&Source, BTreeSet<ProblemCode>)> = None;
        for LintDocument { source, first_line, text } in documents {
            let before = carried.take().filter(|(of, _)| of.file == source.file);
            let mut codes = before.map(|(_, codes)| codes).unwrap_or_default();
            let mut is_blank = true;
            let mut block = BlockScalar::default();
            for (n, line) in text.lines().enumerate() {
                if block.contains(line) {
                    continue;
                }
                let line = line.trim_start();
                is_blank &= line.is_empty() || line.starts_with(['#', '%']);
                if ignores_nothing(line) {
                    let what = format!(
                        "this comment ignores nothing: write \"# {COMMENT} CODE\" with the codes"
                    );
                    let finding = LintFinding::new(ProblemCode::UnknownCode, what).at(Some(source));
                    findings.push(LintFinding { line: Some(first_line + n), ..finding });
                }
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
            if is_blank && source.document == 1 {
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
        // Nothing else in such a document or object was checked, which must not look like success.
        if matches!(finding.code, ProblemCode::InvalidDocument | ProblemCode::InvalidObject) {
            return false;
        }
        let has = |codes: Option<&BTreeSet<ProblemCode>>| {
            codes.is_some_and(|codes| codes.contains(&finding.code))
        };
        has(finding.source.as_ref().and_then(|source| self.documents.get(source)))
            || has(finding.object.as_ref().and_then(|object| self.objects.get(object)))
    }
}

/// The text behind `key: |` or `key: >`, in which `#` does not begin a comment.
#[derive(Default)]
struct BlockScalar {
    /// The indentation of the line with the key.
    begun_at: Option<usize>,
}

impl BlockScalar {
    /// Whether the next line is a part of such a text.
    fn contains(&mut self, line: &str) -> bool {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        match self.begun_at {
            Some(key) if text.is_empty() || indent > key => return true,
            _ => self.begun_at = None,
        }
        let last = text.rsplit([' ', ':']).next().unwrap_or_default();
        let is_indicator = last.starts_with(['|', '>'])
            && last.chars().skip(1).all(|c| c == '-' || c == '+' || c.is_ascii_digit());
        if is_indicator && !text.starts_with('#') {
            // The key of a list item is behind its dashes.
            let key = line.trim_start_matches([' ', '-']);
            self.begun_at = Some(if key == last { indent } else { line.len() - key.len() });
        }
        false
    }
}

/// Whether a line is a comment that ignores codes, with a misspelt word or without codes.
fn ignores_nothing(line: &str) -> bool {
    let Some(comment) = line.strip_prefix('#') else { return false };
    let comment = comment.trim_start().to_ascii_lowercase();
    let is_meant = comment.strip_prefix("rulegen").is_some_and(|rest| {
        let ignore = rest.trim_start_matches([':', '-', '_', '/', ' ', '\t']);
        match rest.starts_with(char::is_whitespace) {
            // Prose: `# rulegen ignores this`.
            true => ignore.split_whitespace().next() == Some("ignore"),
            false => ignore.starts_with("ignore"),
        }
    });
    is_meant && words_of_comment(line).next().is_none()
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
    let what = match nearest(word, names) {
        Some(name) => format!("unknown code {word:?}, did you mean {name:?}?"),
        None => format!("unknown code {word:?}"),
    };
    LintFinding::new(ProblemCode::UnknownCode, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_in_a_text_does_not_ignore() {
        let documents = |text: &str| {
            let source = Source { file: "a.yaml".into(), document: 1 };
            Ignores::of_comments(&[LintDocument { source, first_line: 1, text: text.to_owned() }])
        };
        for (text, is_ignored) in [
            ("a: b\n# rulegen:ignore invalid-name\n", true),
            ("a: |\n  # rulegen:ignore invalid-name\n", false),
            ("a: |\n  b\n\n  # rulegen:ignore invalid-name\nc: d\n", false),
            ("a: >-\n  b\n# rulegen:ignore invalid-name\nc: d\n", true),
            ("- a: |2\n    b\n  # rulegen:ignore invalid-name\n  c: d\n", true),
            ("- |\n  # rulegen:ignore invalid-name\n- c\n", false),
        ] {
            assert_eq!(!documents(text).0.documents.is_empty(), is_ignored, "{text}");
        }
    }

    #[test]
    fn comment_that_ignores_nothing_is_found() {
        for (line, is_found) in [
            ("# rulegen:ignore", true),
            ("# rulegen: ignore no-slices", true),
            ("#rulegen-ignore no-slices", true),
            ("# rulegen:ignored no-slices", true),
            ("# rulegen:ignore # reason", true),
            ("# rulegen:ignore no-slices", false),
            ("# rulegen ignore no-slices", true),
            ("# rulegen ignores ServiceCIDRs here", false),
            ("# rulegen reads this", false),
            ("a: b # rulegen:ignore", false),
        ] {
            assert_eq!(ignores_nothing(line), is_found, "{line}");
        }
    }

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
