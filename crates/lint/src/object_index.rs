//! Finds the lines of findings.

use std::collections::{HashMap, HashSet};

use rulegen_model::{DocumentLines, ObjectName, Source};

use crate::documents::LintDocument;
use crate::finding::LintFinding;

/// Maximum nesting of lists, as when reading.
const MAX_LIST_DEPTH: usize = 4;

/// Kind, namespace and name.
type Key<'a> = (&'a str, &'a str, &'a str);

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
        let mut objects = HashMap::new();
        if let Some(root) = &root {
            index(root, None, 0, &mut objects);
        }
        for finding in findings {
            let field = finding.field.as_deref().unwrap_or_default();
            let object = finding.object.as_ref().and_then(|of| objects.get(&key(of)).copied());
            let value = object.or(root.as_ref()).map(|value| value.nearest(field).line);
            let line = value.map(|line| line.max(1) + first_line - 1);
            finding.line = line.or_else(|| line_in(&finding.what)).or(Some(*first_line));
        }
    }
}

fn key(ObjectName { kind, namespace, name }: &ObjectName) -> Key<'_> {
    (kind, namespace, name)
}

/// Adds the objects of a document, a list or a watch event. The first object of a name counts.
fn index<'a>(
    value: &'a DocumentLines,
    list: Option<&'a str>,
    depth: usize,
    objects: &mut HashMap<Key<'a>, &'a DocumentLines>,
) {
    if depth > MAX_LIST_DEPTH {
        return;
    }
    let kind = value.text("kind").or(list);
    let items = value.field("items").or(Some(value)).map(DocumentLines::elements);
    for item in items.unwrap_or_default() {
        index(item, kind.and_then(|kind| kind.strip_suffix("List")), depth + 1, objects);
    }
    if let (None, Some(object)) = (kind, value.field("object")) {
        index(object, None, depth + 1, objects);
    }
    let (Some(kind), Some(metadata)) = (kind, value.field("metadata")) else { return };
    let namespace = match kind {
        "Node" | "ServiceCIDR" => "",
        _ => metadata.text("namespace").filter(|text| !text.is_empty()).unwrap_or("default"),
    };
    objects.entry((kind, namespace, metadata.text("name").unwrap_or_default())).or_insert(value);
}

/// The line in the message of a syntax error: `… at line 3, column 7`.
fn line_in(message: &str) -> Option<usize> {
    let (_, position) = message.rsplit_once(" at line ")?;
    let digits = position.find(|c: char| !c.is_ascii_digit()).unwrap_or(position.len());
    position.get(..digits)?.parse().ok()
}
