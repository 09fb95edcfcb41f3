//! Finds the lines of findings.

use std::collections::{HashMap, HashSet};

use rulegen_model::{DocumentLines, ObjectName, Source};

use crate::documents::LintDocument;
use crate::finding::LintFinding;
use crate::written;

/// Sets the lines of findings. Reads only the documents with findings again, without those that
/// cannot be parsed.
pub(crate) fn locate(
    findings: &mut [LintFinding],
    documents: &[LintDocument],
    unreadable: &HashSet<Source>,
) {
    let mut by_document: HashMap<Source, Vec<&mut LintFinding>> = HashMap::new();
    for finding in findings.iter_mut().filter(|finding| finding.line.is_none()) {
        if let Some(source) = finding.source.clone() {
            by_document.entry(source).or_default().push(finding);
        }
    }
    for LintDocument { source, first_line, text } in documents {
        let Some(findings) = by_document.remove(source) else { continue };
        let is_readable = !unreadable.contains(source);
        let root = is_readable.then(|| DocumentLines::read(text)).flatten();
        let objects = root.as_ref().map(index).unwrap_or_default();
        for finding in findings {
            let field = finding.field.as_deref().unwrap_or_default();
            let object = finding.object.as_ref().and_then(|of| objects.get(of).copied());
            let value = object.or(root.as_ref()).map(|value| value.nearest(field).line);
            let line = value.map(|line| line.max(1) + first_line - 1);
            finding.line = finding.line.or(line).or(Some(*first_line));
        }
    }
}

/// The objects of a document by name. The first object of a name counts.
fn index(root: &DocumentLines) -> HashMap<ObjectName, &DocumentLines> {
    let mut by_name = HashMap::new();
    for object in written::objects(root) {
        by_name.entry(object.name).or_insert(object.value);
    }
    by_name
}
