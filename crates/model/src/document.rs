//! Splits an input into documents, at most one of them in memory.

use std::io::{self, BufRead, Read};

/// What one document may measure, in bytes: a `List` of 100,000 Services with their slices
/// from `kubectl get -o json` is about 120 MB.
pub const MAX_DOCUMENT_BYTES: usize = 160 << 20;

/// One document of an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Document {
    /// Its text, without the `---` lines around it.
    Text {
        /// The text.
        text: Vec<u8>,
        /// The line of the input it begins at, counted from 1.
        first_line: usize,
    },
    /// It was larger than [`MAX_DOCUMENT_BYTES`] and was skipped; this is its size.
    TooLarge(usize),
}

/// Reads documents one after the other. YAML ends a document at a line that starts with `---` or `...`,
/// whatever is open there, and JSON text cannot contain such a line, so the split needs no
/// parser and one broken document costs no other.
pub(crate) struct Documents<R> {
    input: R,
    limit: usize,
    /// What stood behind the `---` that ended the last document.
    carried: Vec<u8>,
    /// Lines read so far.
    lines: usize,
    at_line_start: bool,
    done: bool,
}

/// A line is read in pieces of at most this size, since it may be of any length.
const PIECE_BYTES: u64 = 1 << 16;

impl<R: BufRead> Documents<R> {
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self { input, limit, carried: Vec::new(), lines: 0, at_line_start: true, done: false }
    }

    fn read(&mut self) -> io::Result<Document> {
        let mut text = std::mem::take(&mut self.carried);
        let mut size = text.len();
        let mut first_line = self.lines + usize::from(text.is_empty());
        loop {
            let start = text.len();
            let length = self.input.by_ref().take(PIECE_BYTES).read_until(b'\n', &mut text)?;
            if length == 0 {
                self.done = true;
                break;
            }
            let piece = text.get(start..).unwrap_or_default();
            let behind = after_separator(piece).filter(|_| self.at_line_start);
            let behind = behind.map(|behind| behind.trim_ascii_start().to_vec());
            self.at_line_start = piece.ends_with(b"\n");
            self.lines += usize::from(self.at_line_start);
            if let Some(behind) = behind {
                text.truncate(start);
                if size > self.limit || !text.trim_ascii().is_empty() {
                    self.carried = behind;
                    break;
                }
                text = behind;
                size = text.len();
                first_line = self.lines + usize::from(text.is_empty());
                continue;
            }
            size += length;
            if size > self.limit {
                text = Vec::new();
            }
        }
        Ok(if size > self.limit {
            Document::TooLarge(size)
        } else {
            Document::Text { text, first_line }
        })
    }
}

/// What stands behind a `---` that is alone or followed by white space, mostly nothing or a
/// comment: it belongs to the next document. `...` ends a document too.
fn after_separator(line: &[u8]) -> Option<&[u8]> {
    let behind = line.strip_prefix(b"---").or_else(|| line.strip_prefix(b"..."))?;
    behind.first().is_none_or(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).then_some(behind)
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = io::Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read();
        self.done |= read.is_err();
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, limit: usize) -> Vec<Document> {
        Documents::new(text.as_bytes(), limit).map(Result::unwrap).collect()
    }

    #[test]
    fn document_splits_at_separator_lines_only() {
        let texts: Vec<_> = split("---\na: 1\nb: ---\n---\n--- {d: 3}\n--- \nc: 2\n----\n", 100)
            .into_iter()
            .map(|d| match d {
                Document::Text { text, .. } => String::from_utf8(text).unwrap().trim().to_owned(),
                Document::TooLarge(_) => unreachable!(),
            })
            .collect();
        assert_eq!(texts, ["a: 1\nb: ---", "{d: 3}", "c: 2\n----"]);
    }

    #[test]
    fn document_too_large_does_not_affect_other_documents() {
        let text = format!("a: 1\n---\n{}\n---\nc: 2\n", "x".repeat(50));
        let got = split(&text, 20);
        assert_eq!(got.len(), 3);
        assert_eq!(got[1], Document::TooLarge(51));
        assert_eq!(got[2], Document::Text { text: b"c: 2\n".to_vec(), first_line: 5 });
    }
}
