//! The documents of a file, as text.

use rulegen_model::{Document, Source, documents};

use crate::lint_file::LintFile;

pub(crate) struct LintDocument {
    pub(crate) source: Source,
    /// Its first line in the file, starting at 1.
    pub(crate) first_line: usize,
    pub(crate) text: String,
}

/// The documents of a file that are text. Reading reports the others.
pub(crate) fn of_file(file: &LintFile) -> Vec<LintDocument> {
    let Ok(content) = &file.content else { return Vec::new() };
    let numbered = documents(content.as_slice()).enumerate();
    let text = numbered.filter_map(|(n, document)| match document {
        Ok(Document::Text { text, first_line }) => {
            let source = Source { file: file.name.as_str().into(), document: n + 1 };
            Some(LintDocument { source, first_line, text: String::from_utf8(text).ok()? })
        }
        _ => None,
    });
    text.collect()
}
